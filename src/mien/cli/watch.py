"""`mien watch`: videos and cameras."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from mien.cli.console import Json, MinScore, Model, err, fail, out, plain_table
from mien.errors import Damaged, InputError, MienError

if TYPE_CHECKING:
    from mien.reading.record import Outputs, Recording
    from mien.reading.timeline import TrackSummary
    from mien.reading.watch import Frame


def watch(
    source: Annotated[str, typer.Argument(help="A video file, or the number of a camera.")],
    rows: Annotated[Path | None, typer.Option("--rows", help="Rows: a .csv, .jsonl or .parquet file.")] = None,
    clip: Annotated[Path | None, typer.Option("--out", help="An annotated clip (.mp4, ...), with the sound.")] = None,
    timeline: Annotated[Path | None, typer.Option("--timeline", help="A picture: expressions over time.")] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Print who was seen when, and how.")] = False,
    as_json: Json = False,
    show: Annotated[bool, typer.Option("--show", help="A live window, beside the files.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the rows of an interrupted run.")] = False,
    every: Annotated[str, typer.Option("--every", help="One frame in so much time, as 0.2s; 0: all.")] = "0",
    start: Annotated[str, typer.Option("--start", help="Start there, as 90s or 1:30.")] = "0",
    end: Annotated[str, typer.Option("--end", help="Stop before this time.")] = "",
    baseline: Annotated[str, typer.Option("--baseline", help="Resting face: a track's first seconds, as 3s.")] = "0",
    gap: Annotated[str, typer.Option("--gap", help="A face away for no longer keeps its number.")] = "1s",
    smoothing: Annotated[str, typer.Option("--smoothing", help="Time constant of the smoothing; 0: none.")] = "0.3s",
    detect_every: Annotated[str, typer.Option("--detect-every", help="Find faces so often; 0: always.")] = "0.2s",
    min_score: MinScore = 0.5,
    model: Model = "mien-small",
) -> None:
    """Read the faces in a video or camera over time; in a live window unless files are asked for.

    Faces pass through the same crop and preprocessing as in photos and in evaluation.
    """
    from mien.reading.faces import CenterFace
    from mien.reading.recognizer import load_model
    from mien.reading.record import Outputs, Recording
    from mien.reading.tracks import TrackOptions
    from mien.reading.watch import THREADS

    quiet = rows is None and clip is None and timeline is None and not (summary or as_json)
    recording = Recording(
        source,
        Outputs(rows, clip, timeline, summary=summary or as_json, show=show or quiet, resume=resume),
        recognizer=load_model(model, threads=THREADS),
        detector=CenterFace(min_score=min_score, threads=THREADS),
        every_s=_seconds(every),
        start_s=_seconds(start),
        end_s=_seconds(end) if end else None,
        detect_every_s=_seconds(detect_every),
        tracking=TrackOptions(_seconds(gap), _seconds(smoothing), baseline_s=_seconds(baseline)),
    )
    with closing(recording):
        if recording.complete:
            fail(
                f"{rows} is complete already, by the model and settings that it was made with, and is summed up by the "
                "--every of this call; leave out --resume to replace it"
            )
        problem = None if recording.complete else _watch_all(recording, _seconds(start))
        summaries = recording.finish()
        if as_json:
            sys.stdout.write(json.dumps([asdict(each) for each in summaries]) + "\n")
        elif summary:
            out.print(_summary_table(summaries))
    if problem is not None:
        raise problem


def _watch_all(recording: "Recording", start_s: float) -> MienError | SystemExit | None:
    """Watch to the end, with a progress bar on a terminal; what is to be raised when all is written is returned: what
    was damaged in the file, or that a camera was stopped from outside.
    """
    frames = recording.frames()
    begun = False
    try:
        with closing(frames):
            for _ in _timed(frames, recording.watch.duration_s, start_s):
                begun = True
    except Damaged as error:
        return error
    except SystemExit as stopped:
        if recording.watch.live:  # its rows cannot be gone on with
            return stopped
        raise
    except KeyboardInterrupt:
        if recording.watch.live:  # how a camera usually ends
            return None
        fail("; ".join(("interrupted", *(_left_behind(recording.outputs) if begun else ()))))
        raise
    return None


def _left_behind(outputs: "Outputs") -> "Iterator[str]":
    """What an interrupted run has left, and what can be done with it."""
    if outputs.rows is not None:
        without = " without --out" if outputs.clip is not None else ""
        yield f"the rows so far can be read, and --resume{without} continues them"
    if outputs.clip is not None:
        yield f"{outputs.clip} can be played up to here"


def _timed(frames: "Iterator[Frame]", duration_s: float | None, start_s: float) -> "Iterator[Frame]":
    """A progress bar over the time of a video, on a terminal."""
    if not err.is_terminal or (duration_s is not None and duration_s < 5):
        yield from frames
        return
    from rich.progress import Progress

    with Progress(console=err, redirect_stdout=False) as progress:
        task = progress.add_task("watching", total=duration_s)
        for frame in frames:
            progress.update(task, completed=frame.time_s - start_s)
            yield frame
        progress.update(task, completed=duration_s)


def _seconds(text: str) -> float:
    """A time or span as people write it: 90, 90s, 1.5m, 200ms, 1:30, 1:02:03.5."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "": 1.0}
    found = re.fullmatch(r"((\d+:)?\d+:)?(\d+(?:\.\d*)?|\.\d+) ?(ms|s|m|min|h|)", text.strip())
    if not found or (found[1] and found[4]):
        raise InputError(f"expected a time as 90, 90s, 200ms or 1:30, but got {text!r}")
    front = [int(part) for part in (found[1] or "").split(":") if part]
    last = float(found[3])
    if front and max([*front[1:], last]) >= 60:
        raise InputError(f"expected less than 60 minutes or seconds behind a colon, but got {text!r}")
    whole = sum(part * 60.0 ** (len(front) - k) for k, part in enumerate(front))
    return whole + last * units[found[4]]


def _summary_table(summaries: "list[TrackSummary]") -> Table:
    table = plain_table("track", "first", "last", "seen", "uncertain", "expressions (share of the time seen)")
    for each in summaries:
        shares = sorted(each.shares.items(), key=lambda item: -item[1])
        table.add_row(
            f"#{each.track}",
            f"{each.first_s:.2f} s",
            f"{each.last_s:.2f} s",
            f"{each.seen_s:.2f} s",
            f"{each.uncertain:.0%}",
            ", ".join(f"{expression} {share:.0%}" for expression, share in shares if share >= 0.005),
        )
    for column in table.columns[1:5]:
        column.justify = "right"
    if not summaries:
        table.add_row("-", "", "", "", "", Text("no face", style="dim"))
    return table
