"""Faces of many requests, gathered into one run of the network."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress

import numpy as np
from jaxtyping import Float32, UInt8

Faces = UInt8[np.ndarray, "B 48 48"]
Rows = Float32[np.ndarray, "B 7"]


class _Batch:
    """Faces that will go through the network together."""

    def __init__(self) -> None:
        self.parts: list[Faces] = []
        self.count = 0
        self.ready = asyncio.Event()
        self.rows: asyncio.Task[Rows] | None = None


class Batcher:
    """Gathers what is asked within a few milliseconds; nobody waits where nobody else can join.

    While one batch is in the network, the next one grows.

    Args:
        network: uint8 (B, 48, 48) -> float32 (B, 7).
        executor: Where it runs.
        window: Seconds for which an incomplete batch waits for others.
        largest: Faces from which a batch waits no longer; one request's faces stay together, so it may have more.
        seen: Called with the size of each batch.
    """

    def __init__(
        self,
        network: Callable[[Faces], Rows],
        executor: Executor,
        *,
        window: float = 0.004,
        largest: int = 64,
        seen: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._network, self._executor = network, executor
        self._window, self._largest, self._seen = window, largest, seen
        self._open: _Batch | None = None
        self._expected = 0
        self._one_at_a_time = asyncio.Lock()

    @contextmanager
    def announced(self) -> Iterator[None]:
        """While it lasts, others wait up to a window for the `ask` that will follow."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            if not self._expected and self._open:
                self._open.ready.set()

    async def ask(self, faces: Faces) -> Rows:
        """The network's rows for these faces, computed together with those of others.

        Raises:
            Whatever the network raises, to all whose faces were in the batch.
        """
        if not len(faces):
            return np.empty((0, 7), np.float32)
        batch = self._open
        if batch is None:
            batch = self._open = _Batch()
            batch.rows = asyncio.create_task(self._run(batch))
        start, batch.count = batch.count, batch.count + len(faces)
        batch.parts.append(faces)
        if batch.count >= self._largest:
            self._close(batch)
        if not self._expected:
            batch.ready.set()
        assert batch.rows is not None
        # One who gives up must not take the others' answers along.
        rows = await asyncio.shield(batch.rows)
        return rows[start : start + len(faces)]

    def _close(self, batch: _Batch) -> None:
        batch.ready.set()
        if self._open is batch:
            self._open = None

    async def _run(self, batch: _Batch) -> Rows:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._window):
                await batch.ready.wait()
        async with self._one_at_a_time:
            self._close(batch)
            self._seen(batch.count)
            faces = np.concatenate(batch.parts)
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._network, faces)
