"""Training as a user meets it: a run folder, resume after a kill, clear refusals."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mien.errors import FileError, InputError, NotFound, TrainingDiverged
from mien.lab.runs import Run
from mien.lab.training import TrainOptions, divide, train, validation_split
from mien.measuring.faceset import FaceSet
from mien.recipes import RECIPES, SGD, Adam, Plateau, Protocol, Recipe, Stopping, override

TINY = override(RECIPES["mien-small"], {"epochs": "3", "batch": "14", "optimizer.lr": "0.05"})


def quick(**changes: object) -> Recipe:
    return dataclasses.replace(TINY, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of a network that can learn the bars: no flips or crops, which would move them."""
    from conftest import bars

    images, labels = bars(140)
    faces = FaceSet(
        images, labels, np.array(["Training"] * 105 + ["PublicTest"] * 35), np.arange(140), None, "0" * 64, "small.csv"
    )
    recipe = quick(votes=0.0, drop_non_faces=False, augment=RECIPES["paul"].augment, ema=0.5, epochs=6)
    return train(recipe, faces, tmp_path_factory.mktemp("runs") / "run")


def test_a_run_folder_is_complete(finished: Path) -> None:
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert names >= {
        *("recipe.json", "environment.json", "history.csv", "report.json", "report.md"),
        *("curves.png", "confusion.png", "checkpoints/best.ckpt", "checkpoints/last.ckpt"),
    }
    assert any(name.startswith("tensorboard/events") for name in names)
    assert not any(name.endswith(".part") for name in names)


def test_it_learns(finished: Path) -> None:
    history = Run(finished).history()
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["val_accuracy"] == 1.0
    assert history[-1]["lr"] < history[2]["lr"]


def test_best_and_last_are_the_averaged_network(finished: Path) -> None:
    best = Run(finished, "best").history()
    assert max(row["val_accuracy"] for row in best) == 1.0
    assert Run(finished, "last").name == "mien-small"


def test_a_full_folder_is_not_overwritten(finished: Path, small_faces: FaceSet) -> None:
    with pytest.raises(FileError, match="is not empty.*--resume"):
        train(TINY, small_faces, finished)


def test_resuming_needs_the_same_recipe_and_data(finished: Path, small_faces: FaceSet) -> None:
    with pytest.raises(InputError, match="another recipe .*votes"):
        train(TINY, small_faces, finished, resume=True)
    recipe = Run(finished).recipe
    with pytest.raises(InputError, match="other data"):
        train(recipe, dataclasses.replace(small_faces, checksum="1" * 64), finished, resume=True)
    with pytest.raises(InputError, match=r"begun with --limit 1\.0"):
        train(recipe, small_faces, finished, resume=True, options=TrainOptions(limit=0.5))
    with pytest.raises(FileError, match="no run to resume"):
        train(recipe, small_faces, finished / "nothing", resume=True)


def cli(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mien", *map(str, arguments)]


def test_resume_after_a_kill_repeats_the_same_curve(small_csv: Path, tmp_path: Path) -> None:
    """Killed without warning after an epoch, the run ends with the history that it would have had."""
    settings = ["--set", "batch=14", "--epochs", 5, "--ferplus", small_csv.with_name("fer2013new.csv")]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(
        cli("train", "mien-small", "--data", small_csv, "--out", whole, *settings), check=True, capture_output=True
    )
    begun = subprocess.Popen(
        cli("train", "mien-small", "--data", small_csv, "--out", broken, *settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not (broken / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(begun.pid, signal.SIGKILL)
    begun.communicate()
    assert len((broken / "history.csv").read_text().splitlines()) < 6, "it was killed too late to show anything"
    subprocess.run(
        cli("train", "mien-small", "--data", small_csv, "--out", broken, *settings, "--resume"),
        check=True,
        capture_output=True,
    )
    expected, came = Run(whole).history(), Run(broken).history()
    assert [row["epoch"] for row in came] == [1, 2, 3, 4, 5]
    for one, other in zip(expected, came, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_plateau_state_survives_a_resume(small_faces: FaceSet, tmp_path: Path) -> None:
    """With a rate so small that nothing improves, the rate falls every second epoch, resumed or not."""
    recipe = quick(
        votes=0.0, optimizer=Adam(lr=1e-12), schedule=Plateau(factor=0.5, patience=2), ema=0.0, epochs=7, keep="loss"
    )
    rates = [row["lr"] for row in Run(train(recipe, small_faces, tmp_path / "whole")).history()]
    assert rates[-1] < rates[0]

    class Stop(Exception):
        pass

    def interrupt(row: dict[str, float]) -> None:
        if row["epoch"] == 5:
            raise Stop

    with pytest.raises(Stop):
        train(recipe, small_faces, tmp_path / "broken", report=interrupt)
    train(recipe, small_faces, tmp_path / "broken", resume=True)
    assert [row["lr"] for row in Run(tmp_path / "broken").history()] == rates


def test_a_diverging_run_stops_and_says_so(small_faces: FaceSet, tmp_path: Path) -> None:
    recipe = quick(optimizer=SGD(lr=1e30), schedule=RECIPES["workshop"].schedule)
    with pytest.raises(TrainingDiverged, match=r"expected a finite loss.*optimizer\.lr"):
        train(recipe, small_faces, tmp_path / "run")


def test_devices_that_cannot_be_had(small_faces: FaceSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="devices 'abc'"):
        train(TINY, small_faces, tmp_path / "run", options=TrainOptions(devices="abc"))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "64"}, "precision takes one of 32, bf16-mixed, 16-mixed, but got '64'"),
        ({"precision": "16-true"}, "but got '16-true'"),
        ({"limit": 0.0}, r"limit takes float in \(0, 1\], but got 0.0"),
    ],
)
def test_options_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainOptions(**options)


def test_early_stopping_ends_the_run(small_faces: FaceSet, tmp_path: Path) -> None:
    recipe = quick(votes=0.0, optimizer=SGD(lr=1e-12), ema=0.0, stopping=Stopping(patience=2), epochs=9)
    history = Run(train(recipe, small_faces, tmp_path / "run")).history()
    assert len(history) == 3  # the first epoch is the best, two more bring nothing
    epochs = {n: torch.load(tmp_path / "run" / "checkpoints" / f"{n}.ckpt")["epoch"] for n in ("best", "last")}
    assert epochs == {"best": 0, "last": 2}


def test_a_trial_is_marked(small_faces: FaceSet, tmp_path: Path) -> None:
    run = train(quick(epochs=1), small_faces, tmp_path / "run", options=TrainOptions(limit=0.5))
    assert "TRIAL: trained and scored on 50.0% of the rows" in (run / "report.md").read_text()


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
    assert divided.split("Training").rows.tolist() == list(training)
    assert divided.split(validation_split(RECIPES[name])).rows.tolist() == list(choosing)


def test_the_workshop_holds_out_a_random_tenth(small_faces: FaceSet) -> None:
    divided = divide(small_faces, RECIPES["workshop"])
    held = divided.split("held-out").rows
    assert len(held) == 10
    assert held.tolist() != list(range(88, 98))
    assert set(held) | set(divided.split("Training").rows) == set(range(98))
    assert divide(small_faces, RECIPES["workshop"]).split("held-out").rows.tolist() == held.tolist()


def test_non_faces_are_left_out_where_the_recipe_says(small_faces: FaceSet) -> None:
    assert small_faces.votes is not None
    small_faces.votes[3] = [0] * 9 + [10]
    assert 3 not in divide(small_faces, RECIPES["mien-small"]).rows
    assert 3 in divide(small_faces, RECIPES["mien-small-plain"]).rows


def test_what_a_protocol_lacks_is_named(small_faces: FaceSet) -> None:
    with pytest.raises(NotFound, match="PublicTest.*Training"):
        divide(small_faces.split("Training"), RECIPES["mien-small"])
    with pytest.raises(InputError, match="has none; name the FER"):
        divide(dataclasses.replace(small_faces, votes=None), RECIPES["mien-small"])
    blind = dataclasses.replace(RECIPES["workshop"], protocol=Protocol(select="PrivateTest"))
    with pytest.raises(InputError, match="14 of 14 PrivateTest rows have no label"):
        divide(small_faces, blind)
