"""One shard of a labelling run: its images become a file of rows, whole or not at all. What every engine calls."""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mien.errors import Damaged, FileError, InputError, MienError
from mien.expressions import Expression
from mien.reading.bulk import Failure
from mien.reading.faces import CenterFace, Face
from mien.reading.images import open_image
from mien.reading.plan import Plan
from mien.reading.recognizer import load_model
from mien.reading.sources import Item, fetch, read_items
from mien.reading.tables import Photo, as_text, columns_for, to_rows, write_table

BATCH = 64
"""Faces that are classified at once."""

_READERS = 2  # threads that fetch and decode while the networks work
_AHEAD = 4  # images that they may be ahead


@dataclass(frozen=True, slots=True)
class Counts:
    """What a shard's file says of itself, in its metadata.

    Attributes:
        images: Images that were read.
        faces: Faces in them.
        without_face: Images without a face.
        uncertain: Faces whose confidence is below the model's threshold.
        expressions: Faces by expression.
        failures: Images that could not be read, and why.
    """

    images: int
    faces: int
    without_face: int
    uncertain: int
    expressions: dict[str, int]
    failures: list[Failure]


def read_counts(part: Path) -> Counts:
    """The counts of a shard's file.

    Raises:
        Damaged: It is none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        counts = json.loads(pq.read_metadata(part).metadata[b"mien.shard"])
        return Counts(**counts | {"failures": [Failure(**failure) for failure in counts["failures"]]})
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{part} is no whole file of a shard: {error}; delete it, and start again") from error


class Stopped(Exception):
    """The run ends before the shard does."""


class Unreachable(MienError):
    """The storage of the images fails, or memory is short; another start may find it otherwise."""


class Labeller:
    """Reads shards, one after the other, with a model of its own.

    Args:
        plan: The run.
        gpu: Classify on a CUDA device, and find faces there.

    Raises:
        InputError: The model here is not that of the plan; or ONNX Runtime has no CUDA here.
        MienError: As `load_model`.
    """

    def __init__(self, plan: Plan, *, gpu: bool = False) -> None:
        wanted = plan.manifest
        providers = ("CUDAExecutionProvider", "CPUExecutionProvider") if gpu else ("CPUExecutionProvider",)
        self.recognizer = load_model(plan.model, views=wanted.views, threads=1, providers=providers)
        checksum = hashlib.sha256(self.recognizer.path.read_bytes()).hexdigest()
        if checksum != wanted.model_sha256:
            raise InputError(
                f"the model {self.recognizer.path} has the checksum {checksum}, but this run was begun with "
                f"{wanted.model_sha256}; every machine needs the same"
            )
        self.recognizer.detector = CenterFace(
            side=wanted.side or None, min_score=wanted.min_score, threads=1, providers=providers
        )
        self.plan = plan

    def label(self, shard: int, *, stop: Callable[[], bool] = lambda: False) -> Counts:
        """Read the images of a shard and write its file.

        The same images in the same order give the same file, whoever reads them.

        Args:
            shard: Its number.
            stop: Asked after each image.

        Raises:
            Stopped: `stop` said so.
            Unreachable: It is the storage that fails, or memory that is short, not some of the images; nothing is
                written.
            FileError: The plan cannot be read, or the file not written: the disk is full, say.
        """
        photos: list[Photo] = []
        failures: list[Failure] = []
        waiting: list[_Seen] = []
        came: Item | None = None  # the first one that the storage gave
        lost: list[Item] = []  # those that it did not
        for item, image in self._images(self.plan.items(shard)):
            if stop():
                raise Stopped
            if _is_lost(item, image):
                lost.append(item)
            elif item.problem is None:
                came = came or item
            if isinstance(image, MienError):
                failures.append(Failure(as_text(item.source), as_text(str(image))))
                continue
            waiting.append(_Seen(item.source, image.shape[1], image.shape[0], *self.recognizer.find_faces(image)))
            if sum(max(1, len(seen.faces)) for seen in waiting) >= BATCH:
                photos += self._read(waiting)
        photos += self._read(waiting)
        if lost and self._is_unreachable(came, lost):
            first = next(failure for failure in failures if failure.source == as_text(lost[0].source))
            raise Unreachable(f"{len(lost):,} of its images could not be reached, the first one: {first}")
        counts = _count(photos, failures, self.recognizer.labels)
        notes = {"mien.model": self.recognizer.name, "mien.model_sha256": self.plan.manifest.model_sha256}
        write_table(
            self.plan.part(shard),
            (row for photo in photos for row in to_rows(photo)),
            columns_for(self.recognizer.labels),
            notes=notes | {"mien.shard": json.dumps(asdict(counts))},
        )
        return counts

    def _images(self, items: list[Item]) -> Iterator[tuple[Item, UInt8[np.ndarray, "H W 3"] | MienError]]:
        for item, image in _decoded(read_items(items, self.plan.manifest.column)):
            if isinstance(image, MienError) and isinstance(image.__cause__, MemoryError):
                raise Unreachable(str(image))  # nothing is wrong with the image
            yield item, image

    def _is_unreachable(self, came: Item | None, lost: list[Item]) -> bool:
        """Whether the storage fails, or did for a while: what it gave it gives no more, or what it did not it does."""
        if came is None:
            return True
        again = self._images([came, *lost])
        return _is_lost(*next(again)) or not all(_is_lost(item, image) for item, image in again)

    def _read(self, waiting: "list[_Seen]") -> Iterator[Photo]:
        """Classify the faces of all photos that wait, at once."""
        rows = iter(self.recognizer.probabilities(np.concatenate([seen.crops for seen in waiting])) if waiting else ())
        for seen in waiting:
            own = islice(rows, len(seen.faces))
            readings = self.recognizer.readings(seen.faces, seen.crops, own, seen.width, seen.height)
            yield Photo(seen.source, seen.width, seen.height, self.recognizer.name, readings)
        waiting.clear()


@dataclass(frozen=True, slots=True)
class _Seen:
    """A photo whose faces wait to be classified."""

    source: str
    width: int
    height: int
    faces: list[Face]
    crops: UInt8[np.ndarray, "B 48 48"]


def _decoded(
    items: Iterable[tuple[Item, str | bytes | MienError]],
) -> Iterator[tuple[Item, UInt8[np.ndarray, "H W 3"] | MienError]]:
    """Fetch and decode in threads, a few images ahead, in order."""
    coming: deque[tuple[Item, Future[Any]]] = deque()
    with ThreadPoolExecutor(_READERS) as readers:
        for item, source in items:
            coming.append((item, readers.submit(_decode, item, source)))
            if len(coming) > _AHEAD:
                first, image = coming.popleft()
                yield first, image.result()
        for first, image in coming:
            yield first, image.result()


def _decode(item: Item, source: str | bytes | MienError) -> UInt8[np.ndarray, "H W 3"] | MienError:
    try:
        return source if isinstance(source, MienError) else open_image(fetch(item, source))
    except MienError as error:
        return error
    except MemoryError as error:
        problem = FileError(f"cannot read {item.source}: there is not enough memory")
        problem.__cause__ = error
        return problem
    except Exception as error:  # noqa: BLE001  # one image in millions must not end them all, whatever a reader raises
        return Damaged(f"{item.source} cannot be read: {type(error).__name__}: {error}")


def _is_lost(item: Item, image: UInt8[np.ndarray, "H W 3"] | MienError) -> bool:
    """Whether an image's bytes did not come, though it was there when it was listed.

    What a list of names names was not seen before: it may never have been there.
    """
    cause = image.__cause__ if isinstance(image, FileError) else None
    never = (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError)
    return cause is not None and (item.size is not None or not isinstance(cause, never))


def _count(photos: list[Photo], failures: list[Failure], labels: Sequence[Expression]) -> Counts:
    readings = [reading for photo in photos for reading in photo.readings]
    found = Counter(str(reading.expression) for reading in readings)
    return Counts(
        images=len(photos),
        faces=len(readings),
        without_face=sum(not photo.readings for photo in photos),
        uncertain=sum(reading.uncertain for reading in readings),
        expressions={str(e): found[e] for e in labels},
        failures=failures,
    )
