"""Networks that other packages run, with random weights: only their size and time count."""

import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from mien.lab.networks import ResidualBlock


class Squeeze(nn.Module):
    """EfficientNet's squeeze-and-excitation, its reduction counted from the block's input."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, reduced, 1), nn.SiLU(), nn.Conv2d(reduced, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.weigh(x))


class Inverted(nn.Module):
    """An inverted residual block: widen, depthwise, squeeze, narrow."""

    def __init__(self, channels: int, width: int, expand: int, stride: int, kernel: int) -> None:
        super().__init__()
        inner = channels * expand
        widen = [nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.SiLU()] if expand > 1 else []
        self.body = nn.Sequential(
            *widen,
            nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.SiLU(),
            Squeeze(inner, max(1, channels // 4)),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.same = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.same else self.body(x)


def efficientnet_b0(outputs: int = 8) -> nn.Module:
    """5,288,548 parameters with 1,000 outputs. Source: https://arxiv.org/abs/1905.11946, table 1."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.SiLU()]
    channels = 32
    for expand, width, depth, stride, kernel in (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
    ):  # fmt: skip
        for block in range(depth):
            layers.append(Inverted(channels, width, expand, stride if block == 0 else 1, kernel))
            channels = width
    layers += [nn.Conv2d(channels, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, outputs))


def resnet34(outputs: int = 7) -> nn.Module:
    """21,797,672 parameters with 1,000 outputs. Source: https://arxiv.org/abs/1512.03385, table 1."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    channels = 64
    for stage, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(depth):
            layers.append(ResidualBlock(channels, width, 2 if stage > 0 and block == 0 else 1))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, outputs))


BUILD = {"efficientnet_b0": efficientnet_b0, "resnet34": resnet34}


def write(build: str, path: Path) -> Path:
    """The network as an ONNX file that takes "images", float (B, 3, 224, 224)."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    network = BUILD[build]().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, 224, 224),),
            str(path),
            input_names=["images"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
            external_data=False,
        )
    return path


if __name__ == "__main__":
    for name, expected in (("efficientnet_b0", 5_288_548), ("resnet34", 21_797_672)):
        count = sum(p.numel() for p in BUILD[name](1000).parameters())
        print(name, count, "as published" if count == expected else f"published: {expected}")
