"""`mien evaluate` and `mien predict`: a model on a split."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from mien.cli.console import (
    Checkpoint,
    Data,
    Exclude,
    FerPlus,
    Json,
    SkipBad,
    Split,
    Views,
    err,
    load_faces,
    need_outside,
    out,
    predictor,
    printable,
)
from mien.errors import InputError, NotFound
from mien.expressions import Labels

if TYPE_CHECKING:
    from mien.measuring.faceset import FaceSet


def evaluate(
    model: Annotated[
        str, typer.Argument(help="A model's name, an .onnx or .json file, a run folder, or a .csv of answers.")
    ],
    data: Data,
    split: Split = "PublicTest",
    ferplus: FerPlus = None,
    labels: Annotated[
        Labels | None, typer.Option("--labels", help="By which to score, instead of those the model learned.")
    ] = None,
    exclude: Exclude = None,
    skip_bad: SkipBad = False,
    checkpoint: Checkpoint = "best",
    views: Annotated[
        str | None, typer.Option("--views", help="Score up to: single, mirror (where none is named) or ten views.")
    ] = None,
    as_json: Json = False,
    plots: Annotated[Path | None, typer.Option("--plots", help="Write plots to this folder.")] = None,
    near_twins: Annotated[
        bool,
        typer.Option("--near-twins", help="Also score without pictures of Training in other versions."),
    ] = False,
    corrupt: Annotated[
        bool, typer.Option("--corrupt", help="Instead: what blur, noise, darkness, ... at five strengths cost.")
    ] = False,
) -> None:
    """Score a model on one split: accuracy with its interval, F1, recalls, calibration, twins apart.

    Instead of a model, a .csv file of probabilities as `mien predict` writes it, whichever system they are from.
    """
    from mien.measuring.evaluation import evaluate as measure
    from mien.measuring.evaluation import evaluate_predictions, trained_by
    from mien.measuring.near import near_in_training
    from mien.measuring.plots import need_plots
    from mien.storage import need_writable, suffix_of

    need_outside(plots, data)
    need_writable(plots and plots / ("robustness.png" if corrupt else "confusion.png"))
    if plots:
        need_plots()
    if corrupt and views not in (None, "single"):
        raise InputError(f"--corrupt scores single views; leave out --views {views}")
    if corrupt and near_twins:
        raise InputError("--corrupt scores all rows; leave out --near-twins")
    table = suffix_of(model) == ".csv"
    if table and corrupt:
        raise InputError(f"{model} is a table of answers, which cannot be asked about worse pictures; name a model")
    if table and checkpoint != "best":
        raise InputError(f"{model} is a table of answers; leave out --checkpoint {checkpoint}")
    if table and views:
        raise InputError(f"{model} is a table of answers to views that were chosen before; leave out --views {views}")
    asked = None if table else predictor(model, checkpoint)
    # Of Training nothing is left out: the model may know all of it, and twins are looked for there.
    faces = load_faces(data, ferplus, skip_bad, exclude, split)
    _need_split(faces, split)
    if corrupt:
        _corrupted(asked, faces, split, labels, as_json, plots)
        return
    near = near_in_training(faces, split) if near_twins else None
    if asked is None:
        report = evaluate_predictions(model, faces, split, labels=labels or "fer2013", near=near)
    else:
        recipe = trained_by(asked)
        report = measure(
            asked,
            faces,
            split,
            binary=recipe.claims_binary,
            views=views or "mirror",
            labels=labels or recipe.labels,
            near=near,
        )
    sys.stdout.write(report.to_json() + "\n" if as_json else printable(report.to_markdown(), keep="\n"))
    if plots is not None:
        from mien.measuring.plots import save_report

        save_report(report, plots)


def _need_split(faces: "FaceSet", split: str) -> None:
    try:
        faces.where(split)
    except NotFound as error:
        raise NotFound(f"{error}; name one with --split") from error


def _corrupted(
    asked: Any, faces: "FaceSet", split: str, labels: Labels | None, as_json: bool, plots: Path | None
) -> None:
    from mien.measuring.evaluation import trained_by
    from mien.measuring.robustness import evaluate_corrupted

    threshold = asked.card.threshold if hasattr(asked, "card") else None
    with err.status(Text(f"{asked.name}: worse pictures")) as status:  # a minute or more; shown on a terminal alone
        report = evaluate_corrupted(
            asked,
            faces,
            split,
            labels=labels or trained_by(asked).labels,
            threshold=threshold,
            progress=lambda name: status.update(name),
        )
    sys.stdout.write(report.to_json() + "\n" if as_json else printable(report.to_markdown(), keep="\n"))
    if plots is not None:
        from mien.measuring import plots as figures

        figures.save(figures.robustness(report), plots / "robustness.png")


def predict(
    model: Annotated[str, typer.Argument(help="A model's name, an .onnx or .json file, or a run folder.")],
    data: Data,
    output: Annotated[Path, typer.Option("--out", help="A .csv file, which mien evaluate reads too, or an .npz file.")],
    split: Split = "PrivateTest",
    checkpoint: Checkpoint = "best",
    skip_bad: SkipBad = False,
    views: Views = "single",
) -> None:
    """Write the probabilities of every row of a split, labelled or not."""
    from mien.measuring.evaluation import predict as ask
    from mien.measuring.predictions import PREDICTIONS, write_predictions
    from mien.storage import check_suffix, need_other, need_writable

    check_suffix(output, *PREDICTIONS)
    need_other(output, data, model)
    need_writable(output)
    asked = predictor(model, checkpoint)
    need_other(output, getattr(asked, "file", None))  # a saved pair's weights
    faces = load_faces(data, None, skip_bad)
    _need_split(faces, split)
    faces = faces.split(split)
    write_predictions(output, faces, ask(asked, faces, views=views))
    out.print(Text(f"{output}: {len(faces):,} rows"))
