"""A recipe's optimizer, and the one that torch has not in the form that convolutions need: Muon."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from mien.lab import keras_defaults
from mien.recipes import SGD, Adam, Muon

ROUNDS = 3  # of the iteration: singular values need not be equal, only about as large as each other
_A, _B, _C = 3.4445, -4.7750, 2.0315


def make(rule: Adam | SGD | Muon, network: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a network that a recipe asks for."""
    match rule:
        case Adam(lr=lr):
            return keras_defaults.Adam(network.parameters(), lr=lr)
        case SGD(lr=lr, momentum=momentum, weight_decay=weight_decay):
            groups = decay_groups(network.parameters(), weight_decay)
            return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=True)
        case Muon():
            return nesterov(rule, network)


def nesterov(rule: SGD | Muon, network: nn.Module) -> "Nesterov":
    """SGD or Muon in our own form, whose learning rates may be tensors.

    With Muon, convolutions without a bias are taken for those that a batch norm follows.
    """
    parameters = list(network.parameters())
    if isinstance(rule, SGD):
        return Nesterov(decay_groups(parameters, rule.weight_decay), lr=rule.lr, momentum=rule.momentum)
    normed = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d) and module.bias is None]
    known = set(map(id, normed))
    rest = decay_groups([p for p in parameters if id(p) not in known], rule.weight_decay)
    groups = [{"params": normed, "lr": rule.lr, "orthogonal": True}, *rest]
    return Nesterov(groups, lr=rule.rest_lr, momentum=rule.momentum)


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Kernels decay; biases and batch norms do not."""
    parameters = list(parameters)
    kernels, rest = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


class Nesterov(torch.optim.Optimizer):
    """SGD with Nesterov momentum as torch has it, and for groups that are marked `orthogonal` Muon.

    There a kernel's step, as a matrix with a row for each of its outputs, is made orthogonal, so that every direction
    of the kernel learns at the same pace, not only the few that the gradient is full of. A kernel is kept at the norm
    of an orthogonal one, which its batch norm undoes, so that its learning rate is about the share of it that a step
    changes.

    Args:
        groups: Of parameters, each with an `lr`, `weight_decay` or `orthogonal` of its own where it differs.
        lr: A group's learning rate may be made a tensor (), which a CUDA graph reads anew at each step.
        momentum: In (0, 1).

    Source: https://kellerjordan.github.io/posts/muon/, for convolutions as in
    https://github.com/KellerJordan/cifar10-airbench.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; `closure` computes the loss and its gradients, as in torch's own optimizers."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if weights := [weight for weight in group["params"] if weight.grad is not None]:
                self._move(weights, [weight.grad for weight in weights], group)
        return loss

    def _move(self, weights: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> None:
        decayed = torch._foreach_add(grads, weights, alpha=group["weight_decay"])
        speeds = [self._speed(weight) for weight in weights]
        torch._foreach_mul_(speeds, group["momentum"])
        torch._foreach_add_(speeds, decayed)
        steps = torch._foreach_add(decayed, speeds, alpha=group["momentum"])
        if group["orthogonal"]:
            steps = tuple(orthogonal(step.flatten(1)).view(step.shape) for step in steps)
            for weight in weights:
                weight.mul_(len(weight) ** 0.5 / weight.norm().clamp(min=1e-7))
        torch._foreach_mul_(steps, -group["lr"])
        torch._foreach_add_(weights, steps)

    def _speed(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        speed: Tensor = state["momentum_buffer"]
        return speed


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix (R, C) whose singular values are all 1: they end between 0.3 and 1.2 or so, where they
    are not too small to begin with."""
    wide: Tensor = matrix / matrix.norm().clamp(min=1e-7)
    tall = len(matrix) > matrix.shape[1]
    if tall:
        wide = wide.T
    for _ in range(ROUNDS):
        square = wide @ wide.T
        wide = _A * wide + (_B * square + _C * square @ square) @ wide
    return wide.T if tall else wide
