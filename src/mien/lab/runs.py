"""A run folder as it is read: its networks as predictors, its history."""

import csv
import json
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8

from mien.errors import Damaged, FileError
from mien.lab.module import Classifier
from mien.measuring import metrics
from mien.recipes import Recipe


class Predicting:
    """A network in evaluation mode as a predictor, not calibrated: what `evaluate` and `predict` take."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.recipe = classifier.recipe
        self.name = self.recipe.name

    @torch.inference_mode()
    def logits(self, faces: UInt8[np.ndarray, "B 48 48"]) -> Float32[np.ndarray, "B 7"]:
        """The network's outputs in the order of `EXPRESSIONS`."""
        logits: Float32[np.ndarray, "B 7"] = self.classifier(torch.from_numpy(faces)).float().numpy()
        return logits

    def probabilities(self, faces: UInt8[np.ndarray, "B 48 48"]) -> Float64[np.ndarray, "B 7"]:
        """Probabilities at temperature 1."""
        return metrics.softmax(self.logits(faces))


class Run(Predicting):
    """A checkpoint of a run folder as a predictor.

    Args:
        folder: A run folder.
        checkpoint: "best" or "last".

    Raises:
        FileError: There is no such checkpoint.
        Damaged: The file is no checkpoint of this package.
    """

    def __init__(self, folder: str | PathLike[str], checkpoint: str = "best") -> None:
        self.folder = Path(folder)
        super().__init__(load_checkpoint(self.folder / "checkpoints" / f"{checkpoint}.ckpt"))

    @property
    def data_sha256(self) -> str:
        """Checksum of the data set that the run learned from."""
        record = json.loads((self.folder / "environment.json").read_text(encoding="utf-8"))
        return str(record["data_sha256"])

    def history(self) -> list[dict[str, float]]:
        """One row an epoch: epoch, lr, train_loss, train_accuracy, val_loss, val_accuracy."""
        with open(self.folder / "history.csv", newline="", encoding="utf-8") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def load_checkpoint(path: Path) -> Classifier:
    """The network of a checkpoint, in evaluation mode. Weights only: no code in the file is run.

    Raises:
        FileError: There is no such file.
        Damaged: It is no checkpoint of this package.
    """
    if not path.exists():
        raise FileError(f"there is no checkpoint {path}; make one with: mien train RECIPE --data FILE --out RUN")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        module = Classifier(Recipe.from_json(state["recipe"]))
        module.load_state_dict(state["state_dict"])
    except (RuntimeError, KeyError, TypeError, UnpicklingError, EOFError, ValueError) as error:
        raise Damaged(f"{path} is no checkpoint of this package: {error}") from error
    return module.eval()
