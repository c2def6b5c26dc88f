"""Several networks in one file: the mean of their answers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from mien.errors import InputError
from mien.lab.ensemble import combine
from mien.lab.export import save
from mien.lab.quantize import quantize
from mien.measuring import metrics
from mien.measuring.faceset import FaceSet
from mien.reading.recognizer import Recognizer, model_files
from mien.recipes import Protocol, Recipe

SHIPPED = model_files()["mien-small"]


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    from conftest import bars

    images, labels = bars(70)
    return FaceSet(images, labels, np.array(["PublicTest"] * 70), np.arange(70), None, "0" * 64, "small.csv")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second network of other weights, exported but not calibrated."""
    from conftest import bars
    from mien.lab.export import export
    from mien.lab.training import train
    from mien.recipes import RECIPES, override

    folder = tmp_path_factory.mktemp("other")
    images, labels = bars(70)
    splits = np.array(["Training"] * 35 + ["PublicTest"] * 35)
    small = FaceSet(images, labels, splits, np.arange(70), None, "0" * 64, "small.csv")
    recipe = override(RECIPES["mien-small"], {"epochs": "1", "batch": "35", "votes": "0"})
    return export(train(recipe, small, folder / "run"), folder / "other.onnx")


def test_it_answers_with_the_mean_of_its_members(other: Path, faces: FaceSet, tmp_path: Path) -> None:
    members = [Recognizer(SHIPPED), Recognizer(other)]
    both = Recognizer(combine([SHIPPED, other], tmp_path / "both.onnx", faces, name="both"))
    mean = np.mean([member.probabilities(faces.images) for member in members], 0)
    assert np.abs(metrics.softmax(both.logits(faces.images)) - mean).max() < 1e-5
    assert both.self_test() == 0
    assert both.probabilities(faces.images[:1]).shape == (1, 7)


def test_its_card_names_the_members(other: Path, faces: FaceSet, tmp_path: Path) -> None:
    card = Recognizer(combine([SHIPPED, other], tmp_path / "both.onnx", faces, name="both")).card
    assert card.name == "both"
    assert card.precision == "int8"  # the coarser of its members'
    assert card.scores["PublicTest"]["single view, all"]["n"] == 70
    shipped, second = Recognizer(SHIPPED).card, Recognizer(other).card
    accuracy = shipped.scores["PublicTest"]["single view, all"]["accuracy"]
    assert [member["accuracy"] for member in card.scores["members"]] == [accuracy, None]  # the other was not calibrated
    assert [member["recipe"] for member in card.scores["members"]] == [json.loads(c.recipe) for c in (shipped, second)]
    assert card.trainings == ()
    assert card.scores["members"][1]["trainings"] == list(second.trainings) == ["mien-small: 1 epochs, seed 0"]


def test_what_was_fitted_to_the_members_is_fitted_anew_for_its_honest_scores(
    other: Path, faces: FaceSet, tmp_path: Path
) -> None:
    card = Recognizer(combine([SHIPPED, other], tmp_path / "both.onnx", faces, name="both")).card
    raw = np.stack([Recognizer(model).logits(faces.images) for model in (SHIPPED, other)], 1)
    crossed = metrics.cross_fitted(raw, faces.labels, fit=metrics.fit_ensemble)
    expected = {
        "ece_cross_fitted": metrics.calibration_error(crossed, faces.labels),
        "accuracy_cross_fitted": metrics.accuracy(crossed, faces.labels),
        "accuracy_unscaled": metrics.accuracy(metrics.softmax(raw).mean(1), faces.labels),
    }
    assert expected.items() <= card.scores["calibration"].items()


def test_an_ensemble_is_quantised_by_its_members(other: Path, faces: FaceSet, tmp_path: Path) -> None:
    both = combine([other, other], tmp_path / "both.onnx", faces)
    with pytest.raises(InputError, match="holds 2; quantise each"):
        quantize(both, tmp_path / "small.onnx", faces)


def test_members_that_learned_the_rows_to_calibrate_on_are_refused(other: Path, faces: FaceSet, tmp_path: Path) -> None:
    model, card = onnx.load(other), Recognizer(other).card
    protocol = Protocol(train=("Training", "PublicTest"), select=0.1)
    learned = replace(card, recipe=replace(Recipe.from_json(card.recipe), protocol=protocol).to_json())
    with pytest.raises(InputError, match="some of it trained on that: .'mien-small'"):
        combine([SHIPPED, save(model, learned, tmp_path / "learned.onnx")], tmp_path / "both.onnx", faces)


def test_one_model_is_no_ensemble(faces: FaceSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two members or more"):
        combine([SHIPPED], tmp_path / "one.onnx", faces)
    assert not list(tmp_path.iterdir())


def test_the_command_line_asks_for_the_data(other: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from mien.cli import app

    done = CliRunner().invoke(app, ["export", str(SHIPPED), str(other), "--out", str(tmp_path / "both.onnx")])
    assert isinstance(done.exception, InputError)
    assert "name the data: --data FILE" in str(done.exception)
