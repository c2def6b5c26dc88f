"""Readings -> JSON objects and rows of tables. The one place that knows the columns."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

from mien.errors import need_extra
from mien.expressions import EXPRESSIONS, Expression
from mien.reading.recognizer import Reading
from mien.reading.tracks import TrackedReading
from mien.storage import check_suffix, suffix_of, write_whole

COLUMNS = (
    *("source", "frame", "time_s", "track", "x", "y", "w", "h", "score"),
    *("expression", "confidence", "uncertain"),
    *(f"p_{expression}" for expression in EXPRESSIONS),
    "flags",
)
"""The columns of every table: one row a face and image; an image without a face keeps a row with these empty."""


def columns_for(labels: Sequence[Expression]) -> tuple[str, ...]:
    """`COLUMNS` with one more for contempt, where a network answers it."""
    more = (f"p_{expression}" for expression in labels if expression not in EXPRESSIONS)
    return (*COLUMNS[:-1], *more, COLUMNS[-1])


RAW = tuple(f"raw_{expression}" for expression in EXPRESSIONS)
"""Further columns of a video's rows: the frame's own probabilities, where `p_...` are smoothed over time."""

SHIFT = tuple(f"shift_{expression}" for expression in EXPRESSIONS)
"""And with a baseline: the smoothed probabilities less those of the resting face; empty while it is being taken."""

Row = dict[str, Any]

_GROUP = 20_000  # rows of Parquet that are held at once


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo and what was read in it; sizes in pixels of the upright image.

    Tables and JSON give `source` as it is, but for bytes of a file's name that are not UTF-8: they become escapes,
    as `\\udce9` for the byte E9, so that every program can read what is written.
    """

    source: str
    width: int
    height: int
    model: str
    readings: list[Reading]


def to_object(photo: Photo) -> dict[str, Any]:
    """The JSON object of a photo: plain Python values, boxes rounded to a tenth of a pixel."""
    return {
        "source": as_text(photo.source),
        "width": photo.width,
        "height": photo.height,
        "model": photo.model,
        "faces": [_object(reading) for reading in photo.readings],
    }


def _object(reading: Reading) -> dict[str, Any]:
    return {
        "box": [round(v, 1) for v in reading.face.box],
        "score": round(reading.face.score, 4),
        "expression": str(reading.expression),
        "confidence": round(reading.confidence, 4),
        "uncertain": reading.uncertain,
        "probabilities": {str(e): round(p, 4) for e, p in reading.probabilities.items()},
        "flags": list(reading.flags),
    }


def as_text(name: str) -> str:
    """A source as tables and JSON give it: bytes of a name that are not UTF-8 become escapes."""
    return name.encode(errors="backslashreplace").decode()


def to_rows(photo: Photo) -> Iterator[Row]:
    """The rows of a photo, with every column of `COLUMNS`; None where there is nothing to say."""
    blank: Row = dict.fromkeys(COLUMNS) | {"source": as_text(photo.source)}
    if not photo.readings:
        yield blank
    for reading in photo.readings:
        yield blank | _row(reading)


def _row(reading: Reading) -> Row:
    face = _object(reading)
    return {
        **dict(zip("xywh", face["box"], strict=True)),
        **{name: face[name] for name in ("score", "expression", "confidence", "uncertain")},
        **{f"p_{expression}": p for expression, p in face["probabilities"].items()},
        "flags": " ".join(face["flags"]),
    }


def frame_rows(
    source: str, number: int, time_s: float, readings: Sequence[TrackedReading], columns: Sequence[str]
) -> Iterator[Row]:
    """The rows of a video's frame, with every one of `columns`; one with None where there is no face."""
    blank: Row = dict.fromkeys(columns) | {"source": as_text(source), "frame": number, "time_s": time_s}
    if not readings:
        yield blank
    for reading in readings:
        row = blank | _row(reading) | {"track": reading.track}
        row |= {name: round(p, 4) for name, p in zip(RAW, reading.raw.values(), strict=True)}
        if reading.shift is not None:
            row |= {name: round(p, 4) for name, p in zip(SHIFT, reading.shift.values(), strict=True)}
        yield row


def check_form(path: str | PathLike[str], *suffixes: str) -> None:
    """Refuse a table before long work rather than after it.

    Args:
        path: The file that shall be written.
        suffixes: What it may end in; .csv or .parquet where none is given.

    Raises:
        InputError: It ends in something else.
        MissingExtra: Parquet without pyarrow.
    """
    check_suffix(path, *(suffixes or (".csv", ".parquet")))
    if suffix_of(path) == ".parquet":
        need_extra("parquet", "writing Parquet", "pyarrow")


def write_table(
    path: str | PathLike[str],
    rows: Iterable[Row],
    columns: Sequence[str] = COLUMNS,
    *,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write rows as .csv or .parquet by the suffix, whole or not at all, in constant memory.

    Args:
        path: The file.
        rows: Values by column; None where there is nothing to say.
        columns: The columns, in their order.
        notes: Metadata of a Parquet file.

    Raises:
        InputError: Another suffix.
        MissingExtra: Parquet without pyarrow.
        FileError: The file cannot be written.
    """
    check_form(path)
    path = Path(path)
    if suffix_of(path) == ".csv":

        def write(file: Any) -> None:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

        return write_whole(path, write)
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"frame": pa.int64(), "track": pa.int64(), "uncertain": pa.bool_()}
    kinds |= dict.fromkeys(("source", "expression", "flags", "reason"), pa.string())
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in columns], notes)

    def write_groups(file: Any) -> None:
        left = iter(rows)
        with pq.ParquetWriter(file, schema) as writer:
            while group := list(islice(left, _GROUP)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))

    return write_whole(path, write_groups, binary=True)
