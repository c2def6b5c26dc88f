"""ONNX Runtime as this package runs it: with threads that are free to move, and sleep while they wait."""

import os
from collections.abc import Sequence

import onnxruntime as ort

from mien.errors import InputError

CPU = ("CPUExecutionProvider",)

MAX_THREADS = 1024
"""Threads of a network, at most: more than machines have cores, and few enough for memory; a million take 24 GB."""


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def session_options(threads: int) -> ort.SessionOptions:
    """ONNX Runtime's options: as many threads (0: one a core, eight at most), free to move, asleep while they wait.

    By its own choice they are bound to cores, where two networks' threads meet although another core is idle, and
    spin, which keeps the cores from the other network, from OpenCV and from whoever else is there.

    Raises:
        InputError: No whole number, or one below 0 or above `MAX_THREADS`.
    """
    if not isinstance(threads, int) or not 0 <= threads <= MAX_THREADS:
        raise InputError(f"threads should be a whole number from 0 (one a core) to {MAX_THREADS}, but is {threads!r}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or min(8, cores())  # a number, even ONNX Runtime's own, unbinds them
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised; nothing else belongs on stderr
    return options


def open_session(model: bytes, *, threads: int = 0, providers: Sequence[str] | str = CPU) -> ort.InferenceSession:
    """A network, ready to run.

    Raises:
        InputError: A number of threads out of range, or a provider that is not installed.
    """
    providers = (providers,) if isinstance(providers, str) else providers
    if not isinstance(providers, Sequence) or not providers:
        raise InputError(f"providers should be names of ONNX Runtime, as {CPU}, but is {providers!r}")
    if missing := set(providers) - set(ort.get_available_providers()):
        raise InputError(
            f"ONNX Runtime has no {', '.join(sorted(missing))} here; it has {', '.join(ort.get_available_providers())}"
        )
    return ort.InferenceSession(model, session_options(threads), providers=list(providers), enable_fallback=0)
