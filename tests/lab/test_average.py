"""Several trainings of one network as one: the mean of their weights."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner

from conftest import labelled
from mien.cli import app
from mien.errors import InputError, NotFound
from mien.lab.average import average
from mien.lab.ensemble import combine
from mien.lab.export import export
from mien.lab.exported import Exported, sample
from mien.lab.training import train
from mien.measuring.faceset import FaceSet
from mien.reading.recognizer import Recognizer
from mien.recipes import RECIPES, Recipe, override

CHANGES = {"epochs": "2", "batch": "35", "votes": "0", "drop_non_faces": "false", "optimizer.lr": "0.01"}


@pytest.fixture(scope="module")
def faces() -> FaceSet:
    return labelled(70, 35)


@pytest.fixture(scope="module")
def three(faces: FaceSet, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A network, and two that began with its weights."""
    folder = tmp_path_factory.mktemp("three")
    elder = train(override(RECIPES["mien-small"], CHANGES | {"epochs": "6"}), faces, folder / "elder")
    runs = [elder]
    for seed in ("1", "2"):
        recipe = override(RECIPES["mien-small"], CHANGES | {"seed": seed})
        runs.append(train(recipe, faces, folder / seed, start_from=elder))
    return [export(run, folder / f"{k}.onnx", name=f"net{k}") for k, run in enumerate(runs)]


def test_a_network_and_itself_have_that_network_as_their_mean(
    three: list[Path], faces: FaceSet, tmp_path: Path
) -> None:
    mean = Recognizer(average([three[0], three[0]], tmp_path / "mean.onnx", faces))
    expected = Recognizer(three[0]).logits(faces.images)
    np.testing.assert_allclose(mean.logits(faces.images), expected, atol=0.05)


def test_weights_are_averaged_and_norms_measured_anew(three: list[Path], faces: FaceSet, tmp_path: Path) -> None:
    out = average(three, tmp_path / "mean.onnx", faces, name="mean")
    some = sample(faces)
    nets = [Exported(file, some).classifier.network for file in three]
    head = torch.stack([net[-1].weight for net in nets]).mean(0)
    taken = Exported(out, some).classifier
    torch.testing.assert_close(taken.network[-1].weight[:7], head[:7])
    with torch.no_grad():  # on the faces that the norms were measured on, the mean's own statistics are theirs
        learning = taken.train()(torch.from_numpy(some)).numpy()
    np.testing.assert_allclose(learning, Recognizer(out).logits(some), atol=0.05)
    answers = [Recognizer(file).logits(faces.images) for file in three]
    apart = np.abs(answers[1] - answers[2]).mean()
    assert 0 < np.abs(Recognizer(out).logits(faces.images) - np.mean(answers, 0)).mean() < apart


def test_its_card_tells_what_it_is_the_mean_of(three: list[Path], faces: FaceSet, tmp_path: Path) -> None:
    card = Recognizer(average(three, tmp_path / "mean.onnx", faces, name="mean")).card
    on = "mien-small: 2 epochs, seed"
    mean = f"the mean of the weights of 3: (as they are), ({on} 1), ({on} 2)"
    assert card.trainings == ("mien-small: 6 epochs, seed 0", mean)
    assert (card.name, card.precision) == ("mean", "float32")
    assert card.learned == Recognizer(three[0]).card.learned
    assert card.scores["PublicTest"]["single view, all"]["n"] == 35
    assert Recipe.from_json(card.recipe).seed == 0
    again = train(override(RECIPES["mien-small"], CHANGES), faces, tmp_path / "run", start_from=tmp_path / "mean.onnx")
    assert Exported(export(again, tmp_path / "on.onnx"), sample(faces)).trainings[:2] == list(card.trainings)


def test_what_has_no_mean_is_refused(three: list[Path], faces: FaceSet, tmp_path: Path) -> None:
    out = tmp_path / "mean.onnx"
    with pytest.raises(InputError, match="two models or more, but got 1"):
        average(three[:1], out, faces)
    changes = CHANGES | {"epochs": "1", "network": "vgg-slim"}
    other = train(override(RECIPES["mien-small"], changes), faces, tmp_path / "run")
    with pytest.raises(InputError, match=r"the layers of .*other.onnx are not those of .*0.onnx: weights have no mean"):
        average([three[0], export(other, tmp_path / "other.onnx")], out, faces)
    both = combine(three[:2], tmp_path / "both.onnx", faces)
    with pytest.raises(InputError, match="is not one network of convolutions"):
        average([three[0], both], out, faces)
    with pytest.raises(NotFound, match="no split 'PublicTest'"):  # what one held out, another may have learned
        average(three, out, faces.split("Training"))
    with pytest.raises(NotFound, match="no split 'Training'"):
        average(three, out, faces.split("PublicTest"))
    stranger = train(override(RECIPES["mien-small"], CHANGES | {"epochs": "6", "seed": "9"}), faces, tmp_path / "apart")
    with pytest.raises(InputError, match=r"is right in [\d.]+% of PublicTest, and they are in .*\(--mean answers\)"):
        average([three[0], export(stranger, tmp_path / "apart.onnx")], out, faces)
    assert not out.exists()


def test_the_command_averages_weights_where_it_is_asked(three: list[Path], faces: FaceSet, tmp_path: Path) -> None:
    data = tmp_path / "arrays"
    data.mkdir()
    for part in ("images", "labels", "splits"):
        np.save(data / f"{part}.npy", getattr(faces, part))
    asked = ["export", *map(str, three), "--data", str(data), "--out", str(tmp_path / "m.onnx")]
    done = CliRunner().invoke(app, [*asked, "--mean", "weights", "--name", "mean"])
    assert done.exit_code == 0, done.output
    recognizer, straight = Recognizer(tmp_path / "m.onnx"), Recognizer(average(three, tmp_path / "s.onnx", faces))
    assert "members" not in recognizer.card.scores
    np.testing.assert_array_equal(recognizer.logits(faces.images), straight.logits(faces.images))
