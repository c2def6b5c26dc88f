"""Encoded images to readings, for many callers at once, with one detector and one network.

It knows nothing of HTTP.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from prometheus_client import Gauge

from mien.errors import MienError
from mien.reading.faces import Face
from mien.reading.images import grey, image_size, open_image, resize
from mien.reading.recognizer import SIDE, Recognizer, need_seven
from mien.reading.tables import Photo
from mien.web.batching import Batcher, Faces, Rows
from mien.web.limits import Allowance, Limits, Refusal, of_image
from mien.web.metrics import Metrics

T = TypeVar("T")
Image = UInt8[np.ndarray, "H W 3"]
LARGE = 16_000_000  # pixels of an image, of which decoding may need ten bytes each


class Service:
    """Reads images: decoding and detection in a few threads, the network over batches.

    Args:
        recognizer: The model, with its detector.
        limits: What is refused.
        metrics: Where it counts.
    """

    def __init__(self, recognizer: Recognizer, limits: Limits, metrics: Metrics) -> None:
        need_seven(recognizer, "serving")
        self.recognizer, self.limits, self.metrics = recognizer, limits, metrics
        self.detector = recognizer.detector  # makes it now: the first requests come at once, and would make two
        self.admitted = _Places(limits.waiting, metrics.waiting, "requests are waiting", "--max-waiting").taken
        self.streaming = _Places(limits.streams, metrics.streams, "streams are open", "--max-streams").taken
        # Two threads at least: one decodes while the other one's detection has the cores.
        self._pool = ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2)), "mien-image")
        self._network = ThreadPoolExecutor(1, "mien-network")
        self._large = ThreadPoolExecutor(1, "mien-large")
        self._batcher = Batcher(recognizer.probabilities, self._network, seen=metrics.batch.observe)

    def close(self) -> None:
        """End the threads, once what runs has ended."""
        self._pool.shutdown()
        self._large.shutdown()
        self._network.shutdown()

    async def run(self, work: Callable[[], T], pool: ThreadPoolExecutor | None = None) -> T:
        """Do something slow in the pool, or in another."""
        return await asyncio.get_running_loop().run_in_executor(pool or self._pool, work)

    async def read(self, content: bytes, source: str, allowance: Allowance | None = None) -> Photo:
        """Find and read the faces of one encoded image, which takes its pixels from the allowance of its request.

        Raises:
            Refusal: It cannot be read.
        """

        def find(image: Image) -> tuple[list[Face], Faces, tuple[int, ...]]:
            return *self.recognizer.find_faces(image), image.shape

        with self._batcher.announced():
            faces, crops, shape = await self._look(content, allowance, find)
        rows = await self._batcher.ask(crops)
        self.metrics.faces.inc(len(faces))
        return self._photo(source, shape, faces, crops, rows)

    async def read_crop(self, content: bytes, source: str, allowance: Allowance | None = None) -> Photo:
        """Read one encoded image that is a face and nothing else: its edge is the face's box.

        Raises:
            Refusal: It cannot be read.
        """

        def cut(image: Image) -> tuple[Faces, tuple[int, ...]]:
            same = image.shape[:2] == (SIDE, SIDE)
            return grey(image if same else resize(image, SIDE, SIDE))[None], image.shape

        with self._batcher.announced():
            crops, shape = await self._look(content, allowance, cut)
        rows = await self._batcher.ask(crops)
        self.metrics.faces.inc()
        face = Face(box=(0.0, 0.0, float(shape[1]), float(shape[0])), score=1.0, landmarks=())
        return self._photo(source, shape, [face], crops, rows)

    def _photo(self, source: str, shape: tuple[int, ...], faces: list[Face], crops: Faces, rows: Rows) -> Photo:
        height, width = shape[:2]
        readings = self.recognizer.readings(faces, crops, rows, width, height)
        return Photo(source, width, height, self.recognizer.name, readings)

    async def _look(self, content: bytes, allowance: Allowance | None, look: Callable[[Image], T]) -> T:
        """Decode an image and do something with it; with the large ones one at a time, while others pass them by."""
        pixels = await self.run(partial(self._pixels, content))

        def work() -> T:
            return look(self._open(content, pixels, allowance or Allowance(self.limits)))

        return await self.run(work, self._large if pixels > LARGE else None)

    def _pixels(self, content: bytes) -> int:
        try:
            width, height = image_size(content, max_pixels=self.limits.pixels)
        except MienError as error:
            raise of_image(error) from error
        return width * height

    def _open(self, content: bytes, pixels: int, allowance: Allowance) -> Image:
        try:
            with allowance.taken(pixels) as most:
                return open_image(content, max_pixels=most)
        except Refusal:
            raise
        except MienError as error:
            raise of_image(error) from error


class _Places:
    """Places of which none is given twice; a gauge shows how many are taken."""

    def __init__(self, most: int, gauge: Gauge, what: str, option: str) -> None:
        self._most, self._gauge, self._what, self._option = most, gauge, what, option
        self._count = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take one for a while.

        Raises:
            Refusal: All are taken.
        """
        if self._count >= self._most:
            hint = f"try again in a second, or start the server with a larger {self._option}"
            raise Refusal(503, "busy", f"{self._count} {self._what} already", hint, {"Retry-After": "1"})
        self._count += 1
        try:
            with self._gauge.track_inprogress():
                yield
        finally:
            self._count -= 1
