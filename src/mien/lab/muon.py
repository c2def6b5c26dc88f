"""Muon: SGD whose steps for the kernels of convolutions are made orthogonal."""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor, nn

ROUNDS = 3  # of the iteration: singular values need not be equal, only about as large as each other
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Muon(torch.optim.Optimizer):
    """Nesterov momentum; a convolution's step, as a matrix with a row for each of its outputs, is made orthogonal.

    So every direction of a kernel learns at the same pace, not only the few that the gradient is full of. A kernel is
    kept at the norm of an orthogonal one, which its batch norm undoes, so that its learning rate is about the share of
    it that a step changes.

    Args:
        network: What to train. Convolutions without a bias are taken for those that a batch norm follows.
        lr: Of these convolutions.
        rest_lr: Of all else, which learns by SGD.
        momentum: In (0, 1).
        weight_decay: Of the other kernels; biases and norms do not decay.

    Source: https://kellerjordan.github.io/posts/muon/, for convolutions as in
    https://github.com/KellerJordan/cifar10-airbench.
    """

    def __init__(
        self, network: nn.Module, *, lr: float, rest_lr: float, momentum: float, weight_decay: float
    ) -> None:
        normed = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d) and m.bias is None]
        known = set(map(id, normed))
        rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
        groups: list[dict[str, Any]] = [
            {"params": normed, "lr": lr, "orthogonal": True},
            {"params": [parameter for parameter in rest if parameter.ndim > 1], "weight_decay": weight_decay},
            {"params": [parameter for parameter in rest if parameter.ndim <= 1]},
        ]
        super().__init__(groups, {"lr": rest_lr, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False})

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
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        momentum: float = group["momentum"]
        gradient = gradient.add(parameter, alpha=group["weight_decay"])
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        speed: Tensor = state["momentum_buffer"].mul_(momentum).add_(gradient)
        step = gradient.add(speed, alpha=momentum)
        if group["orthogonal"]:
            parameter.mul_(len(parameter) ** 0.5 / parameter.norm().clamp(min=1e-7))
            step = orthogonal(step.flatten(1)).view(step.shape)
        parameter.add_(step, alpha=-group["lr"])


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
