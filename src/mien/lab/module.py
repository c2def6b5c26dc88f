"""The LightningModule: a recipe's network, losses, optimizer and schedule. Knows no files and no data set."""

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from mien.errors import InputError, NotFound, TrainingDiverged
from mien.expressions import EXPRESSIONS, FERPLUS, answers
from mien.lab import keras_defaults, optimizers
from mien.lab.augment import augmentation, degradation, mix
from mien.lab.networks import NETWORKS
from mien.recipes import Adam, Constant, Cosine, Plateau, Recipe

LONGEST_WARMUP = 10  # the steps of a run over those of its warm-up, at least: a trial of an epoch must learn too
CHECK_EVERY = 50  # steps between looks at the loss: each look makes a GPU wait


def check_recipe(recipe: Recipe) -> None:
    """Refuse what cannot be trained, whatever the data.

    Raises:
        NotFound: There is no such network; the closest name is suggested.
        InputError: Two rules would set the learning rate; the network or the loss is made for FER2013's labels alone.
    """
    if recipe.network not in NETWORKS:
        raise NotFound.named("network", recipe.network, NETWORKS)
    outputs = _outputs(recipe)
    if outputs != len(EXPRESSIONS) and "outputs" not in inspect.signature(NETWORKS[recipe.network]).parameters:
        raise InputError(f"network {recipe.network!r} has seven outputs: it learns FER2013's labels, and no votes")
    if recipe.loss == "binary_cross_entropy" and recipe.labels == "ferplus-votes":
        raise InputError("binary_cross_entropy takes one label a face, not votes: --labels ferplus, or another loss")
    if isinstance(recipe.optimizer, Adam) and recipe.optimizer.decay and not isinstance(recipe.schedule, Constant):
        raise InputError(
            f"recipe {recipe.name!r} has both optimizer.decay and a {type(recipe.schedule).__name__} schedule for its "
            "learning rate; set optimizer.decay=0"
        )


def build_network(recipe: Recipe) -> nn.Sequential:
    """The network of a recipe that `check_recipe` lets pass."""
    outputs, build = _outputs(recipe), NETWORKS[recipe.network]
    return build() if outputs == len(EXPRESSIONS) else build(outputs=outputs)


def _outputs(recipe: Recipe) -> int:
    """One for each label, and ten more for the votes where it learns them too."""
    return len(answers(recipe.labels)) + len(FERPLUS) * bool(recipe.votes)


class Classifier(L.LightningModule):
    """A recipe made trainable: uint8 images (B, 48, 48) -> logits (B, C), seven or eight by the recipe's labels.

    A batch is (images uint8 (B, 48, 48), targets int64 (B,) or shares float32 (B, C), votes float32 (B, 10), all zero
    where there are none).

    Args:
        recipe: What to train.
        teachers: Trained classifiers whose answers it learns too, with the weight `recipe.distil`.

    Raises:
        NotFound: The recipe names a network that does not exist.
        InputError: Two rules would set the learning rate, the network or the loss cannot learn the recipe's labels, or
            a teacher learned others.
        TrainingDiverged: While fitting, the loss is no longer finite.
    """

    def __init__(self, recipe: Recipe, teachers: "Sequence[Classifier]" = ()) -> None:
        super().__init__()
        check_recipe(recipe)
        self.recipe = recipe
        self.teachers = tuple(teachers)  # a tuple is no part of the module: they are neither saved nor trained
        self.classes = len(answers(recipe.labels))
        if wrong := [teacher.recipe.title for teacher in self.teachers if teacher.classes != self.classes]:
            raise InputError(f"recipe {recipe.title!r} has {self.classes} labels, but its teacher {wrong[0]!r} has not")
        network = build_network(recipe)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.augment = augmentation(recipe.augment)
        self.degrade = degradation(recipe.augment)
        # Arguments that are validated make a GPU wait at every step.
        accuracy = partial(MulticlassAccuracy, self.classes, average="micro", validate_args=False)
        self.accuracy = nn.ModuleDict({stage: accuracy() for stage in ("train_", "val_")})
        # Lightning's own mean over processes drops the fraction of the rows that each has.
        self.mean_loss = nn.ModuleDict({stage: MeanMetric(nan_strategy="disable") for stage in ("train_", "val_")})
        self.plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of uint8 images (B, 48, 48)."""
        return self.outputs(self.unit(images))[:, : self.classes]

    def unit(self, images: Tensor) -> Tensor:
        """Floats (B, 1, 48, 48) in [0, 1] of uint8 images (B, 48, 48): what is augmented."""
        return images.unsqueeze(1).float() / 255

    def outputs(self, unit: Tensor) -> Tensor:
        """Logits (B, C), and ten more for votes where the recipe learns them, of floats (B, 1, 48, 48) in [0, 1]."""
        standard = (unit - self.recipe.mean) / self.recipe.std
        outputs: Tensor = self.network(standard.contiguous(memory_format=torch.channels_last))
        return outputs

    def loss(self, outputs: Tensor, targets: Tensor, votes: Tensor) -> Tensor:
        """The recipe's loss, a scalar: the labels' term, the votes' term and the kernel penalty."""
        logits = outputs[:, : self.classes]
        if self.recipe.loss == "binary_cross_entropy":
            loss = keras_defaults.binary_cross_entropy(logits, targets)
        else:
            loss = F.cross_entropy(logits, targets, label_smoothing=self.recipe.label_smoothing)
        if self.recipe.votes:
            total = votes.sum(1, keepdim=True)
            shares = votes / total.clamp(min=1)  # a row without votes has no share, hence no loss
            loss = loss + self.recipe.votes * F.cross_entropy(outputs[:, self.classes :], shares)
        return loss + keras_defaults.l2_penalty(self.network)

    def _step(self, outputs: Tensor, batch: tuple[Tensor, Tensor, Tensor], stage: str) -> Tensor:
        _, targets, votes = batch
        loss = self.loss(outputs.float(), targets, votes)
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        self.accuracy[stage](outputs[:, : self.classes], labels)
        self.mean_loss[stage](loss.detach().expand(len(labels)))
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(labels)}
        self.log(f"{stage}loss", cast(Metric, self.mean_loss[stage]), **options)
        self.log(f"{stage}accuracy", cast(Metric, self.accuracy[stage]), **options)
        return loss

    def on_train_epoch_start(self) -> None:
        """Make the epoch's randomness depend on the seed and the epoch alone, so that a resumed run is the same."""
        torch.manual_seed((self.recipe.seed * 100_000 + self.current_epoch) * 1_000 + self.global_rank)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], step: int) -> Tensor:
        """Loss of one augmented batch."""
        with torch.autocast(self.device.type, enabled=False):
            images = self.augment(self.unit(batch[0]))
            other, share = batch, 1.0
            if self.recipe.mixup or self.recipe.cutmix:
                images, partner, share = mix(images, self.recipe)
                other = (batch[0], batch[1][partner], batch[2][partner])
                if share < 0.5:  # the history tells how often the larger part was right
                    batch, other, share = other, batch, 1 - share
            seen = self.degrade(images)
        outputs = self.outputs(seen)
        loss = self._step(outputs, batch, "train_")
        if share < 1:
            loss = share * loss + (1 - share) * self.loss(outputs.float(), *other[1:])
        if self.teachers:
            loss = torch.lerp(loss, self.distance(outputs.float(), self.softened(images)), self.recipe.distil)
        if step % CHECK_EVERY == 0:
            self._stop_if_diverged(loss, f"step {step + 1}")
        return loss * self._weight(len(images)) if step + 1 == self.trainer.num_training_batches else loss

    def _weight(self, rows: int) -> Tensor:
        """This process's rows over the mean of all: the last batch of an epoch may be shared unequally."""
        own = torch.tensor(float(rows), device=self.device)
        return own / self._mean_of_processes(own)

    def _mean_of_processes(self, value: Tensor) -> Tensor:
        return cast(Tensor, self.trainer.strategy.reduce(value.detach().clone(), reduce_op="mean"))

    @torch.no_grad()
    def softened(self, unit: Tensor) -> Tensor:
        """The teachers' mean answer (B, C), softened, to floats (B, 1, 48, 48) in [0, 1]."""
        answers = [teacher.outputs(unit)[:, : self.classes].float() for teacher in self.teachers]
        return torch.stack([answer.div(self.recipe.soften).softmax(1) for answer in answers]).mean(0)

    def distance(self, outputs: Tensor, softened: Tensor) -> Tensor:
        """How far the answers, softened too, are from the teachers' on the very same views, a scalar.

        The teachers saw them undegraded. The square of the temperature keeps the gradients' size.
        Source: https://arxiv.org/abs/1503.02531.
        """
        heat = self.recipe.soften
        return heat**2 * F.cross_entropy(outputs[:, : self.classes] / heat, softened)

    def on_fit_start(self) -> None:
        """Bring the teachers to the device."""
        for teacher in self.teachers:
            teacher.to(self.device).eval()

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], step: int) -> None:
        """Loss and accuracy of one batch as it is."""
        loss = self._step(self.outputs(self.unit(batch[0])), batch, "val_")
        self._stop_if_diverged(loss, "validation")

    def _stop_if_diverged(self, loss: Tensor, where: str) -> None:
        loss = self._mean_of_processes(loss)  # so that all stop together
        if not torch.isfinite(loss):
            epoch = self.current_epoch + 1
            kept = f"what was kept after epoch {epoch - 1} is sound" if epoch > 1 else "nothing was kept yet"
            raise TrainingDiverged(
                f"expected a finite loss, but it is {loss.item()} in epoch {epoch}, {where}; {kept}; start a new run "
                "with a lower learning rate (--set optimizer.lr=...) or --precision 32"
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The recipe's optimizer, with a schedule per step where it has one."""
        recipe = self.recipe
        optimizer = optimizers.make(recipe.optimizer, self.network)
        scheduler: LambdaLR | None = None
        if isinstance(recipe.optimizer, Adam) and recipe.optimizer.decay:
            scheduler = LambdaLR(optimizer, keras_defaults.time_decay(recipe.optimizer.decay))
        match recipe.schedule:
            case Plateau(factor=factor, patience=patience):
                self.plateau = keras_defaults.plateau(optimizer, factor, patience)
            case Cosine(warmup=warmup):
                steps = int(self.trainer.estimated_stepping_batches)
                rise = min(round(steps * warmup / recipe.epochs), steps // LONGEST_WARMUP)
                scheduler = LambdaLR(optimizer, cosine(rise, steps))
            case Constant():
                pass
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # Lightning steps an epoch's plateau rule after the checkpoint is written, and a resumed run would miss that
    # step; so it is stepped, saved and restored here.
    def on_train_epoch_end(self) -> None:
        """Lower the learning rate where the validation loss stands still."""
        if self.plateau is not None:
            self.plateau.step(float(self.trainer.callback_metrics["val_loss"]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the recipe and the plateau rule's state."""
        checkpoint["recipe"] = self.recipe.to_json()
        if self.plateau is not None:
            checkpoint["plateau"] = self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the plateau rule's state until the optimizer exists."""
        self._plateau_state = checkpoint.get("plateau")

    def on_train_start(self) -> None:
        """Restore the plateau rule."""
        if self.plateau is not None and self._plateau_state is not None:
            self.plateau.load_state_dict(self._plateau_state)


def cosine(warmup: int, steps: int) -> Callable[[int], float]:
    """Factor on the learning rate at a step: a line up to 1, then half a cosine down to 0."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return factor
