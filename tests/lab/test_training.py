"""Training as a user meets it: a run folder, resume after a kill, clear refusals."""

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import conftest
from conftest import TINY, labelled, refuse

torch = pytest.importorskip("torch")

import lightning as L
from lightning.pytorch.callbacks import Callback

from mien.errors import Damaged, FileError, InputError, NotFound, TrainingDiverged
from mien.expressions import Labels
from mien.lab.batches import FaceData, divide
from mien.lab.callbacks import WholeCheckpoints, moving_average
from mien.lab.module import Classifier
from mien.lab.networks import NETWORKS, residual_net
from mien.lab.runs import Run
from mien.lab.saved import save
from mien.lab.starting import TrainOptions, check_start
from mien.lab.training import train
from mien.measuring.data import load
from mien.measuring.evaluation import evaluate
from mien.measuring.faceset import FaceSet
from mien.measuring.predictions import write_predictions
from mien.recipes import RECIPES, SGD, Adam, Cosine, Plateau, Stopping, override
from mien.storage import locked

quick = partial(conftest.quick, network="tiny")
pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of a network that can learn the bars: no flips or crops, which would move them."""
    recipe = quick(votes=0.0, drop_non_faces=False, augment=RECIPES["paul"].augment, ema=0.5, epochs=6)
    with conftest.drawn():
        return train(recipe, labelled(105, 35), tmp_path_factory.mktemp("runs") / "run")


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
    last = Run(finished, "last")
    assert last.name == "mien-small"
    state = torch.load(last.file, weights_only=True)
    averaged, trained = state["state_dict"], state["current_model_state"]
    kernels = [name for name, value in averaged.items() if value.ndim == 4]
    assert kernels
    for name in kernels:
        assert torch.equal(last.classifier.state_dict()[name], averaged[name])
        assert not torch.equal(trained[name], averaged[name])


def test_a_full_folder_is_not_overwritten(finished: Path, small_faces: FaceSet) -> None:
    with pytest.raises(FileError, match="is not empty.*--resume"):
        train(TINY, small_faces, finished)


def test_resuming_needs_the_same_recipe_and_data(finished: Path, small_faces: FaceSet) -> None:
    with pytest.raises(InputError, match="other settings: .*votes"):
        train(TINY, small_faces, finished, resume=True)
    recipe = Run(finished).recipe
    with pytest.raises(InputError, match="other data"):
        train(recipe, dataclasses.replace(small_faces, checksum="1" * 64), finished, resume=True)
    with pytest.raises(InputError, match=r"begun with --limit 1\.0"):
        train(recipe, small_faces, finished, resume=True, options=TrainOptions(limit=0.5))
    with pytest.raises(FileError, match="no run to resume"):
        train(recipe, small_faces, finished / "nothing", resume=True)


def test_a_run_from_before_a_setting_existed_goes_on(begun: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    recipe, file = Run(run).recipe, run / "recipe.json"
    record = json.loads(file.read_text())
    del record["mixup"], record["augment"]["noise"]
    file.write_text(json.dumps(record | {"summary": "in other words"}))
    assert len(Run(train(recipe, labelled(105, 35), run, resume=True)).history()) == 2
    assert json.loads(file.read_text())["mixup"] == 0
    with pytest.raises(InputError, match=r"other settings: mixup \(then 0\.0, now 0\.2\); resume it with its own"):
        train(dataclasses.replace(recipe, mixup=0.2), labelled(105, 35), run, resume=True)


@pytest.mark.parametrize("name", ["recipe.json", "environment.json"])
@pytest.mark.skipif(os.name != "posix", reason="pipes have names on POSIX systems alone")
def test_a_pipe_in_the_place_of_a_record_is_not_waited_for(name: str, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    recipe = Run(run).recipe
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(FileError, match=f"{name}: expected a file, and a folder, pipe or device is none"):
        train(recipe, labelled(105, 35), run, resume=True)


def cli(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mien", *map(str, arguments)]


def test_resume_after_a_kill_repeats_the_same_curve(small_csv: Path, tmp_path: Path) -> None:
    """Killed without warning after an epoch, the run ends with the history that it would have had."""
    votes = small_csv.with_name("fer2013new.csv")
    settings = ["--set", "batch=14", "--epochs", 5, "--ferplus", votes]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    recipe, faces = override(RECIPES["mien-small"], {"batch": "14", "epochs": "5"}), load(small_csv, ferplus=votes)
    train(recipe, faces, whole)
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
    train(recipe, faces, broken, resume=True)
    expected, came = Run(whole).history(), Run(broken).history()
    assert [row["epoch"] for row in came] == [1, 2, 3, 4, 5]
    for one, other in zip(expected, came, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


@pytest.mark.skipif(os.name != "posix", reason="a terminal is played by a POSIX pseudo-terminal")
def test_the_bar_is_gone_when_an_epoch_is_told(small_csv: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = cli("train", "mien-small-plain", "--data", small_csv, "--out", tmp_path / "run", "--epochs", 2)
    terminal = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=terminal) as begun:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while piece := os.read(ours, 1 << 16):
                shown += piece
    os.close(ours)
    assert begun.returncode == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())  # without colours
    assert "epoch   1/2 ━" in text
    erased = r"\x1b\[2K"
    assert len(re.findall(rf"{erased}epoch   [12]/2  loss .*  \| lr \S+\r\n", text)) == 2


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
    with pytest.raises(TrainingDiverged, match=r"a finite loss.*epoch 1, .*nothing was kept yet.*optimizer\.lr"):
        train(recipe, small_faces, tmp_path / "run")


def test_a_later_divergence_keeps_what_was(small_faces: FaceSet) -> None:
    module = Classifier(TINY)
    alone = SimpleNamespace(reduce=lambda tensor, reduce_op: tensor)
    module._trainer = SimpleNamespace(current_epoch=2, strategy=alone)  # type: ignore[assignment]
    with pytest.raises(TrainingDiverged, match=r"epoch 3, validation; what was kept after epoch 2 is sound"):
        module._stop_if_diverged(torch.tensor(float("nan")), "validation")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has it")
def test_half_precision_is_not_silently_another_one_on_a_cpu(small_faces: FaceSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="precision '16-mixed' needs a GPU; take 32, or bf16-mixed"):
        train(quick(), small_faces, tmp_path / "run", options=TrainOptions(precision="16-mixed"))
    assert not (tmp_path / "run").exists()


def test_early_stopping_ends_the_run(small_faces: FaceSet, tmp_path: Path) -> None:
    # The recipe's own network: moving norms alone make the smaller one better in a later epoch.
    recipe = conftest.quick(votes=0.0, optimizer=SGD(lr=1e-12), ema=0.0, stopping=Stopping(patience=2), epochs=9)
    history = Run(train(recipe, small_faces, tmp_path / "run")).history()
    assert len(history) == 3  # the first epoch is the best, two more bring nothing
    epochs = {n: torch.load(tmp_path / "run" / "checkpoints" / f"{n}.ckpt")["epoch"] for n in ("best", "last")}
    assert epochs == {"best": 0, "last": 2}
    last = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "run" / "report.json").unlink()
    assert Run(train(recipe, small_faces, tmp_path / "run", resume=True)).history() == history
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == last
    assert (tmp_path / "run" / "report.json").exists()


def test_a_trial_is_marked(small_faces: FaceSet, tmp_path: Path) -> None:
    run = train(quick(epochs=1), small_faces, tmp_path / "run", options=TrainOptions(limit=0.5))
    text = (run / "report.md").read_text()
    assert text.startswith("# mien-small-trial on PublicTest")
    assert "TRIAL: trained on 50.0% of the rows" in text
    assert "Scored on 50.0% of the rows" in text
    again = evaluate(Run(run), small_faces, "PublicTest")
    assert again.model == "mien-small-trial"
    assert "TRIAL: trained on 50.0% of the rows (--limit)." in again.notes


def test_a_short_run_averages_and_warms_up_less() -> None:
    average, kept = moving_average(0.999), []
    for updates in (1, 90, 10**6):
        weights = [torch.zeros(1), torch.zeros(2, 2)]
        average(weights, [weight + 1 for weight in weights], torch.tensor(updates))
        assert (weights[1] == weights[0]).all()
        kept.append(1 - float(weights[0]))
    counts = [torch.tensor(3), torch.tensor(4)]
    average(counts, [torch.tensor(5), torch.tensor(6)], torch.tensor(1))
    assert counts == [5, 6]
    assert kept == pytest.approx([2 / 11, 0.91, 0.999], abs=1e-6)


def test_the_warm_up_is_at_most_a_tenth_of_the_run(small_faces: FaceSet, tmp_path: Path) -> None:
    recipe = quick(votes=0.0, epochs=1, batch=7, schedule=Cosine(warmup=2.0))
    rates: list[float] = []

    class Rates(Callback):
        def on_train_batch_start(self, trainer: Any, *rest: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer = L.Trainer(
        max_epochs=1, callbacks=[Rates()], logger=False, enable_checkpointing=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Classifier(recipe), datamodule=FaceData(divide(small_faces, recipe), recipe))
    assert len(rates) == 14
    assert rates[0] == rates[1] == recipe.optimizer.lr  # one step of warm-up, to the full rate
    assert rates[1:] == sorted(rates[1:], reverse=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("environment.json", b"{}"),
        ("environment.json", b"\xff"),
        ("history.csv", b"epoch,lr\n1,0.1\n"),
        ("history.csv", b"epoch,lr,train_loss,train_accuracy,val_loss,val_accuracy\n1,0.1"),
        ("history.csv", b""),
    ],
)
def test_damaged_records_are_named(name: str, content: bytes, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / name).write_bytes(content)
    with pytest.raises(Damaged, match=f"{name} is damaged .*; put a copy in its place, or train again"):
        Run(run).history()
    (run / name).unlink()
    with pytest.raises(FileError, match=f"cannot read .*{name}"):
        Run(run).history()


def test_a_run_that_was_stopped_between_its_checkpoints_goes_on_from_the_best(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "checkpoints" / "last.ckpt").unlink()
    train(Run(run).recipe, labelled(105, 35), run, resume=True)
    for one, other in zip(Run(finished).history(), Run(run).history(), strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_a_damaged_checkpoint_can_be_helped(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    last, best = run / "checkpoints" / "last.ckpt", run / "checkpoints" / "best.ckpt"
    last.write_bytes(last.read_bytes()[:20_000])
    with pytest.raises(Damaged, match=r"last\.ckpt is no checkpoint.*copy .*best\.ckpt over it") as caught:
        check_start(Run(run).recipe, run, resume=True)
    assert len(str(caught.value).splitlines()) == 1
    shutil.copy(best, last)
    train(Run(run).recipe, labelled(105, 35), run, resume=True)
    for one, other in zip(Run(finished).history(), Run(run).history(), strict=True):
        assert one == pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize("change", [{"optimizer_states": None}, {"loops": {}}, {"callbacks": {"History": 1}}])
def test_a_checkpoint_to_go_on_from_may_be_damaged(change: dict[str, Any], finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    last = run / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True) | change
    torch.save({key: value for key, value in state.items() if value is not None}, last)
    with pytest.raises(Damaged, match=r"last\.ckpt cannot be gone on from: .*copy .*best\.ckpt over it"):
        train(Run(run).recipe, labelled(105, 35), run, resume=True)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that broke off after one of two epochs."""
    folder = tmp_path_factory.mktemp("begun") / "run"

    def interrupt(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(quick(votes=0.0, drop_non_faces=False, epochs=2), labelled(105, 35), folder, report=interrupt)
    return folder


def claim(run: Path, score: float, *, checkpoint: str, folder: str) -> None:
    """Have last.ckpt say that the best epoch had this score and lies there."""
    last = run / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    for kept in (kept for key, kept in state["callbacks"].items() if key.startswith("ModelCheckpoint")):
        kept |= {name: checkpoint for name in kept if name.endswith("_path")} | {"dirpath": folder}
        if kept["monitor"]:
            kept |= {name: torch.tensor(score) for name in ("best_model_score", "kth_value")}
            kept |= {"best_k_models": {checkpoint: torch.tensor(score)}}
    torch.save(state, last)


def test_a_checkpoint_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"epoch": 1}, path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match=r"cannot write .*last.ckpt: No space left on device"):
        WholeCheckpoints().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("launcher", ["srun", "torchrun"])
def test_slurm_starts_nothing_again_by_itself(
    launcher: str, begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would start lacks --resume; and the checkpoint of a stranger in the current folder is none of a run.

    Where torchrun has started the processes inside a job, it is torchrun that ranks them.
    """
    monkeypatch.chdir(tmp_path)
    shutil.copy(begun / "checkpoints" / "last.ckpt", "hpc_ckpt_1.ckpt")
    for name in ("NTASKS", "JOB_ID", "NNODES", "NTASKS_PER_NODE"):
        monkeypatch.setenv(f"SLURM_{name}", "1")
    for name in ("PROCID", "LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    monkeypatch.setenv("SLURM_JOB_NAME", "night")
    if launcher == "torchrun":
        variables = {"RANK": 0, "LOCAL_RANK": 0, "GROUP_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1,
                     "TORCHELASTIC_RUN_ID": "night", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 0}  # fmt: skip
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
    trainers = []
    monkeypatch.setattr(L.Trainer, "fit", lambda self, *_, **__: trainers.append(self))
    with pytest.raises(FileError, match="no checkpoint"):
        train(quick(votes=0.0, drop_non_faces=False), labelled(105, 35), tmp_path / "run")
    (trainer,) = trainers
    environment = trainer._accelerator_connector.cluster_environment
    if launcher == "srun":
        assert environment.auto_requeue is False
    else:
        assert type(environment).__name__ == "TorchElasticEnvironment"
    assert trainer._checkpoint_connector._hpc_resume_path is None


def test_a_run_is_resumed_with_its_precision(begun: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    with pytest.raises(InputError, match="begun with --precision 32; resume it with that"):
        train(Run(run).recipe, labelled(105, 35), run, resume=True, options=TrainOptions(precision="bf16-mixed"))


def test_two_runs_are_not_at_work_in_one_folder(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    recipe, before = Run(run).recipe, (run / "history.csv").read_text()
    with locked(run), pytest.raises(FileError, match=r"another run is at work in .*run; wait for it"):
        train(recipe, labelled(105, 35), run, resume=True)
    assert (run / "history.csv").read_text() == before
    with locked(tmp_path / "new"):
        pass
    # A cluster's file system may know no locks.
    monkeypatch.setattr(fcntl, "flock", refuse(OSError(errno.ENOSYS, "Function not implemented")))
    train(override(recipe, {"epochs": "1"}), labelled(105, 35), tmp_path / "new")  # what kept others out is no content


def test_a_run_that_was_copied_keeps_its_best_epoch(begun: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    before = begun.resolve() / "checkpoints"
    claim(run, 2.0, checkpoint=f"{before}/best.ckpt", folder=str(before))  # no epoch can be better
    train(Run(run).recipe, labelled(105, 35), run, resume=True)
    epochs = {name: torch.load(run / "checkpoints" / f"{name}.ckpt")["epoch"] for name in ("best", "last")}
    assert epochs == {"best": 0, "last": 1}
    assert (before / "best.ckpt").exists()


def test_where_the_best_epoch_was_lost_the_next_takes_its_place(begun: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    best = run / "checkpoints" / "best.ckpt"
    claim(run, 2.0, checkpoint=str(best), folder=str(best.parent))  # no epoch can be better
    recipe = Run(run).recipe
    best.unlink()
    train(recipe, labelled(105, 35), run, resume=True)
    assert torch.load(best)["epoch"] == 1


def test_a_checkpoint_has_nothing_deleted(begun: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(begun, tmp_path / "run"))
    letter = tmp_path / "mine" / "letter.txt"
    letter.parent.mkdir()
    letter.write_text("dear")
    claim(run, -1.0, checkpoint=f"local://{letter.parent}", folder=str(run.resolve() / "checkpoints"))
    train(Run(run).recipe, labelled(105, 35), run, resume=True)
    assert letter.read_text() == "dear"
    assert torch.load(run / "checkpoints" / "best.ckpt")["epoch"] == 1


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a POSIX signal")
@pytest.mark.parametrize(("how", "devices"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGTERM, 2)])
def test_a_stop_keeps_the_run_and_says_how_to_go_on(
    how: signal.Signals, devices: int, small_csv: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = cli("train", "mien-small-plain", "--data", small_csv, "--out", run, "--set", "batch=14", "--epochs", 500)
    command += ["--devices", str(devices)]
    begun = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not (run / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    begun.send_signal(how)
    _, said = begun.communicate(timeout=60)
    assert begun.returncode == 130
    assert said == f"mien: stopped; every whole epoch is kept in {run}; to go on, add --resume to the same command\n"
    assert Run(run, "last").history()


@pytest.mark.parametrize("labels", ["ferplus", "ferplus-votes"])
def test_ferplus_labels_are_learned(labels: Labels, finished: Path, tmp_path: Path) -> None:
    """The bar that means a label has nine votes for another expression, and two for contempt."""
    faces = labelled(105, 35)
    votes = np.zeros((140, 10), np.uint8)
    for column in range(7):
        votes[faces.labels == column, column + 1] = 9
    votes[:, 7] += 2
    faces = dataclasses.replace(faces, votes=votes)
    recipe = dataclasses.replace(Run(finished).recipe, labels=labels, label_smoothing=0.0)
    run = Run(train(recipe, faces, tmp_path / "run"))
    assert run.name == f"mien-small-{labels}"
    assert max(row["val_accuracy"] for row in run.history()) == 1.0
    found = run.probabilities(faces.split("PublicTest").images)
    assert found.shape == (35, 8)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["labels_of"] == labels
    assert len(report["scores"]["single view, all"]["confusion"]) == 8
    student = quick(labels="fer2013", votes=0.0, distil=0.5)
    with pytest.raises(InputError, match=f"has 7 labels, but its teacher 'mien-small-{labels}' has not"):
        Classifier(student, [run.classifier])


def test_another_recipe_is_refused_by_name(finished: Path, small_faces: FaceSet) -> None:
    with pytest.raises(InputError, match="is of recipe 'mien-small', not of 'paul'"):
        train(RECIPES["paul"], small_faces, finished, resume=True)


def test_a_student_learns_from_its_teachers_alone(finished: Path, small_faces: FaceSet, tmp_path: Path) -> None:
    """With the whole weight on the teacher, labels do not matter: here they are all wrong."""
    wrong = dataclasses.replace(small_faces, labels=np.where(small_faces.labels < 0, -1, 0).astype(np.int8))
    recipe = dataclasses.replace(Run(finished).recipe, name="student", distil=1.0, epochs=8)
    student = Run(train(recipe, wrong, tmp_path / "student", teachers=[finished]))
    rows = small_faces.split("PublicTest")
    assert (student.probabilities(rows.images).argmax(1) == rows.labels).mean() > 0.8
    assert student.file.stat().st_size < 1.3 * Run(finished).file.stat().st_size  # the teacher is not saved with it


def test_what_is_refused_leaves_no_folder(finished: Path, small_faces: FaceSet, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match="'fine-tune' begins with a trained network .* --start-from mien-small"):
        train(RECIPES["fine-tune"], small_faces, out)
    with pytest.raises(NotFound, match="no run folder, .* 'mien-smal'; did you mean 'mien-small'"):
        train(quick(), small_faces, out, start_from="mien-smal")
    with pytest.raises(NotFound, match="no run folder, .* 'runs/none'"):
        train(quick(distil=0.5), small_faces, out, teachers=["runs/none"])
    with pytest.raises(InputError, match="cannot begin with"):
        train(quick(network="vgg-small"), small_faces, out, start_from=finished)
    assert not out.exists()


def test_teachers_and_distil_belong_together(finished: Path, small_faces: FaceSet, tmp_path: Path) -> None:
    student = dataclasses.replace(TINY, distil=0.5)
    with pytest.raises(InputError, match=r"weight of 0.5 \(distil\), and 0 came.*--teacher RUN"):
        train(student, small_faces, tmp_path / "run")
    with pytest.raises(InputError, match=r"weight of 0 \(distil\), and 1 came"):
        train(TINY, small_faces, tmp_path / "run", teachers=[finished])
    train(dataclasses.replace(student, epochs=1), small_faces, tmp_path / "run", teachers=iter([finished]))
    assert len(json.loads((tmp_path / "run" / "environment.json").read_text())["teachers"]) == 1
    other = shutil.copytree(finished, tmp_path / "other")
    shutil.copy(other / "checkpoints" / "last.ckpt", other / "checkpoints" / "best.ckpt")
    with pytest.raises(InputError, match="other teachers"):
        train(dataclasses.replace(student, epochs=1), small_faces, tmp_path / "run", teachers=[other], resume=True)


def test_a_table_of_answers_teaches(small_faces: FaceSet, tmp_path: Path) -> None:
    """It says the right labels, of which the data has none: the network learns them. Another one cannot go on."""
    plain = {"votes": 0.0, "drop_non_faces": False, "augment": RECIPES["paul"].augment, "ema": 0.5, "epochs": 8}
    wrong = dataclasses.replace(small_faces, labels=np.where(small_faces.labels < 0, -1, 0).astype(np.int8))
    truth, other = tmp_path / "truth.csv", tmp_path / "other.csv"
    trained = small_faces.split("Training")
    write_predictions(truth, trained, np.eye(7)[trained.labels])
    write_predictions(other, trained, np.eye(7)[(trained.labels + 1) % 7])
    recipe = quick(**plain, distil=1.0)
    student = Run(train(recipe, wrong, tmp_path / "student", teachers=[truth]))
    rows = small_faces.split("PublicTest")
    assert (student.probabilities(rows.images).argmax(1) == rows.labels).mean() > 0.8
    assert student.trainings == ["mien-small: 8 epochs, seed 0, taught by a table of answers"]
    with pytest.raises(InputError, match="was begun with other teachers, 1 of them"):
        train(recipe, wrong, tmp_path / "student", teachers=[other], resume=True)
    train(recipe, wrong, tmp_path / "student", teachers=[truth], resume=True)


@pytest.mark.parametrize("network", ["tiny", "deeper"])
def test_a_run_begins_with_the_weights_of_another(
    finished: Path, small_faces: FaceSet, tmp_path: Path, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a learning rate of next to nothing the network still answers as the one that it began with."""
    monkeypatch.setitem(NETWORKS, "deeper", partial(residual_net, conftest.TINY_WIDTHS, (2, 2, 2, 2), stem_stride=2))
    before = Run(finished)
    given, weights = save(finished, tmp_path / "given.json")
    recipe = dataclasses.replace(before.recipe, network=network, epochs=1, ema=0.0, optimizer=SGD(lr=1e-12))
    run = Run(train(recipe, small_faces, tmp_path / "run", start_from=given))
    images = small_faces.split("PublicTest").images
    assert (run.probabilities(images).argmax(1) == before.probabilities(images).argmax(1)).mean() > 0.9
    record = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert record["start_from"] == sha256(weights.read_bytes()).hexdigest()
    elder = f"{before.recipe.title}: {before.recipe.epochs} epochs, seed {before.recipe.seed}"
    assert run.trainings == record["trainings"] == [elder, f"{recipe.title}: 1 epochs, seed {recipe.seed}"]
    with pytest.raises(InputError, match="begun with other weights.*--start-from"):
        train(recipe, small_faces, tmp_path / "run", resume=True)


def test_weights_that_do_not_fit_are_refused_by_name(finished: Path, small_faces: FaceSet, tmp_path: Path) -> None:
    recipe = dataclasses.replace(Run(finished).recipe, network="resnet18")
    with pytest.raises(InputError, match="network 'resnet18' cannot begin with the weights of 'tiny'.*shallower"):
        train(recipe, small_faces, tmp_path / "run", start_from=finished)
