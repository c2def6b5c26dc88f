"""What happens beside the training itself: history, checkpoints, the moving average, early stopping, a progress bar."""

import csv
import signal
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import callbacks as lightning
from lightning.pytorch.callbacks import Callback, EarlyStopping
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from mien.recipes import Recipe
from mien.storage import write_whole


def callbacks(recipe: Recipe, out: Path, report: Callable[[dict[str, float]], None]) -> list[Callback]:
    """Those of a run.

    Args:
        recipe: What to keep, average and stop by.
        out: The run folder.
        report: Called with each epoch's row of history.
    """
    monitor, mode = ("val_loss", "min") if recipe.keep == "loss" else ("val_accuracy", "max")
    found: list[Callback] = [
        Terminable(),
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
        found.append(WeightAveraging(multi_avg_fn=moving_average(recipe.ema)))
    if recipe.stopping:
        found.append(Stop("val_accuracy", mode="max", patience=recipe.stopping.patience))
    return found


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all: Lightning copies them from the folder for temporary files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write one beside its place first; in memory before that, as torch calls a full disk a failure of its own."""
        buffer = BytesIO()
        torch.save(checkpoint, buffer)
        write_whole(path, lambda file: file.write(buffer.getbuffer()), binary=True)


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


class Terminable(Callback):
    """SIGTERM is as Ctrl-C. Lightning's own way with it has each process wait for the others, wherever they are."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the place of Lightning's handler, which has just been put there; it puts back what was before."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)


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


def moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """What moves averages on: takes them, the new weights and the number of updates so far, and changes the first.

    All of one kind move at once: one by one, a GPU would wait longer for them than for the step. The decay grows from
    2/11 up to `decay`, so that a short run's average is not the network that it began with.
    Source: `tf.train.ExponentialMovingAverage` with `num_updates`.
    """

    def average(old: list[Tensor], new: list[Tensor], updates: Tensor) -> None:
        if not old[0].is_floating_point():  # how many batches a norm has seen
            torch._foreach_copy_(old, new)
            return
        kept = ((1 + updates) / (10 + updates)).clamp(max=decay)
        torch._foreach_mul_(old, kept)
        torch._foreach_add_(old, torch._foreach_mul(new, 1 - kept))

    return average


def _write_rows(file: Any, rows: list[dict[str, float]]) -> None:
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


class ModelCheckpoint(lightning.ModelCheckpoint):
    """Lightning's, but it takes no path from a checkpoint.

    Lightning deletes what these paths name, and in a folder that was moved it forgets the best score. The name is
    Lightning's too, since it is the key of the state.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the best score so far, whose file lies in the folder of this run; if it is lost, anew."""
        self.best_model_path = self.format_checkpoint_name({})
        if self.monitor and Path(self.best_model_path).exists():
            self.best_model_score = self.kth_value = torch.tensor(float(state_dict["best_model_score"]))
            self.best_k_models = {self.best_model_path: self.best_model_score}
            self.kth_best_model_path = self.best_model_path


class WeightAveraging(lightning.WeightAveraging):
    """Lightning's, but on the device of the training.

    It copies the module before Lightning moves that; on the CPU, every step would fetch all weights from the GPU.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Move the module first."""
        pl_module.to(trainer.strategy.root_device)
        super().setup(trainer, pl_module, stage)
