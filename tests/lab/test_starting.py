"""What may not begin is refused, by name and before any work."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import TINY, labelled, quick

torch = pytest.importorskip("torch")

from mien.errors import FileError, InputError, NotFound
from mien.lab.export import export
from mien.lab.runs import Run
from mien.lab.saved import save
from mien.lab.starting import TrainOptions, check_start
from mien.lab.training import train
from mien.measuring.exclusion import exclude, write_exclusions
from mien.measuring.faceset import FaceSet
from mien.measuring.predictions import write_predictions
from mien.recipes import Adam, Plateau, Protocol


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": "x"}, r"devices takes int in \[1, inf\) or one of auto, but got 'x'"),
        ({"devices": 0}, r"devices takes int in \[1, inf\) or one of auto, but got 0"),
        ({"nodes": -1}, r"nodes takes int in \[1, inf\) or one of auto, but got -1"),
        ({"precision": "64"}, "precision takes one of 32, bf16-mixed, 16-mixed, but got '64'"),
        ({"precision": "16-true"}, "but got '16-true'"),
        ({"limit": 0.0}, r"limit takes float in \(0, 1\], but got 0.0"),
    ],
)
def test_options_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainOptions(**options)


def test_two_rules_for_the_learning_rate_are_refused(tmp_path: Path) -> None:
    recipe = quick(votes=0.0, optimizer=Adam(decay=1e-6), schedule=Plateau())
    with pytest.raises(InputError, match=r"both optimizer.decay and a Plateau schedule.*set optimizer.decay=0"):
        check_start(recipe, tmp_path / "run")


@pytest.mark.parametrize("resume", [False, True])
def test_places_that_cannot_be_a_run_folder(resume: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="file is a file; choose another"):
        check_start(TINY, tmp_path / "file" / "run", resume=resume)
    with pytest.raises(NotFound, match="no network 'foo'"):
        check_start(quick(network="foo"), tmp_path / "run", resume=resume)
    monkeypatch.setattr(os, "access", lambda *rest: False)
    with pytest.raises(FileError, match="may not be read and written to"):
        check_start(TINY, tmp_path / "run", resume=resume)


def test_who_knows_the_rows_that_choose_does_not_teach(tmp_path: Path) -> None:
    plain = {"votes": 0.0, "drop_non_faces": False, "epochs": 1}
    shared = Protocol(select=0.2, held_out="random")
    teacher = train(quick(**plain, protocol=shared, seed=1), labelled(105, 35), tmp_path / "teacher")
    student = quick(**plain, protocol=shared, distil=0.5)
    with pytest.raises(InputError, match=r"best.ckpt learned from \d+ of the 21 rows that are to choose.*; seed 1\)"):
        train(student, labelled(105, 35), tmp_path / "student", teachers=[teacher])
    with pytest.raises(InputError, match="would hand on what they are"):
        train(quick(**plain, protocol=shared), labelled(105, 35), tmp_path / "student", start_from=teacher)
    assert not (tmp_path / "student").exists()
    train(dataclasses.replace(student, seed=1), labelled(105, 35), tmp_path / "student", teachers=[teacher])


def test_the_same_faces_are_known_in_whatever_form_they_come(tmp_path: Path) -> None:
    other = labelled(105, 35)
    votes = np.tile(np.array([10] + [0] * 9, np.uint8), (len(other), 1))
    faces = dataclasses.replace(other, votes=votes, checksum="1" * 64)
    voted = train(quick(epochs=1), faces, tmp_path / "voted")
    pair, _ = save(voted, tmp_path / "pair.json")
    tenth = quick(votes=0.0, drop_non_faces=False, epochs=1, protocol=Protocol(select=0.1, held_out="random"))
    for elder in (voted, pair, export(voted, tmp_path / "elder.onnx")):
        with pytest.raises(InputError, match=r"learned from about 100% of the \d+ rows that are to choose"):
            train(tenth, other, tmp_path / "run", start_from=elder)
    write_exclusions(tmp_path / "list.csv", other, {0: ["flat"], 1: ["flat"]})
    with pytest.raises(InputError, match=r"learned from about 100% of the \d+ rows that are to choose"):
        train(tenth, exclude(other, tmp_path / "list.csv"), tmp_path / "run", start_from=voted)
    turned = dataclasses.replace(other, images=other.images[::-1], labels=other.labels[::-1], splits=other.splits[::-1])
    with pytest.raises(InputError, match=r"learned from about 100% of the \d+ rows that are to choose"):
        train(tenth, turned, tmp_path / "run", start_from=voted)
    strangers = dataclasses.replace(other, images=255 - other.images, checksum="2" * 64)
    grandchild = train(tenth, strangers, tmp_path / "run", start_from=voted)
    with pytest.raises(InputError, match=r"learned from about 100% of the \d+ rows that are to choose"):
        train(tenth, other, tmp_path / "late", start_from=grandchild)
    shared = train(tenth, other, tmp_path / "shared")
    with pytest.raises(InputError, match=r"and a held-out share by the same --data, --ferplus and --exclude"):
        train(tenth, exclude(other, tmp_path / "list.csv"), tmp_path / "again", start_from=shared)


def test_few_rows_that_choose_are_known_by_those_they_are_taken_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sketch holds 40 of 105 images: too few of ten are among these to tell."""
    monkeypatch.setattr("mien.measuring.sketch.KEPT", 40)
    monkeypatch.setattr("mien.measuring.sketch._ENOUGH", 10)
    elder = train(quick(votes=0.0, drop_non_faces=False, epochs=1), labelled(105, 35), tmp_path / "elder")
    tenth = quick(votes=0.0, drop_non_faces=False, epochs=1, protocol=Protocol(select=0.1, held_out="random"))
    with pytest.raises(InputError, match=r"learned from about 100% of the 11 rows that are to choose"):
        train(tenth, dataclasses.replace(labelled(105, 35), checksum="1" * 64), tmp_path / "run", start_from=elder)


def test_what_an_elder_knew_is_not_forgotten(tmp_path: Path) -> None:
    plain = {"votes": 0.0, "drop_non_faces": False, "epochs": 1}
    faces = labelled(105, 35)
    faces = dataclasses.replace(faces, splits=np.array(["Training"] * 84 + ["PublicTest"] * 35 + ["PrivateTest"] * 21))
    other = {"select": "PrivateTest", "test": ()}
    both = quick(**plain, protocol=Protocol(train=("Training", "PublicTest"), **other))
    first = train(both, faces, tmp_path / "first")
    second = train(quick(**plain, protocol=Protocol(**other)), faces, tmp_path / "second", start_from=first)
    with pytest.raises(InputError, match="learned from about 100% of the 35 rows that are to choose"):
        train(quick(**plain), faces, tmp_path / "third", start_from=second)
    assert Run(second).learned.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "is a table of answers, which teaches alone, but 2 teachers came"),
        ({"labels": "ferplus", "votes": 0.0}, "'mien-small' learns ferplus labels by cross_entropy"),
        ({"loss": "binary_cross_entropy", "votes": 0.0}, "learns fer2013 labels by binary_cross_entropy"),
    ],
)
def test_a_table_of_answers_is_refused_where_it_cannot_teach(
    small_faces: FaceSet, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    table = tmp_path / "answers.csv"
    with pytest.raises(FileError, match=r"cannot read .*answers.csv: No such file"):
        train(quick(distil=0.5), small_faces, tmp_path / "run", teachers=[table])
    write_predictions(table, small_faces, np.full((len(small_faces), 7), 1 / 7))
    with pytest.raises(InputError, match=told):
        train(quick(distil=0.5, **changes), small_faces, tmp_path / "run", teachers=[table] * (1 if changes else 2))
    assert not (tmp_path / "run").exists()
