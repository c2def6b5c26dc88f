"""Random changes of training images: batch tensor -> batch tensor, on the batch's own device."""

from kornia.augmentation import (
    ImageSequential,
    RandomAffine,
    RandomBrightness,
    RandomContrast,
    RandomErasing,
    RandomHorizontalFlip,
)
from torch import nn

from mien.recipes import Augment


def augmentation(spec: Augment) -> nn.Module:
    """The module that carries out `spec` on a float batch (B, 1, H, W) in [0, 1].

    What an affine change uncovers repeats the border; an erased rectangle is mid-grey, so that it is no darker or
    lighter than a face.
    """
    steps: list[nn.Module] = []
    if spec.flip:
        steps.append(RandomHorizontalFlip(p=spec.flip))
    if spec.degrees or spec.translate or spec.scale:
        steps.append(
            RandomAffine(
                degrees=spec.degrees,
                translate=(spec.translate, spec.translate),
                scale=(1 - spec.scale, 1 + spec.scale),
                padding_mode="border",
                p=1.0,
            )
        )
    if spec.brightness:
        steps.append(RandomBrightness((1 - spec.brightness, 1 + spec.brightness), p=1.0))
    if spec.contrast:
        steps.append(RandomContrast((1 - spec.contrast, 1 + spec.contrast), p=1.0))
    if spec.erase:
        steps.append(RandomErasing(scale=(0.02, 0.2), ratio=(0.5, 2.0), value=0.5, p=spec.erase))
    return ImageSequential(*steps) if steps else nn.Identity()
