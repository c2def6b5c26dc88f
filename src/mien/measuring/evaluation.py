"""Any predictor x split -> Report. ONNX files and training runs are measured by the same lines.

Roles: Training is learned from, PublicTest chooses (its scores are selection scores), PrivateTest is scored once.
"""

import csv
import json
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from mien.errors import Damaged, FileError, InputError
from mien.expressions import EXPRESSIONS
from mien.measuring import metrics
from mien.measuring.faceset import FaceSet
from mien.storage import check_suffix, write_whole

SELECTION_SPLIT = "PublicTest"
PREDICTIONS = (".csv", ".npz")
"""Suffixes of the files that `write_predictions` writes."""

_COLUMNS = ["row", *(f"p{k}" for k in range(len(EXPRESSIONS)))]  # of its CSV files

CHUNK = 512


@runtime_checkable
class Predictor(Protocol):
    """Anything that tells expressions of grey faces."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def probabilities(self, faces: UInt8[np.ndarray, "B 48 48"]) -> Float[np.ndarray, "B 7"]:
        """Probabilities in the order of `EXPRESSIONS`; rows sum to 1."""
        ...


def predict(predictor: Predictor, faces: FaceSet, *, mirror: bool = False) -> Float[np.ndarray, "N 7"]:
    """Probabilities of every row of `faces`, in chunks.

    Args:
        predictor: What to ask.
        faces: Whose images; labels are not looked at.
        mirror: Average with the mirrored image.
    """

    def chunked(images: UInt8[np.ndarray, "N 48 48"]) -> Float[np.ndarray, "N 7"]:
        parts = [
            predictor.probabilities(np.ascontiguousarray(images[k : k + CHUNK])) for k in range(0, len(images), CHUNK)
        ]
        return np.concatenate(parts).astype(np.float64)

    if not len(faces):
        raise InputError("expected at least one row to predict, but there is none")
    single = chunked(faces.images)
    return (single + chunked(faces.images[:, :, ::-1])) / 2 if mirror else single


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one set of rows. Shares are in [0, 1]; `nll` is in nats.

    Attributes:
        n: Rows.
        accuracy: Share of rows that are right, `interval` its 95 % bootstrap interval.
        macro_f1: Mean F1 over the expressions.
        recall: By expression; None where an expression has no row.
        nll: Mean negative log-likelihood.
        ece: Expected calibration error, 15 bins.
        confusion: Rows by true expression, columns by answer.
        binary_accuracy: Only for recipes that claim in this measure; its floor is 6/7.
    """

    n: int
    accuracy: float
    interval: tuple[float, float]
    macro_f1: float
    recall: dict[str, float | None]
    nll: float
    ece: float
    confusion: list[list[int]]
    binary_accuracy: float | None = None

    @classmethod
    def of(cls, probabilities: metrics.Probabilities, labels: metrics.Labels, *, binary: bool = False) -> "Scores":
        """Measure one set of rows."""
        confusion = metrics.confusion_matrix(probabilities, labels)
        recall = metrics.recalls(confusion)
        return cls(
            n=len(labels),
            accuracy=metrics.accuracy(probabilities, labels),
            interval=metrics.bootstrap_interval(metrics.correct(probabilities, labels)),
            macro_f1=metrics.macro_f1(confusion),
            recall={e: None if np.isnan(r) else float(r) for e, r in zip(EXPRESSIONS, recall, strict=True)},
            nll=metrics.negative_log_likelihood(probabilities, labels),
            ece=metrics.calibration_error(probabilities, labels),
            confusion=confusion.tolist(),
            binary_accuracy=metrics.binary_accuracy(probabilities, labels) if binary else None,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What a predictor scores on a split.

    Attributes:
        model: The predictor's name.
        split: Which rows.
        data: File name and checksum of the data set.
        scores: By view ("single view", "with mirror") and rows ("all", "without twins"), joined by ", ".
        twins: Rows whose exact image also stands in Training; None when the data has no Training rows.
        notes: What a reader must know beside the numbers.
        probabilities: Single-view probabilities, for plots; not part of the JSON.
        labels: The truth beside them.
    """

    model: str
    split: str
    data: dict[str, str]
    scores: dict[str, Scores]
    twins: int | None
    notes: list[str] = field(default_factory=list)
    probabilities: Any = field(default=None, repr=False, compare=False)
    labels: Any = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        keep = {k: getattr(self, k) for k in ("model", "split", "data", "twins", "notes")}
        return keep | {"scores": {name: asdict(scores) for name, scores in self.scores.items()}}

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=1)

    def to_markdown(self) -> str:
        """The report as Markdown: one table of scores, recalls, the confusion matrix, the notes."""
        parts = [
            f"# {self.model} on {self.split}",
            "\n".join(f"- {note}" for note in self.notes),
            scores_table(self.scores),
            "True expression by row, answer by column (single view, all rows):",
            confusion_table(next(iter(self.scores.values()))),
            f"Data: {self.data['file']}, sha-256 `{self.data['sha256']}`",
        ]
        return "\n\n".join(part for part in parts if part) + "\n"


def scores_table(scores: dict[str, Scores]) -> str:
    """Scores by view and rows as a Markdown table."""
    binary = any(s.binary_accuracy is not None for s in scores.values())
    head = ["view, rows", "n", "accuracy", "95 % interval", "macro-F1", "NLL", "ECE"]
    head += ["binary accuracy (floor 85.71 %)"] * binary
    rows = [
        [
            name,
            f"{s.n:,}",
            f"{s.accuracy:.2%}",
            f"{s.interval[0]:.2%} to {s.interval[1]:.2%}",
            f"{s.macro_f1:.3f}",
            f"{s.nll:.3f}",
            f"{s.ece:.2%}",
            *([f"{s.binary_accuracy:.2%}"] if s.binary_accuracy is not None else []),
        ]
        for name, s in scores.items()
    ]
    return markdown_table(head, rows)


def confusion_table(scores: Scores) -> str:
    """The confusion matrix with recalls as a Markdown table: true expression by row, answer by column."""
    rows = [
        [f"**{e}**", *map(str, row), "-" if scores.recall[e] is None else f"{scores.recall[e]:.1%}"]
        for e, row in zip(EXPRESSIONS, scores.confusion, strict=True)
    ]
    return markdown_table(["", *EXPRESSIONS, "recall"], rows)


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def evaluate(predictor: Predictor, faces: FaceSet, split: str, *, binary: bool = False) -> Report:
    """Score a predictor on one split, single view and with the mirrored view, with and without twins.

    Args:
        predictor: A `Recognizer`, a training run, or anything with `probabilities`. If it has `notes`, a list of
            sentences, the report repeats them.
        faces: The data set; its Training rows tell which images have an exact twin there.
        split: The name of the split.
        binary: Also give element-wise binary accuracy, for recipes that claim in it.

    Raises:
        NotFound: The data has no such split.
        InputError: The split is not labelled.
    """
    rows = _labelled(faces, split)
    views = {"single view": predict(predictor, rows), "with mirror": predict(predictor, rows, mirror=True)}
    report = _report(predictor.name, faces, split, rows, views, binary)
    report.notes[:0] = getattr(predictor, "notes", ())
    return report


def evaluate_predictions(path: str | PathLike[str], faces: FaceSet, split: str) -> Report:
    """Score a table of probabilities, whoever made it, on one split, with and without twins.

    Args:
        path: What `write_predictions` writes as CSV: row, p0 .. p6, a line for each row of the split.
        faces: The data set.
        split: The name of the split.

    Raises:
        FileError: The table cannot be read.
        Damaged: It is no such table, or it lacks rows of the split.
        NotFound, InputError: As `evaluate`.
    """
    rows = _labelled(faces, split)
    found = _read_predictions(Path(path))
    if missing := [int(row) for row in rows.rows if int(row) not in found]:
        raise Damaged(f"{path} lacks {len(missing):,} of the {len(rows):,} rows of {split}, as row {missing[0]}")
    probabilities = np.array([found[int(row)] for row in rows.rows])
    return _report(Path(path).stem, faces, split, rows, {"as predicted": probabilities}, binary=False)


def _labelled(faces: FaceSet, split: str) -> FaceSet:
    rows = faces.split(split)
    if unlabelled := int((rows.labels < 0).sum()):
        raise InputError(
            f"{unlabelled:,} of the {len(rows):,} rows of {split} have no label, so they cannot be scored; "
            f"write their probabilities instead: mien predict MODEL --data FILE --split {split} --out FILE"
        )
    return rows


def _report(
    name: str, faces: FaceSet, split: str, rows: FaceSet, views: dict[str, Float[np.ndarray, "N 7"]], binary: bool
) -> Report:
    notes: list[str] = []
    if split == SELECTION_SPLIT:
        notes.append(f"{split} chooses epochs and settings: this is a selection score, not a test score.")
    if split == "Training":
        notes.append("Training rows are learned from: this score says nothing about new faces.")
    parts = {"all": np.ones(len(rows), bool)}
    twins = None
    if "Training" in faces.splits and split != "Training":
        twin = rows.twins_in(faces, "Training")
        twins = int(twin.sum())
        if 0 < twins < len(rows):
            parts["without twins"] = ~twin
        notes.append(f"{twins:,} of {len(rows):,} images have an exact twin in Training.")
    else:
        notes.append("No Training rows in the data beside this split: exact twins were not looked for.")
    if binary:
        notes.append("Binary accuracy asks seven yes-or-no questions a face; answering no to all scores 85.71 %.")
    scores = {
        f"{view}, {part}": Scores.of(probabilities[where], rows.labels[where], binary=binary)
        for view, probabilities in views.items()
        for part, where in parts.items()
    }
    data = {"file": Path(faces.source).name, "sha256": faces.checksum}
    return Report(name, split, data, scores, twins, notes, next(iter(views.values())), rows.labels)


def _read_predictions(path: Path) -> dict[int, list[float]]:
    found = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            if (header := next(reader, [])) != _COLUMNS:
                raise ValueError(f"expected the columns {','.join(_COLUMNS)}, but got {','.join(header)!r}")
            for line in reader:
                row, *values = line
                found[int(row)] = [float(value) for value in values]
                if len(values) != len(EXPRESSIONS) or not 0.99 < sum(found[int(row)]) < 1.01:
                    raise ValueError(f"expected {len(EXPRESSIONS)} probabilities that sum to 1")
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        raise Damaged(f"{path}, line {reader.line_num}: {error}") from error
    return found


def write_predictions(
    path: str | PathLike[str], faces: FaceSet, probabilities: Float[np.ndarray, "N 7"]
) -> Path:
    """Write probabilities of rows, as a contest takes them: CSV (row, p0 .. p6, five decimals) or .npz by the suffix.

    Args:
        path: Ends in .csv or .npz; written whole or not at all.
        faces: Whose row numbers to write.
        probabilities: In the order of `EXPRESSIONS`.

    Raises:
        InputError: Another suffix.
    """
    check_suffix(path, *PREDICTIONS)
    if Path(path).suffix == ".npz":
        return write_whole(path, lambda file: np.savez(file, row=faces.rows, probabilities=probabilities), binary=True)

    def rows(file: Any) -> None:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row, values in zip(faces.rows, probabilities, strict=True):
            writer.writerow([int(row), *(f"{p:.5f}" for p in values)])

    return write_whole(path, rows)
