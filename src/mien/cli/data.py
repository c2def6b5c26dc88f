"""`mien data`: data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from mien.cli.console import FerPlus, SkipBad, err, load_faces, need_outside, out, plain_table, printable
from mien.storage import real_path, suffix_of


def data_import(
    source: Annotated[Path, typer.Argument(help="fer2013.csv, a folder of train/angry/1.jpg, ..., .npy arrays.")],
    out_folder: Annotated[Path | None, typer.Option("--out", help="Write .npy arrays to this folder.")] = None,
    ferplus: FerPlus = None,
    skip_bad: SkipBad = False,
) -> None:
    """Check a data set, put it into the cache, and write .npy arrays where asked."""
    from mien.expressions import EXPRESSIONS
    from mien.measuring.npy import save_npy

    need_outside(out_folder, source)
    _need_apart(out_folder, source)
    faces = load_faces(source, ferplus, skip_bad)
    table = plain_table("split", "rows", *EXPRESSIONS, "unlabelled")
    for split, counts in faces.counts().items():
        row = (sum(counts.values()), *counts.values())
        table.add_row(Text(printable(split)), *(f"{count:,}" for count in row))
    out.print(table)
    if out_folder is not None:
        for path in save_npy(faces, out_folder):
            out.print(Text(str(path)))


def _need_apart(folder: Path | None, source: Path) -> None:
    """A folder that holds arrays of ours is taken for these alone: nothing else in it would be read any more."""
    from mien.errors import InputError

    if folder is not None and source.is_dir() and real_path(source).is_relative_to(real_path(folder)):
        raise InputError(f"{folder} holds the data set {source}, which would not be found in it any more; name another")
    ours = source.name == "images.npy" and all(source.with_name(f"{part}.npy").exists() for part in ("splits", "rows"))
    beside = folder is not None and real_path(folder) == real_path(source).parent
    if beside and suffix_of(source) == ".npy" and not ours:
        raise InputError(f"{folder} holds {source}, and would be read without it from then on; name another folder")


def data_audit(
    source: Annotated[Path, typer.Argument(help="fer2013.csv, a folder of train/angry/1.jpg, ..., .npy arrays.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Write the page, the numbers and the sheets here.")],
    ferplus: FerPlus = None,
    skip_bad: SkipBad = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only counts, exact twins, flat images and votes; needs no extra.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Whose features help to look; mien-small where none is named.")
    ] = None,
    probabilities: Annotated[
        Path | None,
        typer.Option("--probabilities", help="A csv of mien predict, of a system that did not learn from the rows."),
    ] = None,
    write_clean: Annotated[
        Path | None, typer.Option("--write-clean", help="Write the rows to leave out, for --exclude.")
    ] = None,
    reasons: Annotated[
        list[str] | None,
        typer.Option("--because", help="What --write-clean lists; repeat it. Else: twin, conflict, flat, no-face."),
    ] = None,
) -> None:
    """Look a data set over: twins, conflicts, near twins, flat and faceless images, doubtful labels."""
    import numpy as np

    from mien.errors import InputError
    from mien.measuring.audit import audit
    from mien.measuring.audit_page import write_report
    from mien.measuring.exclusion import write_exclusions
    from mien.measuring.findings import OF_VOTES
    from mien.reading.recognizer import DEFAULT_MODEL
    from mien.storage import need_other, need_writable

    if quick and model:
        raise InputError("a quick audit asks no model; leave out --quick or --model")
    _check_reasons(reasons or (), write_clean, quick)
    need_other(write_clean, source, ferplus, probabilities)
    need_outside(out_folder, source)
    need_writable(out_folder / "index.html", write_clean)
    faces = load_faces(source, ferplus, skip_bad)
    if faces.votes is None and (untold := OF_VOTES & set(reasons or ())):
        raise InputError(f"--because {untold.pop()} is told by FER+ votes, and there are none; name --ferplus FILE")

    def step(text: str) -> None:
        if err.is_terminal:
            err.print(Text(f"{text} ..."), style="dim")

    found = audit(faces, model=model or DEFAULT_MODEL, probabilities=probabilities, quick=quick, report=step)
    *_, page = write_report(found, faces, out_folder)
    table = plain_table("finding", "", "count")
    for finding in found.findings:
        for name, value in finding.numbers.items():
            table.add_row(Text(finding.title), Text(name), f"{value:.1%}" if isinstance(value, float) else f"{value:,}")
    out.print(table)
    for what in found.left_out:
        out.print(Text(f"not looked for: {what}"))
    out.print(Text(f"page: {page}"), soft_wrap=True)
    if write_clean is not None:
        left_out = found.exclusions(faces, reasons)
        write_exclusions(write_clean, faces, left_out)
        sizes = faces.take(np.isin(faces.rows, list(left_out))).sizes
        of = ", ".join(f"{count:,} of {split}" for split, count in sizes.items())
        total = f"{write_clean}: {len(left_out):,} of {len(faces):,} rows to leave out"
        out.print(Text(f"{total}{of and ': '}{printable(of)}"), soft_wrap=True)


def _check_reasons(reasons: Sequence[str], write_clean: Path | None, quick: bool) -> None:
    from mien.errors import InputError, NotFound
    from mien.measuring.findings import OF_MODELS, REASONS

    if reasons and write_clean is None:
        raise InputError("--because says what --write-clean FILE lists; name the file too")
    for word in reasons:
        if word not in REASONS:
            raise NotFound.named("finding", word, REASONS)
    if quick and (untold := OF_MODELS & set(reasons)):
        raise InputError(f"a quick audit does not look for {untold.pop()}; leave out --quick or that --because")
