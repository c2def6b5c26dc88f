"""`mien read`: photos."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mien.cli.console import Json, Model, Views, fail, out, plain_table, printable, progress

if TYPE_CHECKING:
    from mien.reading.tables import Photo


def read(
    paths: Annotated[list[str], typer.Argument(help="Photos, folders or glob patterns.")],
    model: Model = "mien-small",
    as_json: Json = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a row for each face to this .csv file.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="The same as a Parquet file.")] = None,
    draw: Annotated[Path | None, typer.Option("--draw", help="Write annotated copies to this folder.")] = None,
    views: Views = "single",
    size: Annotated[int, typer.Option("--size", help="Look for faces at this longer side only, in pixels.")] = 0,
    min_score: Annotated[float, typer.Option("--min-score", help="Drop faces the detector is less sure of.")] = 0.5,
) -> None:
    """Find the faces in photos and say what each expresses."""
    from mien.reading.bulk import Failure, find_photos, read_photos
    from mien.reading.draw import draw as annotate
    from mien.reading.faces import CenterFace
    from mien.reading.images import save_image
    from mien.reading.recognizer import load_model
    from mien.reading.tables import check_form, columns_for, to_object, to_rows, write_table

    tables = {file: suffix for file, suffix in ((csv, ".csv"), (parquet, ".parquet")) if file is not None}
    for file, suffix in tables.items():
        check_form(file, suffix)
    found = find_photos(paths)
    recognizer = load_model(model, views=views)
    recognizer.detector = CenterFace(side=size or None, min_score=min_score)
    taken: set[Path] = set()

    def keep(photo: "Photo", image: Any) -> None:
        if draw is not None:
            save_image(_free_name(draw, Path(photo.source), taken), annotate(image, photo.readings))

    table = _faces_table()
    rows: list[dict[str, Any]] = []
    failures = 0
    for result in progress(read_photos(found, recognizer, keep=keep), len(found), "reading"):
        if isinstance(result, Failure):
            failures += 1
            fail(printable(str(result)))
            continue
        rows += to_rows(result)
        if as_json:
            sys.stdout.write(json.dumps(to_object(result)) + "\n")
            sys.stdout.flush()
        else:
            _add_faces(table, result)
    if table.row_count:
        out.print(table)
    for file in tables:
        write_table(file, rows, columns_for(recognizer.labels))
    if draw is not None and draw.is_dir() and taken and not as_json:
        out.print(Text(f"annotated copies: {draw}"))
    if failures:
        raise typer.Exit(1)


def _free_name(folder: Path, source: Path, taken: set[Path]) -> Path:
    """A name for the annotated copy that no other copy of this call has."""
    suffix = source.suffix.lower() if source.suffix.lower() in {".jpg", ".jpeg", ".png"} else ".png"
    path, number = folder / f"{source.stem}{suffix}", 1
    while path in taken or (path.exists() and path.samefile(source)):  # never over the photo itself
        number += 1
        path = folder / f"{source.stem}-{number}{suffix}"
    taken.add(path)
    return path


def _faces_table() -> Table:
    table = plain_table("photo", "face", "expression", "confidence", "next", "box (x, y, w, h)", "flags")
    table.columns[0].overflow = "fold"
    table.columns[3].justify = "right"
    return table


def _add_faces(table: Table, photo: "Photo") -> None:
    name = printable(Path(photo.source).name)
    if not photo.readings:
        table.add_row(Text(name), "-", Text("no face", style="dim"))
    for number, reading in enumerate(photo.readings, 1):
        _, second = sorted(reading.probabilities, key=reading.probabilities.__getitem__, reverse=True)[:2]
        table.add_row(
            Text(name if number == 1 else ""),
            str(number),
            Text(reading.expression, style="dim" if reading.uncertain else "bold"),
            f"{reading.confidence:.0%}",
            f"{second} {reading.probabilities[second]:.0%}",
            ", ".join(f"{v:.0f}" for v in reading.face.box),
            " ".join((*(("uncertain",) if reading.uncertain else ()), *reading.flags)),
        )
