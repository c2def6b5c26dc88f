"""What a network is made of: its layers with output shapes, parameters and multiply-adds."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from mien.lab.networks import NETWORKS, count_parameters


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer as the usual summary shows it.

    Attributes:
        kind: Its class.
        shape: Of its output for one image, without the batch: channels, height, width.
        parameters: Counted as Keras does, moving statistics included.
        multiply_adds: Of convolutions and dense layers, for one image.
    """

    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def layers(network: str) -> list[Layer]:
    """The layers of a network of `NETWORKS`, in the order they run for a 48x48 image."""
    built = NETWORKS[network]().eval()
    found: list[Layer] = []

    def note(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        shape = tuple(output.shape[1:])
        work = 0
        if isinstance(module, nn.Conv2d | nn.Linear):
            places = prod(shape[1:]) if isinstance(module, nn.Conv2d) else 1
            work = module.weight.numel() * places
        found.append(Layer(type(module).__name__, shape, count_parameters(module), work))

    for module in built.modules():
        if not list(module.children()):
            module.register_forward_hook(note)
    with torch.inference_mode():
        built(torch.zeros(1, 1, 48, 48))
    return found
