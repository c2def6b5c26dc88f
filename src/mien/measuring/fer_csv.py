"""The csv files of FER2013 and FER+: bytes to arrays, and a reason for every row that is damaged.

It knows the columns and the text of a row; what becomes of damaged rows is for the caller to say.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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

SPLIT_WORDS = {
    "train": SPLITS[0],
    "training": SPLITS[0],
    "publictest": SPLITS[1],
    "privatetest": SPLITS[2],
    **dict.fromkeys(("test", "testing"), UNMARKED),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
}
"""The split that a word in a folder's or an array's name means."""


_BUFFER = 1 << 18  # bytes read at once: with the usual 8,192, about a line, reading takes thrice as long
_LONGEST_LINE = 1 << 20  # bytes, so that a huge file without line ends is not taken into memory
_MOST_FAULTS = 100_000  # a small file may have more damaged rows than the memory has room for their reasons
_SHORTEST_ROW = 2 * SIDE * SIDE - 1  # bytes: one digit a pixel and the blanks between
_PADDING = b' "\t\r\n'
_OTHER_FILES = {
    b"\x1f\x8b": "packed by gzip",
    b"PK\x03\x04": "a zip archive, as .zip, .xlsx and .npz files are",
    b"\xff\xfe": "a text in UTF-16",
    b"\xfe\xff": "a text in UTF-16",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}
"""What files that are taken for a csv begin with."""
_LABELS = {b"%d" % label: label for label in range(len(EXPRESSIONS))} | {b"": -1}
_LABEL_WORDS = ("label", "labels", "expression", "emotions", "class", "target")
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
        Damaged: It is empty, or its first line names no `pixels`, or labels otherwise than `emotion`.
    """
    labels: list[int] = []
    splits: list[str] = []
    rows: list[int] = []
    faults: dict[int, str] = {}
    total = 0
    with _opened(path, ["pixels"]) as (size, names, records):
        if "emotion" not in names and (other := [name for name in names if name in _LABEL_WORDS]):
            raise Damaged(f"{path}: expected the labels in a column 'emotion', but they seem to be in {other[0]!r}")
        # Room for as many rows as the file could hold; memory that is never written to costs nothing.
        images = np.empty((size // _SHORTEST_ROW + 1, SIDE, SIDE), np.uint8)
        usages = _USAGES if "usage" in names else {b"": SPLITS[0] if "emotion" in names else UNMARKED}
        for record in records:
            total += 1
            emotion, usage = record.columns.get("emotion", b""), record.columns.get("usage", b"")
            if record.fault:
                reason = record.fault
            elif emotion not in _LABELS:
                reason = f"unknown label {_shown(emotion)}, expected 0 to {len(EXPRESSIONS) - 1} or nothing"
            elif usage not in usages:
                reason = f"unknown Usage {_shown(usage)}, expected one of {', '.join(SPLITS)}"
            elif isinstance(image := _parse_pixels(record.columns["pixels"]), str):
                reason = image
            else:
                images[len(rows)] = image
                labels.append(_LABELS[emotion])
                splits.append(usages[usage])
                rows.append(record.row)
                continue
            _note(faults, path, record, reason)
    return FaceTable(
        images[: len(rows)],
        np.array(labels, np.int8),
        np.array(splits, np.str_),
        np.array(rows, np.int64),
        total,
        "usage" in names,
        faults,
    )


def read_votes(path: Path, most: int | None = None) -> VoteTable:
    """The FER+ votes of every row, in the order of `FERPLUS`; an empty field is no vote.

    Args:
        path: The csv.
        most: Stop after so many rows.

    Raises:
        FileError: The file is missing or may not be read.
        Damaged: It is empty, or its first line lacks a column.

    Source: https://github.com/microsoft/FERPlus (fer2013new.csv).
    """
    votes: list[list[int]] = []
    usages: list[str] = []
    faults: dict[int, str] = {}
    names = [name.lower() for name in FERPLUS]
    with _opened(path, ["usage", *names]) as (_, _, records):
        for record in islice(records, most):
            usage, *fields = (record.columns[name] for name in ("usage", *names))
            unknown = [field for field in fields if field not in _COUNTS]
            reason = record.fault or (f"{_shown(unknown[0])} is no number of votes" if unknown else "")
            if reason:
                _note(faults, path, record, reason)
            votes.append([0] * len(names) if reason else [_COUNTS[field] for field in fields])
            usages.append(usage.decode("ascii", "replace"))
    return VoteTable(np.array(votes, np.uint8).reshape(-1, len(names)), np.array(usages, np.str_), faults)


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Say which file it was when the system cannot read it."""
    try:
        yield
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error


@contextmanager
def _opened(path: Path, needed: list[str]) -> Iterator[tuple[int, list[str], Iterator[_Record]]]:
    """The bytes in a csv, its column names in small letters, and its rows as they are read."""
    with reading(path), path.open("rb", buffering=_BUFFER) as file:
        first = file.readline(_LONGEST_LINE).removeprefix(b"\xef\xbb\xbf")
        if not first:
            raise Damaged(f"{path}: the file is empty")
        if other := next((what for begins, what in _OTHER_FILES.items() if first.startswith(begins)), None):
            raise Damaged(f"{path} is {other}, expected a csv in UTF-8; unpack or convert it")
        if reason := _not_utf8(first):
            raise Damaged(f"{path}, line 1: {reason}")
        if b"\r" in first.rstrip(b"\r\n"):
            raise Damaged(f"{path}: its lines end in CR alone; save it with line ends of Unix or Windows")
        names = [field.strip(_PADDING).decode().lower() for field in first.split(b",")]
        if missing := [name for name in needed if name not in names]:
            hint = "; FER+ votes go beside a csv of faces, not in its place" if "nf" in names else ""
            if len(names) == 1 and any(mark in first.strip() for mark in (b";", b"\t")):
                hint = "; columns should have commas between them"
            raise Damaged(f"{path}, line 1: there is no column {missing[0]!r}, only {_shown(first)}{hint}")
        if twice := [name for name in names if name and names.count(name) > 1]:
            raise Damaged(f"{path}, line 1: two columns are called {_shown(twice[0].encode())}; leave out one of them")
        size = os.fstat(file.fileno()).st_size
        yield size, names, _records(file, names, size - file.tell())


def _records(file: BinaryIO, names: list[str], left: int) -> Iterator[_Record]:
    """The rows in the `left` bytes after the header; a column that a row lacks is empty."""
    row = 0
    for line, text in enumerate(iter(partial(file.readline, _LONGEST_LINE), b""), 2):
        left -= len(text)
        if left < 0:  # the file grows while it is read
            return
        if text.isspace():
            continue
        fields = [field.strip(_PADDING) for field in text.split(b",")]
        fault = _not_utf8(text)
        if not fault and len(fields) != len(names):
            fault = f"{len(fields)} columns, expected {len(names)}: {', '.join(names)}"
        fields += [b""] * (len(names) - len(fields))
        yield _Record(row, line, dict(zip(names, fields, strict=False)), fault, text.endswith(b"\n"))
        row += 1


def _note(faults: dict[int, str], path: Path, record: _Record, reason: str) -> None:
    """Add a reason to the others, as long as they are not so many that the file must be something else."""
    if len(faults) == _MOST_FAULTS:
        raise Damaged(f"{path} has over {_MOST_FAULTS:,} damaged rows, so it is no table of faces or votes")
    faults[record.row] = _located(path, record, reason)


def _located(path: Path, record: _Record, reason: str) -> str:
    """A reason with its file and line."""
    return f"{path}, line {record.line}: {'' if record.whole else 'the file breaks off here: '}{reason}"


def _not_utf8(text: bytes) -> str:
    """The first byte that is not UTF-8, in words; nothing where all is well."""
    if text.isascii():  # a hundred times faster than decoding, and true of every sound row
        return ""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{text[error.start]:02x} at place {error.start + 1}"
    return ""


def _shown(text: bytes) -> str:
    """A field as a message may show it: quoted, and not longer than a few words."""
    words = text.strip().decode(errors="replace")
    return repr(words if len(words) <= 60 else f"{words[:60]}…")


def _parse_pixels(text: bytes) -> np.ndarray | str:
    """The image, uint8 (48, 48), of a field of pixels, or the first thing that is wrong with it."""
    if text and not text.translate(None, b"0123456789 "):
        numbers = np.fromstring(text, np.int64, sep=" ")  # five times faster than by words
        if len(numbers) == SIDE * SIDE and numbers.max() <= 255:
            return numbers.astype(np.uint8).reshape(SIDE, SIDE)
    words = text.split()
    for place, word in enumerate(words, 1):
        if not word.removeprefix(b"-").isdigit():
            return f"pixel {place} is {_shown(word)}, not a whole number"
        if len(word) > 9 or not 0 <= int(word) <= 255:
            return f"pixel {place} is {_shown(word)}, expected 0 to 255"
    if len(words) != SIDE * SIDE:
        return f"{len(words):,} pixels, expected {SIDE * SIDE:,}"
    return np.array([int(word) for word in words], np.uint8).reshape(SIDE, SIDE)
