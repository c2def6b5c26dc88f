"""What the verbs share: where they print, the options they have in common, tables, progress."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mien.errors import InputError, NotFound, need_extra
from mien.storage import real_path, suffix_of

if TYPE_CHECKING:
    from mien.measuring.faceset import FaceSet

if sys.stdout is None:  # closed by whoever started us: mien ... >&-
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end of the process
out = Console(width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True)

Model = Annotated[str, typer.Option("--model", "-m", help="A model's name (see: mien models) or an .onnx file.")]
Data = Annotated[Path, typer.Option("--data", help="fer2013.csv or another form of it, a folder, or .npy arrays.")]
FerPlus = Annotated[Path | None, typer.Option("--ferplus", help="fer2013new.csv: the FER+ votes of the same rows.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Drop damaged rows, and say how many.")]
Exclude = Annotated[
    Path | None, typer.Option("--exclude", help="Leave out the rows that mien data audit --write-clean listed.")
]
Split = Annotated[str, typer.Option("--split", help="Training, PublicTest, PrivateTest, ...")]
Views = Annotated[
    str, typer.Option("--views", help="Views of each face: single; mirror, twice the time; ten, ten times the time.")
]
Size = Annotated[
    int,
    typer.Option("--size", help="Look for faces at this longer side only, 32 to 4096 pixels; 0: as the photo asks."),
]
MinScore = Annotated[float, typer.Option("--min-score", help="Drop faces the detector is less sure of; 0.1 to 1.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Checkpoint = Annotated[Literal["best", "last"], typer.Option("--checkpoint", help="Which one of a run folder.")]


def fail(message: str) -> None:
    """One line on standard error, never wrapped or coloured into something a script cannot read."""
    err.print(Text(f"mien: {printable(message, keep=chr(10))}"), soft_wrap=True)


def printable(text: str, keep: str = "") -> str:
    """Escapes in the place of line ends, of codes that steer a terminal, and of what is no character."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def progress(items: Any, total: int, what: str) -> Any:
    """A progress bar on standard error, for more than a handful of items on a terminal."""
    if total < 10 or not err.is_terminal:
        return items
    from rich.progress import Progress

    def tracked() -> Iterator[Any]:
        # Standard output stays what it is: a file or a pipe may be waiting for our JSON there.
        with Progress(console=err, redirect_stdout=False) as progress:
            yield from progress.track(items, total, description=what)

    return tracked()


def plain_table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False)


def show(value: Any, table: Table, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value) + "\n")
    else:
        out.print(table)


def load_faces(
    data: Path, ferplus: Path | None, skip_bad: bool, exclude: Path | None = None, split: str | None = None
) -> "FaceSet":
    """A data set without the rows that `exclude` lists, of one split or of all."""
    from mien.measuring.data import load

    faces = load(data, ferplus=ferplus, skip_bad=skip_bad)
    if faces.dropped:
        fail(f"{faces.dropped:,} damaged rows were left out of {data}")
    for note in faces.notes:
        fail(note.replace("**", ""))
    if exclude is not None:
        from mien.measuring.exclusion import exclude as leave_out

        faces = leave_out(faces, exclude, split=split)
    return faces


def predictor(model: str, checkpoint: str) -> Any:
    """A run folder, an exported architecture, a model's name or an .onnx file, as a predictor."""
    if Path(model).is_dir():
        need_lab("using a run folder")
        from mien.lab.runs import Run

        return Run(model, checkpoint)
    if checkpoint != "best":
        raise InputError(f"--checkpoint {checkpoint} is for a run folder; {model} holds one network alone")
    if suffix_of(model) == ".json":
        need_lab("using an exported architecture")
        from mien.lab.saved import Saved

        return Saved(model)
    from mien.reading.recognizer import load_model

    try:
        return load_model(model)
    except NotFound as error:
        raise NotFound(f"{error}; there is no run folder of this name either, and no .json") from error


def need_outside(folder: Path | None, source: Path) -> None:
    """Refuse to write pictures and arrays within a folder of images: they would be a part of the data set from then on.

    Raises:
        InputError: The folder lies in the source.
    """
    if folder is not None and source.is_dir() and real_path(folder).is_relative_to(real_path(source)):
        raise InputError(f"{folder} lies in the data set {source} and would become a part of it; name a folder outside")


def need_lab(purpose: str) -> None:
    need_extra("lab", purpose, "torch", "lightning", "kornia", "torchmetrics")
