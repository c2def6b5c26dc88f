"""A model file is a network again: it answers as before, and its norms are ready to be trained."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import bars, labelled
from mien.errors import FileError, InputError, NotFound
from mien.lab.export import export
from mien.lab.exported import Exported, open_trained, sample
from mien.lab.networks import NETWORKS, residual_net
from mien.lab.runs import Run
from mien.lab.saved import Saved, save
from mien.lab.training import train
from mien.measuring.faceset import FaceSet
from mien.reading.recognizer import load_model
from mien.recipes import RECIPES, override

FACES = bars(70)[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    changes = {"epochs": "2", "batch": "14", "votes": "0", "drop_non_faces": "false"}
    return train(override(RECIPES["mien-small"], changes), labelled(105, 35), tmp_path_factory.mktemp("runs") / "run")


def test_a_float_model_answers_as_the_run_it_came_from(run: Path, tmp_path: Path) -> None:
    network = Exported(export(run, tmp_path / "model.onnx"), FACES)
    np.testing.assert_allclose(network.logits(FACES), Run(run).logits(FACES), atol=1e-4)
    assert network.trainings == Run(run).trainings == ["mien-small: 2 epochs, seed 0"]
    with torch.no_grad():
        learning = network.classifier.train()(torch.from_numpy(FACES)).numpy()
    np.testing.assert_allclose(learning, Run(run).logits(FACES), atol=0.1)  # a batch tells what the norms were given


def test_squeezing_blocks_come_back_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "resnet18-se", partial(residual_net, (16, 32), (1, 1), stem_stride=2, squeeze=True))
    changes = {"epochs": "1", "batch": "35", "votes": "0", "drop_non_faces": "false"}
    run = train(override(RECIPES["resnet18-se"], changes), labelled(35, 35), tmp_path / "run")
    network = Exported(export(run, tmp_path / "model.onnx"), FACES)
    np.testing.assert_allclose(network.logits(FACES), Run(run).logits(FACES), atol=1e-4)


def test_the_model_that_ships_answers_nearly_as_its_eight_bits() -> None:
    patches = np.random.default_rng(0).integers(40, 216, (200, 6, 6), dtype=np.uint8)
    soft = np.stack([cv2.resize(patch, (48, 48), interpolation=cv2.INTER_CUBIC) for patch in patches])
    expected, network = load_model("mien-small").logits(soft), Exported("mien-small", soft)
    assert np.abs(network.logits(soft) - expected).mean() < 0.1 * expected.std()
    with torch.no_grad():
        learning = network.classifier.train()(torch.from_numpy(soft)).numpy()
    np.testing.assert_allclose(learning, network.logits(soft), atol=0.5)
    assert network.classifier.recipe.name in RECIPES


def test_training_goes_on_from_the_model_that_ships(small_faces: FaceSet, tmp_path: Path) -> None:
    recipe = override(RECIPES["fine-tune"], {"epochs": "1", "ema": "0", "batch": "14"})
    still = train(override(recipe, {"optimizer.lr": "1e-12"}), small_faces, tmp_path / "run", start_from="mien-small")
    images = small_faces.split("PublicTest").images
    expected = load_model("mien-small").logits(images)
    assert np.abs(Run(still).logits(images) - expected).mean() < 0.25 * expected.std()


def test_norms_are_told_by_rows_from_all_over(small_faces: FaceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.lab.exported.FACES", 30)
    order = np.argsort(small_faces.labels[:98], kind="stable")
    folder = small_faces.take(order)  # 14 of each label, one after the other
    taken = sample(folder)
    known = {image.tobytes(): label for image, label in zip(folder.images, folder.labels, strict=True)}
    assert len(taken) == 30
    assert {known[image.tobytes()] for image in taken} == set(range(7))
    assert len(sample(replace(folder, splits=np.array(["Training"] * 5 + ["PublicTest"] * 93)))) == 5


def test_ensembles_and_other_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not one network.*--member 1 --out"):
        Exported("mien-base", FACES)
    with pytest.raises(NotFound, match="mien-smal"):
        Exported("mien-smal", FACES)


def test_whatever_was_trained_can_be_opened(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, _ = save(run, tmp_path / "pair.json")
    kinds = {Run: run, Saved: pair, Exported: export(run, tmp_path / "model.onnx")}
    for kind, source in kinds.items():
        found = open_trained(source, FACES)
        assert isinstance(found, kind)
        np.testing.assert_allclose(found.logits(FACES), Run(run).logits(FACES), atol=1e-4)
    with pytest.raises(NotFound, match="there is no model .*missing"):
        open_trained(tmp_path / "missing", FACES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="no checkpoint"):
        open_trained(tmp_path / "empty", FACES)
    monkeypatch.chdir(run.parent)
    run.rename("mien-small")
    assert isinstance(open_trained("mien-small", FACES), Run)  # what lies here goes before what is inside the package
    Path("mien-small").rename(run)
