"""The networks: (B, 1, 48, 48) float -> logits (B, outputs), one function each.

The seed networks keep the layers of their sources one for one. The modern ones take `outputs`, because a second
head (the FER+ votes) is nothing but ten more rows of the last layer. Nothing here knows how they are trained.
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from mien.lab import keras_defaults


class SqueezeExcite(nn.Module):
    """Weighs channels by what the whole image holds: (B, C, H, W) -> (B, C, H, W).

    Source: https://arxiv.org/abs/1709.01507, reduction 16.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels // 16, 1)
        self.up = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale every channel by a number between 0 and 1."""
        weights = self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(weights)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: (B, C, H, W) -> (B, D, H / stride, W / stride).

    Source: https://arxiv.org/abs/1512.03385, the basic block.
    """

    def __init__(self, channels: int, width: int, stride: int, *, squeeze: bool = False) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *conv_norm(channels, width, stride=stride),
            nn.ReLU(inplace=True),
            *conv_norm(width, width),
        )
        if squeeze:
            self.residual.append(SqueezeExcite(width))
        same = stride == 1 and channels == width
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv_norm(channels, width, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to the shortcut, then ReLU."""
        return torch.relu(self.residual(x) + self.shortcut(x))


class Lift(nn.Module):
    """Lifts faces that are dark or flat, and leaves the others as they are: (B, 1, H, W) -> (B, 1, H, W).

    Nine of ten Training faces of FER2013 are brighter than the least mean, and nine of ten have more contrast than the
    least deviation: what most faces look like is not touched, so that a network may keep what it learned of them.

    Args:
        mean: Least mean of a face, standardised as recipes do (grey levels of 0 to 255 are -2 to 2); -0.65 is a grey of
            86.
        deviation: Least standard deviation, likewise; 0.58 is one of 37 grey levels.
    """

    def __init__(self, mean: float = -0.65, deviation: float = 0.58) -> None:
        super().__init__()
        self.mean = mean
        self.deviation = deviation

    def forward(self, x: Tensor) -> Tensor:
        """Scale each face about its mean, and shift it, as far as it takes."""
        mean = x.mean((2, 3), keepdim=True)
        around = x - mean
        deviation = (around * around).mean((2, 3), keepdim=True).sqrt()
        gain = (self.deviation / deviation.clamp(min=1e-3)).clamp(min=1)  # one grey all over has no deviation
        return around * gain + mean.clamp(min=self.mean)


def conv_norm(channels: int, width: int, kernel: int = 3, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    """A convolution that keeps the size (but for its stride), and its batch norm."""
    conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, nn.BatchNorm2d(width)


def residual_net(
    widths: Sequence[int],
    depths: Sequence[int],
    *,
    stem_stride: int,
    squeeze: bool = False,
    standardize: bool = False,
    lift: bool = False,
    outputs: int = 7,
) -> nn.Sequential:
    """A residual net: a 3x3 stem, one stage a width, global average pooling, one linear layer.

    Args:
        widths: Channels of each stage.
        depths: Blocks in each stage; every stage after the first halves the size.
        stem_stride: 2 quarters the work of everything after the stem.
        squeeze: Squeeze-and-excitation in every block.
        standardize: Bring each face to a mean of 0 and a variance of 1, however dark or flat it is.
        lift: Lift faces that are dark or flat.
        outputs: Rows of the last layer.
    """
    layers: list[nn.Module] = [nn.InstanceNorm2d(1)] if standardize else []
    if lift:
        layers.append(Lift())
    layers += [*conv_norm(1, widths[0], stride=stem_stride), nn.ReLU(inplace=True)]
    channels = widths[0]
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(ResidualBlock(channels, width, stride, squeeze=squeeze))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))


def vgg_net(
    blocks: Sequence[tuple[int, int]],
    *,
    dropout: float = 0.0,
    trim: int = 0,
    standardize: bool = False,
    outputs: int = 7,
) -> nn.Sequential:
    """A VGG: 3x3 convolutions with batch norm, each block halved by max pooling, then one linear layer.

    Args:
        blocks: Channels and convolutions of each block.
        dropout: Share of the values that is blanked after each block.
        trim: Pixels at each edge of the face that it does not look at.
        standardize: Bring what is left of each face to a mean of 0 and a variance of 1, however dark or flat it is.
        outputs: Rows of the last layer.

    Source: after https://arxiv.org/abs/1612.02903 (Pramerdorfer and Kampel).
    """
    layers: list[nn.Module] = [nn.ZeroPad2d(-trim)] if trim else []
    if standardize:
        layers.append(nn.InstanceNorm2d(1))
    channels = 1
    for width, depth in blocks:
        for _ in range(depth):
            layers += [*conv_norm(channels, width), nn.ReLU(inplace=True)]
            channels = width
        layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs))


def workshop() -> nn.Sequential:
    """The workshop's six convolutions: 2,787,015 parameters, 722 million multiply-adds.

    Batch norm and pooling come before the ReLU. The brief names no padding; "same" gives this count.

    Source: workshop brief "Categorizing_Faces_based_on_Emotions" (README).
    """
    layers: list[nn.Module] = []
    channels = 1
    for width, kernel in ((64, 5), (128, 5), (256, 3)):
        layers += [
            nn.Conv2d(channels, width, kernel, padding=kernel // 2),
            nn.Conv2d(width, width, kernel, padding=kernel // 2),
            keras_defaults.batch_norm(width, 2),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
        ]
        channels = width
    layers += [keras_defaults.Flatten(), nn.Linear(6 * 6 * 256, 128), keras_defaults.batch_norm(128, 1)]
    layers += [nn.ReLU(inplace=True), nn.Dropout(0.25), nn.Linear(128, 7)]
    return keras_defaults.initialise(nn.Sequential(*layers))


def alexnet() -> nn.Sequential:
    """The AlexNet-like net: 41,462,727 parameters, most of them in one layer; 545 million multiply-adds.

    Source: https://github.com/hk1997/facialExpressionRecognition at 50554fb, facial_recognition.ipynb.
    """
    layers: list[nn.Module] = [nn.Conv2d(1, 96, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    channels = 96
    for width in (256, 384, 384):
        layers += [nn.Conv2d(channels, width, 2), nn.ReLU(inplace=True)]
        channels = width
    layers += [nn.MaxPool2d(2), keras_defaults.Flatten(), nn.ReLU(inplace=True)]  # this ReLU changes nothing
    for rows in (10 * 10 * 384, 1024):
        layers += [nn.Linear(rows, 1024), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    return keras_defaults.initialise(nn.Sequential(*layers, nn.Linear(1024, 7)))


def paul() -> nn.Sequential:
    """Jerin Paul's VGG-like net: 9,014,727 parameters, 601 million multiply-adds.

    Source: https://github.com/Paulymorphous/Facial-Emotion-Recognition at 5eb5f11, the notebook.
    """
    first = keras_defaults.with_l2(nn.Conv2d(1, 64, 3), 0.01)
    layers: list[nn.Module] = [first, nn.ReLU(inplace=True), nn.Conv2d(64, 64, 3, padding=1)]
    layers += [nn.ReLU(inplace=True), keras_defaults.batch_norm(64, 2), nn.MaxPool2d(2), nn.Dropout(0.5)]
    channels = 64
    for width in (128, 256, 512):
        for _ in range(3):
            convolution = nn.Conv2d(channels, width, 3, padding=1)
            layers += [convolution, nn.ReLU(inplace=True), keras_defaults.batch_norm(width, 2)]
            channels = width
        layers += [nn.MaxPool2d(2), nn.Dropout(0.5)]
    layers.append(keras_defaults.Flatten())
    for rows, width in ((2 * 2 * 512, 512), (512, 256), (256, 128), (128, 64)):
        layers += [nn.Linear(rows, width), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    return keras_defaults.initialise(nn.Sequential(*layers, nn.Linear(64, 7)))


def inherit(network: nn.Sequential, elder: nn.Sequential, outputs: int) -> None:
    """Begin where another network ended: each layer takes over the elder's weights.

    Residual blocks that the elder lacks begin as identities, so a deeper network answers as the elder does. A narrower
    one without such blocks gets the strongest of the elder's channels, and has to be trained on.

    Args:
        network: What begins.
        elder: Whose weights it takes.
        outputs: How many of the first outputs mean the same in both; the others stay as they were.

    Source: https://arxiv.org/abs/1511.05641 (Net2DeeperNet).

    Raises:
        ValueError: The networks differ in more than that.
    """
    body, head = _layers(network)
    left, given = _narrowed(*_layers(elder), body)
    for layer in body:
        if left and _alike(layer, left[0]):
            layer.load_state_dict(left.pop(0).state_dict())
        elif isinstance(layer, ResidualBlock) and isinstance(layer.shortcut, nn.Identity):
            nn.init.zeros_(cast(nn.BatchNorm2d, layer.residual[4]).weight)
        else:
            raise ValueError(f"no weights for its layer {type(layer).__name__}")
    if left:
        raise ValueError(f"no place for the weights of a layer {type(left[0]).__name__}")
    with torch.no_grad():
        for name, value in head.named_parameters():
            value[:outputs] = given.get_parameter(name)[:outputs]


def _layers(network: nn.Sequential) -> tuple[list[nn.Module], nn.Linear]:
    """All that has weights, the head apart."""
    *body, head = (layer for layer in network if layer.state_dict())
    return body, cast(nn.Linear, head)


def _narrowed(left: list[nn.Module], given: nn.Linear, body: list[nn.Module]) -> tuple[list[nn.Module], nn.Linear]:
    """An elder of plain convolutions with no more channels than the network has: those that sway most what follows.

    A channel sways by how far its norm lets it vary, times the size of the weights that take it up.
    """
    kinds = [type(layer) for layer in left]
    if kinds != [nn.Conv2d, nn.BatchNorm2d] * (len(left) // 2) or kinds != [type(layer) for layer in body]:
        return left, given
    left, given = copy.deepcopy((left, given))
    convs, norms = cast(list[nn.Conv2d], left[::2]), cast(list[nn.BatchNorm2d], left[1::2])
    takers: list[nn.Conv2d | nn.Linear] = [*convs[1:], given]
    places = [conv.out_channels for conv in cast(list[nn.Conv2d], body[::2])]
    kept: Tensor | slice = slice(None)
    for number, (conv, norm, taker) in enumerate(zip(convs, norms, takers, strict=True)):
        sway = norm.weight.abs() * taker.weight.transpose(0, 1).flatten(1).norm(dim=1)
        strongest = sway.topk(min(len(sway), places[number])).indices.sort().values
        conv.weight = nn.Parameter(conv.weight[strongest][:, kept])
        left[2 * number + 1] = narrow = nn.BatchNorm2d(len(strongest))
        narrow.load_state_dict({k: v[strongest] if v.ndim else v for k, v in norm.state_dict().items()})
        kept = strongest
    given.weight = nn.Parameter(given.weight[:, kept])
    return left, given


def _alike(one: nn.Module, other: nn.Module) -> bool:
    shapes = [[(name, value.shape) for name, value in layer.state_dict().items()] for layer in (one, other)]
    return type(one) is type(other) and shapes[0] == shapes[1]


def count_parameters(network: nn.Module) -> int:
    """Parameters as Keras' summary totals them: a batch norm's moving mean and variance count too.

    Source: Keras 3, `utils/summary_utils.py`: trainable and non-trainable weights.
    """
    moving = (b for b in network.buffers() if b.is_floating_point())  # num_batches_tracked is a whole number
    return sum(tensor.numel() for tensor in (*network.parameters(), *moving))


_RESIDUAL = partial(residual_net, (32, 64, 128, 256), (1, 1, 1, 1), stem_stride=2)
_RESNET18 = partial(residual_net, (64, 128, 256, 512), (2, 2, 2, 2), stem_stride=1)
_EIGHT = partial(vgg_net, ((32, 1), (64, 2), (128, 2), (256, 3)))
_SLIM = partial(vgg_net, ((16, 1), (48, 2), (112, 2), (224, 3)), trim=4)

NETWORKS: dict[str, Callable[..., nn.Sequential]] = {
    "mien-small": _RESIDUAL,
    "mien-small-standard": partial(_RESIDUAL, standardize=True),
    "mien-small-lifted": partial(_RESIDUAL, lift=True),
    "resnet18": _RESNET18,
    "resnet18-se": partial(_RESNET18, squeeze=True),
    "vgg": partial(vgg_net, ((64, 2), (128, 2), (256, 2), (384, 2), (512, 2)), dropout=0.2),
    "vgg-wide": partial(vgg_net, ((64, 2), (128, 2), (256, 2), (512, 3)), dropout=0.2, trim=4, standardize=True),
    "vgg-small": _EIGHT,
    "vgg-small-standard": partial(_EIGHT, standardize=True),
    "vgg-inner": partial(_EIGHT, trim=4),
    "vgg-inner-standard": partial(_EIGHT, trim=4, standardize=True),
    "vgg-slim": _SLIM,
    "vgg-slim-standard": partial(_SLIM, standardize=True),
    "workshop": workshop,
    "alexnet": alexnet,
    "paul": paul,
}
"""Every network by the name that recipes use."""
