"""Random changes of training images: batch tensor -> batch tensor, on the batch's own device."""

from math import ceil, sqrt

import torch
from kornia.augmentation import (
    ImageSequential,
    RandomAffine,
    RandomBrightness,
    RandomContrast,
    RandomErasing,
    RandomGaussianBlur,
    RandomHorizontalFlip,
)
from torch import Tensor, nn
from torch.distributions import Beta

from mien.recipes import Augment, Recipe

DEGRADED = 0.25  # share of the images that get noise, and of those that get blur


def augmentation(spec: Augment) -> nn.Module:
    """The module that carries out `spec` on a float batch (B, 1, H, W) in [0, 1].

    An erased rectangle is mid-grey, so that it is no darker or lighter than a face.
    """
    steps: list[nn.Module] = []
    if spec.flip:
        steps.append(RandomHorizontalFlip(p=spec.flip))
    if spec.degrees or spec.translate or spec.scale:
        repeated = spec.uncovered == "border"
        moved = RandomAffine(
            degrees=spec.degrees,
            translate=(spec.translate, spec.translate),
            scale=(1 - spec.scale, 1 + spec.scale),
            padding_mode="border" if repeated else "zeros",
            p=1.0,
        )
        steps.append(moved if repeated else Surrounded(moved))
    if spec.brightness:
        steps.append(RandomBrightness((1 - spec.brightness, 1 + spec.brightness), p=1.0))
    if spec.contrast:
        steps.append(RandomContrast((1 - spec.contrast, 1 + spec.contrast), p=1.0))
    if spec.erase:
        steps.append(RandomErasing(scale=(0.02, 0.2), ratio=(0.5, 2.0), value=0.5, p=spec.erase))
    return ImageSequential(*steps) if steps else nn.Identity()


class Surrounded(nn.Module):
    """An affine change of a float batch (B, 1, H, W) that uncovers another image of the batch.

    Args:
        move: The change, which leaves 0 where there is nothing.
    """

    def __init__(self, move: nn.Module) -> None:
        super().__init__()
        self.move = move

    def forward(self, images: Tensor) -> Tensor:
        """Moved images, each on top of its neighbour in the batch, which stays where it is."""
        both: Tensor = self.move(torch.cat([images, torch.ones_like(images)], 1))
        moved, cover = both.chunk(2, 1)
        return moved + (1 - cover) * images.roll(1, 0)


class Noise(nn.Module):
    """Gaussian noise of a standard deviation for some images of a float batch (B, 1, H, W).

    Drawn where the images are: kornia draws its noise on the CPU, a number for each pixel, and a GPU waits for that
    longer than for all the rest of a step.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, images: Tensor) -> Tensor:
        """Images with noise; nothing is clamped."""
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < DEGRADED
        return images + self.std * chosen * torch.randn_like(images)


def degradation(spec: Augment) -> nn.Module:
    """The module that gives some images of a float batch (B, 1, H, W) in [0, 1] the blur and the noise of `spec`."""
    steps: list[nn.Module] = []
    if spec.blur:
        size = 2 * ceil(2 * spec.blur) + 1
        steps.append(RandomGaussianBlur((size, size), (0.1, max(0.1, spec.blur)), p=DEGRADED))
    if spec.noise:
        steps.append(Noise(spec.noise))
    return nn.Sequential(*steps, nn.Hardtanh(0, 1)) if steps else nn.Identity()


def mix(images: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor, float]:
    """Each image with another one of the batch, as the recipe's `mixup` and `cutmix` ask.

    Args:
        images: Float (B, 1, H, W).
        recipe: One of the two is above 0.

    Returns:
        The mixed images, the number (B,) of each one's partner, and the share that is still its own.

    Source: https://arxiv.org/abs/1710.09412 (mixup), https://arxiv.org/abs/1905.04899 (CutMix).
    """
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(recipe, kind)]
    kind = kinds[int(torch.randint(len(kinds), ()))]
    alpha = torch.tensor(max(1e-3, getattr(recipe, kind)))  # below, the sampler says one half or nothing at all
    own = float(Beta(alpha, alpha).sample())
    partner = torch.randperm(len(images), device=images.device)
    if kind == "mixup":
        return own * images + (1 - own) * images[partner], partner, own
    height, width = images.shape[2:]
    side = sqrt(1 - own)
    tall, wide = round(height * side), round(width * side)
    top, left = int(torch.randint(height - tall + 1, ())), int(torch.randint(width - wide + 1, ()))
    mixed = images.clone()
    mixed[:, :, top : top + tall, left : left + wide] = images[partner, :, top : top + tall, left : left + wide]
    return mixed, partner, 1 - tall * wide / (height * width)
