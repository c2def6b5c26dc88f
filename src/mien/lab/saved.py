"""The form of the tutorials: the architecture as JSON, the weights beside it, and both loaded again.

NAME.json lists the layers and holds the recipe that they are built from; NAME.npz holds the weights as plain numpy
arrays under torch's names. Neither can run code when it is loaded.
"""

import json
from io import BytesIO
from os import PathLike
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch

from mien.errors import Damaged, FileError
from mien.expressions import answers
from mien.lab.module import Classifier
from mien.lab.runs import BROKEN, Predicting, Run, need_plain_archive
from mien.lab.summary import layers
from mien.recipes import Recipe
from mien.storage import check_suffix, need_file, parse_json, write_whole

FORMAT = "mien-architecture-1"
_RECIPE = "recipe"  # the key in the weights that tells whose they are


class Saved(Predicting):
    """A saved pair as a predictor, not calibrated.

    Args:
        path: The .json file; its weights are found beside it under the name that it holds.

    Raises:
        FileError: One of the two files is missing or cannot be read.
        Damaged: One of them is not what `save` wrote, or the weights are another recipe's.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        architecture = _read_architecture(Path(path))
        recipe = Recipe.from_json(json.dumps(architecture["recipe"]))
        classifier = Classifier(recipe)
        if _shapes(_layers(classifier)) != _shapes(architecture["layers"]):
            raise Damaged(
                f"{path} was written for another version of the network {recipe.network!r}: its layers are not those "
                "that this version builds; export the run again"
            )
        weights = Path(path).with_name(architecture["weights"])
        _load_weights(classifier, weights, recipe.title)
        notes, trainings = (list(map(str, architecture[key])) for key in ("notes", "trainings"))
        data, known = (architecture[key] for key in ("data_sha256", "learned"))
        super().__init__(classifier, weights, notes, trainings, data, known)


def save(run: str | PathLike[str], out: str | PathLike[str], *, checkpoint: str = "best") -> tuple[Path, Path]:
    """Write a run as an architecture in JSON and its weights beside it.

    Args:
        run: A run folder.
        out: The .json file; the weights take its name with .npz.
        checkpoint: "best" or "last".

    Returns:
        Both paths.

    Raises:
        InputError: `out` does not end in .json.
        FileError: No such checkpoint, or a file cannot be written.
    """
    return save_trained(Run(run, checkpoint), out)


def save_trained(trained: Predicting, out: str | PathLike[str], *, half: bool = False) -> tuple[Path, Path]:
    """Write what was trained in the same form.

    Args:
        trained: A network, and what is known of it.
        out: The .json file; the weights take its name with .npz.
        half: Weights in half precision: half the size, for a way with a limit.

    Returns:
        Both paths.

    Raises:
        InputError: `out` does not end in .json.
        FileError: A file cannot be written, or another file has the weights' name.
    """
    path = Path(out)
    check_suffix(path, ".json")
    classifier = trained.classifier
    weights = path.with_suffix(".npz")
    if weights.exists() and not path.exists():
        raise FileError(f"{weights} is there already, and no {path.name} that it belongs to; choose another name")
    architecture = {
        "format": FORMAT,
        "notes": trained.notes,
        "trainings": trained.trainings,
        "data_sha256": trained.data_sha256,
        "learned": trained.learned,
        "recipe": json.loads(classifier.recipe.to_json()),
        "labels": list(answers(classifier.recipe.labels)),
        "weights": weights.name,
        "layers": _layers(classifier),
    }
    arrays: dict[str, Any] = {}
    for name, tensor in classifier.network.state_dict().items():
        arrays[name] = (tensor.half() if half and tensor.is_floating_point() else tensor).cpu().numpy()
    arrays[_RECIPE] = np.array(classifier.recipe.title)
    write_whole(weights, lambda file: np.savez(file, **arrays), binary=True)
    write_whole(path, lambda file: json.dump(architecture, file, indent=1))
    return path, weights


def _layers(classifier: Classifier) -> list[dict[str, Any]]:
    return [
        {"layer": row.kind, "settings": row.settings, "output": list(row.shape), "parameters": row.parameters}
        for row in layers(classifier.network)
    ]


def _shapes(layers: list[Any]) -> list[Any]:
    """All but the settings, which torch's versions word differently."""
    return [{k: v for k, v in row.items() if k != "settings"} if isinstance(row, dict) else row for row in layers]


def _read_architecture(path: Path) -> dict[str, Any]:
    need_file(path)
    try:
        architecture = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise Damaged(f"{path} is no JSON: {error}") from error
    newer = {"notes": list, "trainings": list, "data_sha256": str, "learned": str}  # older files lack these
    known = {"format": str, "recipe": dict, "weights": str, "layers": list, **newer}
    if not isinstance(architecture, dict) or architecture.get("format") != FORMAT:
        raise Damaged(f"{path} is no architecture of this package; make one with: mien export RUN --form json+weights")
    for key, kind in newer.items():
        architecture.setdefault(key, kind())
    if wrong := [key for key, kind in known.items() if not isinstance(architecture.get(key), kind)]:
        raise Damaged(f"{path} lacks {', '.join(wrong)}, or holds something else there; export the run again")
    if Path(architecture["weights"]).name != architecture["weights"]:
        raise Damaged(f"{path} should name a file beside it for its weights, but names {architecture['weights']!r}")
    return architecture


def _load_weights(classifier: Classifier, path: Path, recipe: str) -> None:
    need_file(path)
    try:
        need_plain_archive(path)
        # From memory: a damaged zip is told by its content, and the file is closed in any case.
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except OSError as error:
        raise FileError(f"cannot read the weights {path}: {error.strerror or error}") from error
    except (*BROKEN, SyntaxError, TokenError) as error:  # the last two from the heads of arrays
        raise Damaged(f"{path} holds no weights: {error}") from error
    owner = str(arrays.pop(_RECIPE, "unknown"))
    if owner != recipe:
        raise Damaged(f"expected the weights of recipe {recipe!r}, but {path} holds those of {owner!r}")
    try:
        classifier.network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    except (RuntimeError, TypeError) as error:
        raise Damaged(f"{path} does not fit the architecture: {error}") from error
    classifier.eval()
