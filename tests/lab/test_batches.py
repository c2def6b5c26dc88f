"""Which rows train and which choose, and batches that are the same wherever the images lie."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mien.errors import InputError, NotFound
from mien.lab.batches import FaceData, divide, softened_labels
from mien.measuring.faceset import FaceSet
from mien.recipes import RECIPES, Protocol, Recipe


@pytest.mark.parametrize(
    ("name", "training", "choosing"),
    [
        ("mien-small", range(98), range(98, 126)),
        ("alexnet", range(88), range(88, 98)),  # the last tenth of Training
        ("paul", range(100), range(100, 126)),  # Training + PublicTest in order, the last fifth held out
    ],
)
def test_protocols_divide_as_published(
    name: str, training: range, choosing: range, small_faces: FaceSet
) -> None:
    divided = divide(small_faces, RECIPES[name])
    assert divided.images is small_faces.images
    assert divided.split("Training").rows.tolist() == list(training)
    assert divided.split(RECIPES[name].protocol.chooser).rows.tolist() == list(choosing)


def test_the_workshop_holds_out_a_random_tenth(small_faces: FaceSet) -> None:
    divided = divide(small_faces, RECIPES["workshop"])
    held = divided.split("held-out").rows
    assert len(held) == 10
    assert held.tolist() != list(range(88, 98))
    assert set(held) | set(divided.split("Training").rows) == set(range(98))
    assert divide(small_faces, RECIPES["workshop"]).split("held-out").rows.tolist() == held.tolist()


def test_dividing_copies_no_image(small_faces: FaceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(FaceSet, "take")
    for recipe in (RECIPES["mien-small"], RECIPES["workshop"], RECIPES["paul"]):
        assert np.shares_memory(divide(small_faces, recipe).images, small_faces.images)


def test_non_faces_are_left_out_where_the_recipe_says(small_faces: FaceSet) -> None:
    assert small_faces.votes is not None
    small_faces.votes[3] = [0] * 9 + [10]
    assert divide(small_faces, RECIPES["mien-small"]).splits[3] == ""
    assert divide(small_faces, RECIPES["mien-small-plain"]).splits[3] == "Training"


def test_what_a_protocol_lacks_is_named(small_faces: FaceSet) -> None:
    with pytest.raises(NotFound, match="PublicTest.*Training.*protocol.select=0.1 --set protocol.held_out=random"):
        divide(small_faces.split("Training"), RECIPES["mien-small"])
    with pytest.raises(InputError, match="has none; name the FER"):
        divide(dataclasses.replace(small_faces, votes=None), RECIPES["mien-small"])
    blind = dataclasses.replace(RECIPES["workshop"], protocol=Protocol(select="PrivateTest"))
    with pytest.raises(InputError, match="14 of 14 PrivateTest rows have no label"):
        divide(small_faces, blind)


def test_rows_in_the_order_of_their_labels_are_not_divided_at_their_end(small_faces: FaceSet) -> None:
    order = np.argsort(small_faces.labels[:98], kind="stable")
    folder = dataclasses.replace(small_faces.take(order), splits=np.array(["train"] * 98))
    last = small(protocol=Protocol(train=("train",), select=0.1, held_out="last"))
    with pytest.raises(InputError, match="the last 10 of 98 .* 6 of the labels .*--set protocol.held_out=random"):
        divide(folder, last)
    drawn = divide(folder, small(protocol=Protocol(train=("train",), select=0.1, held_out="random")))
    assert len(set(drawn.split("held-out").labels.tolist())) > 1


def test_rows_that_train_do_not_choose(small_faces: FaceSet) -> None:
    with pytest.raises(InputError, match="trains on PublicTest, which is to choose the epoch too; name another split"):
        divide(small_faces, small(protocol=Protocol(train=("Training", "PublicTest"))))


def small(**changes: object) -> Recipe:
    return dataclasses.replace(RECIPES["mien-small"], **changes)


def test_ferplus_rows_train_and_choose(small_faces: FaceSet) -> None:
    assert small_faces.votes is not None
    small_faces.votes[[3, 100]] = [0, 5, 0, 5, 0, 0, 0, 0, 0, 0]  # no majority
    small_faces.votes[4] = [0] * 8 + [10, 0]
    divided = divide(small_faces, small(labels="ferplus"))
    assert set(range(126)) - set(divided.rows.tolist()) == {3, 4, 100}
    assert set(divided.labels) == {6}  # all others vote neutral
    assert set(range(126)) - set(divide(small_faces, small(labels="ferplus-votes")).rows.tolist()) == {4}
    with pytest.raises(InputError, match="name the FER"):
        divide(dataclasses.replace(small_faces, votes=None), small(labels="ferplus", votes=0.0))


def test_a_table_of_answers_is_mixed_into_the_labels_of_rows_that_train(small_faces: FaceSet) -> None:
    divided = divide(small_faces, RECIPES["mien-small"])
    said = np.full(7, 0.1)
    said[3] = 0.4
    rows = {"Training": 3, "PublicTest": 100}
    answers = {int(small_faces.rows[k]): said.tolist() for k in rows.values()}
    train = int((divided.splits == "Training").sum())
    with pytest.warns(UserWarning, match=f"tells nothing of {train - 1} of the {train} rows that train: these have"):
        shares = softened_labels(divided, answers, 0.9)
    assert shares.dtype == np.float32
    expected = 0.9 * said + 0.1 * np.eye(7)[small_faces.labels[3]]
    np.testing.assert_allclose(shares[divided.rows == small_faces.rows[3]][0], expected, atol=1e-6)
    others = (divided.labels >= 0) & (divided.rows != small_faces.rows[3])  # what chooses has its label, told or not
    np.testing.assert_array_equal(shares[others], np.eye(7, dtype=np.float32)[divided.labels[others]])
    with pytest.raises(InputError, match=r"has 1 rows, but none of the \d+ that train"):
        softened_labels(divided, {100: said.tolist()}, 0.9)
    with pytest.raises(InputError, match=r"expected a teacher of 7 expressions \(p0 .. p6\), but got 8"):
        softened_labels(divided, {3: [*said.tolist(), 0.0]}, 0.9)


def test_fetched_batches_are_those_of_the_device(small_faces: FaceSet) -> None:
    recipe = RECIPES["mien-small"]
    divided = divide(small_faces, recipe)
    place = SimpleNamespace(
        current_epoch=3, world_size=2, global_rank=1, strategy=SimpleNamespace(root_device=torch.device("cpu"))
    )
    whole, fetched = FaceData(divided, recipe), FaceData(divided, recipe, resident=1000)
    for data in (whole, fetched):
        data.trainer = place  # type: ignore[assignment]
        data.setup("fit")
    for loader in ("train_dataloader", "val_dataloader"):
        one, other = list(getattr(whole, loader)()), list(getattr(fetched, loader)())
        assert len(one) == len(other) > 0
        for batch, same in zip(one, other, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(batch, same, strict=True))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell its memory")
def test_a_large_data_set_stays_in_its_file(tmp_path: Path) -> None:
    """An epoch's batches of 300 MB of faces, more than a process may have when they stay: it gains less than 50 MB."""
    rows = 130_000
    np.lib.format.open_memmap(tmp_path / "images.npy", mode="w+", dtype=np.uint8, shape=(rows, 48, 48)).flush()
    np.save(tmp_path / "labels.npy", np.zeros(rows, np.int8))
    np.save(tmp_path / "splits.npy", np.array(["Training"] * 100_000 + ["PublicTest"] * 30_000))
    program = f"""
import re, sys, torch
from pathlib import Path
from types import SimpleNamespace
from mien.lab.batches import FaceData, divide
from mien.measuring.data import load
from mien.recipes import RECIPES

def memory():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000

before = memory()
recipe = RECIPES["mien-small-plain"]
data = FaceData(divide(load({str(tmp_path)!r}), recipe), recipe, resident=int(sys.argv[1]))
data.trainer = SimpleNamespace(
    current_epoch=0, world_size=1, global_rank=0, strategy=SimpleNamespace(root_device=torch.device("cpu"))
)
data.setup("fit")
seen = sum(len(batch[0]) for loader in (data.train_dataloader(), data.val_dataloader()) for batch in loader)
print(seen, memory() - before)
"""
    gains = []
    for resident in (1 << 30, 1 << 20):
        done = subprocess.run(
            [sys.executable, "-c", program, str(resident)], capture_output=True, text=True, check=True
        )
        seen, gain = done.stdout.split()
        assert int(seen) == rows
        gains.append(float(gain))
    assert gains[0] > 250 > 50 > gains[1]
