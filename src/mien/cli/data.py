"""`mien data`: data sets."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from mien.cli.console import FerPlus, SkipBad, load_faces, out, plain_table


def data_import(
    source: Annotated[Path, typer.Argument(help="fer2013.csv, a folder of images, ...")],
    out_folder: Annotated[Path | None, typer.Option("--out", help="Write .npy arrays to this folder.")] = None,
    ferplus: FerPlus = None,
    skip_bad: SkipBad = False,
) -> None:
    """Check a data set, put it into the cache, and write .npy arrays where asked."""
    import numpy as np

    from mien.expressions import EXPRESSIONS
    from mien.measuring.npy import save_npy

    faces = load_faces(source, ferplus, skip_bad)
    table = plain_table("split", "rows", *EXPRESSIONS, "unlabelled")
    for split in dict.fromkeys(faces.splits.tolist()):
        labels = faces.labels[faces.splits == split]
        counts = [int(np.sum(labels == k)) for k in (*range(len(EXPRESSIONS)), -1)]
        table.add_row(split, f"{len(labels):,}", *(f"{count:,}" for count in counts))
    out.print(table)
    if out_folder is not None:
        for path in save_npy(faces, out_folder):
            out.print(Text(str(path)))
