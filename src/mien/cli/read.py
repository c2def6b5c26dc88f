"""`mien read`: photos."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mien.cli.console import Json, MinScore, Model, Size, Views, fail, out, plain_table, printable, progress
from mien.errors import FileError
from mien.storage import real_path, suffix_of

if TYPE_CHECKING:
    from mien.reading.bulk import Failure
    from mien.reading.recognizer import Recognizer
    from mien.reading.tables import Photo, Row


def read(
    paths: Annotated[list[str], typer.Argument(help="Photos, folders or glob patterns.")],
    model: Model = "mien-small",
    as_json: Json = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a row for each face to this .csv file.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="The same as a Parquet file.")] = None,
    draw: Annotated[Path | None, typer.Option("--draw", help="Write annotated copies to this folder.")] = None,
    explain: Annotated[
        Path | None, typer.Option("--explain", help="Write to this folder what of each face the answer rests on.")
    ] = None,
    views: Views = "single",
    size: Size = 0,
    min_score: MinScore = 0.5,
) -> None:
    """Find the faces in photos and say what each expresses."""
    from mien.reading.bulk import find_photos, read_photos
    from mien.reading.faces import CenterFace
    from mien.reading.recognizer import load_model
    from mien.reading.tables import columns_for, write_table

    tables = _need_tables(csv, parquet)
    found = find_photos(paths, skip=[folder for folder in (draw, explain) if folder is not None])
    recognizer = load_model(model, views=views)
    recognizer.detector = CenterFace(side=size or None, min_score=min_score)
    kinds = ((draw, _draw, "annotated copies"), (explain, _explain, "what the answers rest on"))
    pictures = [(folder, make, what) for folder, make, what in kinds if folder is not None]
    _need_folders({what: folder for folder, _, what in pictures})
    photos = {_place(path) for path in found if pictures and isinstance(path, Path)}
    taken = photos.copy()

    def keep(photo: "Photo", image: Any) -> None:
        for folder, make, _ in pictures:
            make(photo, image, recognizer, partial(_free_name, folder, taken))

    told = _Told(as_json, Counter(path.name for path in found if isinstance(path, Path)))
    ended: BaseException | None = None
    try:
        for result in progress(read_photos(found, recognizer, keep=keep), len(found), "reading"):
            told.add(result)
    except BaseException as error:  # noqa: BLE001  # a signal, a pipe that nobody reads: what was read is kept
        ended = error
    for file in tables if told.rows else ():  # else an older table stays
        write_table(file, told.rows, columns_for(recognizer.labels))
    if ended is not None and not isinstance(ended, KeyboardInterrupt | SystemExit):
        raise ended
    told.print_table(hint=not size)
    for folder, _, what in pictures:
        if not as_json and any(path.parent == real_path(folder) for path in taken - photos):
            out.print(Text(f"{what}: {folder}"))
    if ended is not None:
        fail(f"interrupted: {told.count:,} of {len(found):,} photos were read, and what is written tells of them alone")
        raise ended
    if told.failures:
        raise typer.Exit(1)


def _need_tables(csv: Path | None, parquet: Path | None) -> list[Path]:
    from mien.reading.tables import check_form
    from mien.storage import need_writable

    tables = {file: suffix for file, suffix in ((csv, ".csv"), (parquet, ".parquet")) if file is not None}
    for file, suffix in tables.items():
        check_form(file, suffix)
    need_writable(*tables)
    return list(tables)


class _Told:
    """What is said of the photos, one after the other: JSON at once, a table at the end, failures in any case."""

    def __init__(self, as_json: bool, names: Counter[str]) -> None:
        self.as_json, self.names = as_json, names
        self.table = _faces_table()
        self.rows: list[Row] = []
        self.count = self.failures = 0
        self.unseen: list[str] = []  # large photos without a face

    def add(self, result: "Photo | Failure") -> None:
        from mien.reading.bulk import Failure
        from mien.reading.faces import SEARCHED
        from mien.reading.tables import to_object, to_rows

        self.count += 1
        if isinstance(result, Failure):
            self.failures += 1
            fail(printable(str(result)))
            return
        self.rows += to_rows(result)
        if self.as_json:
            sys.stdout.write(json.dumps(to_object(result)) + "\n")
            sys.stdout.flush()
        else:
            source = Path(result.source)  # its name, where no other has it
            name = source.name if self.names[source.name] == 1 else result.source
            if not result.readings and max(result.width, result.height) > SEARCHED:
                self.unseen.append(name)
            _add_faces(self.table, result, name)

    def print_table(self, *, hint: bool) -> None:
        """The table, where there is one; with a hint where faces may be too small to be seen."""
        if self.table.row_count:
            out.print(self.table)
        if self.unseen and hint:
            first, more = printable(self.unseen[0]), len(self.unseen) - 1
            photos = f"{first}, which is large" if not more else f"{len(self.unseen):,} large photos, {first} the first"
            out.print(Text(f"no face in {photos}: small ones may be found with --size 4096", style="dim"))


def _need_folders(folders: dict[str, Path]) -> None:
    from mien.storage import need_writable

    for what, folder in folders.items():
        if folder.exists() and not folder.is_dir():
            raise FileError(f"{what} need a folder, and {folder} is a file; name another")
        need_writable(folder / "face.png")


def _draw(photo: "Photo", image: Any, recognizer: "Recognizer", free: Callable[[str], Path]) -> None:
    from mien.reading.draw import draw
    from mien.reading.images import save_image

    source = Path(photo.source)
    suffix = suffix_of(source) if suffix_of(source) in {".jpg", ".jpeg", ".png"} else ".png"
    save_image(free(f"{source.stem}{suffix}"), draw(image, photo.readings))


def _explain(photo: "Photo", image: Any, recognizer: "Recognizer", free: Callable[[str], Path]) -> None:
    from mien.reading.explain import draw_map, occlusion_map
    from mien.reading.faces import crop
    from mien.reading.images import save_image

    for number, reading in enumerate(photo.readings, 1):
        face = crop(image, reading.face)
        weight = occlusion_map(recognizer, face, reading.expression)
        save_image(free(f"{Path(photo.source).stem}-face-{number}.png"), draw_map(face, weight, reading))


def _free_name(folder: Path, taken: set[Path], name: str) -> Path:
    """A place for a picture that no other of this call has, and none that mien has not made."""
    from mien.reading.images import is_ours

    wanted = path = folder / name
    number = 1
    while _place(path) in taken or (os.path.lexists(path) and not is_ours(path)):
        number += 1
        path = wanted.with_stem(f"{wanted.stem}-{number}")
    taken.add(_place(path))
    return path


def _place(path: Path) -> Path:
    """The same for every way to name a file's folder."""
    return real_path(path.parent) / path.name


def _faces_table() -> Table:
    table = plain_table("photo", "face", "expression", "confidence", "next", "box (x, y, w, h)", "flags")
    table.columns[0].overflow = "fold"
    table.columns[3].justify = "right"
    return table


def _add_faces(table: Table, photo: "Photo", name: str) -> None:
    name = printable(name)
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
            reading.marks,
        )
