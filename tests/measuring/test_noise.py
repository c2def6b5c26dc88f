from pathlib import Path

import numpy as np
import pytest

from conftest import bars, linear_model
from mien.expressions import Expression
from mien.measuring.faceset import FaceSet
from mien.measuring.noise import cross_validated, doubtful
from mien.reading.recognizer import Card, Recognizer

pytest.importorskip("cleanlab")


def test_swapped_labels_are_the_doubtful_ones() -> None:
    labels = np.arange(210) % 3
    probabilities = np.full((210, 7), 0.01)
    probabilities[np.arange(210), labels] = 0.94
    given = labels.copy()
    given[[0, 1, 5]] = [1, 2, 0]
    assert sorted(doubtful(given, probabilities).tolist()) == [0, 1, 5]


def linear(path: Path, weights: np.ndarray) -> Recognizer:
    count = weights.shape[1]
    labels, zeros = tuple(Expression)[:count], (0.0,) * count
    card = Card("bars", labels, (1.0,) * count, zeros, 0.5, "{}", {}, "none", "0" * 64, zeros)
    return Recognizer(linear_model(path, weights, **card.to_metadata()))


def test_cross_validation_learns_from_the_other_folds(tmp_path: Path) -> None:
    """A network whose seven outputs are the brightness of the seven bars, in another order than the labels."""
    images, labels = bars(140)
    weights = np.zeros((48 * 48, 7), np.float32)
    for k in range(7):
        rows = np.zeros((48, 48), np.float32)
        rows[4 + 6 * k : 8 + 6 * k] = 1 / 4_000
        weights[:, (k + 3) % 7] = rows.ravel()
    recognizer = linear(tmp_path / "m.onnx", weights)
    labels[:2] = [6, 5]  # wrong ones
    rows = np.arange(140)
    faces = FaceSet(images, labels, np.array(["Training"] * 140), rows, None, "0" * 64, "bars")
    probabilities = cross_validated(faces, recognizer)
    assert probabilities.sum(1) == pytest.approx(1)
    assert (probabilities.argmax(1) == rows % 7).mean() > 0.97
    assert sorted(doubtful(labels, probabilities).tolist()) == [0, 1]
    without = faces.take(labels != 2)
    assert (cross_validated(without, recognizer)[:, 2] == 0).all()
    eight = linear(tmp_path / "eight.onnx", np.pad(weights, ((0, 0), (0, 1))))
    assert (cross_validated(faces, eight)[:, 7] == 0).all()  # no label here is contempt
