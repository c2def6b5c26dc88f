"""Recipe + FaceSet -> run folder.

A run folder holds recipe.json, environment.json, history.csv (a line an epoch), tensorboard/, checkpoints/best.ckpt
and last.ckpt, and at the end report.json, report.md, curves.png, confusion.png, reliability.png and coverage.png.
"""

import hashlib
import json
import os
import platform
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning as L
import numpy as np
import torch
from jaxtyping import UInt8
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from mien.checked import Checked
from mien.errors import Damaged, FileError, InputError
from mien.expressions import answers
from mien.lab.batches import FaceData, divide, softened_labels
from mien.lab.callbacks import EpochBar, History, WholeCheckpoints, callbacks
from mien.lab.exported import check_trained, open_trained, sample
from mien.lab.module import Classifier, check_recipe
from mien.lab.networks import inherit
from mien.lab.runs import BROKEN, Predicting, Run, load_checkpoint, training
from mien.lab.spread import Spread, WholeBatchNorms, places
from mien.measuring import plots
from mien.measuring.evaluation import Report, evaluate
from mien.measuring.faceset import FaceSet
from mien.measuring.predictions import read_predictions
from mien.measuring.sketch import KNOWN, joined, share_known, sketch, without
from mien.recipes import HELD_OUT, Recipe
from mien.storage import need_file, parse_json, write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(Checked):
    """What a run may choose without becoming another recipe.

    Attributes:
        devices: Of each node, a process for each; "auto" for all GPUs, else one CPU, or for what a launcher started.
        nodes: Number of machines; "auto" for those of the launcher, or else this one.
        precision: Lightning's name.
        limit: Share of the training and validation rows to use, for trials; reports name it.
    """

    devices: Annotated[int, "[1, inf)"] | Literal["auto"] = "auto"
    nodes: Annotated[int, "[1, inf)"] | Literal["auto"] = "auto"
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    limit: Annotated[float, "(0, 1]"] = 1.0


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
    teachers: Iterable[str | os.PathLike[str]] = (),
    start_from: str | os.PathLike[str] | None = None,
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
        FileError: The folder cannot be one or holds something already, or there is nothing to resume.
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
    learned = [open_trained(teacher, some) for teacher in teachers if not _is_table(teacher)]
    tables = [softened_labels(divided, read_predictions(Path(t)), recipe.distil) for t in teachers if _is_table(t)]
    elder = open_trained(start_from, some) if start_from is not None else None
    trained = [*learned, *filter(None, [elder])]
    _check_unseen(trained, faces, divided, recipe)
    watching = callbacks(recipe, out, report)
    if progress and is_first_process():
        watching.insert(0, EpochBar())  # before the history, which reports the epoch
    trainer = _trainer(recipe, out, options, watching)
    spread = Spread.of(recipe, trainer.world_size)
    data = FaceData(divided, recipe, shares=tables[0] if tables else None)
    spread.check_rows(*map(len, data.rows))
    record = {
        "environment": environment(faces, options)
        | {
            "processes": spread.processes,
            "teachers": [
                *(teacher.checksum for teacher in learned),
                *(hashlib.sha256(table.tobytes()).hexdigest() for table in tables),
            ],
            "start_from": elder and elder.checksum,
            "learned": joined(sketch(_faces(divided, "Training")), *(known.learned for known in trained)),
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
    if is_first_process():  # only now: what is refused above leaves no folder
        if resume:
            _check_same_run(out, record)
            for left in out.rglob(".*.part"):  # by a run that was killed
                left.unlink(missing_ok=True)
        else:
            _need_empty(out)  # again: another run may have begun meanwhile
        for name, value in record.items():
            write_whole(out / f"{name}.json", partial(_write_json, value))
        begin(spread)

    _fit(trainer, classifier, data, watching, _kept(out) if resume else None)
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
        raise Damaged(f"{kept} cannot be gone on from: {error!r}; {_instead_of(kept)}") from error


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


def _check_unseen(trained: Sequence[Predicting], faces: FaceSet, divided: FaceSet, recipe: Recipe) -> None:
    """What a trained network learned from must not choose the epoch of one that it hands its knowledge to.

    Raises:
        InputError: One of them learned from such rows.
    """
    choosing = divided.rows[divided.where(recipe.protocol.chooser)]
    for known in trained:
        if seen := _seen(known, faces, divided, recipe.protocol.chooser):
            raise InputError(
                f"{known.file} learned from {seen} of the {len(choosing):,} rows that are to choose the epoch, and "
                "would hand on what they are; divide the rows alike in both, by the same protocol and seed "
                f"({known.name}: {known.recipe.protocol}; seed {known.recipe.seed}), and a held-out share by the same "
                "--data, --ferplus and --exclude"
            )


def _seen(known: Predicting, faces: FaceSet, divided: FaceSet, chooser: str) -> str:
    """How many of the rows that choose a trained network learned from, in words; nothing for none."""
    learned = known.learned
    if known.data_sha256 == faces.checksum:  # so that its own rows are known, and twins of them are no matter
        its = divide(faces, known.recipe)
        if count := len(np.intersect1d(divided.rows[divided.where(chooser)], its.rows[its.where("Training")])):
            return f"{count:,}"
        learned = without(learned, sketch(_faces(its, "Training")))
    share = share_known(_faces(divided, chooser), learned)
    if share is None and chooser == HELD_OUT:  # too few to tell; they are a part of what trains
        share = share_known(chain(_faces(divided, chooser), _faces(divided, "Training")), learned)
    return f"about {share:.0%}" if share is not None and share > KNOWN else ""


def _faces(divided: FaceSet, role: str) -> Iterator[UInt8[np.ndarray, "48 48"]]:
    """One after the other: all of them may be more than memory holds."""
    return (divided.images[row] for row in np.flatnonzero(divided.where(role)))


def check_start(
    recipe: Recipe,
    out: Path,
    teachers: Sequence[str | os.PathLike[str]] = (),
    start_from: str | os.PathLike[str] | None = None,
    *,
    options: TrainOptions | None = None,
    resume: bool = False,
) -> None:
    """Refuse, before any data is read, what would fail after that.

    Raises:
        InputError: Teachers without `distil`, or `distil` without teachers; a table beside other teachers, or for
            other labels than FER2013's or the binary loss; nothing to start from for a recipe that
            needs that; two rules for the learning rate; devices and nodes that nobody started or that cannot share the
            batch.
        NotFound: There is no such network, teacher or one to start from.
        FileError: The run folder cannot be made, holds something already, or holds no run to resume.
        Damaged: The checkpoint to go on from is damaged.
    """
    check_recipe(recipe)
    _check_known(recipe, teachers, start_from)
    devices, nodes = places(options.devices, options.nodes) if options else (1, 1)
    if devices != "auto":
        Spread.of(recipe, int(devices) * nodes)
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise FileError(f"{out} cannot be a run folder: {there} is a file; choose another")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        raise FileError(f"{out} cannot be a run folder: {there} may not be read and written to; choose another")
    if not resume and is_first_process():
        _need_empty(out)
    if resume and not (out / "recipe.json").exists():
        raise FileError(f"{out} holds no run to resume; start one without --resume")
    if resume and (kept := _kept(out)):
        try:
            load_checkpoint(kept)
        except Damaged as error:
            raise Damaged(f"{error}; {_instead_of(kept)}") from error


def _kept(out: Path) -> Path | None:
    """The checkpoint to go on from: the last, or the best where the run was stopped between the two."""
    both = (out / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    return next((file for file in both if file.exists()), None)


def _need_empty(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        advice = ", or continue the run in it with --resume" if (out / "recipe.json").exists() else ""
        raise FileError(f"{out} is not empty; choose a new folder{advice}")


def _check_known(
    recipe: Recipe, teachers: Sequence[str | os.PathLike[str]], start_from: str | os.PathLike[str] | None
) -> None:
    if bool(teachers) != bool(recipe.distil):
        raise InputError(
            f"recipe {recipe.name!r} gives teachers a weight of {recipe.distil:g} (distil), and {len(teachers)} came; "
            "name teachers (--teacher RUN) for a recipe that learns from them, and only for such a one"
        )
    if recipe.elder and start_from is None:
        raise InputError(
            f"recipe {recipe.name!r} begins with a trained network and would learn little without; name one, as "
            "--start-from mien-small"
        )
    tables = [teacher for teacher in teachers if _is_table(teacher)]
    if tables and len(teachers) > 1:
        raise InputError(f"{tables[0]} is a table of answers, which teaches alone, but {len(teachers)} teachers came")
    if tables and (recipe.labels, recipe.loss) != ("fer2013", "cross_entropy"):
        raise InputError(
            f"a table of answers is mixed into FER2013's labels, for the cross-entropy, but recipe {recipe.name!r} "
            f"learns {recipe.labels} labels by {recipe.loss}; name a network as its teacher"
        )
    for source in tables:
        need_file(source)
    for source in (*(each for each in teachers if not _is_table(each)), *([] if start_from is None else [start_from])):
        check_trained(source)


def _is_table(teacher: str | os.PathLike[str]) -> bool:
    return Path(teacher).suffix.lower() == ".csv"


def _instead_of(kept: Path) -> str:
    best = kept.with_name("best.ckpt")
    return ("" if kept == best else f"copy {best} over it to go on from the best epoch, or ") + "start a new run"


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


def is_first_process() -> bool:
    """False in the processes that Lightning starts for further devices, which run the same program again."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _check_same_run(out: Path, record: dict[str, Any]) -> None:
    """A run may only be continued with the recipe, the data and the share of them that it began with."""
    for file in ("recipe.json", "environment.json"):
        need_file(out / file)
    try:
        # Settings that came after the run was begun have the values that change nothing, which are the defaults.
        recipe = json.loads(Recipe.from_json((out / "recipe.json").read_text(encoding="utf-8")).to_json())
        before = parse_json((out / "environment.json").read_text(encoding="utf-8"))
        checksum, limit = before["data_sha256"], before["options"]["limit"]
        precision = before["options"].get("precision", record["environment"]["options"]["precision"])
        teachers, name, elder = before.get("teachers", []), recipe["name"], before.get("start_from")
        differing = [
            key if isinstance(value, dict) else f"{key} (then {recipe[key]}, now {value})"
            for key, value in record["recipe"].items()
            if recipe[key] != value and key != "summary"
        ]
    except OSError as error:
        raise FileError(f"cannot read the records of the run in {out}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"the records of the run in {out} are damaged: {error}; start a new run") from error
    now = record["environment"]
    if name != record["recipe"]["name"]:
        raise InputError(f"the run in {out} is of recipe {name!r}, not of {record['recipe']['name']!r}")
    if differing:
        settings = ", ".join(differing)
        raise InputError(f"the run in {out} was begun with other settings: {settings}; resume it with its own")
    if teachers != now["teachers"]:
        raise InputError(f"the run in {out} was begun with other teachers, {len(teachers)} of them; name the same")
    if elder != now["start_from"]:
        raise InputError(f"the run in {out} was begun with other weights (--start-from); name the same ones")
    if checksum != now["data_sha256"]:
        raise InputError(f"the run in {out} was begun with other data (sha-256 {checksum[:12]}...)")
    if precision != now["options"]["precision"]:
        raise InputError(f"the run in {out} was begun with --precision {precision}; resume it with that")
    if limit != now["options"]["limit"]:
        raise InputError(f"the run in {out} was begun with --limit {limit}; resume it with that")
