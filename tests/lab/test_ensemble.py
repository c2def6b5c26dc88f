"""Several networks in one file: the mean of their answers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from typer.testing import CliRunner

from mien.cli import app
from mien.errors import InputError
from mien.lab.ensemble import combine, take_member
from mien.lab.export import save
from mien.lab.exported import Exported
from mien.lab.quantize import quantize
from mien.measuring import metrics
from mien.measuring.faceset import FaceSet
from mien.reading.recognizer import Recognizer, load_model, model_files
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
    from conftest import labelled
    from mien.lab.export import export
    from mien.lab.training import train
    from mien.recipes import RECIPES, override

    folder = tmp_path_factory.mktemp("other")
    recipe = override(RECIPES["mien-small"], {"epochs": "1", "batch": "35", "votes": "0"})
    return export(train(recipe, labelled(35, 35), folder / "run"), folder / "other.onnx")


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


def test_members_may_be_named(other: Path, small_csv: Path, tmp_path: Path) -> None:
    asked = ["export", "mien-small", str(other), "--data", str(small_csv), "--out", str(tmp_path / "both.onnx")]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    members = Recognizer(tmp_path / "both.onnx").card.scores["members"]
    assert [member["name"] for member in members] == [Recognizer(SHIPPED).name, Recognizer(other).name]
    again = ["export", str(tmp_path / "both.onnx"), *asked[2:-1], str(tmp_path / "more.onnx")]
    nested = CliRunner().invoke(app, again)
    assert "both.onnx is an ensemble; take its members first" in str(nested.exception)
    assert not (tmp_path / "more.onnx").exists()


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


def test_a_member_comes_out_as_it_went_in(other: Path, faces: FaceSet, tmp_path: Path) -> None:
    both = combine([SHIPPED, other], tmp_path / "both.onnx", faces, name="both")
    for number, source in enumerate((SHIPPED, other), 1):
        given, taken = Recognizer(source), Recognizer(take_member(both, number, tmp_path / "taken.onnx"))
        np.testing.assert_array_equal(taken.logits(faces.images), given.logits(faces.images))
        np.testing.assert_allclose(taken.probabilities(faces.images), given.probabilities(faces.images), atol=1e-6)
        for kept in ("name", "labels", "recipe", "licence", "data_sha256", "precision", "trainings"):
            assert getattr(taken.card, kept) == getattr(given.card, kept), kept
        assert (taken.card.scores, taken.card.threshold) == ({}, 0)
        assert taken.self_test() == 0
    again = Recognizer(combine([SHIPPED, tmp_path / "taken.onnx"], tmp_path / "again.onnx", faces))
    np.testing.assert_allclose(again.logits(faces.images), Recognizer(both).logits(faces.images), atol=1e-5)
    scored = Recognizer(take_member(both, 2, tmp_path / "scored.onnx", faces=faces, name="scored")).card
    assert (scored.name, scored.scores["PublicTest"]["single view, all"]["n"]) == ("scored", 70)
    further = Exported(tmp_path / "taken.onnx", faces.images)  # ready to be trained on
    assert further.trainings == ["mien-small: 1 epochs, seed 0"]


def test_the_networks_of_the_ensemble_that_ships_can_be_had(faces: FaceSet, tmp_path: Path) -> None:
    whole, found = load_model("mien-base"), []
    for number in range(1, len(whole.card.scores["members"]) + 1):
        done = CliRunner().invoke(
            app, ["export", "mien-base", "--member", str(number), "--out", str(tmp_path / "m.onnx"), "--name", "mine"]
        )
        assert done.exit_code == 0, done.output
        found.append(Recognizer(tmp_path / "m.onnx").probabilities(faces.images))
        assert (Recognizer(tmp_path / "m.onnx").name, Recognizer(tmp_path / "m.onnx").self_test()) == ("mine", 0)
    assert np.abs(np.mean(found, 0) - metrics.softmax(whole.logits(faces.images))).max() < 1e-5


@pytest.mark.parametrize(
    ("model", "number", "said"),
    [("mien-base", 9, "a member 9, but .* 1 mien-small-lifted-mean; 2 "), ("mien-small", 1, "one network alone")],
)
def test_a_member_that_is_not_there_is_refused(model: str, number: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        take_member(model, number, tmp_path / "taken.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [["mien-small"], ["--form", "int8"], ["--checkpoint", "last"]])
def test_a_member_is_taken_out_of_one_ensemble(more: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", "mien-base", "--member", "1", "--out", str(tmp_path / "m.onnx"), *more])
    assert isinstance(done.exception, InputError)
    assert "one network out of one ensemble" in str(done.exception)


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
    done = CliRunner().invoke(app, ["export", str(SHIPPED), str(other), "--out", str(tmp_path / "both.onnx")])
    assert isinstance(done.exception, InputError)
    assert "name the data: --data FILE" in str(done.exception)
