"""A data set looked over: counts, votes, and every finding of `mien.measuring.findings` in one `Audit`.

It draws nothing and changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from mien.errors import InputError, NotFound, need_extra
from mien.expressions import EXPRESSIONS, FERPLUS
from mien.measuring import findings as look
from mien.measuring.evaluation import among
from mien.measuring.faceset import FaceSet
from mien.measuring.ferplus import most_voted
from mien.measuring.findings import Finding
from mien.measuring.predictions import read_predictions
from mien.reading.faces import CenterFace
from mien.reading.recognizer import DEFAULT_MODEL, load_model

CLEAN = ("twin", "conflict", "flat", "no-face")
"""The findings whose rows a clean data set leaves out by default: those that are facts rather than estimates."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything that was found in a data set.

    Attributes:
        data: File name, checksum and number of rows.
        counts: Rows by split and label; "unlabelled" is a label here.
        votes: What FER+ says of the labels; None without votes.
        findings: In the order of the page.
        left_out: What was not looked for, and why.
    """

    data: dict[str, Any]
    counts: dict[str, dict[str, int]]
    votes: dict[str, Any] | None
    findings: tuple[Finding, ...]
    left_out: tuple[str, ...] = ()

    def to_dict(self, faces: FaceSet) -> dict[str, Any]:
        """Plain values, ready for JSON; indices become row numbers of the source."""

        def finding(each: Finding) -> dict[str, Any]:
            groups = [
                {"rows": faces.rows[list(group)].tolist(), "note": note}
                for group, note in zip(each.groups, each.notes, strict=True)
            ]
            drop = faces.rows[np.array(each.drop, np.int64)].tolist()
            return {"title": each.title, "numbers": dict(each.numbers), "groups": groups, "drop": drop}

        return {
            "data": self.data,
            "counts": self.counts,
            "votes": self.votes,
            "findings": {each.reason: finding(each) for each in self.findings},
            "left_out": list(self.left_out),
        }

    def exclusions(self, faces: FaceSet, wanted: Sequence[str] | None = None) -> dict[int, list[str]]:
        """Row numbers to leave out, each with its reasons, for `mien.measuring.exclusion.write_exclusions`.

        Args:
            faces: The data set of the audit.
            wanted: Whose rows to leave out; None for those of `CLEAN` that were looked for.

        Raises:
            NotFound: A reason that is none, or that was not looked for.
        """
        found = {each.reason: each for each in self.findings}
        reasons: dict[int, list[str]] = {}
        for word in [word for word in CLEAN if word in found] if wanted is None else dict.fromkeys(wanted):
            if word not in look.REASONS:
                raise NotFound.named("finding", word, found)
            if word not in found:
                raise NotFound(f"{word} was not looked for, only {', '.join(found)}; the audit's page says why")
            for row in faces.rows[np.array(found[word].drop, np.int64)].tolist():
                reasons.setdefault(row, []).append(word)
        return reasons


def audit(
    faces: FaceSet,
    *,
    model: str | PathLike[str] = DEFAULT_MODEL,
    probabilities: str | PathLike[str] | None = None,
    quick: bool = False,
    report: Callable[[str], None] = lambda step: None,
) -> Audit:
    """Look a data set over.

    Args:
        faces: The whole data set; with votes, if FER+ has any for it.
        model: Whose features and logits help to find near twins and doubtful labels.
        probabilities: A csv as `mien predict` writes it, of a system that did not learn from the rows in it; instead
            of cross-validation.
        quick: Only what takes seconds and needs no extra: counts, exact twins, flat images, votes.
        report: Called with the name of each longer step.

    Raises:
        MissingExtra: The audit extra is not installed, and `quick` was not asked for.
        InputError: There are no rows, or `probabilities` beside `quick`.
        FileError, Damaged, NotFound: The model or the probabilities cannot be read.
    """
    if not len(faces):
        raise InputError("expected at least one row to look at, but there is none")
    if quick and probabilities is not None:
        raise InputError("a quick audit looks for no doubtful labels; leave out quick or the probabilities")
    if not quick:
        purpose = "looking for near twins and doubtful labels (--quick goes without)"
        need_extra("audit", purpose, "sklearn", "cleanlab")
    given = None if probabilities is None else _given(faces, Path(probabilities))
    found = [look.twins(faces), look.conflicts(faces), look.flat(faces)]
    left_out: list[str] = []
    if faces.votes is not None:
        found += [look.faceless(faces), look.outvoted(faces)]
    if quick:
        left_out.append("near twins, faces in images without votes, and doubtful labels: this was a quick audit")
    else:
        recognizer = load_model(model)
        report("looking for near twins")
        found.append(look.near(faces, recognizer.path))
        report("looking for faces")
        found.append(look.unseen(faces, CenterFace(side=look.FRAME, min_score=0.1)))
        report("looking for doubtful labels")
        doubts = look.doubted(faces, recognizer, given)
        if isinstance(doubts, str):
            left_out.append(doubts)
        else:
            found.append(doubts)
    found.sort(key=lambda finding: look.REASONS.index(finding.reason))
    data = {"file": faces.name, "sha256": faces.checksum, "rows": len(faces), "damaged": faces.dropped}
    return Audit(data, faces.counts(), votes(faces), tuple(found), tuple(left_out))


# Counts


def votes(faces: FaceSet) -> dict[str, Any] | None:
    """What FER+'s ten people say of the labels, over the rows that have votes and a label.

    Returns:
        `rows`; `agree`, how many labels are what most votes say (of a tie the first in FER+'s order);
        `agreement`, rows by the number of votes for the most voted; `entropy_bits`, the mean entropy of the votes by
        label; `table`, rows by label and most voted. None without votes.
    """
    if faces.votes is None:
        return None
    asked = (faces.votes.sum(1) > 0) & (faces.labels >= 0)
    given, labels = faces.votes[asked].astype(np.int64), faces.labels[asked]
    most = given.argmax(1)
    shares = given / np.maximum(given.sum(1, keepdims=True), 1)
    entropy = -(shares * np.log2(shares, out=np.zeros_like(shares), where=shares > 0)).sum(1)
    table = np.zeros((len(EXPRESSIONS), len(FERPLUS)), np.int64)
    np.add.at(table, (labels, most), 1)
    return {
        "rows": int(asked.sum()),
        "agree": int((most_voted(faces.votes[asked]) == labels).sum()),
        "agreement": np.bincount(given.max(1), minlength=11).tolist() if len(given) else [0] * 11,
        "entropy_bits": {
            str(e): round(float(entropy[labels == k].mean()), 4)
            for k, e in enumerate(EXPRESSIONS)
            if (labels == k).any()
        },
        "table": table.tolist(),
    }


def _given(faces: FaceSet, path: Path) -> tuple[Int64[np.ndarray, "k"], np.ndarray]:
    """The labelled rows that a table of probabilities covers, and those of the seven expressions."""
    table = read_predictions(path)
    covered = np.fromiter((row in table for row in faces.rows.tolist()), bool, len(faces))
    index = np.flatnonzero(covered & (faces.labels >= 0))
    if len(set(faces.labels[index].tolist())) < 2:
        raise InputError(f"{path} has probabilities of {len(index):,} labelled rows of {faces.source}; expected more")
    return index, among(np.array([table[row] for row in faces.rows[index].tolist()]), EXPRESSIONS)
