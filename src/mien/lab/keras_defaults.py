"""Keras' defaults made explicit in torch: whatever the seed networks do only "because Keras" does it.

It knows no network, no recipe and no training loop. Read against Keras 3.15 (the files named below are under
`keras/src/`) and, for what the seeds' authors ran, Keras 2.1.6.

Not matched, on purpose:
    Running variance: Keras 3 averages the biased variance of each batch (`layers/normalization/
        batch_normalization.py`), torch the unbiased one, n / (n - 1) times as large for n values a channel:
        1.6 % more at batch 64 after a dense layer, 0.06 % at 64 x 5 x 5. It acts in evaluation only. Keras
        2.1.6 multiplied by n / (n - 1.001), so torch is the closer of the two to the published runs.
    Random numbers: the same distributions, other draws.
    Categorical cross-entropy of probabilities clipped at 1e-7: Keras' own compiled training goes back to the
        logits (`backend/tensorflow/nn.py`, _get_logits), as torch does.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import sqrt
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mien.errors import InputError

EPSILON = 1e-7
"""Keras' fuzz factor: in Adam, and where probabilities are clipped. Source: `backend/config.py`."""

_KERNEL_L2 = "kernel_l2"

Module = TypeVar("Module", bound=nn.Module)


def initialise(network: Module) -> Module:
    """Draw kernels glorot-uniform and set biases to zero, in place; the network is returned for chaining.

    Kernels are uniform within sqrt(6 / (fan_in + fan_out)), both fans times the receptive field. torch's own
    default is uniform within 1 / sqrt(fan_in), biases too.

    Source: `initializers/random_initializers.py`, GlorotUniform and compute_fans.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def batch_norm(channels: int, dims: int) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """Batch normalization with epsilon 1e-3, and 1 % of each batch in the moving statistics.

    Args:
        channels: Channels of the input.
        dims: 1 for (B, C), 2 for (B, C, H, W).

    Source: `layers/normalization/batch_normalization.py`; its momentum 0.99 is torch's 1 - 0.99.
    """
    kind = nn.BatchNorm2d if dims == 2 else nn.BatchNorm1d
    return kind(channels, eps=1e-3, momentum=0.01)


class Flatten(nn.Module):
    """(B, C, H, W) -> (B, H * W * C): the order in which Keras' dense kernels expect it.

    Source: `layers/reshaping/flatten.py`; Keras' images are channels-last.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Put the channels last, then flatten."""
        return x.permute(0, 2, 3, 1).flatten(1)


class Adam(torch.optim.Adam):
    """Adam with epsilon where Keras has it: beside the root of the second moment *before* bias correction.

    That is Kingma and Ba's "epsilon hat". torch adds epsilon after the correction, so that step t needs
    eps / sqrt(1 - beta2^t): 32 times eps at first, eps itself after some thousand steps. Otherwise weights
    whose gradients are near 1e-7 move at another pace.

    Source: `optimizers/adam.py`, update_step; https://arxiv.org/abs/1412.6980, end of section 2.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3) -> None:
        super().__init__(params, lr=lr, betas=(0.9, 0.999), eps=EPSILON)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; the count of updates lives in the parameter groups, so that checkpoints keep it."""
        for group in self.param_groups:
            group["updates"] = group.get("updates", 0) + 1
            group["eps"] = EPSILON / sqrt(1 - group["betas"][1] ** group["updates"])
        return super().step(closure)


def time_decay(decay: float) -> Callable[[int], float]:
    """The old `decay=` of Keras' optimizers, 1 / (1 + decay * step): for LambdaLR, stepped after every batch.

    Source: Keras 2.1.6, `keras/optimizers.py`; now InverseTimeDecay in
    `optimizers/schedules/learning_rate_schedule.py`.
    """
    return lambda step: 1 / (1 + decay * step)


def plateau(optimizer: torch.optim.Optimizer, factor: float, patience: int) -> ReduceLROnPlateau:
    """Multiply the rate by `factor` after `patience` epochs in a row without a lower validation loss.

    Keras acts on the last of those epochs, torch one later. A gain counts if it exceeds 1e-4 of loss, where
    torch asks for a share of the loss; and no reduction is too small to be made.

    Args:
        optimizer: Changed whenever `step(loss)` of the result is called, once an epoch.
        factor: Below 1.
        patience: Epochs; 0 acts as 1.

    Source: `callbacks/reduce_lr_on_plateau.py`; Keras 2.1.6 has the same.
    """
    patience = max(patience, 1) - 1
    return ReduceLROnPlateau(
        optimizer, factor=factor, patience=patience, threshold=1e-4, threshold_mode="abs", eps=0.0
    )


def with_l2(layer: Module, l2: float) -> Module:
    """Mark a layer's kernel, never its bias, for `l2_penalty`: Keras' `kernel_regularizer=l2(...)`."""
    setattr(layer, _KERNEL_L2, l2)
    return layer


def l2_penalty(network: nn.Module) -> Tensor:
    """The sum of l2 * sum(kernel^2) over the marked layers, a scalar; zero if there are none.

    Keras adds it to the loss in training and to every loss it reports, the validation loss too. It is not
    halved: written as weight decay it would be 2 * l2.

    Source: `regularizers/regularizers.py`, L2; `trainers/trainer.py`, compute_loss.
    """
    penalty = torch.zeros(())
    for layer in network.modules():
        if l2 := getattr(layer, _KERNEL_L2, 0.0):
            penalty = penalty + l2 * layer.get_parameter("weight").square().sum()
    return penalty


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Keras' binary cross-entropy on softmax outputs, a scalar: C yes-or-no questions about each image.

    Probabilities are clipped to [1e-7, 1 - 1e-7]; the mean runs over the classes, then over the batch. Keras
    2.1.6 trains this. Keras 3 on TensorFlow finds the logits behind a softmax layer and silently takes their
    sigmoids instead, another loss; it computes this one where probabilities come as plain numbers.

    Args:
        logits: (B, C) float32.
        labels: (B,) int64 in [0, C).

    Source: `losses/losses.py` and `backend/tensorflow/nn.py`, binary_crossentropy and _get_logits.
    """
    yes = logits.softmax(1).clamp(EPSILON, 1 - EPSILON)
    truth = nn.functional.one_hot(labels, logits.shape[1]).bool()
    return -torch.where(truth, yes, 1 - yes).log().mean()


def dump_weights(network: nn.Module) -> list[NDArray[np.float32]]:
    """The weights as Keras' `model.get_weights()` gives them: its order, its layout, copied."""
    return [t.detach().cpu().numpy().transpose(np.argsort(axes)).copy() for t, axes in _weights(network)]


def load_weights(network: nn.Module, arrays: Sequence[NDArray[np.float32]]) -> None:
    """Take over what `model.get_weights()` of the same network in Keras gives.

    Raises:
        InputError: Their number or a shape is not the network's; nothing is changed then.
    """
    slots = list(_weights(network))
    expected = [tuple(t.shape[axis] for axis in np.argsort(axes)) for t, axes in slots]
    if expected != (came := [array.shape for array in arrays]):
        raise InputError(f"expected weights of shapes {expected}, but got {came}; take the same network's")
    with torch.no_grad():
        for (tensor, axes), array in zip(slots, arrays, strict=True):
            tensor.copy_(torch.from_numpy(array.transpose(axes).copy()))


# Axes that turn Keras' layout into torch's, by number of dimensions: a vector; (in, out) to (out, in);
# (height, width, in, out) to (out, in, height, width).
_AXES = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}


def _weights(network: nn.Module) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Every weight in Keras' order (in a batch norm: gamma, beta, moving mean and variance), and its axes."""
    for layer in network.modules():
        for name in ("weight", "bias", "running_mean", "running_var"):
            if isinstance(tensor := getattr(layer, name, None), Tensor):
                yield tensor, _AXES[tensor.ndim]
