"""The csv files of FER2013 and FER+: bytes to arrays, and a reason for every row that is damaged.

It knows the columns and the text of a row; what becomes of damaged rows is for the caller to say.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Int8, Int64, UInt8

from mien.errors import Damaged, FileError
from mien.expressions import EXPRESSIONS, FERPLUS

SIDE = 48
SPLITS = ("Training", "PublicTest", "PrivateTest")
UNMARKED = "test"
"""Split of the contest's pixels-only `test.csv`: PublicTest and PrivateTest together, nothing tells them apart."""

_BATCH = 8  # rows parsed at once: few enough for their arrays to stay in the processor's cache
_LONGEST_LINE = 1 << 20  # bytes, so that a huge file without line ends is not taken into memory
_PADDING = b' "\t\r\n'
_LABELS = {b"%d" % label: label for label in range(len(EXPRESSIONS))} | {b"": -1}
_USAGES = {split.encode(): split for split in SPLITS}
_COUNTS = {b"%d" % count: count for count in range(256)} | {b"": 0}


@dataclass(frozen=True, slots=True, eq=False)
class FaceTable:
    """The sound rows of a csv of faces, and what is wrong with the others."""

    images: UInt8[np.ndarray, "N 48 48"]
    labels: Int8[np.ndarray, "N"]
    splits: np.ndarray  # (N,) unicode
    rows: Int64[np.ndarray, "N"]  # 0-based; damaged rows count, blank lines do not
    total: int  # rows in the file, damaged ones too
    has_usage: bool
    faults: dict[int, str]  # row -> file, line and reason


@dataclass(frozen=True, slots=True, eq=False)
class VoteTable:
    """Every row of a FER+ csv; the votes of a damaged one are zeros."""

    votes: UInt8[np.ndarray, "M 10"]
    usages: np.ndarray  # (M,) unicode
    faults: dict[int, str]  # row -> file, line and reason


class _Record(NamedTuple):
    """One row; a column that the header names and the row lacks is empty."""

    row: int
    line: int
    columns: dict[str, bytes]
    fault: str  # what is wrong with the line as a whole; mostly nothing
    whole: bool  # False where the file ends without a line end


def read_faces(path: Path) -> FaceTable:
    """The faces of a csv with a `pixels` column, and with or without `emotion` and `Usage`.

    Columns stand in any order; blanks and capitals in their names, quotes and blanks around a field, a byte
    order mark, CRLF line ends and blank lines do not matter. Without `Usage` all rows are Training if there is
    an `emotion` column, else `UNMARKED`. An empty label is -1.

    Raises:
        FileError: The file is missing or may not be read.
        Damaged: It is empty, or its first line names no `pixels`.
    """
    images: list[np.ndarray] = []
    labels: list[int] = []
    splits: list[str] = []
    rows: list[int] = []
    faults: dict[int, str] = {}
    total = 0
    with _opened(path, ["pixels"]) as (names, records):
        usages = _USAGES if "usage" in names else {b"": SPLITS[0] if "emotion" in names else UNMARKED}
        while batch := list(islice(records, _BATCH)):
            total += len(batch)
            parsed = _parse_pixels([record.columns["pixels"] for record in batch])
            for record, image in zip(batch, parsed, strict=True):
                emotion, usage = record.columns.get("emotion", b""), record.columns.get("usage", b"")
                if record.fault:
                    reason = record.fault
                elif emotion not in _LABELS:
                    reason = f"unknown label {_shown(emotion)}, expected 0 to {len(EXPRESSIONS) - 1} or nothing"
                elif usage not in usages:
                    reason = f"unknown Usage {_shown(usage)}, expected one of {', '.join(SPLITS)}"
                elif isinstance(image, str):
                    reason = image
                else:
                    images.append(image)
                    labels.append(_LABELS[emotion])
                    splits.append(usages[usage])
                    rows.append(record.row)
                    continue
                faults[record.row] = _located(path, record, reason)
    return FaceTable(
        np.stack(images) if images else np.empty((0, SIDE, SIDE), np.uint8),
        np.array(labels, np.int8),
        np.array(splits, np.str_),
        np.array(rows, np.int64),
        total,
        "usage" in names,
        faults,
    )


def read_votes(path: Path) -> VoteTable:
    """The FER+ votes of every row, in the order of `FERPLUS`; an empty field is no vote.

    Raises:
        FileError: The file is missing or may not be read.
        Damaged: It is empty, or its first line lacks a column.

    Source: https://github.com/microsoft/FERPlus (fer2013new.csv).
    """
    votes: list[list[int]] = []
    usages: list[str] = []
    faults: dict[int, str] = {}
    names = [name.lower() for name in FERPLUS]
    with _opened(path, ["usage", *names]) as (_, records):
        for record in records:
            usage, *fields = (record.columns[name] for name in ("usage", *names))
            unknown = [field for field in fields if field not in _COUNTS]
            reason = record.fault or (f"{_shown(unknown[0])} is no number of votes" if unknown else "")
            if reason:
                faults[record.row] = _located(path, record, reason)
            votes.append([0] * len(names) if reason else [_COUNTS[field] for field in fields])
            usages.append(usage.decode("ascii", "replace"))
    return VoteTable(np.array(votes, np.uint8).reshape(-1, len(names)), np.array(usages, np.str_), faults)


@contextmanager
def _opened(path: Path, needed: list[str]) -> Generator[tuple[list[str], Iterator[_Record]]]:
    """The column names of a csv, in small letters, and its rows as they are read."""
    try:
        with path.open("rb") as file:
            first = file.readline(_LONGEST_LINE).removeprefix(b"\xef\xbb\xbf")
            if not first:
                raise Damaged(f"{path}: the file is empty")
            names = [_shown(field, quote=False).lower() for field in first.split(b",")]
            for name in needed:
                if name not in names:
                    hint = "; these look like FER+ votes: name them beside a csv of faces" if "nf" in names else ""
                    raise Damaged(f"{path}, line 1: there is no column {name!r}, only {_shown(first)}{hint}")
            yield names, _records(file, names)
    except Damaged:
        raise
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
