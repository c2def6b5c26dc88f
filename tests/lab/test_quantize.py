"""Eight bits: a smaller file that answers nearly the same, and says what it cost."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from mien.errors import InputError, ParityError
from mien.lab import quantize as quantizing
from mien.lab.ensemble import combine
from mien.lab.export import export, save
from mien.lab.quantize import quantize
from mien.lab.training import train
from mien.measuring.faceset import FaceSet
from mien.reading.recognizer import Recognizer
from mien.recipes import RECIPES, Augment, override


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    from conftest import labelled

    return labelled(105, 35)


@pytest.fixture(scope="module")
def plain(faces: FaceSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learned the bars, in float32."""
    folder = tmp_path_factory.mktemp("plain")
    changes = {"epochs": "6", "batch": "14", "optimizer.lr": "0.05", "votes": "0", "ema": "0.5"}
    recipe = dataclasses.replace(override(RECIPES["mien-small"], changes), augment=Augment())
    return export(train(recipe, faces, folder / "run"), folder / "plain.onnx")


@pytest.fixture(scope="module")
def small(plain: Path, faces: FaceSet) -> Path:
    return quantize(plain, plain.with_name("small.onnx"), faces, name="bars-8")


def test_it_is_a_quarter_of_the_size_and_answers_the_same(plain: Path, small: Path, faces: FaceSet) -> None:
    before, after = Recognizer(plain), Recognizer(small)
    assert after.path.stat().st_size < 0.35 * plain.stat().st_size
    images = faces.split("PublicTest").images
    assert np.array_equal(after.probabilities(images).argmax(1), before.probabilities(images).argmax(1))
    assert after.self_test() <= after.card.tolerance
    weights = [t for t in onnx.load(after.path).graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert sum(np.prod(t.dims) for t in weights) > 1_000_000


def test_what_prepares_the_pixels_is_not_converted_there_and_back(small: Path) -> None:
    kinds = [node.op_type for node in onnx.load(small).graph.node]
    before = [kind for kind in kinds[: kinds.index("Conv")] if kind in {"QuantizeLinear", "Mul", "Sub"}]
    assert before == ["Mul", "Sub", "QuantizeLinear"]  # once, for the convolution


def test_the_card_tells_both_precisions(plain: Path, small: Path) -> None:
    card = Recognizer(small).card
    assert (card.name, card.precision) == ("bars-8", "int8")
    for scores in (card.scores, card.scores["before"]):
        assert scores["PublicTest"]["single view, all"]["n"] == 35
        assert "ece_cross_fitted" in scores["calibration"]
    assert Recognizer(plain).card.precision == "float32"


def test_a_loss_is_not_shipped(
    plain: Path, faces: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizing, "MAX_LOSS", -1.0)
    with pytest.raises(ParityError, match="8 bits should cost at most"):
        quantize(plain, tmp_path / "small.onnx", faces)
    assert not list(tmp_path.iterdir())


def test_a_trial_stays_one_by_any_name(plain: Path, faces: FaceSet, tmp_path: Path) -> None:
    card = dataclasses.replace(Recognizer(plain).card, name="bars-trial")
    trial = save(onnx.load(plain), card, tmp_path / "trial.onnx")
    assert Recognizer(quantize(trial, tmp_path / "mine.onnx", faces, name="mine")).name == "mine-trial"
    assert Recognizer(combine([plain, trial], tmp_path / "both.onnx", faces, name="both")).name == "both-trial"


def test_eight_bits_are_not_quantised_again(small: Path, faces: FaceSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is int8 already"):
        quantize(small, tmp_path / "smaller.onnx", faces)
