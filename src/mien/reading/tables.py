"""Readings -> JSON objects and rows of tables. The one place that knows the columns."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

from mien.errors import MissingExtra
from mien.expressions import EXPRESSIONS
from mien.reading.recognizer import Reading
from mien.storage import check_suffix, write_whole

COLUMNS = (
    *("source", "frame", "time_s", "track", "x", "y", "w", "h", "score"),
    *("expression", "confidence", "uncertain"),
    *(f"p_{expression}" for expression in EXPRESSIONS),
    "flags",
)
"""The columns of every table: one row a face and image; an image without a face keeps a row with these empty."""

Row = dict[str, Any]


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
        "source": _text(photo.source),
        "width": photo.width,
        "height": photo.height,
        "model": photo.model,
        "faces": [
            {
                "box": [round(v, 1) for v in reading.face.box],
                "score": round(reading.face.score, 4),
                "expression": str(reading.expression),
                "confidence": round(reading.confidence, 4),
                "uncertain": reading.uncertain,
                "probabilities": {str(e): round(p, 4) for e, p in reading.probabilities.items()},
                "flags": list(reading.flags),
            }
            for reading in photo.readings
        ],
    }


def _text(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()


def to_rows(photo: Photo) -> Iterator[Row]:
    """The rows of a photo, with every column of `COLUMNS`; None where there is nothing to say."""
    blank: Row = dict.fromkeys(COLUMNS) | {"source": _text(photo.source)}
    if not photo.readings:
        yield blank
    for face in to_object(photo)["faces"]:
        yield blank | {
            **dict(zip("xywh", face["box"], strict=True)),
            **{name: face[name] for name in ("score", "expression", "confidence", "uncertain")},
            **{f"p_{expression}": p for expression, p in face["probabilities"].items()},
            "flags": " ".join(face["flags"]),
        }


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
    if Path(path).suffix == ".parquet" and find_spec("pyarrow") is None:
        raise MissingExtra.of("parquet", "writing Parquet")


def write_table(path: str | PathLike[str], rows: Iterable[Row]) -> Path:
    """Write rows as .csv or .parquet by the suffix, whole or not at all.

    Raises:
        InputError: Another suffix.
        MissingExtra: Parquet without pyarrow.
        FileError: The file cannot be written.
    """
    check_form(path)
    path = Path(path)
    if path.suffix == ".csv":

        def write(file: Any) -> None:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

        return write_whole(path, write)
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"frame": pa.int64(), "track": pa.int64(), "uncertain": pa.bool_()}
    kinds |= dict.fromkeys(("source", "expression", "flags"), pa.string())
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in COLUMNS])
    table = pa.Table.from_pylist(list(rows), schema=schema)
    return write_whole(path, lambda file: pq.write_table(table, file), binary=True)
