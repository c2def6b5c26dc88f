"""Probabilities of rows as files: what `mien predict` writes, contests take and any other system can write too."""

import csv
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mien.errors import Damaged, FileError
from mien.expressions import Expression
from mien.measuring.faceset import FaceSet
from mien.storage import check_suffix, need_file, suffix_of, write_whole

PREDICTIONS = (".csv", ".npz")
"""Suffixes of the files that `write_predictions` writes."""

_COLUMNS = ["row", *(f"p{k}" for k in range(len(Expression)))]  # of its CSV files; p7 where there is contempt

_LARGEST = 300_000_000  # bytes of such a file, five million rows


def read_predictions(path: Path) -> dict[int, list[float]]:
    """The probabilities in a CSV of `write_predictions`, by row number.

    Raises:
        FileError: The table cannot be read.
        Damaged: It is no such table.
    """
    found = {}
    need_file(path, most=_LARGEST)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # Excel marks what it saves
            reader = csv.reader(file)
            header = next(reader, [])
            if header not in (_COLUMNS[:-1], _COLUMNS):
                raise ValueError(f"expected the columns {','.join(_COLUMNS[:-1])}, but got {','.join(header)!r}")
            for line in filter(None, reader):  # an empty last line is none
                row, values = int(line[0]), [float(value) for value in line[1:]]
                if row in found:
                    raise ValueError(f"row {row} is there twice")
                wanted = f"expected {len(header) - 1} probabilities that sum to 1"
                if len(values) != len(header) - 1:
                    raise ValueError(f"{wanted}, but got {len(values)}")
                if min(values) < 0 or not 0.99 < sum(values) < 1.01:
                    raise ValueError(f"{wanted}, but the lowest is {min(values):g} and the sum {sum(values):g}")
                found[row] = values
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        raise Damaged(f"{path}, line {reader.line_num}: {error}") from error
    return found


def write_predictions(
    path: str | PathLike[str], faces: FaceSet, probabilities: Float[np.ndarray, "N C"]
) -> Path:
    """Write probabilities of rows, as a contest takes them: CSV (row, p0 .. p6 or p7, five decimals) or .npz by suffix.

    Args:
        path: Ends in .csv or .npz; written whole or not at all.
        faces: Whose row numbers to write.
        probabilities: Of the seven `EXPRESSIONS`, or of every `Expression`.

    Raises:
        InputError: Another suffix.
    """
    check_suffix(path, *PREDICTIONS)
    if suffix_of(path) == ".npz":
        return write_whole(path, lambda file: np.savez(file, row=faces.rows, probabilities=probabilities), binary=True)

    def rows(file: Any) -> None:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS[: 1 + probabilities.shape[1]])
        for row, values in zip(faces.rows, probabilities, strict=True):
            writer.writerow([int(row), *(f"{p:.5f}" for p in values)])

    return write_whole(path, rows)
