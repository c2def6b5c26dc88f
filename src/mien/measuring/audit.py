"""What is wrong with a data set: twins, conflicts, flat and faceless images, labels that are doubted.

Each check gives a `Finding`: numbers, the rows it is about, and which of them a clean data set would leave out. It
draws nothing and changes nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Int64

from mien.errors import InputError, MissingExtra, NotFound
from mien.expressions import EXPRESSIONS, FERPLUS, FERPLUS_TO_LABEL
from mien.measuring import metrics
from mien.measuring.evaluation import read_predictions
from mien.measuring.faceset import FaceSet
from mien.measuring.near import FLAT, SIMILAR, near_twins
from mien.measuring.noise import FOLDS, cross_validated, doubtful
from mien.reading.faces import CenterFace, FaceDetector
from mien.reading.recognizer import Recognizer, load_model

MAJORITY = 6  # votes of ten that are more than half
REASONS = ("twin", "conflict", "near-twin", "flat", "no-face", "vote", "label")
CLEAN = ("twin", "conflict", "flat", "no-face")
"""The findings whose rows a clean data set leaves out by default: those that are facts rather than estimates."""

_NF = FERPLUS.index("NF")
_KEPT = {"Training": 0, "PublicTest": 1, "validation": 1, "PrivateTest": 2, "test": 2}
"""Of twins the one in the split furthest from training is kept: test sets stay whole, and training knows less."""

_FRAME = (64, 128)  # pixels of an image when a face is looked for in it, and of the grey picture around
_MIN_SCORE = 0.1  # the lowest that the detector takes


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of trouble.

    Attributes:
        reason: One word, for file names, JSON and lists of rows to leave out.
        title: A heading.
        text: How it was looked for, and what it means.
        numbers: What was counted.
        groups: Indices into the FaceSet that belong together, the most telling group first.
        notes: A few words on each group.
        drop: Indices that a clean data set leaves out for this reason.
        alike: The images of a group are equal, so that one stands for all.
    """

    reason: str
    title: str
    text: str
    numbers: dict[str, int | float]
    groups: tuple[tuple[int, ...], ...] = ()
    notes: tuple[str, ...] = ()
    drop: tuple[int, ...] = ()
    alike: bool = False


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
            return {"title": each.title, "numbers": each.numbers, "groups": groups, "drop": drop}

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
        for word in [word for word in CLEAN if word in found] if wanted is None else wanted:
            if word not in found:
                raise NotFound.named("finding", word, found)
            for row in faces.rows[np.array(found[word].drop, np.int64)].tolist():
                reasons.setdefault(row, []).append(word)
        return reasons


def audit(
    faces: FaceSet,
    *,
    model: str | PathLike[str] = "mien-small",
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
    if not quick and (missing := [name for name in ("sklearn", "cleanlab") if find_spec(name) is None]):
        purpose = f"looking for near twins and doubtful labels ({', '.join(missing)} not found; --quick goes without)"
        raise MissingExtra.of("audit", purpose)
    given = None if probabilities is None else _given(faces, Path(probabilities))
    findings = [twins(faces), conflicts(faces), flat(faces)]
    left_out: list[str] = []
    if quick:
        findings += [faceless(faces, None)] if faces.votes is not None else []
        left_out.append("near twins, faces in images without votes, and doubtful labels: this was a quick audit")
    else:
        recognizer = load_model(model)
        report("looking for faces")
        findings.append(faceless(faces, CenterFace(side=_FRAME[1], min_score=_MIN_SCORE)))
        report("looking for near twins")
        findings.insert(2, near(faces, recognizer.path))
    if faces.votes is not None:
        findings.append(outvoted(faces))
    if not quick:
        report("looking for doubtful labels")
        doubts = doubted(faces, recognizer, given)
        if isinstance(doubts, str):
            left_out.append(doubts)
        else:
            findings.append(doubts)
    data = {"file": Path(faces.source).name, "sha256": faces.checksum, "rows": len(faces), "damaged": faces.dropped}
    return Audit(data, counts(faces), votes(faces), tuple(findings), tuple(left_out))


# Counts


def counts(faces: FaceSet) -> dict[str, dict[str, int]]:
    """Rows by split and label."""
    table = {}
    for split in faces.sizes:
        labels = faces.labels[faces.splits == split]
        table[split] = {str(e): int((labels == k).sum()) for k, e in enumerate(EXPRESSIONS)}
        table[split]["unlabelled"] = int((labels < 0).sum())
    return table


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
        "agree": int((np.array(FERPLUS_TO_LABEL)[most] == labels).sum()),
        "agreement": np.bincount(given.max(1), minlength=11).tolist() if len(given) else [0] * 11,
        "entropy_bits": {
            str(e): round(float(entropy[labels == k].mean()), 4)
            for k, e in enumerate(EXPRESSIONS)
            if (labels == k).any()
        },
        "table": table.tolist(),
    }


# Findings that are facts


def twins(faces: FaceSet) -> Finding:
    """Groups of rows whose pixels are all equal."""
    groups = [tuple(group.tolist()) for group in faces.twin_groups()]
    across = [len(set(faces.splits[list(group)])) > 1 for group in groups]
    order = sorted(range(len(groups)), key=lambda k: (not across[k], -len(groups[k]), groups[k]))
    numbers = {
        "groups": len(groups),
        "images": sum(map(len, groups)),
        "copies beyond the first": sum(len(group) - 1 for group in groups),
        "groups in more than one split": sum(across),
    }
    if "Training" in faces.sizes:
        training = faces.split("Training")
        for split in faces.sizes:
            if split != "Training":
                numbers[f"images of {split} in Training"] = int(faces.split(split).twins_in(training).sum())
    text = (
        "Images that are equal in every pixel. One copy is kept, in the split furthest from training, so that test "
        "sets stay whole. A network may remember a twin in Training instead of reading the face."
    )
    ordered = [groups[k] for k in order]
    return Finding(
        "twin", "Exact twins", text, numbers, tuple(ordered), tuple(_summed(faces, group) for group in ordered),
        tuple(sorted(k for group in groups for k in _surplus(faces, group))), alike=True,
    )


def conflicts(faces: FaceSet) -> Finding:
    """Exact twins whose labels differ."""
    groups, hidden = [], 0
    for group in faces.twin_groups():
        labels = set(faces.labels[group].tolist())
        if len(labels - {-1}) > 1:
            groups.append(tuple(group.tolist()))
        elif -1 in labels:
            hidden += 1
    numbers = {
        "groups": len(groups),
        "images": sum(map(len, groups)),
        "groups with a hidden label that may conflict": hidden,
    }
    text = (
        "One picture, several labels: at most one is right, and none can be learned. Only labels that are known are "
        "compared; in groups with unlabelled rows a conflict may hide."
    )
    groups.sort(key=lambda group: (-len(group), group))
    drop = tuple(sorted(k for group in groups for k in group))
    notes = tuple(_summed(faces, group) for group in groups)
    return Finding("conflict", "Twins in conflict", text, numbers, tuple(groups), notes, drop, alike=True)


def flat(faces: FaceSet) -> Finding:
    """Images that show nothing."""
    spread = faces.images.std((1, 2))
    found = np.flatnonzero(spread < FLAT)
    found = found[np.argsort(spread[found], kind="stable")]
    text = f"Images whose pixels have a standard deviation below {FLAT:g} (of 255): there is nothing to see."
    notes = tuple(f"{_member(faces, k)}, deviation {spread[k]:.1f}" for k in found)
    return Finding("flat", "Flat images", text, {"images": len(found)}, _singles(found), notes, tuple(found.tolist()))


def faceless(faces: FaceSet, detector: FaceDetector | None) -> Finding:
    """Images that most FER+ voters call no face, and among those without votes the ones where no face is found.

    Args:
        faces: The data set.
        detector: What looks at images without votes; None to leave them.
    """
    given = np.zeros((len(faces), len(FERPLUS)), np.uint8) if faces.votes is None else faces.votes
    asked = given.sum(1) > 0
    voted = np.flatnonzero(given[:, _NF] >= MAJORITY)
    voted = voted[np.argsort(-given[voted, _NF].astype(int), kind="stable")]
    looked = np.flatnonzero(~asked) if detector is not None else np.empty(0, np.int64)
    unseen = [] if detector is None else [k for k in looked.tolist() if not _has_face(faces.images[k], detector)]
    numbers = {
        "images with votes": int(asked.sum()),
        "no face by votes": len(voted),
        "images looked at by the detector": len(looked),
        "no face found by the detector": len(unseen),
    }
    text = (
        f"By FER+: {MAJORITY} votes or more of ten say that there is no face. Images without votes are shown to the "
        "face detector, enlarged and within a grey frame. It misses faces that are turned away, lying or covered: on "
        "the 32,298 rows of FER2013 with votes, 68 of the 113 images without a face for it were none by the votes "
        "either, and 92 of 160 were still a face to it (drawings, mostly)."
    )
    found = [*voted.tolist(), *unseen]
    notes = [f"{_member(faces, k)}, {given[k, _NF]} votes" for k in voted]
    notes += [f"{_member(faces, k)}, no face found" for k in unseen]
    return Finding("no-face", "No face", text, numbers, _singles(found), tuple(notes), tuple(found))


def outvoted(faces: FaceSet) -> Finding:
    """Labels that more than half of FER+'s voters contradict with one and the same of the seven expressions."""
    assert faces.votes is not None
    most, top = faces.votes.argmax(1), faces.votes.max(1)
    meant = np.array(FERPLUS_TO_LABEL)[most]
    asked = (faces.votes.sum(1) > 0) & (faces.labels >= 0)
    clear = asked & (top >= MAJORITY) & (meant >= 0)
    found = np.flatnonzero(clear & (meant != faces.labels))
    found = found[np.argsort(-top[found].astype(int), kind="stable")]
    numbers = {
        "labelled images with votes": int(asked.sum()),
        "with a majority for one of the seven": int(clear.sum()),
        "outvoted": len(found),
        "share of those with a majority": round(len(found) / max(int(clear.sum()), 1), 4),
    }
    text = (
        f"Labels against which {MAJORITY} votes or more of FER+'s ten stand for one and the same other expression. "
        "Who is right is a matter of opinion; ten opinions are more than one."
    )
    notes = tuple(f"{_member(faces, k)}; {top[k]} votes for {EXPRESSIONS[meant[k]]}" for k in found)
    return Finding("vote", "Labels outvoted by FER+", text, numbers, _singles(found), notes, tuple(found.tolist()))


# Findings that are estimates


def near(faces: FaceSet, model: Path) -> Finding:
    """One picture in several versions: pairs that are nearly equal, joined to groups, exact twins included."""
    pairs = near_twins(faces, model)
    best: dict[int, float] = {}
    for pair in pairs:
        for k in (pair.first, pair.second):
            best[k] = max(best.get(k, -1), pair.similarity)
    exact = [group.tolist() for group in faces.twin_groups()]
    joined = _joined([*((pair.first, pair.second) for pair in pairs), *(tuple(g[:2]) for g in exact),
                      *((g[0], k) for g in exact for k in g[2:])])
    groups = [group for group in joined if any(k in best for k in group)]
    mirrored = {k for pair in pairs if pair.mirrored for k in (pair.first, pair.second)}
    numbers: dict[str, int | float] = {
        "pairs": len(pairs),
        "mirrored pairs": sum(pair.mirrored for pair in pairs),
        "groups": len(groups),
        "images": sum(map(len, groups)),
        "groups in more than one split": sum(len(set(faces.splits[list(group)])) > 1 for group in groups),
    }
    leaking = _leaking(faces, groups)
    if "Training" in faces.sizes:
        training = faces.split("Training")
        for split in faces.sizes:
            if split != "Training":
                inside = np.flatnonzero(leaking & (faces.splits == split))
                only_near = ~faces.take(inside).twins_in(training)
                numbers[f"images of {split} with a near twin, but no exact one, in Training"] = int(only_near.sum())
    text = (
        "The same picture cropped, mirrored, lightened or compressed in another way, or beside it in a series. "
        f"Neighbours in a network's features are compared in their details at several shifts and zooms; from a "
        f"correlation of {SIMILAR:g} they count as one picture. Exact copies are counted along. What a clean data set "
        "would leave out (if asked to) are those in a split nearer to training than another of the group."
    )

    groups.sort(key=lambda group: (len(set(faces.splits[list(group)])) == 1, -max(best.get(k, 0) for k in group), group))
    notes = tuple(
        f"{_members(faces, group)}; {max(best.get(k, 0) for k in group):.3f}"
        + (", mirrored" if mirrored & set(group) else "")
        for group in groups
    )
    drop = tuple(sorted(k for group in groups for k in _surplus(faces, group, across=True)))
    return Finding("near-twin", "Near twins", text, numbers, tuple(groups), notes, drop)


def doubted(
    faces: FaceSet, recognizer: Recognizer, given: tuple[Int64[np.ndarray, "k"], np.ndarray] | None
) -> Finding | str:
    """Labels that probabilities from outside their own training contradict; or why there is nothing to say.

    Args:
        faces: The data set.
        recognizer: Whose logits a cross-validated classifier is built on.
        given: Indices of labelled rows and their probabilities, instead of that.
    """
    if given is not None:
        index, probabilities = given
        how = "The probabilities were given; they should come from a system that did not learn from these rows."
    else:
        index = np.flatnonzero(faces.labels >= 0)
        sizes = np.bincount(faces.labels[index], minlength=len(EXPRESSIONS))
        if (sizes > 0).sum() < 2 or sizes[sizes > 0].min() < FOLDS:
            return f"doubtful labels: that takes two expressions or more, each with {FOLDS} images or more"
        probabilities = cross_validated(faces.take(index), recognizer)
        how = (
            f"The probabilities are those of a logistic regression on the logits of {recognizer.name}, {FOLDS} folds, "
            "exact twins in one fold. The network itself does leak: it learned from FER2013's Training rows and, if it "
            "is mien-small, from FER+'s votes on them. Among those rows it agrees with wrong labels too often, so "
            "the list is too short there, and its agreement with FER+ proves nothing; on PublicTest and on other data "
            "it is fair. Probabilities from networks trained on folds (--probabilities) are better."
        )
    labels = faces.labels[index].astype(np.int64)
    chosen = doubtful(labels, probabilities)
    found, answer = index[chosen], probabilities.argmax(1)
    numbers: dict[str, int | float] = {
        "labelled images looked at": len(index),
        "accuracy of the probabilities": round(metrics.accuracy(probabilities, labels), 4),
        "doubtful labels": len(found),
    }
    if faces.votes is not None:
        differs = _differs(faces)
        for split in faces.sizes:
            here, those = index[faces.splits[index] == split], found[faces.splits[found] == split]
            if len(here) and len(those):
                numbers[f"doubtful labels of {split}"] = len(those)
                numbers[f"of these, share that FER+ calls otherwise ({split})"] = round(float(differs[those].mean()), 4)
                numbers[f"of all, share that FER+ calls otherwise ({split})"] = round(float(differs[here].mean()), 4)
    text = (
        "Labels that are improbable by confident learning (cleanlab): both by how noisy their class is and by which "
        f"classes are mistaken for each other. {how}"
    )
    notes = tuple(
        f"{_member(faces, int(k))}; rather {EXPRESSIONS[answer[c]]}, {probabilities[c].max():.0%}"
        for k, c in zip(found, chosen, strict=True)
    )
    return Finding("label", "Doubtful labels", text, numbers, _singles(found), notes, tuple(found.tolist()))


# Parts


def _given(faces: FaceSet, path: Path) -> tuple[Int64[np.ndarray, "k"], np.ndarray]:
    """The labelled rows that a table of probabilities covers, and those."""
    table = read_predictions(path)
    index = np.array([k for k, row in enumerate(faces.rows.tolist()) if row in table and faces.labels[k] >= 0], np.int64)
    if len(set(faces.labels[index].tolist())) < 2:
        raise InputError(f"{path} has probabilities of {len(index):,} labelled rows of {faces.source}; expected more")
    return index, np.array([table[row] for row in faces.rows[index].tolist()])


def _differs(faces: FaceSet) -> Bool[np.ndarray, "N"]:
    """Where most FER+ votes stand for something other than the label."""
    assert faces.votes is not None
    differs: Bool[np.ndarray, "N"] = np.array(FERPLUS_TO_LABEL)[faces.votes.argmax(1)] != faces.labels
    return differs


def _has_face(image: np.ndarray, detector: FaceDetector) -> bool:
    side, frame = _FRAME
    edge = (frame - side) // 2
    picture = np.full((frame, frame), 128, np.uint8)
    picture[edge : edge + side, edge : edge + side] = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    return bool(detector.find(np.repeat(picture[..., None], 3, 2)))


def _joined(edges: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Groups of indices that edges connect, each in ascending order."""
    group: dict[int, set[int]] = {}
    for a, b in edges:
        one, other = group.setdefault(a, {a}), group.setdefault(b, {b})
        if one is not other:
            small, large = sorted((one, other), key=len)
            large |= small
            group.update(dict.fromkeys(small, large))
    return [tuple(sorted(members)) for members in {id(each): each for each in group.values()}.values()]


def _leaking(faces: FaceSet, groups: Iterable[Sequence[int]]) -> Bool[np.ndarray, "N"]:
    """Rows that share a group with a Training row."""
    leaking = np.zeros(len(faces), bool)
    for group in groups:
        if "Training" in faces.splits[list(group)]:
            leaking[list(group)] = True
    return leaking


def _surplus(faces: FaceSet, group: Sequence[int], *, across: bool = False) -> list[int]:
    """All of a group but the one to keep; `across`: only those in a split nearer to training than another."""
    ranks = {k: _KEPT.get(str(faces.splits[k]), 1) for k in group}
    last = max(ranks.values())
    kept = next(k for k in group if ranks[k] == last)
    return [k for k in group if (ranks[k] < last if across else k != kept)]


def _singles(found: Iterable[int]) -> tuple[tuple[int, ...], ...]:
    return tuple((int(k),) for k in found)


def _member(faces: FaceSet, k: int) -> str:
    return f"{faces.splits[k]} {faces.rows[k]}, {_label(faces, k)}"


def _members(faces: FaceSet, group: Sequence[int]) -> str:
    shown = "; ".join(_member(faces, k) for k in group[:6])
    return shown + (f"; and {len(group) - 6} more" if len(group) > 6 else "")


def _summed(faces: FaceSet, group: Sequence[int]) -> str:
    """How many rows of a group have which label in which split."""
    where = [(str(faces.splits[k]), _label(faces, k)) for k in group]
    parts = [f"{split}: {label} {count}" for (split, label), count in Counter(where).items()]
    return f"{len(group)} rows; {', '.join(parts)}"


def _label(faces: FaceSet, k: int) -> str:
    return str(EXPRESSIONS[faces.labels[k]]) if faces.labels[k] >= 0 else "unlabelled"
