"""Recipe + FaceSet -> run folder.

A run folder holds recipe.json, environment.json, history.csv (a line an epoch), tensorboard/, checkpoints/best.ckpt
and last.ckpt, and at the end report.json, report.md, curves.png, confusion.png, reliability.png and coverage.png.
"""

import hashlib
import json
import os
import platform
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from mien.errors import Damaged, InputError
from mien.expressions import answers
from mien.lab.batches import FaceData, divide, softened_labels
from mien.lab.callbacks import EpochBar, History, WholeCheckpoints, callbacks
from mien.lab.exported import open_trained, sample
from mien.lab.module import Classifier
from mien.lab.networks import inherit
from mien.lab.runs import BROKEN, Predicting, Run, training
from mien.lab.spread import Spread, WholeBatchNorms, places
from mien.lab.starting import (
    Source,
    TrainOptions,
    by_kind,
    check_same_run,
    check_start,
    check_unseen,
    faces_of,
    instead_of,
    is_first_process,
    kept_checkpoint,
    need_empty,
)
from mien.measuring import plots
from mien.measuring.evaluation import Report, evaluate
from mien.measuring.faceset import FaceSet
from mien.measuring.predictions import read_predictions
from mien.measuring.sketch import joined, sketch
from mien.recipes import Recipe
from mien.storage import locked, write_whole


def _write_json(value: Any, file: Any) -> None:
    json.dump(value, file, indent=1)


def environment(faces: FaceSet, options: TrainOptions) -> dict[str, Any]:
    """Versions, hardware and data of a run, for its record."""
    packages = ("mien", "torch", "lightning", "kornia", "torchmetrics", "numpy")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in packages},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "data": faces.name,
        "data_sha256": faces.checksum,
        "options": asdict(options),
    }


def train(
    recipe: Recipe,
    faces: FaceSet,
    out: str | os.PathLike[str],
    *,
    options: TrainOptions | None = None,
    teachers: Iterable[Source] = (),
    start_from: Source | None = None,
    resume: bool = False,
    progress: bool = False,
    begin: Callable[[Spread], None] = lambda spread: None,
    report: Callable[[dict[str, float]], None] = lambda row: None,
) -> Path:
    """Train a recipe and leave a run folder.

    Several devices or nodes share every batch of the recipe (`mien.lab.spread`). Lightning starts the processes of
    further devices by running the same program again; only the first writes to the run folder and calls back.

    Args:
        recipe: What to train.
        faces: The data set; the recipe's protocol says which rows train and which choose.
        out: The run folder. It must be new or empty, unless `resume`.
        options: Devices, nodes, precision, share of the data.
        teachers: Whose answers a recipe with `distil` learns: run folders, saved pairs (.json), models (.onnx, names);
            or one table of answers to the rows that train (.csv, as `mien predict` writes it), by networks that did not
            learn these rows, say. Its answers are mixed into the labels, and accuracies while training are of the
            expression that leads then.
        start_from: One of these, whose weights the network begins with (fine-tuning). It is of the same network, of
            one that lacks some of its residual blocks, or of a wider VGG. A head for other labels or votes begins anew.
        resume: Continue an interrupted run to the recipe's number of epochs; a finished run stays as it is.
        progress: Show a progress bar.
        begin: Called once before the first step.
        report: Called with each epoch's row of history.

    Returns:
        The run folder.

    Raises:
        FileError: The folder cannot be one or holds something already, or there is nothing to resume; or another run
            is at work in it.
        NotFound: There is no such network, or the data lacks a split.
        InputError: The run that is resumed was made from another recipe, other data, teachers or weights; the devices,
            nodes or precision cannot be had, or cannot share the batch; teachers without `distil`, or `distil` without
            teachers; a network that cannot begin with those weights; a teacher, or one whose weights these are, that
            learned from rows that choose; a table that has none of the rows that train.
        Damaged: The run that is resumed, or a teacher, is damaged.
        TrainingDiverged: The loss is not finite.
        KeyboardInterrupt: Ctrl-C; what was kept after the last whole epoch can be resumed.
    """
    out, options = Path(out), options or TrainOptions()
    teachers = (teachers,) if isinstance(teachers, str | os.PathLike) else tuple(teachers)
    check_start(recipe, out, teachers, start_from, options=options, resume=resume)
    divided = divide(faces, recipe, options.limit)
    some = sample(divided)
    networks, tables = by_kind(teachers)
    learned = [open_trained(network, some) for network in networks]
    softened = [softened_labels(divided, read_predictions(Path(table)), recipe.distil) for table in tables]
    elder = open_trained(start_from, some) if start_from is not None else None
    trained = [*learned, *filter(None, [elder])]
    check_unseen(trained, faces, divided, recipe)
    watching = callbacks(recipe, out, report)
    if progress and is_first_process():
        watching.insert(0, EpochBar())  # before the history, which reports the epoch
    trainer = _trainer(recipe, out, options, watching)
    spread = Spread.of(recipe, trainer.world_size)
    data = FaceData(divided, recipe, shares=softened[0] if softened else None)
    spread.check_rows(*map(len, data.rows))
    record = {
        "environment": environment(faces, options)
        | {
            "processes": spread.processes,
            "teachers": [
                *(teacher.checksum for teacher in learned),
                *(hashlib.sha256(table.tobytes()).hexdigest() for table in softened),
            ],
            "start_from": elder and elder.checksum,
            "learned": joined(sketch(faces_of(divided, "Training")), *(known.learned for known in trained)),
            "trainings": [
                *(elder.trainings if elder else []),
                training(recipe, learned, options.limit, tables=len(tables)),
            ],
        },
        "recipe": json.loads(recipe.to_json()),  # last, as it marks a run that can be gone on with
    }
    torch.manual_seed(recipe.seed)
    classifier = Classifier(recipe, [teacher.classifier for teacher in learned])
    if elder:
        begin_with(classifier, elder)
    # Only now is there a folder: what is refused above leaves none. File systems of clusters may have no locks.
    with locked(out, need=False) if is_first_process() else nullcontext():
        if is_first_process():
            if resume:
                check_same_run(out, record)
                for left in out.rglob(".*.part"):  # by a run that was killed
                    left.unlink(missing_ok=True)
            else:
                need_empty(out)  # again: another run may have begun, and ended, meanwhile
            for name, value in record.items():
                write_whole(out / f"{name}.json", partial(_write_json, value))
            begin(spread)
        _fit(trainer, classifier, data, watching, kept_checkpoint(out) if resume else None)
        if torch.distributed.is_initialized():  # gloo may abort a process that ends with its group open
            torch.distributed.destroy_process_group()
        if trainer.is_global_zero:
            summarise(out, divided, options)
    return out


def _fit(
    trainer: L.Trainer, classifier: Classifier, data: FaceData, watching: Sequence[Callback], kept: Path | None
) -> None:
    """Train, from a checkpoint on where there is one; what stops it is told as `train` says."""
    try:
        trainer.fit(
            classifier,
            datamodule=data,
            ckpt_path=kept,
            weights_only=True,
        )
    except SystemExit:  # what Lightning makes of Ctrl-C
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it has Ctrl-C ignored from here on
        raise KeyboardInterrupt from None
    except BROKEN as error:
        begun = any(callback.begun for callback in watching if isinstance(callback, History))
        if kept is None or begun or isinstance(error, OSError | torch.OutOfMemoryError | torch.distributed.DistError):
            raise
        raise Damaged(f"{kept} cannot be gone on from: {error!r}; {instead_of(kept)}") from error


def begin_with(classifier: Classifier, elder: Predicting) -> None:
    """Give a new network the weights of a trained one.

    Raises:
        InputError: The networks do not fit.
    """
    given = elder.classifier
    same = answers(classifier.recipe.labels) == answers(given.recipe.labels)
    try:
        inherit(classifier.network, given.network, classifier.classes if same else 0)
    except ValueError as error:
        raise InputError(
            f"network {classifier.recipe.network!r} cannot begin with the weights of {given.recipe.network!r} in "
            f"{elder.file}: {error}; name a run of the same network, of a shallower one of the same widths, or of a "
            "wider VGG"
        ) from error


def _trainer(recipe: Recipe, out: Path, options: TrainOptions, watching: list[Callback]) -> L.Trainer:
    devices, nodes = places(options.devices, options.nodes)
    cuda = torch.cuda.is_available()
    plugins: list[Any] = [WholeCheckpoints(), *([] if cuda else [WholeBatchNorms()])]
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        # What it would requeue lacks --resume, and leaves a checkpoint where it stands.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    try:
        trainer = L.Trainer(
            max_epochs=recipe.epochs,
            devices=devices,
            num_nodes=nodes,
            sync_batchnorm=cuda,  # torch's, which refuses the CPU
            plugins=plugins,
            default_root_dir=out,
            precision=options.precision,
            callbacks=watching,
            logger=TensorBoardLogger(out, name="", version="tensorboard"),
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise InputError(
            f"{devices} devices with precision {options.precision!r} cannot be had here: {error}"
        ) from error
    if trainer.precision not in (options.precision, "32-true"):  # Lightning puts another in its place
        raise InputError(f"precision {options.precision!r} needs a GPU; take 32, or bf16-mixed on a recent processor")
    return trainer


def summarise(out: Path, divided: FaceSet, options: TrainOptions) -> Report:
    """Score the best checkpoint on the rows that chose it, and leave report and pictures in the run folder."""
    run = Run(out)
    recipe = run.recipe
    report = evaluate(
        run, divided, recipe.protocol.chooser, binary=recipe.claims_binary, labels=recipe.labels
    )
    if options.limit < 1:
        report.notes.append(f"Scored on {options.limit:.1%} of the rows that choose.")
    write_whole(out / "report.json", lambda file: file.write(report.to_json()))
    write_whole(out / "report.md", lambda file: file.write(report.to_markdown()))
    plots.save_report(report, out)
    plots.save(plots.curves(run.history(), run.name), out / "curves.png")
    return report
