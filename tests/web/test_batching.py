import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mien.web.batching import Batcher


def faces(*values: int) -> np.ndarray:
    return np.stack([np.full((48, 48), value, np.uint8) for value in values])


def echo(batch: np.ndarray) -> np.ndarray:
    """A network whose answer tells which face it was asked for."""
    return np.repeat(batch[:, :1, 0].astype(np.float32), 7, axis=1)


def with_batcher(test: Callable[[Batcher, list[int]], object], network: Callable = echo, **options: object) -> None:
    sizes: list[int] = []

    async def run() -> None:
        with ThreadPoolExecutor(1) as executor:
            await test(Batcher(network, executor, seen=sizes.append, **options), sizes)

    asyncio.run(run())


def test_everyone_gets_the_own_rows_of_one_batch() -> None:
    async def test(batcher: Batcher, sizes: list[int]) -> None:
        answers = await asyncio.gather(*(batcher.ask(faces(*range(n, n + n % 3 + 1))) for n in range(12)))
        for n, rows in enumerate(answers):
            assert rows[:, 0].tolist() == list(range(n, n + n % 3 + 1))
        assert sizes == [24]

    with_batcher(test)


def test_nobody_waits_alone() -> None:
    async def test(batcher: Batcher, sizes: list[int]) -> None:
        assert (await batcher.ask(faces(5)))[0, 0] == 5

    with_batcher(test, window=1_000.0)  # the test would end by its time limit


def test_who_is_announced_is_waited_for() -> None:
    async def test(batcher: Batcher, sizes: list[int]) -> None:
        async def late() -> np.ndarray:
            with batcher.announced():
                await asyncio.sleep(0.05)
            return await batcher.ask(faces(2))

        other = asyncio.create_task(late())
        await asyncio.sleep(0)
        first, second = await asyncio.gather(batcher.ask(faces(1)), other)
        assert (first[0, 0], second[0, 0], sizes) == (1, 2, [2])

    with_batcher(test, window=1_000.0)


def test_a_window_ends() -> None:
    async def test(batcher: Batcher, sizes: list[int]) -> None:
        with batcher.announced():
            await batcher.ask(faces(1))
        assert sizes == [1]

    with_batcher(test, window=0.01)


def test_a_full_batch_waits_no_longer() -> None:
    async def test(batcher: Batcher, sizes: list[int]) -> None:
        with batcher.announced():
            await asyncio.gather(*(batcher.ask(faces(n)) for n in range(4)))
        assert sizes == [2, 2]

    with_batcher(test, window=1_000.0, largest=2)


def test_who_gives_up_takes_nobody_along() -> None:
    async def test(batcher: Batcher, sizes: list[int]) -> None:
        with batcher.announced():
            impatient, patient = (asyncio.create_task(batcher.ask(faces(n))) for n in (1, 2))
            await asyncio.sleep(0)
            impatient.cancel()
        assert (await patient)[0, 0] == 2
        with pytest.raises(asyncio.CancelledError):
            await impatient

    with_batcher(test)


def test_a_failure_reaches_all_of_its_batch_and_no_other() -> None:
    def network(batch: np.ndarray) -> np.ndarray:
        if 13 in batch:
            raise RuntimeError("unlucky")
        return echo(batch)

    async def test(batcher: Batcher, sizes: list[int]) -> None:
        came = await asyncio.gather(*(batcher.ask(faces(n)) for n in (12, 13)), return_exceptions=True)
        assert [str(error) for error in came] == ["unlucky"] * 2
        assert (await batcher.ask(faces(14)))[0, 0] == 14

    with_batcher(test, network)


def test_no_faces_need_no_network() -> None:
    async def test(batcher: Batcher, sizes: list[int]) -> None:
        assert (await batcher.ask(np.empty((0, 48, 48), np.uint8))).shape == (0, 7)
        assert sizes == []

    with_batcher(test)
