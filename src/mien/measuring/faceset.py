"""`FaceSet`: faces with labels, as one value. Knows nothing of the files it is read from."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int8, Int64, UInt8

from mien.errors import InputError, NotFound
from mien.expressions import EXPRESSIONS, FERPLUS, Expression
from mien.measuring.fer_csv import SIDE

IN_MEMORY = 1 << 30
"""Bytes of images, 466,000 faces, that are held in memory or on a device at once; larger sets stay in a file."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceSet:
    """Faces with their labels, and where they come from.

    Attributes:
        images: Grey, in [0, 255].
        labels: FER2013's order, the one of `EXPRESSIONS`; -1 for an unlabelled face.
        splits: Unicode (N,), the split each row belongs to.
        rows: Row number in the source, from 0; `take` and `split` keep it.
        votes: FER+ votes in the order of `FERPLUS`, where they were given.
        checksum: SHA-256 of the source; of several files, that of one after the other (`cat a b | sha256sum`).
        source: What it was read from.
        faults: File, line and reason of each row that was dropped because it is damaged.
        notes: What every report on these rows must say beside its numbers, as sentences.
        whole: Fingerprint of the set that rows were left out of by a list; empty where none were.

    Raises:
        InputError: The arrays do not belong together.
    """

    images: UInt8[np.ndarray, "N 48 48"]
    labels: Int8[np.ndarray, "N"]
    splits: np.ndarray
    rows: Int64[np.ndarray, "N"]
    votes: UInt8[np.ndarray, "N 10"] | None
    checksum: str
    source: str
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    whole: str = ""

    def __post_init__(self) -> None:
        if problem := misfit(self.images, self.labels, self.splits, self.rows, self.votes):
            raise InputError(problem)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def name(self) -> str:
        """The source without the folder that it lies in."""
        return os.path.basename(os.path.abspath(self.source))

    @property
    def dropped(self) -> int:
        """How many rows of the source are damaged and not in here."""
        return len(self.faults)

    @property
    def sizes(self) -> dict[str, int]:
        """How many rows each split has, in order of first appearance."""
        names, first, counts = np.unique(self.splits, return_index=True, return_counts=True)
        return {str(names[k]): int(counts[k]) for k in np.argsort(first)}

    def counts(self) -> dict[str, dict[str, int]]:
        """Rows by split, and in each by label and "unlabelled"."""
        table = {}
        for split in self.sizes:
            labels = self.labels[self.splits == split]
            table[split] = {str(e): int((labels == k).sum()) for k, e in enumerate(EXPRESSIONS)}
            table[split]["unlabelled"] = int((labels < 0).sum())
        return table

    def take(self, where: np.ndarray | Sequence[int]) -> "FaceSet":
        """The rows at a boolean mask (N,) or at indices, in their order; arrays are copied."""
        chosen = np.asarray(where)
        if chosen.size == 0:
            chosen = chosen.astype(np.int64)  # numpy takes an empty list for numbers with a fraction
        return replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            splits=self.splits[chosen],
            rows=self.rows[chosen],
            votes=None if self.votes is None else self.votes[chosen],
        )

    def split(self, name: str) -> "FaceSet":
        """The rows of one split; arrays are copied.

        Raises:
            NotFound: There is none of that name.
        """
        return self.take(self.where(name))

    def where(self, name: str) -> Bool[np.ndarray, "N"]:
        """Which rows are of one split; nothing is copied.

        Raises:
            NotFound: There is none of that name; the message counts those there are.
        """
        where: Bool[np.ndarray, "N"] = self.splits == name
        if not where.any():
            there = ", ".join(f"{split} ({count:,} rows)" for split, count in self.sizes.items())
            raise NotFound(f"there is no split {name!r} in {self.source}; it has {there or 'no rows'}")
        return where

    def twins_in(self, other: "FaceSet", split: str | None = None) -> Bool[np.ndarray, "N"]:
        """Which rows have all their pixels equal to those of some row of another set, or of one split of it.

        The other set may be far larger than memory: its images are looked at one by one.
        """
        others = range(len(other)) if split is None else np.flatnonzero(other.splits == split)
        mine = {image.tobytes() for image in self.images}
        known = {image for k in others if (image := other.images[k].tobytes()) in mine}
        return np.fromiter((image.tobytes() in known for image in self.images), bool, len(self))

    def twin_groups(self) -> list[Int64[np.ndarray, "k"]]:
        """Indices of the rows that share all their pixels, a group for each picture that stands more than once."""
        numbers = self.twin_numbers()
        order = np.argsort(numbers, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
        return [group for group in groups if len(group) > 1]

    def twin_numbers(self) -> Int64[np.ndarray, "N"]:
        """A number for each row, the same for exact twins: the index of the first of them."""
        first: dict[bytes, int] = {}
        return np.array([first.setdefault(image.tobytes(), k) for k, image in enumerate(self.images)], np.int64)



def misfit(images: Any, labels: Any, splits: Any, rows: Any, votes: Any) -> str:
    """Which array does not belong with the others in a FaceSet, in words; nothing where all do."""
    count = len(images)
    expected = {
        "images": (images, "uint8", (count, SIDE, SIDE)),
        "labels": (labels, "int8", (count,)),
        "splits": (splits, "str", (count,)),
        "rows": (rows, "int64", (count,)),
        "votes": (votes, "uint8", (count, len(FERPLUS))),
    }
    for name, (array, kind, shape) in expected.items():
        if array is not None and not (array.shape == shape and array.dtype.name.startswith(kind)):
            return f"expected {name} {kind} {shape}, but got {array.dtype} {array.shape}"
    if count and not -1 <= labels.min() <= labels.max() < len(Expression):
        return f"expected labels from -1 (none) to {len(Expression) - 1}, but got {labels.min()} to {labels.max()}"
    return ""
