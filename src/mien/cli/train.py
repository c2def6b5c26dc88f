"""`mien train`."""

import logging
import shlex
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from mien.cli.console import Data, Exclude, FerPlus, SkipBad, err, fail, load_faces, need_lab, need_outside, out
from mien.errors import InputError


def train(
    recipe: Annotated[str, typer.Argument(help="See: mien recipes.")],
    data: Data,
    run: Annotated[Path, typer.Option("--out", help="The run folder: new, or one to resume.")],
    ferplus: FerPlus = None,
    exclude: Exclude = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    labels: Annotated[str | None, typer.Option("--labels", help="fer2013, ferplus or ferplus-votes.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Instead of the recipe's.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Another field, as optimizer.lr=0.05 or optimizer=Muon.")
    ] = None,
    devices: Annotated[str, typer.Option("--devices", help="How many on each node, or auto.")] = "auto",
    nodes: Annotated[str, typer.Option("--nodes", help="How many machines, or auto; see docs/train-many.md.")] = "auto",
    precision: Annotated[str, typer.Option("--precision", help="32, bf16-mixed or 16-mixed.")] = "32",
    limit: Annotated[float, typer.Option("--limit", help="Share of the rows, above 0 and up to 1, for a trial.")] = 1.0,
    teachers: Annotated[
        list[Path] | None,
        typer.Option("--teacher", help="A run, a model or a .csv of answers to learn from (--set distil=0.8)."),
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option("--start-from", help="The run, .onnx file or model whose weights it begins with.")
    ] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Train a recipe; leaves a run folder with checkpoints, history, report and curves."""
    need_lab("training")
    from mien.lab.spread import Spread
    from mien.lab.starting import TrainOptions, check_start, is_first_process
    from mien.lab.training import train as fit
    from mien.measuring.evaluation import SELECTION_SPLIT
    from mien.recipes import get_recipe, override

    # Lightning's remarks on its own internals are nothing to a user; ours are printed or raised.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")

    changes = dict(_setting(text) for text in settings or ())
    if epochs and "epochs" in changes:
        raise InputError("--epochs and --set epochs name the same; give one of them")
    changes |= {"epochs": str(epochs)} if epochs else {}
    changes |= {"labels": labels} if labels else {}
    options = TrainOptions(
        devices=_count(devices),
        nodes=_count(nodes),
        precision=precision,  # type: ignore[arg-type]  # it refuses all others
        limit=limit,
    )
    chosen = override(get_recipe(recipe), changes)
    need_outside(run, data)
    check_start(chosen, run, teachers or (), start_from, options=options, resume=resume)

    def report(row: dict[str, float]) -> None:
        out.print(
            f"epoch {row['epoch']:3.0f}/{chosen.epochs}"
            f"  loss {row['train_loss']:.4f}  accuracy {row['train_accuracy']:.2%}"
            f"  | validation loss {row['val_loss']:.4f}  accuracy {row['val_accuracy']:.2%}  | lr {row['lr']:.2g}"
        )

    faces = load_faces(data, ferplus, skip_bad, exclude)

    def begin(spread: Spread) -> None:
        out.print(str(spread))

    how: dict[str, Any] = {"options": options, "teachers": teachers or (), "start_from": start_from, "resume": resume}
    try:
        fit(chosen, faces, run, **how, progress=err.is_terminal, begin=begin, report=report)
    except KeyboardInterrupt:
        if is_first_process() and (run / "recipe.json").exists():
            fail(f"stopped; every whole epoch is kept in {run}; to go on, add --resume to the same command")
        raise typer.Exit(130) from None
    if not is_first_process():
        return
    out.print(Text(f"run folder: {run}"))
    share = SELECTION_SPLIT not in faces.splits or SELECTION_SPLIT in chosen.protocol.train  # that was held out
    command = ["mien", "export", str(run), "--data", str(data)]
    command += ["--ferplus", str(ferplus)] if ferplus and (share or chosen.labels != "fer2013") else []
    command += ["--exclude", str(exclude)] if exclude and share else []
    command += ["--skip-bad"] if faces.dropped else []
    out.print(Text(f"next: {shlex.join(command)} --out FILE.onnx"), soft_wrap=True)


def _count(text: str) -> Any:
    """A number where it is one; what is neither that nor "auto" is refused by `TrainOptions`."""
    try:
        return int(text)
    except ValueError:
        return text


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set takes NAME=VALUE, as optimizer.lr=0.05, but got {text!r}")
    return name.strip(), value.strip()
