"""What a network is made of: its layers with output shapes, parameters and multiply-adds."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from mien.lab.networks import count_parameters


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as the usual summary shows it.

    Attributes:
        kind: Its class.
        settings: What it was made with, as torch prints it; empty where there is nothing to set.
        shape: Of its output for one image, without the batch: channels, height, width.
        parameters: Counted as Keras does, moving statistics included.
        multiply_adds: Of convolutions and dense layers, for one image.
    """

    kind: str
    settings: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def layers(network: nn.Module) -> list[Layer]:
    """The layers of a network, in the order they run for a 48x48 image."""
    found: list[Layer] = []

    def note(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        shape = tuple(output.shape[1:])
        work = 0
        if isinstance(module, nn.Conv2d | nn.Linear):
            places = prod(shape[1:]) if isinstance(module, nn.Conv2d) else 1
            work = module.weight.numel() * places
        found.append(Layer(type(module).__name__, module.extra_repr(), shape, count_parameters(module), work))

    leaves = [module for module in network.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(note) for module in leaves]
    training = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 1, 48, 48))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return found
