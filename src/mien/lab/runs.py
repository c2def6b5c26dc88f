"""A run folder as it is read: its networks as predictors, its history."""

import csv
import hashlib
import os
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeVar
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8

from mien.errors import Damaged, FileError
from mien.lab.module import Classifier
from mien.measuring import metrics
from mien.recipes import Recipe
from mien.storage import need_file, parse_json

T = TypeVar("T")
BROKEN = (RuntimeError, LookupError, TypeError, UnpicklingError, EOFError, ValueError, OSError, AttributeError,
          AssertionError, OverflowError, MemoryError, BadZipFile)  # fmt: skip
"""What torch, Lightning and zipfile raise for the content of a damaged checkpoint."""

HISTORY = ("epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy")


class Predicting:
    """A network in evaluation mode as a predictor, not calibrated: what `evaluate` and `predict` take.

    Args:
        classifier: The network.
        file: Where its weights are from.
        notes: What a report on it must say: that it is a trial.
        trainings: As the attribute; the recipe's alone where nothing else is known.
        data_sha256, learned: As the attributes.

    Attributes:
        name: The recipe's name, with "-trial" where the run saw only a share of the rows (--limit).
        trainings: How the weights came to be, in words, from the training that began with none on (--start-from).
        data_sha256: Checksum of the files that it learned from; empty where that is not known.
        learned: Sketches of the faces that it and its teachers learned from; empty where that is not known.
    """

    def __init__(
        self,
        classifier: Classifier,
        file: Path,
        notes: Sequence[str] = (),
        trainings: Sequence[str] = (),
        data_sha256: str = "",
        learned: str = "",
    ) -> None:
        self.classifier, self.file, self.notes = classifier, file, list(notes)
        self.data_sha256, self.learned = data_sha256, learned
        self.recipe = classifier.recipe
        self.trainings = list(trainings) or [training(self.recipe)]
        self.name = self.recipe.title + "-trial" * bool(notes)

    @torch.inference_mode()
    def logits(self, faces: UInt8[np.ndarray, "B 48 48"]) -> Float32[np.ndarray, "B C"]:
        """The network's outputs in the order of `Expression`, seven or eight by its labels."""
        logits: Float32[np.ndarray, "B C"] = self.classifier(torch.from_numpy(faces)).float().numpy()
        return logits

    def probabilities(self, faces: UInt8[np.ndarray, "B 48 48"]) -> Float64[np.ndarray, "B C"]:
        """Probabilities, not calibrated."""
        return metrics.softmax(self.logits(faces))

    @property
    def checksum(self) -> str:
        """Of the file of weights, sha-256."""
        with open(self.file, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


class Run(Predicting):
    """A checkpoint of a run folder as a predictor.

    Args:
        folder: A run folder.
        checkpoint: "best" or "last".

    Raises:
        FileError: There is no such checkpoint, or no record of the run.
        Damaged: The file is no checkpoint of this package, or the record is no record.
    """

    def __init__(self, folder: str | PathLike[str], checkpoint: str = "best") -> None:
        self.folder = Path(folder)
        file = self.folder / "checkpoints" / f"{checkpoint}.ckpt"
        classifier = load_checkpoint(file)

        def known(text: str) -> tuple[float, list[str], str, str]:
            record = parse_json(text)
            data, learned = (str(record.get(part, "")) for part in ("data_sha256", "learned"))
            return float(record["options"]["limit"]), list(map(str, record.get("trainings", []))), data, learned

        limit, trainings, data, learned = self._record("environment.json", known)
        super().__init__(classifier, file, trial_notes(limit), trainings, data, learned)

    def history(self) -> list[dict[str, float]]:
        """One row an epoch: epoch, lr, train_loss, train_accuracy, val_loss, val_accuracy.

        Raises:
            FileError: There is no history.csv.
            Damaged: It is no such table.
        """

        def rows(text: str) -> list[dict[str, float]]:
            table = [{name: float(row[name]) for name in HISTORY} for row in csv.DictReader(text.splitlines())]
            if not table:
                raise ValueError("no epoch in it")
            return table

        return self._record("history.csv", rows)

    def _record(self, name: str, parse: Callable[[str], T]) -> T:
        """What a file of the run folder says."""
        path = self.folder / name
        need_file(path)
        try:
            return parse(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FileError(f"cannot read {path}: {error.strerror}; a run folder has to be whole") from error
        except (ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
            raise Damaged(f"{path} is damaged ({error!r}); put a copy in its place, or train again") from error


def trial_notes(limit: float) -> list[str]:
    """What must be said of a network that saw this share of the rows: nothing where it saw all."""
    return [f"TRIAL: trained on {limit:.1%} of the rows (--limit)."] * (limit < 1)


def training(recipe: Recipe, teachers: Sequence[Predicting] = (), limit: float = 1.0, tables: int = 0) -> str:
    """One training in words, as records and cards name it; `tables`: how many teachers were tables of answers."""
    text = f"{recipe.title}: {recipe.epochs} epochs, seed {recipe.seed}" + f", {limit:.1%} of the rows" * (limit < 1)
    named = [f"{teacher.name} (seed {teacher.recipe.seed})" for teacher in teachers]
    taught = " and ".join([*named, *["a table of answers"] * tables])
    return text + f", taught by {taught}" * bool(taught)


def need_plain_archive(path: str | PathLike[str]) -> None:
    """Refuse an archive that would grow in memory: torch and numpy store what they pack as it is.

    Raises:
        BadZipFile: It is no archive.
        ValueError: Its content is larger than the file.
    """
    with ZipFile(path) as archive:
        total, most = sum(entry.file_size for entry in archive.infolist()), os.path.getsize(path)
    if total > most:
        raise ValueError(f"its content has {total:,} bytes, expected at most {most:,}")


def load_checkpoint(path: Path) -> Classifier:
    """The network of a checkpoint, in evaluation mode. Weights only: no code in the file is run.

    Raises:
        FileError: There is no such file.
        Damaged: It is no checkpoint of this package.
    """
    if not path.exists():
        raise FileError(f"there is no checkpoint {path}; make one with: mien train RECIPE --data FILE --out RUN")
    need_file(path)
    try:
        need_plain_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        module = Classifier(Recipe.from_json(state["recipe"]))
        module.load_state_dict(state["state_dict"])
    except PermissionError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    except BROKEN as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise Damaged(f"{path} is no checkpoint of this package, or a damaged one: {reason}") from error
    return module.eval()
