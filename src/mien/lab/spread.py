"""A run over several processes: who starts them, what each takes of a batch, batch norms that see all of it.

The rule: a step is the recipe's step however many processes share it. The recipe's batch is the batch of all processes
together, each takes an equal part of it, the learning rate is the recipe's, and a batch norm takes its statistics
from the whole batch. Starting, gradients and checkpoints are Lightning's. Knows no data set and no network.
"""

import os
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
import torch.distributed
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mien.errors import InputError
from mien.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Spread:
    """How the steps of a run are shared.

    Attributes:
        processes: Over all nodes, one for each device.
        batch: Rows of a step, over all processes.
        lr: The recipe's learning rate.

    Raises:
        InputError: The batch cannot be shared equally.
    """

    processes: int
    batch: int
    lr: float

    @classmethod
    def of(cls, recipe: Recipe, processes: int) -> "Spread":
        """A recipe's steps over some processes."""
        return cls(processes, recipe.batch, recipe.optimizer.lr)

    def __post_init__(self) -> None:
        if self.batch % self.processes:
            nearest = self.batch + self.processes - self.batch % self.processes
            raise InputError(
                f"a batch of {self.batch} rows cannot be shared equally by {self.processes} processes; choose a number "
                f"of devices that divides it, or another recipe with --set batch={nearest}"
            )

    def __str__(self) -> str:
        """One line for the start of a run."""
        each = f", {self.batch // self.processes} for each" if self.processes > 1 else ""
        count = f"{self.processes} process{'es' * (self.processes > 1)}"
        return f"{count} | batch {self.batch}{each} | learning rate {self.lr:g}"

    def check_rows(self, training: int, choosing: int) -> None:
        """Refuse a data set in which a process would have nothing to do.

        Raises:
            InputError: There are more processes than rows.
        """
        if (rows := min(training, choosing)) < self.processes:
            raise InputError(
                f"{self.processes} processes need as many rows to learn from and to choose the epoch by, but there are "
                f"{training:,} and {choosing:,}; use at most {rows} devices"
            )


def places(devices: int | str, nodes: int | str) -> tuple[int | str, int]:
    """Devices of a node and number of nodes, after a look at who started this process.

    Args:
        devices: A number; "auto" for what torchrun or SLURM started on each node, or else what there is.
        nodes: A number; "auto" for those of torchrun or SLURM, or else 1.

    Raises:
        InputError: The numbers are not those of the launcher, or there are several nodes and no launcher.
    """
    if TorchElasticEnvironment.detect():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        launcher, started = "torchrun", (local, int(os.environ["WORLD_SIZE"]) // local)
    elif SLURMEnvironment.detect():
        launcher = "SLURM"
        started = int(os.environ.get("SLURM_NTASKS_PER_NODE", 1)), int(os.environ.get("SLURM_NNODES", 1))
    else:
        if nodes not in ("auto", 1):
            raise InputError(
                f"{nodes} nodes need a launcher that starts mien on each of them, torchrun or srun, and none did; "
                "docs/train-many.md has the commands"
            )
        return devices, 1
    wanted = tuple(there if asked == "auto" else asked for asked, there in zip((devices, nodes), started, strict=True))
    if wanted != started:
        raise InputError(
            f"{launcher} started {started[0]} on each of {started[1]} nodes, but --devices {devices} --nodes {nodes} "
            "were asked for; leave both out"
        )
    return started


class WholeBatchNorms(LayerSync):
    """Batch norms that take their statistics from the batches of all processes together, while fitting.

    torch's own SyncBatchNorm does that on GPUs, and refuses the CPU.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Give the batch norms another `forward`; weights, names and buffers stay."""
        for layer in model.modules():
            if isinstance(layer, _BatchNorm):
                vars(layer)["forward"] = MethodType(whole_batch_norm, layer)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Give them back their own."""
        for layer in model.modules():
            if isinstance(layer, _BatchNorm):
                vars(layer).pop("forward", None)
        return model


class _Sum(torch.autograd.Function):
    """A tensor's sum over all processes; what reaches each one's part is the sum of all gradients.

    As torch.distributed.nn.functional.all_reduce, which is deprecated; what it names instead is private.
    """

    @staticmethod
    def forward(context: Any, part: Tensor) -> Tensor:
        total = part.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(context, gradients[0])


def _sum(part: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(part)  # type: ignore[no-untyped-call]
    return total


def whole_batch_norm(layer: _BatchNorm, x: Tensor) -> Tensor:
    """What a batch norm makes of this process's part of a batch, where each process has one.

    Parts may differ in size. Gradients flow through the statistics into every process.

    Args:
        layer: With running statistics and a momentum, as all are that the networks here have.
        x: (B, C) or (B, C, H, W).

    Returns:
        The same shape.

    Source: https://arxiv.org/abs/1502.03167; the variance in two passes, and its running mean unbiased, as torch.
    """
    if not layer.training:
        return type(layer).forward(layer, x)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    assert layer.momentum is not None
    axes, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
    exact = x if x.dtype == torch.float64 else x.float()  # half precision would lose small differences in long sums
    own = torch.cat([exact.sum(axes), exact.new_tensor([x.numel() / x.shape[1]])])
    total = _sum(own)
    count = total[-1]
    mean = total[:-1] / count
    centred = exact - mean.view(shape)
    variance = _sum(centred.square().sum(axes)) / count
    with torch.no_grad():
        layer.num_batches_tracked += 1
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(variance * count / (count - 1), layer.momentum)
    scale = layer.weight * torch.rsqrt(variance + layer.eps)
    result: Tensor = (centred * scale.view(shape) + layer.bias.view(shape)).to(x.dtype)
    return result
