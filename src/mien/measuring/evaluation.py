"""Any predictor x split -> Report. ONNX files and training runs are measured by the same lines.

Roles: Training is learned from, PublicTest chooses (its scores are selection scores), PrivateTest is scored once.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from mien.errors import Damaged, InputError
from mien.expressions import EXPRESSIONS, Expression, Labels, answers
from mien.measuring import metrics
from mien.measuring.faceset import FaceSet
from mien.measuring.ferplus import relabelled, shares
from mien.measuring.predictions import read_predictions
from mien.measuring.sketch import KNOWN, share_known
from mien.reading.recognizer import VIEWS, check_views, views_of
from mien.recipes import Recipe

SELECTION_SPLIT = "PublicTest"
CHUNK = 512

_VIEW_NAMES = {"single": "single view", "mirror": "with mirror", "ten": "ten views"}


@runtime_checkable
class Predictor(Protocol):
    """Anything that tells expressions of grey faces."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def probabilities(self, faces: UInt8[np.ndarray, "B 48 48"]) -> Float[np.ndarray, "B C"]:
        """Probabilities of the seven `EXPRESSIONS`, or of every `Expression`, in their order; rows sum to 1."""
        ...


def predict(predictor: Predictor, faces: FaceSet, *, views: str = "single") -> Float[np.ndarray, "N C"]:
    """Probabilities of every row of `faces`, in chunks.

    Args:
        predictor: What to ask.
        faces: Whose images; labels are not looked at.
        views: One of `mien.reading.recognizer.VIEWS`, over which to average.

    Raises:
        InputError: There is no row, or no such views.
    """
    mean: Float[np.ndarray, "N C"] = _each_view(predictor, faces, views).mean(0)
    return mean


def _each_view(predictor: Predictor, faces: FaceSet, views: str) -> Float[np.ndarray, "V N C"]:
    """Probabilities of every row in each of its views, which are made in chunks: those of all may fill memory."""
    if not len(faces):
        raise InputError("expected at least one row to predict, but there is none")
    chunks = (np.ascontiguousarray(faces.images[k : k + CHUNK]) for k in range(0, len(faces), CHUNK))
    seen = [np.stack([_answers(predictor, view) for view in views_of(chunk, views)]) for chunk in chunks]
    return np.concatenate(seen, 1).astype(np.float64)


def _answers(predictor: Predictor, images: UInt8[np.ndarray, "B 48 48"]) -> Float[np.ndarray, "B C"]:
    """What a predictor says of some faces, which may be anything: a score of it would mean nothing then."""
    found = np.asarray(predictor.probabilities(images))
    name = name_of(predictor)
    wanted = f"expected a row of {len(EXPRESSIONS)} or {len(Expression)} probabilities for each of {len(images)} faces"
    if found.shape not in {(len(images), len(EXPRESSIONS)), (len(images), len(Expression))}:
        raise InputError(f"{wanted}, but {name!r} gave an array {found.shape}")
    if not np.isfinite(found).all():
        raise InputError(f"{wanted}, but {name!r} gave values that are no numbers; its weights may be damaged")
    if found.min() < 0 or np.abs(found.sum(1) - 1).max() > 0.01:
        raise InputError(f"{wanted}, but those of {name!r} do not sum to 1: are they logits, before a softmax?")
    return found


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
        binary_accuracy: Only for recipes that claim in this measure; its floor is (C - 1) / C, 6/7 for seven labels.
        divergence: Mean Kullback-Leibler distance from the FER+ votes in nats, where there are votes; over the
            rows in which an expression leads, and the expressions that labels and predictor both know.
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
    divergence: float | None = None

    @classmethod
    def of(
        cls,
        probabilities: metrics.Probabilities,
        labels: metrics.Labels,
        *,
        binary: bool = False,
        votes: Float[np.ndarray, "N K"] | None = None,
    ) -> "Scores":
        """Measure one set of rows, against the shares of the votes too where there are any."""
        confusion = metrics.confusion_matrix(probabilities, labels)
        recall = metrics.recalls(confusion)
        return cls(
            n=len(labels),
            accuracy=metrics.accuracy(probabilities, labels),
            interval=metrics.bootstrap_interval(metrics.correct(probabilities, labels)),
            macro_f1=metrics.macro_f1(confusion),
            recall={e: None if np.isnan(r) else float(r) for e, r in zip(Expression, recall, strict=False)},
            nll=metrics.negative_log_likelihood(probabilities, labels),
            ece=metrics.calibration_error(probabilities, labels),
            confusion=confusion.tolist(),
            binary_accuracy=metrics.binary_accuracy(probabilities, labels) if binary else None,
            divergence=metrics.divergence(probabilities, votes) if votes is not None and votes.any() else None,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What a predictor scores on a split.

    Attributes:
        model: The predictor's name.
        split: Which rows.
        labels_of: Whose labels they were scored by.
        data: File name and checksum of the data set.
        scores: By view ("single view", "with mirror", "ten views") and rows ("all", "without twins", and where it was
            asked for "without near twins", which leaves out exact ones too), joined by ", ".
        twins: Rows whose exact image also stands in Training; None when the data has no Training rows.
        notes: What a reader must know beside the numbers.
        twin_share: Share of the right answers (first view, all rows) that are on twins, in [0, 1]: what memory
            of exact twins alone could explain; near twins are not counted. None where twins are none or not known.
        probabilities: Single-view probabilities, for plots; not part of the JSON.
        labels: The truth beside them.
    """

    model: str
    split: str
    data: dict[str, str]
    scores: dict[str, Scores]
    twins: int | None
    labels_of: Labels = "fer2013"
    notes: list[str] = field(default_factory=list)
    twin_share: float | None = None
    probabilities: Any = field(default=None, repr=False, compare=False)
    labels: Any = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        keep = {k: getattr(self, k) for k in ("model", "split", "labels_of", "data", "twins", "twin_share", "notes")}
        return keep | {"scores": {name: asdict(scores) for name, scores in self.scores.items()}}

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=1)

    def to_markdown(self) -> str:
        """The report as Markdown: one table of scores, recalls, the confusion matrix, the notes."""
        first, scored = next(iter(self.scores.items()))
        parts = [
            f"# {self.model} on {self.split}",
            "\n".join(f"- {note}" for note in self.notes),
            scores_table(self.scores),
            f"True expression by row, answer by column ({first} rows):",
            confusion_table(scored),
            f"Data: {self.data['file']}, sha-256 `{self.data['sha256']}`",
        ]
        return "\n\n".join(part for part in parts if part) + "\n"


def scores_table(scores: dict[str, Scores]) -> str:
    """Scores by view and rows as a Markdown table."""
    head = ["view, rows", "n", "accuracy", "95 % interval", "macro-F1", "NLL", "ECE"]
    first = next(iter(scores.values()))
    if first.binary_accuracy is not None:
        head.append(f"binary accuracy (floor {_binary_floor(len(first.confusion))})")
    voted = any(s.divergence is not None for s in scores.values())
    head += ["KL to votes"] * voted
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
            *(["-" if s.divergence is None else f"{s.divergence:.3f}"] * voted),
        ]
        for name, s in scores.items()
    ]
    return markdown_table(head, rows)


def _binary_floor(classes: int) -> str:
    """What saying no to everything scores in binary accuracy."""
    return f"{100 - 100 / classes:.2f} %"


def confusion_table(scores: Scores) -> str:
    """The confusion matrix with recalls as a Markdown table: true expression by row, answer by column."""
    rows = [
        [f"**{e}**", *map(str, row), "-" if recall is None else f"{recall:.1%}"]
        for (e, recall), row in zip(scores.recall.items(), scores.confusion, strict=True)
    ]
    return markdown_table(["", *scores.recall, "recall"], rows)


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def evaluate(
    predictor: Predictor,
    faces: FaceSet,
    split: str,
    *,
    binary: bool = False,
    labels: Labels = "fer2013",
    views: str = "mirror",
    near: Int64[np.ndarray, "K"] | None = None,
) -> Report:
    """Score a predictor on one split, with one view and with more, with and without twins.

    Args:
        predictor: A `Recognizer`, a training run, or anything with `probabilities`. If it has `notes`, a list of
            sentences, the report repeats them.
        faces: The data set; its Training rows tell which images have an exact twin there.
        split: The name of the split.
        binary: Also give element-wise binary accuracy, for recipes that claim in it.
        labels: By whose labels. Where these are FER2013's, the contempt of a predictor that knows it is left out
            and the rest scaled to 1; where they are FER+'s, a predictor of seven answers contempt never.
        views: The last of `mien.reading.recognizer.VIEWS` to score; those before it are scored too.
        near: Also score without these rows, by number, and without exact twins: `mien.measuring.near.near_in_training`
            tells them.

    Raises:
        NotFound: The data has no such split.
        InputError: The split is not labelled, or has no votes where the labels are FER+'s; there are no such views; or
            the predictor averages views of its own.
    """
    check_views(views)
    need_single(predictor)
    rows = labelled(faces, split, labels)
    seen = _each_view(predictor, rows, views)
    # The views of each kind are the first of those of the next.
    counts = {each: len(views_of(rows.images[:1], each)) for each in VIEWS[: VIEWS.index(views) + 1]}
    found = {_VIEW_NAMES[each]: seen[:count].mean(0) for each, count in counts.items()}
    report = _report(name_of(predictor), faces, split, labels, rows, found, binary, near)
    notes = role_notes(split, recipes_of(predictor), known_to(predictor, rows))
    report.notes[:0] = [*getattr(predictor, "notes", ()), *notes]
    return report


def name_of(predictor: Any) -> str:
    """What reports call a predictor."""
    return str(getattr(predictor, "name", type(predictor).__name__))


def need_single(predictor: Predictor) -> None:
    """Refuse a predictor that averages views of its own, which a report would take for one.

    Raises:
        InputError: It does.
    """
    if (own := getattr(predictor, "views", "single")) != "single":
        raise InputError(
            f"expected a predictor that looks at each face once, but {name_of(predictor)} was loaded with "
            f"views={own!r}; load it without"
        )


def trained_by(predictor: Any) -> Recipe:
    """The recipe of a run, a saved pair or an exported model, of an ensemble its first member's.

    Raises:
        Damaged: The file of a model holds no recipe.
    """
    if hasattr(predictor, "recipe"):
        recipe: Recipe = predictor.recipe
        return recipe
    try:
        return Recipe.from_json(predictor.card.recipe)
    except InputError as error:
        raise Damaged(f"{predictor.path}: {error}") from error


def recipes_of(predictor: Any) -> list[Recipe]:
    """The recipes of a predictor: one, of an ensemble each member's, of a stranger's none.

    Raises:
        Damaged: The file of a model holds no recipe.
    """
    if not (hasattr(predictor, "recipe") or hasattr(predictor, "card")):
        return []
    members = predictor.card.scores.get("members", []) if hasattr(predictor, "card") else []
    return [Recipe.from_json(json.dumps(member["recipe"])) for member in members] or [trained_by(predictor)]


def known_to(predictor: Any, rows: FaceSet) -> float | None:
    """About what share of the rows a predictor learned from; None where that cannot be told."""
    return share_known(rows.images, getattr(getattr(predictor, "card", predictor), "learned", ""))


def role_notes(split: str, recipes: Sequence[Recipe] = (), known: float | None = None) -> list[str]:
    """What the part that a split played in training means for the score there.

    Args:
        split: Its name; Training and the split that chooses by custom are known by it.
        recipes: Those of the predictor, as far as they are known.
        known: `known_to` of them.
    """
    if known is not None and known > KNOWN:
        return [f"It learned from about {known:.0%} of these faces: this score says little about new ones."]
    if split == "Training":
        told = "this score says nothing about new faces, unless the network learned from others."
        return [f"Training rows are learned from: {told}"]
    if learned := [recipe.protocol for recipe in recipes if split in recipe.protocol.train]:
        return [f"Rows of {split} may be among those it learned from: its recipe {learned[0]}."]
    if any(split == recipe.protocol.chooser != SELECTION_SPLIT for recipe in recipes):
        return [f"The {split} rows chose the epoch: this is a selection score, not a test score."]
    if split == SELECTION_SPLIT:
        return [f"{split} chooses epochs and settings: this is a selection score, not a test score."]
    return []


def evaluate_predictions(
    path: str | PathLike[str],
    faces: FaceSet,
    split: str,
    *,
    labels: Labels = "fer2013",
    near: Int64[np.ndarray, "K"] | None = None,
) -> Report:
    """Score a table of probabilities, whoever made it, on one split, with and without twins.

    Args:
        path: What `write_predictions` writes as CSV: row, p0 .. p6 (or p7), a line for each row of the split. A
            probability of 0 counts as 0.000005, the largest of which five decimals leave nothing.
        faces: The data set.
        split: The name of the split.
        labels, near: As `evaluate`.

    Raises:
        FileError: The table cannot be read.
        Damaged: It is no such table, or it lacks rows of the split.
        NotFound, InputError: As `evaluate`.
    """
    rows = labelled(faces, split, labels)
    found = read_predictions(Path(path))
    if missing := [int(row) for row in rows.rows if int(row) not in found]:
        raise Damaged(f"{path} lacks {len(missing):,} of the {len(rows):,} rows of {split}, as row {missing[0]}")
    probabilities = np.array([found[int(row)] for row in rows.rows])
    probabilities[probabilities == 0] = 5e-6
    report = _report(Path(path).stem, faces, split, labels, rows, {"as predicted": probabilities}, False, near)
    report.notes[:0] = role_notes(split)
    return report


def labelled(faces: FaceSet, split: str, labels: Labels) -> FaceSet:
    """The rows of a split that have such a label, with it.

    Raises:
        NotFound: The data has no such split.
        InputError: A row is not labelled, or there are no votes where the labels are FER+'s.
    """
    rows = relabelled(faces.split(split), labels)
    if unlabelled := int((rows.labels < 0).sum()):
        raise InputError(
            f"{unlabelled:,} of the {len(rows):,} rows of {split} have no label, so they cannot be scored; "
            f"write their probabilities instead: mien predict MODEL --data FILE --split {split} --out FILE"
        )
    return rows


def _report(
    name: str,
    faces: FaceSet,
    split: str,
    labels: Labels,
    rows: FaceSet,
    views: dict[str, Float[np.ndarray, "N C"]],
    binary: bool,
    near: Int64[np.ndarray, "K"] | None,
) -> Report:
    own = next(iter(views.values())).shape[1]
    views = {view: among(probabilities, answers(labels)) for view, probabilities in views.items()}
    votes = None if rows.votes is None else shares(rows.votes, min(own, len(answers(labels))))
    notes = [*faces.notes, *label_notes(rows, labels, own, votes)]
    parts = {"all": np.ones(len(rows), bool)}
    twins = twin_share = None
    first = next(iter(views.values()))
    if "Training" in faces.splits and split != "Training":
        twin = rows.twins_in(faces, "Training")
        twins = int(twin.sum())
        if 0 < twins < len(rows):
            parts["without twins"] = ~twin
        notes.append(f"{twins:,} of {len(rows):,} images have an exact twin in Training.")
        hits = metrics.correct(first, rows.labels)
        if twins and hits.any():
            twin_share = float((hits & twin).sum() / hits.sum())
            notes.append(
                f"{twin_share:.1%} of the right answers ({next(iter(views))}) are on those twins: "
                "so much memory of exact twins alone could explain; near twins are not counted."
            )
        if near is not None:
            others = np.isin(rows.rows, near) & ~twin
            if 0 < others.sum() < (~twin).sum():
                parts["without near twins"] = ~twin & ~others
            notes.append(
                f"{others.sum():,} more show the picture of a Training image in another version (near twins); "
                '"without near twins" leaves out both.'
            )
    else:
        notes.append("No Training rows in the data beside this split: exact twins were not looked for.")
    if binary:
        asked = first.shape[1]
        floor = _binary_floor(asked)
        notes.append(f"Binary accuracy asks {asked} yes-or-no questions a face; answering no to all scores {floor}.")
    scores = {
        f"{view}, {part}": Scores.of(
            probabilities[where],
            rows.labels[where],
            binary=binary,
            votes=None if votes is None else votes[where],
        )
        for view, probabilities in views.items()
        for part, where in parts.items()
    }
    data = {"file": faces.name, "sha256": faces.checksum}
    return Report(name, split, data, scores, twins, labels, notes, twin_share, first, rows.labels)


def new_pictures(rows: FaceSet, faces: FaceSet, near: Int64[np.ndarray, "K"]) -> Bool[np.ndarray, "N"]:
    """Which rows of a split show pictures that are not in the Training rows of `faces`, in whatever version.

    Args:
        rows: Of one split.
        faces: All of them.
        near: What `mien.measuring.near.near_in_training` told of that split.
    """
    where: Bool[np.ndarray, "N"] = ~(rows.twins_in(faces, "Training") | np.isin(rows.rows, near))
    return where


def among(probabilities: Float[np.ndarray, "N C"], expressions: tuple[Expression, ...]) -> Float[np.ndarray, "N K"]:
    """Probabilities of the expressions that can be right: others are left out, what is not answered gets none."""
    kept = probabilities[:, : len(expressions)]
    if kept.shape != probabilities.shape:
        kept = kept / np.maximum(kept.sum(1, keepdims=True), 1e-12)  # a table may hold nothing but contempt
    return np.pad(kept, ((0, 0), (0, len(expressions) - kept.shape[1])))


def label_notes(
    rows: FaceSet, labels: Labels, own: int, votes: Float[np.ndarray, "N K"] | None = None
) -> list[str]:
    """Which labels these are, and what becomes of contempt where only they or only the predictor's `own` know it."""
    notes = []
    if labels != "fer2013":
        rule = "the majority of the FER+ votes" if labels == "ferplus" else "the most frequent FER+ vote"
        notes.append(f"A label is {rule}; rows in which none is an expression are left out.")
    if own < len(answers(labels)):
        unreachable = int((rows.labels >= own).sum())
        notes.append(
            f"The predictor cannot answer contempt. Rows of that label, {unreachable:,} of {len(rows):,}, count as "
            "wrong, with a probability of 1e-12 in the NLL."
        )
    if own > len(answers(labels)):
        notes.append("The predictor's contempt is left out, and the rest scaled to 1: these labels do not know it.")
    if votes is not None and votes.any():
        notes.append(
            f"KL to votes: mean Kullback-Leibler distance in nats from the FER+ votes for {votes.shape[1]} "
            f"expressions, on the {int(votes.any(1).sum()):,} of {len(rows):,} rows in which an expression leads."
        )
    return notes
