"""An exported ONNX file -> its network once more, to be trained on or to teach.

The exporter folds every batch norm into the convolution before it. They are taken apart again: the convolution keeps
what it became, and the norm gets the mean and variance that faces give at its place, and the scale and shift that undo
them. The answers stay the same, and training may go on.
"""

from os import PathLike, fspath
from pathlib import Path

import numpy as np
import onnx
import torch
from jaxtyping import UInt8
from onnx import numpy_helper
from torch import Tensor, nn

from mien.errors import InputError, NotFound
from mien.lab.module import Classifier
from mien.lab.networks import SqueezeExcite
from mien.lab.runs import Predicting, Run
from mien.lab.saved import Saved
from mien.measuring.faceset import FaceSet
from mien.reading.recognizer import load_model, model_files
from mien.recipes import Recipe
from mien.storage import suffix_of

FACES = 1024  # that tell the norms their statistics: each is the mean of thousands of places in every one of them


class Exported(Predicting):
    """The network of an exported file as a predictor, not calibrated.

    Args:
        model: The name of a model in the package, or an .onnx file that `export` or `quantize` wrote.
        faces: Grey faces of the kind that it will learn from, as `sample` gives.

    Raises:
        NotFound, FileError, Damaged: As `load_model` does.
        InputError: The file holds several networks, or one whose norms cannot be told.
    """

    def __init__(self, model: str | PathLike[str], faces: UInt8[np.ndarray, "N 48 48"]) -> None:
        recognizer = load_model(model)  # proves the file before anything else is made of it
        file = recognizer.path
        classifier = Classifier(Recipe.from_json(recognizer.card.recipe)).eval()
        try:
            norms = _fill(classifier, _weights(file))
        except (LookupError, RuntimeError) as error:
            raise InputError(
                f"{file} is not one network of convolutions with batch norms, as one that is trained further has to be "
                f"({error}); of an ensemble take a member (mien export {file} --member 1 --out FILE.onnx), of another "
                "network name the run folder"
            ) from error
        _unfold(classifier, norms, torch.from_numpy(faces))
        card = recognizer.card
        super().__init__(classifier, file, (), card.trainings, card.data_sha256, card.learned)


def sample(divided: FaceSet) -> UInt8[np.ndarray, "N 48 48"]:
    """Faces by which norms are told: of the Training rows, and from all over these, which may stand in label order."""
    rows = np.flatnonzero(divided.splits == "Training")
    chosen = np.random.default_rng(0).permutation(rows)[:FACES]
    images: UInt8[np.ndarray, "N 48 48"] = divided.images[np.sort(chosen)]
    return images


def open_trained(source: str | PathLike[str], faces: UInt8[np.ndarray, "N 48 48"]) -> Predicting:
    """What was trained before: the best checkpoint of a run folder, a saved pair (.json), a model (.onnx or a name).

    Raises:
        MienError: As `Run`, `Saved` and `Exported` do.
    """
    if Path(source).is_dir():
        return Run(source)
    return Saved(source) if suffix_of(source) == ".json" else Exported(source, faces)


def check_trained(source: str | PathLike[str]) -> None:
    """Refuse a name under which nothing trained can be.

    Raises:
        NotFound: It is no file or folder, and no model of the package.
    """
    if not Path(source).exists() and str(source) not in model_files():
        raise NotFound.named("run folder, .json or .onnx file, or model", str(source), model_files())


def _weights(file: Path) -> dict[str, Tensor]:
    """Initializers by name; of 8-bit ones what they stand for, under the names that they had before."""
    arrays = {entry.name: numpy_helper.to_array(entry) for entry in onnx.load(fspath(file)).graph.initializer}
    found = dict(arrays)
    for name, array in arrays.items():
        plain = name.removesuffix("_quantized")
        scale = arrays.get(f"{plain}_scale", arrays.get(f"{name}_scale"))
        if plain != name and scale is not None:
            found[plain] = array * scale.reshape(-1, *[1] * (array.ndim - 1))  # the zero points of weights are zero
    return {name: torch.from_numpy(np.array(array)) for name, array in found.items()}


def _fill(classifier: Classifier, weights: dict[str, Tensor]) -> list[nn.BatchNorm2d]:
    """Give every convolution and linear layer what the file holds, and the norms nothing but its biases."""
    modules = dict(classifier.named_modules())
    norms = []
    for name, module in modules.items():
        parent, _, place = name.rpartition(".")
        if isinstance(module, nn.Conv2d) and not isinstance(modules[parent], SqueezeExcite):
            norm = modules[f"{parent}.{int(place) + 1}"]
            if not isinstance(norm, nn.BatchNorm2d):
                raise LookupError(f"no batch norm comes after {name}")
            bias = _needed(weights, f"{name}.weight_bias")
            module.weight.data.copy_(_needed(weights, f"{name}.weight"))
            _set(norm, torch.zeros_like(bias), torch.full_like(bias, 1 - norm.eps), bias)
            norms.append(norm)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            for part, own in module.named_parameters():
                given = _needed(weights, f"{name}.{part}")
                own.data[: len(given)] = given  # a head for votes may have been cut off
    return norms


def _needed(weights: dict[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise LookupError(f"it holds no {name}")
    return weights[name]


def _unfold(classifier: Classifier, norms: list[nn.BatchNorm2d], faces: Tensor) -> None:
    """Let each norm have the statistics of its place."""
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[norm] = torch.var_mean(inputs[0], (0, 2, 3))

    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    with torch.no_grad():
        classifier(faces)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        variance, mean = seen[norm]
        _set(norm, mean, variance, norm.bias.data)


def _set(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, bias: Tensor) -> None:
    """Statistics, with the scale and shift that undo them, so that the norm adds the bias and no more."""
    norm.load_state_dict({
        "running_mean": mean,
        "running_var": variance,
        "weight": (variance + norm.eps).sqrt(),
        "bias": bias + mean,
        "num_batches_tracked": torch.tensor(0),
    })  # fmt: skip
