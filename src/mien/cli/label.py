"""`mien label`: millions of images."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from mien.cli.console import Json, MinScore, Model, Size, Views, err, fail, out, printable

if TYPE_CHECKING:
    from mien.reading.label import Summary

_SHOWN = 20  # failures on the screen; all are in the table


def label(
    source: Annotated[str, typer.Argument(help="A folder, pattern, .txt list, .tar, .parquet or image; or a URL.")],
    folder: Annotated[Path, typer.Option("--out", help="The results: a new folder, or one to go on with.")],
    model: Model = "mien-small",
    engine: Annotated[str, typer.Option("--engine", help="local: processes here; or ray.")] = "local",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes or actors; 0: one a core.")] = 0,
    address: Annotated[str | None, typer.Option("--address", help="A Ray cluster's; default: one is started.")] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=0, help="CUDA devices that Ray's actors share.")] = 0,
    shard_size: Annotated[int, typer.Option("--shard-size", min=0, help="Images a file; 0: 100 to 10,000.")] = 0,
    column: Annotated[str, typer.Option("--column", help="The column with images, in Parquet tables.")] = "",
    views: Views = "single",
    size: Size = 0,
    min_score: MinScore = 0.5,
    as_json: Json = False,
) -> None:
    """Label millions of images into a folder of Parquet files; run it again to go on after a stop."""
    from mien.reading.label import label as run
    from mien.reading.label import read_failures
    from mien.reading.plan import LabelOptions

    options = LabelOptions(model, views, size, min_score, column, shard_size)
    try:
        with _bar() as report:
            summary = run(
                source,
                folder,
                options,
                engine=engine,
                workers=workers,
                address=address,
                gpus=gpus,
                report=report,
                warn=lambda message: fail(printable(message)),
            )
    except KeyboardInterrupt:
        fail(f"stopped; every whole shard is kept in {folder}; to go on, give the same command again")
        raise typer.Exit(130) from None
    if as_json:
        sys.stdout.write(json.dumps(asdict(summary)) + "\n")
    else:
        _show(summary, folder)
    for failure in islice(read_failures(folder), _SHOWN):
        fail(printable(str(failure)))
    if summary.failures > _SHOWN:
        fail(f"and {summary.failures - _SHOWN:,} more: {folder / 'failures.parquet'}")
    if summary.failures or summary.unfinished:
        raise typer.Exit(1)


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """What shows how far it is: a progress bar on a terminal, with images a second and the time that remains."""
    if not err.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    # Images come by the shard: what is measured over less than some shards is no speed.
    with Progress(*columns, console=err, redirect_stdout=False, speed_estimate_period=600) as progress:
        task = progress.add_task("listing", total=None)
        begun: tuple[float, int] | None = None  # when, and what earlier starts had done

        def report(done: int, total: int) -> None:
            nonlocal begun
            if begun is None:
                begun = time.monotonic(), done
                progress.reset(task, total=total, completed=done, description="labelling")
                return
            speed = (done - begun[1]) / (time.monotonic() - begun[0])
            progress.update(task, completed=done, description=f"labelling, {speed:,.1f} images/s")

        yield report


def _show(summary: "Summary", folder: Path) -> None:
    out.print(Text(f"{folder}: {summary.images:,} images, {summary.faces:,} faces"), soft_wrap=True)
    if summary.faces:
        counts = sorted(summary.expressions.items(), key=lambda item: -item[1])
        out.print(", ".join(f"{expression} {count:,}" for expression, count in counts))
    out.print(
        f"uncertain {summary.uncertain_share:.1%} of the faces, no face in {summary.no_face_share:.1%} of the images, "
        f"{summary.failures:,} failures"
    )
    if summary.unfinished:
        out.print(f"{len(summary.unfinished):,} shards are unfinished; give the same command again")
    if summary.labelled_now:
        speed = summary.labelled_now / summary.seconds
        out.print(f"{summary.labelled_now:,} images in {summary.seconds:,.1f} s, {speed:,.1f} a second")
