"""Lists of rows that training and evaluation leave out: a small csv of row numbers and reasons.

A list belongs to one data set: it carries the checksum of that set's pixels, so that it fits the same rows from a csv
and from arrays, with or without votes, and no others.
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mien.errors import Damaged, FileError, InputError
from mien.measuring.faceset import FaceSet
from mien.storage import need_file, write_whole

_FIRST = "# {count} of {total} rows to leave out, pixels sha-256 {checksum}"
_PATTERN = re.compile(r"# (\d{1,12}) of (\d{1,12}) rows to leave out, pixels sha-256 ([0-9a-f]{64})")
_COLUMNS = ["row", "reason"]
_OPINIONS = {"vote": "voters", "label": "a network"}
"""Reasons that doubt a label rather than the picture, and who doubts: what is left is easier than what was there."""


def fingerprint(faces: FaceSet) -> str:
    """SHA-256 of the pixels and row numbers of a whole data set: the same from a csv and from arrays, with and without
    votes, as long as the rows and their order are.

    A set that rows were left out of by a list has that of the whole one.
    """
    if faces.whole:
        return faces.whole
    digest = sha256(np.ascontiguousarray(faces.images).data)
    digest.update(np.ascontiguousarray(faces.rows, np.int64).data)
    return digest.hexdigest()


def write_exclusions(path: str | PathLike[str], faces: FaceSet, reasons: Mapping[int, Sequence[str]]) -> Path:
    """Write a list of rows to leave out, whole or not at all.

    Args:
        path: A line that tells the data set, the columns `row` and `reason`, then a line for each row.
        faces: The whole data set.
        reasons: Words for why, by row number; several are written with blanks between.
    """

    def write(file: Any) -> None:
        file.write(_FIRST.format(count=len(reasons), total=len(faces), checksum=fingerprint(faces)) + "\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([row, " ".join(reasons[row])] for row in sorted(reasons))

    return write_whole(path, write)


def exclude(faces: FaceSet, path: str | PathLike[str], *, split: str | None = None) -> FaceSet:
    """A data set without the rows of a list.

    Args:
        faces: The whole data set that the list was made for.
        path: What `write_exclusions` wrote.
        split: Leave rows out of this split only. An evaluation needs all of Training to look for twins there.

    Returns:
        The rest. Its source names the list; its notes, which reports repeat, tell how many rows are left out and why;
        its checksum is that of the data's and the list's, as hex, one after the
        other, so that a run cannot be resumed with another list.

    Raises:
        FileError: The list cannot be read.
        Damaged: It is no such list, or not whole.
        InputError: It was made for another data set, or leaves nothing.
    """
    path = Path(path)
    need_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    total, checksum, listed = _parse(path, content)
    if total != len(faces):
        raise InputError(f"{path} was made for a data set of {total:,} rows, but {faces.source} has {len(faces):,}")
    if checksum != fingerprint(faces):
        raise InputError(f"{path} was made for other faces than those of {faces.source}; make one with mien data audit")
    if unknown := listed.keys() - set(faces.rows.tolist()):
        raise Damaged(f"{path} names row {min(unknown)}, which is not in {faces.source}")
    asked = np.ones(len(faces), bool) if split is None else faces.splits == split
    out = asked & np.isin(faces.rows, list(listed))
    if out.all():
        raise InputError(f"{path} leaves no row of {faces.source}")
    both = sha256((faces.checksum + sha256(content).hexdigest()).encode()).hexdigest()
    reasons = [listed[row] for row in faces.rows[out].tolist()]
    notes = _notes(path.name, reasons, f"{int(asked.sum()):,} rows" + f" of {split}" * (split is not None))
    source = f"{faces.source} without {path.name}"
    return replace(faces.take(~out), source=source, checksum=both, notes=(*faces.notes, *notes), whole=checksum)


def _notes(name: str, reasons: Sequence[Sequence[str]], of: str) -> list[str]:
    """What a report must say: how many rows are left out and why, and what that does to a score."""
    counts = Counter(word for words in reasons for word in words)
    why = f" ({', '.join(f'{word} {count:,}' for word, count in counts.most_common())})" if counts else ""
    notes = [f"{len(reasons):,} of {of} are left out by {name}{why}."]
    if doubted := sum(not _OPINIONS.keys().isdisjoint(words) for words in reasons):
        who = " or ".join(whose for word, whose in _OPINIONS.items() if word in counts)
        notes.append(
            f"**Not comparable with scores of all rows:** {doubted:,} of those left out have labels that {who} "
            "doubted, hard faces with right labels among them: what is left is easier."
        )
    return notes


def _parse(path: Path, content: bytes) -> tuple[int, str, dict[int, list[str]]]:
    """The number of rows and the checksum of the data that a list is for, and the reasons of the rows that it lists."""
    lines = content.decode("utf-8-sig", "replace").splitlines()
    first = _PATTERN.fullmatch(lines[0]) if lines else None
    if first is None or lines[1:2] != [",".join(_COLUMNS)]:
        make = "mien data audit DATA --out FOLDER --write-clean FILE"
        raise Damaged(f"{path} is no list of rows to leave out; make one with: {make}")
    listed = {}
    for number, line in enumerate(lines[2:], 3):
        row, _, reasons = line.partition(",")
        if not re.fullmatch(r"\d{1,12}", row, re.ASCII):
            raise Damaged(f"{path}, line {number}: expected a row number, but got {row[:60]!r}")
        listed[int(row)] = reasons.split()
    if len(listed) != int(first[1]):
        raise Damaged(f"{path} is not whole: it lists {len(listed):,} rows, expected {int(first[1]):,}")
    return int(first[2]), first[3], listed
