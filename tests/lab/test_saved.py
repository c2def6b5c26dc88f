"""Architecture as JSON and weights beside it: what was saved comes back, and nothing else passes for it."""

import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mien.errors import Damaged, FileError, InputError
from mien.lab.module import Classifier
from mien.lab.runs import Run
from mien.lab.saved import Saved, save, save_trained
from mien.measuring.faceset import FaceSet
from mien.recipes import RECIPES, override


def untrained(recipe: str, folder: Path) -> Path:
    """A run folder with a network as it was drawn; to save it, no training is needed."""
    torch.manual_seed(0)
    classifier = Classifier(RECIPES[recipe])
    (folder / "checkpoints").mkdir(parents=True)
    state = {"state_dict": classifier.state_dict(), "recipe": classifier.recipe.to_json()}
    torch.save(state, folder / "checkpoints" / "best.ckpt")
    trainings = ["first: 5 epochs, seed 1", f"{recipe}: {RECIPES[recipe].epochs} epochs, seed 0"]
    (folder / "environment.json").write_text(json.dumps({"options": {"limit": 1}, "trainings": trainings}))
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    path, _ = save(untrained("paul", tmp_path / "run"), tmp_path / "fer.json")
    return path


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_loaded_network_is_the_saved_one(pair: Path, small_faces: FaceSet) -> None:
    run, saved = Run(pair.parent / "run"), Saved(pair)
    assert saved.name == "paul"
    assert saved.recipe == run.recipe
    assert saved.trainings == run.trainings == ["first: 5 epochs, seed 1", "paul: 100 epochs, seed 0"]
    assert np.array_equal(saved.logits(small_faces.images[:5]), run.logits(small_faces.images[:5]))


def test_the_second_head_is_kept(tmp_path: Path, small_faces: FaceSet) -> None:
    path, weights = save(untrained("mien-small", tmp_path / "run"), tmp_path / "small.json")
    assert Saved(path).probabilities(small_faces.images[:2]).shape == (2, 7)
    with np.load(weights) as arrays:
        assert max(array.shape[0] for name, array in arrays.items() if name.endswith("bias")) > 7


def test_the_architecture_can_be_read_by_people(pair: Path) -> None:
    architecture = json.loads(pair.read_text())
    assert architecture["layers"][0] == {
        "layer": "Conv2d",
        "settings": "1, 64, kernel_size=(3, 3), stride=(1, 1)",
        "output": [64, 46, 46],
        "parameters": 640,
    }
    assert sum(layer["parameters"] for layer in architecture["layers"]) == 9_014_727
    assert architecture["recipe"]["claim"].startswith("63.167 %")


def test_weights_of_another_recipe_are_refused_by_name(pair: Path, tmp_path: Path) -> None:
    save(untrained("mien-small", tmp_path / "other"), tmp_path / "other.json")
    rewrite(pair, weights="other.npz")
    with pytest.raises(Damaged, match=r"recipe 'paul', but .*other.npz holds those of 'mien-small'"):
        Saved(pair)


def test_another_version_of_the_network_is_refused(pair: Path) -> None:
    rewrite(pair, layers=json.loads(pair.read_text())["layers"][:-1])
    with pytest.raises(Damaged, match="another version of the network 'paul'"):
        Saved(pair)


def test_how_torch_words_its_layers_is_no_matter(pair: Path) -> None:
    layers = json.loads(pair.read_text())["layers"]
    rewrite(pair, layers=[layer | {"settings": f"{layer['settings']}, bias=True"} for layer in layers])
    assert Saved(pair).name == "paul"
    rewrite(pair, layers=[layer | {"output": [1]} for layer in layers])
    with pytest.raises(Damaged, match="another version"):
        Saved(pair)


def test_half_precision_halves_the_file(pair: Path, small_faces: FaceSet) -> None:
    whole = Saved(pair)
    path, weights = save_trained(whole, pair.with_name("half.json"), half=True)
    assert weights.stat().st_size < 0.51 * pair.with_suffix(".npz").stat().st_size
    half = Saved(path)
    assert half.trainings == whole.trainings
    assert np.allclose(half.logits(small_faces.images[:5]), whole.logits(small_faces.images[:5]), atol=0.01)


def test_damaged_or_missing_files_are_named(pair: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        Saved(tmp_path / "none.json")
    for text, message in (("{", "is no JSON"), ("[]", "is no architecture"), ('{"format": "x"}', "is no architecture")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(Damaged, match=message):
            Saved(tmp_path / "bad.json")
    weights = pair.with_suffix(".npz")
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Damaged, match="holds no weights"):
        Saved(pair)
    # A pickle inside is never run.
    np.savez(weights, recipe=np.array("paul"), code=np.array([print], dtype=object))
    with pytest.raises(Damaged, match="holds no weights"):
        Saved(pair)
    weights.unlink()
    with pytest.raises(FileError, match="cannot read"):
        Saved(pair)


def test_weights_lie_beside_the_architecture(pair: Path) -> None:
    rewrite(pair, weights="../../elsewhere.npz")
    with pytest.raises(Damaged, match="a file beside it"):
        Saved(pair)


def test_only_json_names_are_taken(pair: Path) -> None:
    with pytest.raises(InputError, match=r"ends in .json, but got 'fer.h5'"):
        save(pair.parent / "run", pair.parent / "fer.h5")


def test_a_file_that_has_the_name_of_the_weights_stays(pair: Path) -> None:
    mine = pair.with_name("mine.npz")
    mine.write_bytes(b"not weights")
    with pytest.raises(FileError, match=r"mine.npz is there already, and no mine.json that it belongs to"):
        save(pair.parent / "run", mine.with_suffix(".json"))
    assert mine.read_bytes() == b"not weights"
    assert save(pair.parent / "run", pair)[0] == pair


def test_recipes_that_differ_only_in_training_share_a_network(pair: Path) -> None:
    recipe = override(RECIPES["paul"], {"epochs": "1"})
    rewrite(pair, recipe=json.loads(recipe.to_json()))
    assert Saved(pair).recipe.epochs == 1


def test_what_is_no_archive_of_arrays_is_named(pair: Path) -> None:
    weights = pair.with_suffix(".npz")
    np.save(pair.with_suffix(".npy"), np.zeros(3))
    weights.write_bytes(pair.with_suffix(".npy").read_bytes())  # numpy would load it, and give no archive
    with pytest.raises(Damaged, match="holds no weights"):
        Saved(pair)
    np.savez_compressed(weights, recipe=np.array("paul"), bomb=np.zeros(1_000_000))
    with pytest.raises(Damaged, match="its content has .* bytes, expected at most"):
        Saved(pair)
    head = b"(" * 9000 + b"\n"
    with zipfile.ZipFile(weights, "w") as archive:
        archive.writestr("recipe.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head)
    with pytest.raises(Damaged, match="holds no weights"):
        Saved(pair)
    pair.write_text("[" * 100_000)
    with pytest.raises(Damaged, match="nested too deeply"):
        Saved(pair)
