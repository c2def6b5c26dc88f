"""What spreads shards over processes: a local pool, or Ray Data's actors. Both call `shards.Labeller`, no more.

An engine takes the numbers of shards and yields one `Done` for each as it ends, in any order. It knows nothing of
images, models or files.
"""

import logging
import os
import signal
import socket
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import current_process, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any

from mien.errors import FileError, InputError, MienError, need_extra
from mien.reading.plan import Plan
from mien.reading.runtime import cores
from mien.reading.shards import Labeller, Stopped, Unreachable

_TRIES = 2  # times that a shard is begun; the process of one that needs more is killed by what the shard holds
_PATIENCE_S = 5.0  # for a Ray cluster's address to answer, or a process to end
_CRASH = "crash"  # of an actor's rows: an error that is none of ours
_STORE = 100 << 20  # bytes of Ray's object store: nothing but numbers goes through it


_GUARD = (
    "the local engine's processes import the script that starts them, so have what it does under "
    'if __name__ == "__main__":'
)


@dataclass(frozen=True, slots=True)
class Done:
    """A shard that has ended.

    Attributes:
        shard: Its number.
        problem: Why there is no file of it, for one that was given up or will be tried again; None: there is.
        final: It will not be tried again in this run.
    """

    shard: int
    problem: str | None = None
    final: bool = True


def run_local(plan: Plan, shards: Iterable[int], workers: int) -> Iterator[Done]:
    """Label shards in processes of this machine, each with one thread a network.

    Each process is a pool of its own, so that it is known which shard was under way when one dies; it is replaced, and
    the shard begun once more.

    Args:
        plan: The run.
        shards: Their numbers.
        workers: How many processes.

    Raises:
        InputError: It is called by a script that does so when it is imported.
        MienError: As `Labeller`, from the first shard that meets one; or one process after the other is killed. The
            others are stopped; what is whole stays.
    """
    check_local()
    context = get_context("spawn")  # ONNX Runtime's threads do not survive a fork
    stop = context.Event()

    pools: list[ProcessPoolExecutor] = []

    def pool() -> ProcessPoolExecutor:
        pools.append(ProcessPoolExecutor(1, mp_context=context, initializer=_start_worker, initargs=(plan, stop)))
        return pools[-1]

    left = iter(shards)
    running: dict[Future[str | None], tuple[ProcessPoolExecutor, BaseProcess | None, int, int]] = {}

    def begin(executor: ProcessPoolExecutor, shard: int, tries: int) -> None:
        with _deaf():  # Ctrl-C reaches all processes, new ones too
            future = _submitted(executor, shard)
        process = next(iter((executor._processes or {}).values()), None)
        running[future] = executor, process, shard, tries

    problem: str | None
    deaths = 0  # in a row
    try:
        for _, shard in zip(range(workers), left, strict=False):
            begin(pool(), shard, 1)
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                executor, process, shard, tries = running.pop(future)
                died = isinstance(future.exception(), BrokenProcessPool)
                if died:
                    deaths += 1
                    pools.remove(executor)
                    executor.shutdown()
                    problem = _death(process)
                    executor = pool()
                else:
                    problem = future.result()  # raises what the shard met
                    deaths = 0
                if deaths > workers + _TRIES:
                    raise MienError(
                        f"{deaths} processes in a row have ended, the last one at shard {shard}: {problem}; what is "
                        "done is kept, start again with fewer workers if it was for lack of memory"
                    )
                again = died and tries < _TRIES
                following = shard if again else next(left, None)
                if following is not None:
                    begin(executor, following, tries + 1 if again else 1)
                yield Done(shard, problem, final=not again)
    finally:
        stop.set()
        processes = [process for executor in pools for process in (executor._processes or {}).values()]
        ending = threading.Thread(target=_shut_down, args=(pools,))
        ending.start()
        try:
            ending.join(_PATIENCE_S)
        finally:
            if ending.is_alive():  # one waits for a storage that does not answer; files are whole or not there at all
                for process in processes:
                    process.kill()
            ending.join()


def _shut_down(pools: Iterable[ProcessPoolExecutor]) -> None:
    for executor in pools:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C is heard afterwards, and by no process that is started meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def check_local() -> None:
    """Refuse to start processes from one that is being started, and is only to import the script that it belongs to.

    Raises:
        InputError: The script calls this while it is imported.
    """
    if getattr(current_process(), "_inheriting", False):  # what Python itself asks, and answers with a RuntimeError
        raise InputError(_GUARD)


def _submitted(executor: ProcessPoolExecutor, shard: int) -> "Future[str | None]":
    """A shard's future; where the process has died while it had nothing to do, one that says so."""
    try:
        return executor.submit(_label, shard)
    except BrokenProcessPool as error:
        future: Future[str | None] = Future()
        future.set_exception(error)
        return future


def _death(process: BaseProcess | None) -> str:
    """What the exit code of a process that has died says.

    Raises:
        InputError: It ended while it imported the script that has started it.
    """
    code = process.exitcode if process else None
    if code == 1:  # Python's own, for an exception that nobody caught: those of shards are
        raise InputError(f"a process could not be started, for the reason above. If it is this: {_GUARD}")
    return "its process was killed (out of memory?)" if code is None or code < 0 else f"its process ended with {code}"


_worker: dict[str, Any] = {}  # of a worker process: its plan and what it has loaded


def _start_worker(plan: Plan, stop: Any) -> None:
    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.update(plan=plan, stop=stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Nobody would tell this process that the one it works for was killed."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _label(shard: int) -> str | None:
    """Label it; why it is left for another start, or None."""
    # The model is loaded with the first shard, not before: an error of a pool's initializer is lost.
    labeller = _worker.get("labeller") or _worker.setdefault("labeller", Labeller(_worker["plan"]))
    try:
        labeller.label(shard, stop=_worker["stop"].is_set)
    except Unreachable as error:
        return str(error)
    except Stopped:
        pass
    return None


def run_ray(
    plan: Plan, shards: list[int], workers: int, *, address: str | None = None, gpus: int = 0
) -> Iterator[Done]:
    """Label shards with Ray Data's `map_batches`, one model an actor.

    Args:
        plan: The run; its folder must be the same one on all machines of the cluster.
        shards: Their numbers.
        workers: How many actors, of one CPU each; 0: one a GPU, or as many as the cluster has CPUs.
        address: A cluster's, as `ray.init` takes it; None: one is started on this machine, and stopped at the end. A
            Ray session that the process has begun before is used as it is.
        gpus: CUDA devices for the actors to share; 0: none.

    Raises:
        MissingExtra: Ray is not installed.
        MienError: Ray gave up.
        FileError: Nothing answers at the address; or as `Labeller`.
        InputError: The cluster has fewer CPUs or GPUs than that, or a GPU has no worker; or as `Labeller`.
    """
    check_ray(address)
    with _session(address, workers or gpus or cores()):
        import ray
        from ray.data import ActorPoolStrategy
        from ray.exceptions import RayError

        _quiet()
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        workers = workers or gpus or int(resources.get("CPU", 0))
        for kind, wanted in (("CPU", workers), ("GPU", gpus)):
            if resources.get(kind, 0) < wanted:
                raise InputError(f"{wanted} {kind}s are asked for, and the Ray cluster has {resources.get(kind, 0):g}")
        if workers < gpus:
            raise InputError(f"expected a worker a GPU or more, but got {workers} workers and {gpus} GPUs")
        items = [{"shard": shard} for shard in shards]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray 2.60 calls every way to say `max_task_retries` deprecated
            labelled = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                _Actor,
                fn_constructor_args=(plan, bool(gpus)),
                batch_size=1,
                compute=ActorPoolStrategy(size=min(workers, len(items))),
                num_cpus=1,
                num_gpus=gpus / workers or None,
                max_task_retries=_TRIES - 1,  # Ray's own choice is to begin a shard that kills its actor for ever,
            )
        labelled.context.enable_progress_bars = False
        labelled.context.max_errored_blocks = -1  # or to end all with the first that it gives up
        left = set(shards)
        try:
            for row in labelled.iter_rows():
                done = _done(row)
                if done.shard in left:  # Ray may hand out what an actor did again
                    left.discard(done.shard)
                    yield done
        except RayError as error:
            raise MienError(f"Ray gave up: {error}; what is done is kept, start again to go on") from error
        yield from (Done(shard, "its actor was killed (out of memory?)") for shard in sorted(left))


def _done(row: dict[str, Any]) -> Done:
    """What an actor's row says; its error is raised."""
    if row["kind"] == Unreachable.__name__:
        return Done(int(row["shard"]), row["problem"])
    if row["kind"] == _CRASH:
        raise RuntimeError(f"an actor met at shard {row['shard']}:\n{row['problem']}")
    if row["kind"]:
        raise {"FileError": FileError, "InputError": InputError}.get(row["kind"], MienError)(row["problem"])
    return Done(int(row["shard"]))


class _Actor:
    """One model on the cluster. Errors go back as rows: Ray would wrap and repeat them."""

    def __init__(self, plan: Plan, gpu: bool) -> None:
        self._plan, self._gpu = plan, gpu
        self._labeller: Labeller | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        kind = problem = ""
        (shard,) = batch["shard"].tolist()
        try:
            self._labeller = self._labeller or self._start()
            self._labeller.label(shard)
        except MienError as error:
            kind, problem = type(error).__name__, str(error)
        except Exception:  # noqa: BLE001  # Ray drops it with the shard, as if the actor had been killed
            kind, problem = _CRASH, traceback.format_exc()
        return {"shard": [shard], "kind": [kind], "problem": [problem]}

    def _start(self) -> Labeller:
        import cv2

        cv2.setNumThreads(1)
        if os.path.isdir(self._plan.base):
            os.chdir(self._plan.base)
        return Labeller(self._plan, gpu=self._gpu)


@contextmanager
def _session(address: str | None, cpus: int) -> Iterator[None]:
    """Ray, started or joined quietly, and left as it was found."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address is None:  # Ray reads this when it is first imported: it listens on 127.0.0.1, not for the whole network
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        options |= {"include_dashboard": False, "num_cpus": cpus, "object_store_memory": _STORE}
    else:  # of a cluster on this machine that was started in another environment
        options |= {"runtime_env": {"env_vars": {k: v for k, v in os.environ.items() if k == "PYTHONPATH"}}}
    ended = signal.getsignal(signal.SIGTERM)  # Ray puts its own there
    try:
        ray.init(address or "local", **options)
    except Exception as error:  # Ray raises bare ones
        what = "start Ray on this machine" if address is None else f"join the Ray cluster at {address}"
        raise FileError(f"cannot {what}: {error}") from error
    finally:
        if threading.current_thread() is threading.main_thread() and ended is not None:
            signal.signal(signal.SIGTERM, ended)
    try:
        yield
    finally:
        ray.shutdown()


def check_ray(address: str | None) -> None:
    """Ask the address whether anybody is there: Ray itself takes minutes to say no, and ends the process.

    Raises:
        MissingExtra: Ray is not installed.
        FileError: Nothing answers.
    """
    need_extra("ray", "the ray engine", "ray")
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # none, "auto", "local"
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE_S).close()
    except OSError as error:
        raise FileError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); start one with: ray start --head"
        ) from error


def _quiet() -> None:
    """Ray Data's remarks on its own internals are nothing to a user."""
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.ERROR)
