"""Recipe + FaceSet -> run folder. The whole data set is one tensor on each device, or stays in its file where it is
larger than `IN_MEMORY`; there are no worker processes that fetch it.

A run folder holds recipe.json, environment.json, history.csv (a line an epoch), tensorboard/, checkpoints/best.ckpt
and last.ckpt, and at the end report.json, report.md, curves.png, confusion.png, reliability.png and coverage.png.
"""

import csv
import json
import math
import os
import platform
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import callbacks as lightning
from lightning.pytorch.callbacks import Callback, EarlyStopping, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from mien.errors import Damaged, FileError, InputError, NotFound
from mien.expressions import FERPLUS, answers
from mien.lab.exported import FACES, open_trained
from mien.lab.module import Classifier, check_network
from mien.lab.networks import inherit
from mien.lab.runs import BROKEN, Predicting, Run, load_checkpoint
from mien.lab.spread import Spread, WholeBatchNorms, places
from mien.measuring import plots
from mien.measuring.evaluation import Report, evaluate
from mien.measuring.faceset import IN_MEMORY, FaceSet
from mien.measuring.ferplus import relabelled, targets
from mien.recipes import Checked, Recipe
from mien.storage import need_file, parse_json, write_whole

VALIDATION_BATCH = 512
NON_FACE_VOTES = 6  # of ten FER+ taggers who call a row "NF"


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


HELD_OUT = "held-out"


def validation_split(recipe: Recipe) -> str:
    """The name of the rows that choose the epoch: a split of the data, or "held-out" for a share of it."""
    return recipe.protocol.select if isinstance(recipe.protocol.select, str) else HELD_OUT


def divide(faces: FaceSet, recipe: Recipe, limit: float = 1.0) -> FaceSet:
    """The data set with each row's role in a run as its split.

    Args:
        faces: The data set.
        recipe: Whose protocol and seed divide it.
        limit: Share of each part that is kept, in (0, 1]; the same rows for the same seed.

    Returns:
        All rows, not copied; their split is "Training" (they train), `validation_split(recipe)` (they choose) or ""
        (the run does not use them).

    Raises:
        NotFound: The data lacks a split that the protocol needs.
        InputError: A part has too few rows or unlabelled ones, or the recipe needs votes and there are none.
    """
    protocol, chosen = recipe.protocol, validation_split(recipe)
    for name in protocol.train:
        faces.split(name)  # names the missing split and those that exist
    if chosen != HELD_OUT:
        try:
            faces.split(chosen)
        except NotFound as error:
            share = "to choose the epoch by a share of the training rows: --set protocol.select=0.1"
            raise NotFound(f"{error}; {share}") from error
    if recipe.votes and faces.votes is None:
        raise InputError(
            f"recipe {recipe.name!r} learns FER+ votes, but the data has none; name the FER+ file "
            "(--ferplus fer2013new.csv), set their weight to 0 (--set votes=0), or use a recipe without them"
        )
    faces = relabelled(faces, recipe.labels)
    generator = np.random.default_rng(recipe.seed)
    train = np.flatnonzero(np.isin(faces.splits, protocol.train))
    if isinstance(protocol.select, str):
        held = np.flatnonzero(faces.splits == chosen)
    elif protocol.held_out == "random":
        order = generator.permutation(train)
        held, train = np.split(order, [math.ceil(len(train) * protocol.select)])
    else:
        train, held = np.split(train, [math.floor(len(train) * (1 - protocol.select))])
    if recipe.drop_non_faces and faces.votes is not None:
        train = train[faces.votes[train, FERPLUS.index("NF")] < NON_FACE_VOTES]
    roles = np.zeros(len(faces), f"<U{max(len(chosen), 8)}")
    for part, role in ((train, "Training"), (held, chosen)):
        kept = part if limit == 1 else generator.permutation(part)[: round(len(part) * limit)]
        if len(kept) < 2:
            raise InputError(f"{len(kept)} {role} rows are left for recipe {recipe.name!r}; at least 2 are needed")
        if unlabelled := int((faces.labels[kept] < 0).sum()):
            raise InputError(f"{unlabelled:,} of {len(kept):,} {role} rows have no label; training needs labels")
        roles[kept] = role
    return replace(faces, splits=roles)


class Fetched:
    """Rows of images that stay where they are, in a file as a rule; a batch is brought to the device when asked for."""

    def __init__(self, images: np.ndarray, rows: np.ndarray, device: torch.device) -> None:
        self.images, self.rows, self.device = images, rows, device

    def __getitem__(self, part: Tensor) -> Tensor:
        return torch.from_numpy(self.images[self.rows[part.cpu().numpy()]]).to(self.device)


class Batches:
    """Batches of one tensor set: (images uint8, targets int64 or float32, votes float32), each of a part's rows."""

    def __init__(self, tensors: tuple[Tensor | Fetched, Tensor, Tensor], parts: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return (tuple(tensor[part] for tensor in self.tensors) for part in self.parts)


class FaceData(L.LightningDataModule):
    """A divided FaceSet as batches on the device; the training order is drawn anew each epoch from the seed.

    Where several processes share a run, all draw the same order, and each takes its share of every batch.

    Args:
        divided: What `divide` gives.
        recipe: Whose batch, seed and protocol to follow.
        resident: Bytes of images, of all the rows used, that may lie on the device; those of a larger set are fetched
            batch by batch from where they are.
    """

    def __init__(self, divided: FaceSet, recipe: Recipe, resident: int = IN_MEMORY) -> None:
        super().__init__()
        self.faces, self.recipe, self.resident = divided, recipe, resident
        self.rows = [np.flatnonzero(divided.splits == role) for role in ("Training", validation_split(recipe))]
        self.tensors: list[tuple[Tensor | Fetched, Tensor, Tensor]] = []

    def setup(self, stage: str) -> None:
        """Copy both sets to the device, once."""
        assert self.trainer is not None
        device, faces = self.trainer.strategy.root_device, self.faces
        stays = sum(map(len, self.rows)) * faces.images[:1].nbytes > self.resident
        truth = targets(faces, self.recipe.labels)
        self.tensors = [
            (
                Fetched(faces.images, rows, device) if stays else torch.from_numpy(faces.images[rows]).to(device),
                torch.from_numpy(truth[rows]).to(device),
                torch.from_numpy(
                    np.zeros((len(rows), len(FERPLUS)), np.float32)
                    if faces.votes is None
                    else faces.votes[rows].astype(np.float32)
                ).to(device),
            )
            for rows in self.rows
        ]

    def _batches(self, which: int, parts: Sequence[Tensor]) -> Batches:
        """This process's share of each part; a part too small for all to have some of it is left out."""
        assert self.trainer is not None
        world, rank, device = self.trainer.world_size, self.trainer.global_rank, self.trainer.strategy.root_device
        return Batches(self.tensors[which], [part[rank::world].to(device) for part in parts if len(part) >= world])

    def train_dataloader(self) -> Batches:
        """This epoch's shuffled batches."""
        assert self.trainer is not None
        seed = self.recipe.seed * 100_000 + self.trainer.current_epoch
        order = torch.randperm(len(self.rows[0]), generator=torch.Generator().manual_seed(seed))
        if len(order) % self.recipe.batch == 1:  # a batch norm cannot learn from a batch of one
            order = order[:-1]
        return self._batches(0, torch.split(order, self.recipe.batch))

    def val_dataloader(self) -> Batches:
        """The validation rows in their order, in parts of nearly the same size: each process has some of every one."""
        order = torch.arange(len(self.rows[1]))
        return self._batches(1, torch.tensor_split(order, math.ceil(len(order) / VALIDATION_BATCH)))


class History(Callback):
    """One row an epoch, kept in the checkpoint too, so that a resumed run has its whole history."""

    def __init__(self, path: Path, report: Callable[[dict[str, float]], None]) -> None:
        self.path, self.report = path, report
        self.rows: list[dict[str, float]] = []
        self.begun = False  # all that was to be restored is restored

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here on what fails is the training."""
        self.begun = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add this epoch's row and write the file whole."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"epoch": trainer.current_epoch + 1, "lr": rate, **{k: round(v, 6) for k, v in sorted(metrics.items())}}
        self.rows.append(row)
        if trainer.is_global_zero:
            write_whole(self.path, lambda file: _write_rows(file, self.rows))
            self.report(row)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rows of the run that is continued."""
        self.rows = list(state_dict["rows"])


class EpochBar(Callback):
    """A progress bar on standard error for each epoch, gone when the epoch's row is reported."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show a new one."""
        self.bar = Progress(console=Console(stderr=True), transient=True, redirect_stdout=False)
        name = f"epoch {trainer.current_epoch + 1:3}/{trainer.max_epochs}"
        self.bar.add_task(name, total=trainer.num_training_batches)
        self.bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        """One batch further."""
        self.bar.advance(self.bar.task_ids[0])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take it away."""
        self.bar.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Take it away, and give the cursor back."""
        if hasattr(self, "bar"):
            self.bar.stop()


class Stop(EarlyStopping):
    """Early stopping that ends a resumed run where it had ended, instead of after one more epoch."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The epoch that it stopped in is in the checkpoint; the first never is one."""
        trainer.should_stop = self.stopped_epoch > 0


def moving_average(decay: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The average, the new weights and the number of updates so far -> the next average.

    The decay grows from 2/11 up to `decay`, so that a short run's average is not the network that it began with.
    Source: `tf.train.ExponentialMovingAverage` with `num_updates`.
    """

    def average(old: Tensor, new: Tensor, updates: Tensor) -> Tensor:
        kept = ((1 + updates) / (10 + updates)).clamp(max=decay)
        return kept * old + (1 - kept) * new

    return average


def _write_rows(file: Any, rows: list[dict[str, float]]) -> None:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)


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
        "data": Path(faces.source).name,
        "data_sha256": faces.checksum,
        "options": asdict(options),
    }


def train(
    recipe: Recipe,
    faces: FaceSet,
    out: str | os.PathLike[str],
    *,
    options: TrainOptions | None = None,
    teachers: Sequence[str | os.PathLike[str]] = (),
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
        teachers: Whose answers a recipe with `distil` learns: run folders, saved pairs (.json), models (.onnx, names).
        start_from: One of these, whose weights the network begins with (fine-tuning). It is of the same network, or of
            one that lacks some of its residual blocks. A head for other labels or votes begins anew.
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
            teachers; a network that cannot begin with those weights.
        Damaged: The run that is resumed is damaged.
        TrainingDiverged: The loss is not finite.
        KeyboardInterrupt: Ctrl-C; what was kept after the last whole epoch can be resumed.
    """
    out, options = Path(out), options or TrainOptions()
    check_start(recipe, out, teachers, options=options, resume=resume)
    last = out / "checkpoints" / "last.ckpt"
    divided = divide(faces, recipe, options.limit)
    some = faces.images[np.flatnonzero(divided.splits == "Training")[:FACES]]
    learned = [open_trained(teacher, some) for teacher in teachers]
    elder = open_trained(start_from, some) if start_from is not None else None
    callbacks = _callbacks(recipe, out, report)
    if progress and is_first_process():
        callbacks.insert(0, EpochBar())  # before the history, which reports the epoch
    trainer = _trainer(recipe, out, options, callbacks)
    spread = Spread.of(recipe, trainer.world_size)
    data = FaceData(divided, recipe)
    spread.check_rows(*map(len, data.rows))
    record = {
        "recipe": json.loads(recipe.to_json()),
        "environment": environment(faces, options)
        | {
            "processes": spread.processes,
            "teachers": [teacher.checksum for teacher in learned],
            "start_from": elder and elder.checksum,
        },
    }
    if is_first_process():
        if resume:
            _check_same_run(out, record)
        for name, value in record.items():
            write_whole(out / f"{name}.json", partial(_write_json, value))
        begin(spread)

    torch.manual_seed(recipe.seed)
    classifier = Classifier(recipe, [teacher.classifier for teacher in learned])
    if elder:
        begin_with(classifier, elder)
    try:
        trainer.fit(
            classifier,
            datamodule=data,
            ckpt_path=last if resume and last.exists() else None,
            weights_only=True,
        )
    except SystemExit:  # what Lightning makes of Ctrl-C
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it has Ctrl-C ignored from here on
        raise KeyboardInterrupt from None
    except BROKEN as error:
        if not resume or any(callback.begun for callback in callbacks if isinstance(callback, History)):
            raise
        raise Damaged(f"{last} cannot be gone on from: {error!r}; {_instead_of(last)}") from error
    if torch.distributed.is_initialized():  # gloo may abort a process that ends with its group open
        torch.distributed.destroy_process_group()
    if trainer.is_global_zero:
        summarise(out, divided, options)
    return out


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
            f"{elder.file}: {error}; name a run of the same network, or of a shallower one of the same widths"
        ) from error


def check_start(
    recipe: Recipe,
    out: Path,
    teachers: Sequence[str | os.PathLike[str]] = (),
    *,
    options: TrainOptions | None = None,
    resume: bool = False,
) -> None:
    """Refuse, before any data is read, what would fail after that.

    Raises:
        InputError: Teachers without `distil`, or `distil` without teachers; devices and nodes that nobody started or
            that cannot share the batch.
        NotFound: There is no such network.
        FileError: The run folder cannot be made, holds something already, or holds no run to resume.
        Damaged: The checkpoint to go on from is damaged.
    """
    check_network(recipe.network)
    if bool(teachers) != bool(recipe.distil):
        raise InputError(
            f"recipe {recipe.name!r} gives teachers a weight of {recipe.distil:g} (distil), and {len(teachers)} came; "
            "name teachers (--teacher RUN) for a recipe that learns from them, and only for such a one"
        )
    devices, nodes = places(options.devices, options.nodes) if options else (1, 1)
    if devices != "auto":
        Spread.of(recipe, int(devices) * nodes)
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise FileError(f"{out} cannot be a run folder: {there} is a file; choose another")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        raise FileError(f"{out} cannot be a run folder: {there} may not be read and written to; choose another")
    if not resume and out.exists() and any(out.iterdir()) and is_first_process():
        raise FileError(f"{out} is not empty; choose a new folder, or continue the run in it with --resume")
    if resume and not (out / "recipe.json").exists():
        raise FileError(f"{out} holds no run to resume; start one without --resume")
    last = out / "checkpoints" / "last.ckpt"
    if resume and last.exists():
        try:
            load_checkpoint(last)
        except Damaged as error:
            raise Damaged(f"{error}; {_instead_of(last)}") from error


def _instead_of(last: Path) -> str:
    return f"copy {last.with_name('best.ckpt')} over it to go on from the best epoch, or start a new run"


def _trainer(recipe: Recipe, out: Path, options: TrainOptions, callbacks: list[Callback]) -> L.Trainer:
    devices, nodes = places(options.devices, options.nodes)
    cuda = torch.cuda.is_available()
    try:
        return L.Trainer(
            max_epochs=recipe.epochs,
            devices=devices,
            num_nodes=nodes,
            sync_batchnorm=cuda,  # torch's, which refuses the CPU
            plugins=[] if cuda else [WholeBatchNorms()],
            precision=options.precision,
            callbacks=callbacks,
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


class ModelCheckpoint(lightning.ModelCheckpoint):
    """Lightning's, but it takes no path from a checkpoint.

    Lightning deletes what these paths name, and in a folder that was moved it forgets the best score. The name is
    Lightning's too, since it is the key of the state.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the best score so far, whose file lies in the folder of this run."""
        self.best_model_path = self.format_checkpoint_name({})
        if self.monitor:
            self.best_model_score = self.kth_value = torch.tensor(float(state_dict["best_model_score"]))
            self.best_k_models = {self.best_model_path: self.best_model_score}
            self.kth_best_model_path = self.best_model_path


def _callbacks(recipe: Recipe, out: Path, report: Callable[[dict[str, float]], None]) -> list[Callback]:
    monitor, mode = ("val_loss", "min") if recipe.keep == "loss" else ("val_accuracy", "max")
    callbacks: list[Callback] = [
        History(out / "history.csv", report),
        ModelCheckpoint(
            out / "checkpoints",
            filename="best",
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=True,  # else the checkpoint would lack this epoch's row of history
            enable_version_counter=False,
        ),
        # Lightning's own `save_last` writes only when there is a new best.
        ModelCheckpoint(
            out / "checkpoints", filename="last", save_on_train_epoch_end=True, enable_version_counter=False
        ),
    ]
    if recipe.ema:
        callbacks.append(WeightAveraging(avg_fn=moving_average(recipe.ema)))
    if recipe.stopping:
        callbacks.append(Stop("val_accuracy", mode="max", patience=recipe.stopping.patience))
    return callbacks


def summarise(out: Path, divided: FaceSet, options: TrainOptions) -> Report:
    """Score the best checkpoint on the rows that chose it, and leave report and pictures in the run folder."""
    run = Run(out)
    recipe = run.recipe
    report = evaluate(
        run, divided, validation_split(recipe), binary=recipe.claims_binary, labels=recipe.labels
    )
    if report.split == HELD_OUT:
        report.notes.append("These rows chose the epoch: this is a selection score.")
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
        recipe = parse_json((out / "recipe.json").read_text(encoding="utf-8"))
        before = parse_json((out / "environment.json").read_text(encoding="utf-8"))
        checksum, limit = before["data_sha256"], before["options"]["limit"]
        teachers, name, elder = before.get("teachers", []), recipe["name"], before.get("start_from")
        differing = [name for name, value in record["recipe"].items() if recipe.get(name) != value]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"the records of the run in {out} are damaged: {error}; start a new run") from error
    now = record["environment"]
    if name != record["recipe"]["name"]:
        raise InputError(f"the run in {out} is of recipe {name!r}, not of {record['recipe']['name']!r}")
    if differing:
        raise InputError(f"the run in {out} was begun with other settings: {', '.join(differing)} differ")
    if teachers != now["teachers"]:
        raise InputError(f"the run in {out} was begun with other teachers, {len(teachers)} of them; name the same")
    if elder != now["start_from"]:
        raise InputError(f"the run in {out} was begun with other weights (--start-from); name the same ones")
    if checksum != now["data_sha256"]:
        raise InputError(f"the run in {out} was begun with other data (sha-256 {checksum[:12]}...)")
    if limit != now["options"]["limit"]:
        raise InputError(f"the run in {out} was begun with --limit {limit}; resume it with that")
