"""One run over several processes: it is the run of one process, and it ends whatever happens to one of them."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mien.errors import InputError
from mien.lab import batches
from mien.lab.networks import NETWORKS
from mien.lab.runs import Run
from mien.lab.spread import Spread, places
from mien.lab.starting import TrainOptions, check_start
from mien.lab.training import train
from mien.measuring.data import load
from mien.measuring.faceset import FaceSet
from mien.measuring.npy import save_npy
from mien.recipes import RECIPES, SGD, Augment, Constant, Recipe

# Smooth, so that it does not blow up the rounding in which two ways of adding the same numbers differ.
TINY = dedent(
    """
    from torch import nn

    def tiny() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 6, 7, stride=4), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(),
            nn.Linear(726, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 7),
        )
    """
)
# Nothing random but the order of the rows: 105 rows in batches of 14 end with one of 7, shared as 4 and 3.
RECIPE = dataclasses.replace(
    RECIPES["mien-small-plain"], network="tiny", augment=Augment(), optimizer=SGD(lr=0.02), schedule=Constant(),
    ema=0.5, epochs=7, batch=14,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import bars

    images, labels = bars(140)
    splits = np.array(["Training"] * 105 + ["PublicTest"] * 35)
    folder = tmp_path_factory.mktemp("data") / "npy"
    save_npy(FaceSet(images, labels, splits, np.arange(140), None, "0" * 64, "bars"), folder)
    return folder


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network, and validation in several batches."""
    names: dict[str, Any] = {}
    exec(TINY, names)
    monkeypatch.setitem(NETWORKS, "tiny", names["tiny"])
    monkeypatch.setattr(batches, "VALIDATION_BATCH", 8)


def program(folder: Path, recipe: Recipe, data: Path, out: Path, after: str = "") -> list[str]:
    """A program that trains on two devices, does `after` with each epoch's row, and says what it is told."""
    text = TINY + dedent(
        f"""
        import os, shutil
        from pathlib import Path
        from mien.lab import batches, training
        from mien.lab.networks import NETWORKS
        from mien.measuring.data import load
        from mien.recipes import Recipe

        def report(row):
            print("epoch", row["epoch"], flush=True)
            {after}

        Path(f"pid{{os.environ.get('LOCAL_RANK', 0)}}").write_text(str(os.getpid()))
        NETWORKS["tiny"] = tiny
        batches.VALIDATION_BATCH = 8
        training.train(
            Recipe.from_json({recipe.to_json()!r}), load({str(data)!r}), {str(out)!r},
            options=training.TrainOptions(devices=2), begin=print, report=report,
        )
        """
    )
    (folder / "program.py").write_text(text)
    return [sys.executable, str(folder / "program.py")]


def weights(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 56
    return state["state_dict"]  # type: ignore[no-any-return]


def same_weights(one: Path, other: Path) -> None:
    expected, came = weights(one), weights(other)
    assert list(came) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(came[name], tensor, rtol=0, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.usefixtures("tiny")
def test_two_processes_train_as_one(data: Path, tmp_path: Path) -> None:
    """56 steps with batch norms, an uneven last batch and uneven validation; then half of it resumed by one process."""
    alone, shared, half = (tmp_path / name for name in ("alone", "shared", "half"))
    halfway = f"if row['epoch'] == 4: shutil.copytree({str(shared)!r}, {str(half)!r})"
    done = subprocess.run(
        program(tmp_path, RECIPE, data, shared, halfway), cwd=tmp_path, check=True, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert lines == ["2 processes | batch 14, 7 for each | learning rate 0.02", *(f"epoch {k}" for k in range(1, 8))]
    train(RECIPE, load(data), alone)
    same_weights(alone, shared)
    for one, other in zip(Run(alone).history(), Run(shared).history(), strict=True):
        assert other == pytest.approx(one, abs=1e-4)
    assert len(list((shared / "tensorboard").glob("events*"))) == 1
    assert (shared / "report.json").exists()
    train(RECIPE, load(data), half, resume=True)
    same_weights(alone, half)


def wait_for(path: Path, begun: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 200
    while not path.exists() and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert begun.poll() is None


@pytest.mark.skipif(os.name != "posix", reason="processes are ended by POSIX signals")
@pytest.mark.parametrize(("who", "how"), [(1, signal.SIGKILL), (0, signal.SIGKILL), (0, signal.SIGINT)])
def test_nothing_hangs_when_one_process_ends(who: int, how: signal.Signals, data: Path, tmp_path: Path) -> None:
    endless = dataclasses.replace(RECIPE, epochs=100_000)
    command = program(tmp_path, endless, data, tmp_path / "run")
    environment = os.environ | {"PYTHONFAULTHANDLER": "1"}
    begun = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt", begun)
    pids = [int((tmp_path / f"pid{rank}").read_text()) for rank in (0, 1)]
    os.kill(pids[who], how)
    try:
        _, said = begun.communicate(timeout=120)  # the pipe closes when both are gone
    except subprocess.TimeoutExpired:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)  # faulthandler writes where each of them waits
        pytest.fail(begun.communicate()[1])
    assert begun.returncode != 0, said


def test_what_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"batch of 64 rows cannot be shared equally by 3 processes.*--set batch=66"):
        check_start(RECIPES["paul"], tmp_path / "run", options=TrainOptions(devices=3))
    with pytest.raises(InputError, match="3 processes need as many rows .* there are 105 and 2; use at most 2 devices"):
        Spread(3, 60, 0.1).check_rows(105, 2)


@pytest.mark.parametrize(
    ("environment", "devices", "nodes", "expected"),
    [
        ({}, "auto", "auto", ("auto", 1)),
        ({}, 2, 1, (2, 1)),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}, "auto", "auto", (2, 3)),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}, 2, 3, (2, 3)),
        ({"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}, "auto", 2, (4, 2)),
        ({}, 2, 2, "2 nodes need a launcher"),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}, 3, "auto", "torchrun started 2 on"),
        ({"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}, 4, 1, "SLURM started 4 on each"),
    ],
)
def test_who_started_the_processes(
    environment: dict[str, str], devices: Any, nodes: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            places(devices, nodes)
    else:
        assert places(devices, nodes) == expected
