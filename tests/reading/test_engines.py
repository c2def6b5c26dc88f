import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from mien.errors import FileError, InputError
from mien.reading import engines
from mien.reading.engines import Done, run_local, run_ray
from mien.reading.plan import Plan
from mien.reading.shards import Labeller
from photos import folder_of, plan_of


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("source") / "in", 30)


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The files of all shards, labelled in this process."""
    plan = plan_of(source, tmp_path_factory.mktemp("expected"), shard_size=5)
    labeller = Labeller(plan)
    for shard in range(plan.shards):
        labeller.label(shard)
    return parts(plan)


def parts(plan: Plan) -> list[bytes]:
    return [plan.part(shard).read_bytes() for shard in range(plan.shards)]


@pytest.mark.parametrize("workers", [1, 2])
def test_local_workers_write_the_same_files(workers: int, source: Path, expected: list[bytes], tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path / "out", shard_size=5)
    ended = list(run_local(plan, plan.missing(), workers))
    assert sorted(done.shard for done in ended) == list(range(6))
    assert all(done.problem is None for done in ended)
    assert parts(plan) == expected
    assert not active_children()


def kill_worker() -> None:
    (worker,) = active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)


@pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX signals")
def test_a_killed_worker_is_told_and_replaced(source: Path, expected: list[bytes], tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path / "out", shard_size=5)
    ended = run_local(plan, plan.missing(), 1)
    assert next(ended) == Done(0)
    kill_worker()
    killed = next(ended)
    assert killed == Done(killed.shard, "its process was killed (out of memory?)", final=False)
    assert [done.problem for done in ended] == [None] * (plan.shards - killed.shard)
    assert parts(plan) == expected


@pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX signals")
def test_a_shard_that_kills_twice_is_left_out(source: Path, expected: list[bytes], tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path / "out", shard_size=5)
    ended = run_local(plan, plan.missing(), 1)
    next(ended)
    kill_worker()
    shard = next(ended).shard
    kill_worker()
    assert next(ended) == Done(shard, "its process was killed (out of memory?)", final=True)
    assert [done.shard for done in ended] == list(range(shard + 1, plan.shards))
    assert plan.missing() == [shard]
    assert list(run_local(plan, plan.missing(), 1)) == [Done(shard)]
    assert parts(plan) == expected


@pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX signals")
def test_a_worker_that_dies_between_two_shards_is_replaced_too(
    source: Path, expected: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = ProcessPoolExecutor.submit
    calls = []

    def submitted(self: ProcessPoolExecutor, *arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            kill_worker()
            raise BrokenProcessPool
        return submit(self, *arguments)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submitted)
    plan = plan_of(source, tmp_path / "out", shard_size=15)
    ended = list(run_local(plan, plan.missing(), 1))
    assert ended == [Done(0), Done(1, "its process was killed (out of memory?)", final=False), Done(1)]
    assert sum(pq.read_table(plan.part(shard)).num_rows for shard in range(2)) == 25


def test_a_script_that_would_start_itself_again_is_told(source: Path, tmp_path: Path) -> None:
    script = f"import mien\nmien.label({str(source)!r}, {str(tmp_path / 'out')!r}, workers=1)\n"
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("mien.errors.InputError: a process could not be started")
    assert done.stderr.count('if __name__ == "__main__":') == 2
    assert "killed" not in done.stderr


def test_leaving_early_stops_the_workers(source: Path, tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path / "out", shard_size=5)
    ended = run_local(plan, plan.missing(), 1)
    next(ended)
    ended.close()  # type: ignore[attr-defined]
    assert not active_children()
    assert len(plan.missing()) in {4, 5}


@pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX signals")
def test_workers_end_with_the_process_they_work_for(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mien", "label", str(source), "--out", str(tmp_path / "out"), "--workers", "1"]
    with subprocess.Popen([*command, "--shard-size", "2"]) as process:
        while not list((tmp_path / "out").glob("rows/part-*")):
            assert process.poll() is None
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")  # imported here, it would listen to all
@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "no-such-host.invalid:6379"])
def test_an_unreachable_address_is_named(address: str, source: Path, tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path / "out")
    with pytest.raises(FileError, match=f"no Ray cluster answers at {address}"):
        next(run_ray(plan, [0], 1, address=address))


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """Ray on this machine, as `run_ray` starts it; it takes seconds, so once."""
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")
    with engines._session(None, 2):
        import ray

        assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")  # for nobody else
        yield
    assert not ray.is_initialized()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("session")
def test_ray_writes_the_same_files(
    workers: int, source: Path, expected: list[bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(source, tmp_path / "out", shard_size=5)
    assert sorted(done.shard for done in run_ray(plan, plan.missing(), workers)) == list(range(6))
    assert parts(plan) == expected
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX signals")
@pytest.mark.usefixtures("session")
def test_a_killed_actor_costs_nothing(source: Path, expected: list[bytes], tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path / "out", shard_size=5)
    ended = run_ray(plan, plan.missing(), 1)
    first = next(ended).shard
    (actor,) = [p for p in psutil.Process().children(recursive=True) if "MapWorker" in p.cmdline()[0]]
    actor.kill()
    assert sorted([first, *(done.shard for done in ended if done.problem is None)]) == list(range(6))
    assert parts(plan) == expected


def test_what_an_actor_meets_is_raised_where_it_was_started(source: Path, tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path / "out", shard_size=10)
    actor = engines._Actor(plan, gpu=False)
    batch = actor({"shard": np.array([2])})
    assert engines._done({name: value for name, (value,) in batch.items()}) == Done(2)
    plan.part(1).mkdir()
    batch = actor({"shard": np.array([1])})
    with pytest.raises(FileError, match=f"cannot write {plan.part(1)}"):
        engines._done({name: value for name, (value,) in batch.items()})


def test_an_actor_that_reaches_no_image_leaves_the_shard(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", 2)
    actor = engines._Actor(plan_of(source, tmp_path / "out"), gpu=False)
    source.rename(tmp_path / "away")
    batch = actor({"shard": np.array([0])})
    done = engines._done({name: value for name, (value,) in batch.items()})
    assert (done.shard, done.final) == (0, True)
    assert "2 of its images could not be reached" in (done.problem or "")


def test_an_unexpected_error_of_an_actor_is_a_crash(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its traceback; Ray would drop it with the shard."""
    monkeypatch.setattr(Labeller, "label", lambda self, shard: 1 // 0)
    batch = engines._Actor(plan_of(source, tmp_path / "out"), gpu=False)({"shard": np.array([0])})
    with pytest.raises(RuntimeError, match=r"(?s)an actor met at shard 0:.*1 // 0.*ZeroDivisionError"):
        engines._done({name: value for name, (value,) in batch.items()})


@pytest.mark.usefixtures("session")
def test_more_than_the_cluster_has(source: Path, tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path / "out")
    with pytest.raises(InputError, match="3 CPUs are asked for, and the Ray cluster has 2"):
        next(run_ray(plan, [0], 3))
    with pytest.raises(InputError, match="1 GPUs are asked for, and the Ray cluster has 0"):
        next(run_ray(plan, [0], 0, gpus=1))
