"""FER+ votes as labels: the majority of ten taggers, or the distribution of their votes.

In both, an answer with a single vote counts as a slip and is zeroed. A row without any votes is unlabelled.

- "ferplus": the label is the answer with more than half of the remaining votes; rows without one are dropped, and
  those whose answer is "unknown" or "NF" (no face).
- "ferplus-votes": the target is the share of each expression among the remaining votes, "unknown" and "NF" left out;
  rows in which one of these two leads are dropped. The label, for accuracies, is the expression that leads; of equals
  the first of `Expression`.

Source: https://arxiv.org/abs/1608.01041 (Barsoum et al.), and for the rule of the majority
https://github.com/microsoft/FERPlus, src/ferplus.py.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int64, UInt8

from mien.errors import InputError
from mien.expressions import FERPLUS, FERPLUS_TO_LABEL, Expression, Labels
from mien.measuring.faceset import FaceSet

MAJORITY = 6
"""Votes of ten that are more than half."""

_COLUMNS = [*(FERPLUS_TO_LABEL.index(label) for label in range(7)), *map(FERPLUS.index, ("contempt", "unknown", "NF"))]


def relabelled(faces: FaceSet, labels: Labels) -> FaceSet:
    """The rows that have a label of this kind, with it; rows without votes stay, unlabelled.

    Args:
        faces: A data set, with votes where the labels are FER+'s.
        labels: Which; with "fer2013" nothing changes.

    Raises:
        InputError: FER+ labels are asked for and there are no votes.
    """
    if labels == "fer2013":
        return faces
    if faces.votes is None:
        raise InputError(
            f"labels {labels!r} are made of FER+ votes, but {faces.source} has none; name the FER+ file: "
            "--ferplus fer2013new.csv"
        )
    found = _leading(_kept(faces.votes), majority=labels == "ferplus")
    voted = faces.votes.any(1)
    return replace(faces, labels=found).take((found >= 0) | ~voted)


def targets(faces: FaceSet, labels: Labels) -> Int64[np.ndarray, "N"] | Float32[np.ndarray, "N 8"]:
    """What a loss compares with: the labels of a `relabelled` set, or the shares of its votes."""
    if labels == "ferplus-votes":
        assert faces.votes is not None
        return shares(faces.votes)
    return faces.labels.astype(np.int64)


def most_voted(votes: UInt8[np.ndarray, "N 10"]) -> Int8[np.ndarray, "N"]:
    """The label that most votes are for, of equals the first in FER+'s order; -1 where that is none of the seven."""
    labels: Int8[np.ndarray, "N"] = np.array(FERPLUS_TO_LABEL, np.int8)[votes.argmax(1)]
    return labels


def non_faces(votes: UInt8[np.ndarray, "N 10"]) -> Bool[np.ndarray, "N"]:
    """Rows that more than half of ten taggers call no face, or none that is framed as it should be."""
    where: Bool[np.ndarray, "N"] = votes[:, FERPLUS.index("NF")] >= MAJORITY
    return where


def shares(votes: UInt8[np.ndarray, "N 10"], known: int = len(Expression)) -> Float32[np.ndarray, "N K"]:
    """The share of each of the first `known` expressions among the votes for them.

    A row of zeros where no expression leads the votes, or none of these was voted for.
    """
    kept = _kept(votes)
    expressions = np.where(_leading(kept, majority=False)[:, None] >= 0, kept[:, :known], 0)
    result: Float32[np.ndarray, "N K"] = expressions / np.maximum(expressions.sum(1, keepdims=True), np.float32(1))
    return result


def _kept(votes: UInt8[np.ndarray, "N 10"]) -> Float32[np.ndarray, "N 10"]:
    """Votes by `Expression`, then "unknown" and "NF", without single ones."""
    ordered = votes[:, _COLUMNS]
    result: Float32[np.ndarray, "N 10"] = np.where(ordered > 1, ordered, 0).astype(np.float32)
    return result


def _leading(kept: Float32[np.ndarray, "N 10"], *, majority: bool) -> Int8[np.ndarray, "N"]:
    """The label with the most votes; -1 where that is no expression, or where it has no majority but should."""
    leader, most = kept.argmax(1), kept.max(1)
    enough = 2 * most > kept.sum(1) if majority else most > 0
    return np.where(enough & (leader < len(Expression)), leader, -1).astype(np.int8)
