"""How a predictor holds out when pictures get worse: each corruption at five strengths, on one split."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from mien.errors import InputError
from mien.expressions import Labels, answers
from mien.measuring import metrics
from mien.measuring.corruptions import CORRUPTIONS, corrupt
from mien.measuring.evaluation import (
    SELECTION_SPLIT,
    Predictor,
    among,
    known_to,
    label_notes,
    labelled,
    markdown_table,
    name_of,
    need_single,
    predict,
    recipes_of,
    role_notes,
)
from mien.measuring.faceset import FaceSet

KEPT_ACCURACY = 0.85  # accuracy on PublicTest of the answers at or above a model's threshold


@dataclass(frozen=True, slots=True)
class Point:
    """Scores at one strength, single view. Shares are in [0, 1].

    Attributes:
        accuracy: Share of all rows that are right.
        ece: Expected calibration error, 15 bins.
        coverage: Share of the rows that are answered: their confidence reaches the threshold.
        accuracy_answered: Share of the answered rows that are right; None where none is answered.
    """

    accuracy: float
    ece: float
    coverage: float
    accuracy_answered: float | None

    @classmethod
    def of(cls, probabilities: metrics.Probabilities, labels: metrics.Labels, threshold: float) -> "Point":
        """Measure one set of rows."""
        hits = metrics.correct(probabilities, labels)
        answered = probabilities.max(1) >= threshold
        return cls(
            accuracy=float(hits.mean()),
            ece=metrics.calibration_error(probabilities, labels),
            coverage=float(answered.mean()),
            accuracy_answered=float(hits[answered].mean()) if answered.any() else None,
        )


@dataclass(frozen=True, slots=True)
class Robustness:
    """What a predictor scores on a split whose images were made worse.

    Attributes:
        model: The predictor's name.
        split: Which rows.
        n: How many.
        data: File name and checksum of the data set.
        threshold: Confidence from which a row counts as answered.
        clean: The images as they are.
        points: By corruption and strength.
        notes: What a reader must know beside the numbers.
        labels_of: Whose labels they were scored by.
    """

    model: str
    split: str
    n: int
    data: dict[str, str]
    threshold: float
    clean: Point
    points: dict[str, dict[float, Point]]
    notes: list[str]
    labels_of: Labels = "fer2013"

    def to_json(self) -> str:
        """As JSON text; strengths, being keys, are text there."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Robustness":
        """Read back what `to_json` wrote."""
        values = json.loads(text)
        values["clean"] = Point(**values["clean"])
        values["points"] = {
            name: {float(strength): Point(**point) for strength, point in points.items()}
            for name, points in values["points"].items()
        }
        return cls(**values)

    def to_markdown(self) -> str:
        """As Markdown: a line for each corruption and strength."""
        notes = "\n".join(f"- {note}" for note in self.notes)
        data = f"Data: {self.data['file']}, sha-256 `{self.data['sha256']}`"
        head = f"# {self.model} on worse pictures of {self.split} (n = {self.n:,})"
        return "\n\n".join((head, notes, self.table(), data)) + "\n"

    def table(self) -> str:
        """Every score: a line for each corruption and strength."""
        head = ["corruption", "strength", "accuracy", "points lost", "ECE", "answered", "of it right"]
        rows = [["none", "-", *_cells(self.clean, self.clean)]]
        for name, points in self.points.items():
            unit = CORRUPTIONS[name].unit
            rows += [[name, f"{s:g} ({unit})", *_cells(point, self.clean)] for s, point in points.items()]
        return markdown_table(head, rows)

    def short_table(self) -> str:
        """Accuracy alone: a line for each corruption, its strengths side by side."""
        rows = [
            [f"{name} ({CORRUPTIONS[name].unit})", *(f"{s:g}: {p.accuracy:.1%}" for s, p in points.items())]
            for name, points in self.points.items()
        ]
        return markdown_table(["corruption", "mild", "", "", "", "severe"], rows)


def _cells(point: Point, clean: Point) -> list[str]:
    return [
        f"{point.accuracy:.1%}",
        f"{100 * (clean.accuracy - point.accuracy):.1f}",
        f"{point.ece:.1%}",
        f"{point.coverage:.1%}",
        "-" if point.accuracy_answered is None else f"{point.accuracy_answered:.1%}",
    ]


def evaluate_corrupted(
    predictor: Predictor,
    faces: FaceSet,
    split: str = SELECTION_SPLIT,
    *,
    labels: Labels = "fer2013",
    threshold: float | None = None,
    seed: int = 0,
    progress: Callable[[str], object] = lambda name: None,
) -> Robustness:
    """Score a predictor on one split, as it is and under every corruption; 56 times the work of one pass.

    Args:
        predictor: A `Recognizer`, a training run, or anything with `probabilities`. If it has `notes`, a list of
            sentences, they are repeated.
        faces: The data set.
        split: The name of the split.
        labels: By whose labels, as `mien.measuring.evaluation.evaluate`.
        threshold: Confidence from which a row is answered; None: the lowest at which 85 % of the clean answers are
            right.
        seed: Of directions, places and noise.
        progress: Called with each corruption's name before it is measured.

    Raises:
        NotFound: The data has no such split.
        InputError: The split is not labelled, or has no votes where the labels are FER+'s, or the threshold is no
            probability.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"threshold should be from 0 to 1, but is {threshold}")
    need_single(predictor)
    rows = labelled(faces, split, labels)
    answered = predict(predictor, rows)
    clean = among(answered, answers(labels))
    notes = [*getattr(predictor, "notes", ()), *role_notes(split, recipes_of(predictor), known_to(predictor, rows))]
    notes += faces.notes
    notes += label_notes(rows, labels, answered.shape[1])
    if threshold is None:
        threshold = metrics.threshold_for(clean, rows.labels, KEPT_ACCURACY)
        at = f"at {threshold:.1%}" if threshold < 1 else "at none"
        notes.append(f"The model brings no threshold; {at} {KEPT_ACCURACY:.0%} of the clean are right.")
    else:
        notes.append(f"Answered: a confidence of {threshold:.1%} or more, the model's own threshold.")
    points: dict[str, dict[float, Point]] = {}
    for name, corruption in CORRUPTIONS.items():
        progress(name)
        points[name] = {}
        for strength in corruption.strengths:
            worse = predict(predictor, replace(rows, images=corrupt(rows.images, name, strength, seed=seed)))
            points[name][strength] = Point.of(among(worse, answers(labels)), rows.labels, threshold)
    return Robustness(
        model=name_of(predictor),
        split=split,
        n=len(rows),
        data={"file": faces.name, "sha256": faces.checksum},
        threshold=threshold,
        clean=Point.of(clean, rows.labels, threshold),
        points=points,
        notes=notes,
        labels_of=labels,
    )
