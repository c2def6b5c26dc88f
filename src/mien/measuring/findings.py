"""The findings of an audit, one function each: twins, conflicts, near twins, flat and faceless images, doubted labels.

They give indices and numbers; what becomes of them is for others to say.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int64

from mien.expressions import EXPRESSIONS, FERPLUS
from mien.measuring import metrics
from mien.measuring.faceset import FaceSet
from mien.measuring.ferplus import MAJORITY, most_voted, non_faces
from mien.measuring.near import FLAT, SIMILAR, deviations, near_twins, shown_in
from mien.measuring.noise import FOLDS, cross_validated, doubtful
from mien.reading.faces import FaceDetector
from mien.reading.recognizer import Recognizer

REASONS = ("twin", "conflict", "near-twin", "flat", "no-face", "no-face-found", "vote", "label")
"""One word for each finding, for file names, JSON and lists of rows to leave out; the order of the page."""
OF_VOTES = {"no-face", "vote"}
"""Those that only FER+ votes tell."""
OF_MODELS = {"near-twin", "no-face-found", "label"}
"""Those that a quick audit does not look for."""

_KEPT = {"Training": 0, "PublicTest": 1, "validation": 1, "PrivateTest": 2, "test": 2}
"""Of twins the one in the split furthest from training is kept, so that training knows less of test sets."""

_ENLARGED = 64  # pixels a side of an image when a face is looked for in it
FRAME = 128  # and of the grey picture around


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
    numbers: Mapping[str, float]
    groups: tuple[tuple[int, ...], ...] = ()
    notes: tuple[str, ...] = ()
    drop: tuple[int, ...] = ()
    alike: bool = False


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
        "Images that are equal in every pixel. One copy is kept, in the split furthest from training: Training loses "
        "what a test set has too, and no split has a picture twice. A network may remember a twin in Training instead "
        "of reading the face."
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
    spread = deviations(faces)
    found = np.flatnonzero(spread < FLAT)
    found = found[np.argsort(spread[found], kind="stable")]
    text = f"Images whose pixels have a standard deviation below {FLAT:g} (of 255): there is nothing to see."
    notes = tuple(f"{_member(faces, k)}, deviation {spread[k]:.1f}" for k in found.tolist())
    rows = found.tolist()
    return Finding("flat", "Flat images", text, {"images": len(found)}, _alone(rows), notes, tuple(rows))


def faceless(faces: FaceSet) -> Finding:
    """Images that more than half of FER+'s voters call no face."""
    assert faces.votes is not None
    against = faces.votes[:, FERPLUS.index("NF")].astype(int)
    found = np.flatnonzero(non_faces(faces.votes))
    found = found[np.argsort(-against[found], kind="stable")]
    numbers = {"images with votes": int((faces.votes.sum(1) > 0).sum()), "images": len(found)}
    text = f"{MAJORITY} votes or more of FER+'s ten say that there is no face, or none that is framed as it should be."
    notes = tuple(f"{_member(faces, k)}; {against[k]} votes" for k in found.tolist())
    rows = found.tolist()
    return Finding("no-face", "No face, by FER+", text, numbers, _alone(rows), notes, tuple(rows))


def outvoted(faces: FaceSet) -> Finding:
    """Labels that more than half of FER+'s voters contradict with one and the same of the seven expressions."""
    assert faces.votes is not None
    meant, top = most_voted(faces.votes), faces.votes.max(1)
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
    notes = tuple(f"{_member(faces, k)}; {top[k]} votes for {EXPRESSIONS[meant[k]]}" for k in found.tolist())
    rows = found.tolist()
    return Finding("vote", "Labels outvoted by FER+", text, numbers, _alone(rows), notes, tuple(rows))


# Findings that are estimates


def near(faces: FaceSet, model: Path) -> Finding:
    """One picture in several versions: pairs that are nearly equal, joined to groups, exact twins included."""
    pairs = near_twins(faces, model)
    exact = [(int(group[0]), int(other)) for group in faces.twin_groups() for other in group[1:]]
    best: dict[int, float] = {}
    for pair in pairs:
        for k in (pair.first, pair.second):
            best[k] = max(best.get(k, -1.0), pair.similarity)
    mirrored = {k for pair in pairs if pair.mirrored for k in (pair.first, pair.second)}
    joined = _joined([*((pair.first, pair.second) for pair in pairs), *exact])
    closest = {group: max((best[k] for k in group if k in best), default=0.0) for group in joined}
    across = {group: len(set(faces.splits[list(group)])) > 1 for group in joined}
    groups = sorted((g for g in joined if closest[g]), key=lambda g: (not across[g], -closest[g], g))
    numbers: dict[str, float] = {
        "pairs": len(pairs),
        "mirrored pairs": sum(pair.mirrored for pair in pairs),
        "groups": len(groups),
        "images": sum(map(len, groups)),
        "groups in more than one split": sum(across[group] for group in groups),
    }
    if "Training" in faces.sizes:
        training, leaking = faces.split("Training"), shown_in(faces, pairs, "Training")
        for split in faces.sizes:
            if split != "Training":
                inside = faces.take(leaking & (faces.splits == split))
                only_near = int((~inside.twins_in(training)).sum())
                numbers[f"images of {split} with a near twin, but no exact one, in Training"] = only_near
    text = (
        "The same picture cropped, mirrored, lightened or compressed in another way, or beside it in a series. "
        "Neighbours in a network's features are compared in their details at several shifts and zooms; from a "
        f"correlation of {SIMILAR:g} they count as one picture. Exact copies are counted along. Groups may hang "
        "together through others; what has a near twin in Training is counted by pairs. A list of rows to "
        "leave out, if asked for these, has those in a split nearer to training than another of their group."
    )
    notes = tuple(
        f"{_members(faces, group)}; {closest[group]:.3f}" + (", mirrored" if mirrored & set(group) else "")
        for group in groups
    )
    drop = tuple(sorted(k for group in groups for k in _surplus(faces, group, across=True)))
    return Finding("near-twin", "Near twins", text, numbers, tuple(groups), notes, drop)


def unseen(faces: FaceSet, detector: FaceDetector) -> Finding:
    """Images without votes in which a detector finds no face."""
    asked = np.zeros(len(faces), bool) if faces.votes is None else faces.votes.sum(1) > 0
    looked = np.flatnonzero(~asked)
    found = [k for k in looked.tolist() if not _has_face(faces.images[k], detector)]
    text = (
        "Images without votes, enlarged and within a grey frame, in which the face detector finds nothing. Look before "
        "you leave them out: it misses faces that lie, are turned away or covered."
    )
    numbers = {"images looked at": len(looked), "images": len(found)}
    notes = tuple(_member(faces, k) for k in found)
    return Finding("no-face-found", "No face found", text, numbers, _alone(found), notes, tuple(found))


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
        labelled = faces.take(index)
        different = np.unique(np.stack([labelled.labels, labelled.twin_numbers()]), axis=1)  # copies are one picture
        present, sizes = np.unique(different[0], return_counts=True)
        if (sizes >= FOLDS).sum() < 2:
            return f"doubtful labels: that takes two expressions or more, each with {FOLDS} different images or more"
        index = index[np.isin(labelled.labels, present[sizes >= FOLDS])]
        labelled = faces.take(index)
        rare = ", ".join(str(EXPRESSIONS[k]) for k in present[sizes < FOLDS])
        probabilities = cross_validated(labelled, recognizer)
        how = (
            f"The probabilities are those of a logistic regression on the logits of {recognizer.name}, {FOLDS} folds, "
            "exact twins in one fold. The network itself leaks where it learned from these images: it agrees with "
            "their wrong labels too often, so the list is too short there, and its agreement with votes that it "
            "learned from proves nothing; on other images it is fair. Probabilities from networks trained on folds "
            "(--probabilities) are better."
        )
        how += f" Left out, with fewer than {FOLDS} different images: {rare}." * bool(rare)
    labels = faces.labels[index].astype(np.int64)
    chosen = doubtful(labels, probabilities)
    found, answer = index[chosen], probabilities.argmax(1)
    numbers: dict[str, float] = {
        "labelled images looked at": len(index),
        "accuracy of the probabilities": round(metrics.accuracy(probabilities, labels), 4),
        "doubtful labels": len(found),
    }
    if faces.votes is not None:
        for split in faces.sizes:
            here, those = index[faces.splits[index] == split], found[faces.splits[found] == split]
            if not len(those):
                continue
            numbers[f"doubtful labels of {split}"] = len(those)
            for which, rows in (("these", those), ("all", here)):
                if (share := _otherwise(faces, rows)) is not None:
                    numbers[f"of {which}, share that FER+ calls otherwise ({split})"] = round(share, 4)
    text = (
        "Labels that are improbable by confident learning (cleanlab): both by how noisy their class is and by which "
        f"classes are mistaken for each other. {how}"
    )
    notes = tuple(
        f"{_member(faces, int(k))}; rather {EXPRESSIONS[answer[c]]}, {probabilities[c].max():.0%}"
        for k, c in zip(found, chosen, strict=True)
    )
    rows = found.tolist()
    return Finding("label", "Doubtful labels", text, numbers, _alone(rows), notes, tuple(rows))


# Parts


def _otherwise(faces: FaceSet, rows: Int64[np.ndarray, "k"]) -> float | None:
    """Of the rows with FER+ votes, the share that most of these call something else; None where there are none."""
    assert faces.votes is not None
    asked = rows[faces.votes[rows].any(1)]
    differs = most_voted(faces.votes[asked]) != faces.labels[asked]
    return float(differs.mean()) if len(asked) else None


def _has_face(image: np.ndarray, detector: FaceDetector) -> bool:
    side, frame = _ENLARGED, FRAME
    edge = (frame - side) // 2
    picture = np.full((frame, frame), 128, np.uint8)
    picture[edge : edge + side, edge : edge + side] = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    return bool(detector.find(np.repeat(picture[..., None], 3, 2)))


def _joined(edges: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Groups of indices that edges connect, each in ascending order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array(edges, np.int64).reshape(-1, 2)
    nodes, places = np.unique(ends, return_inverse=True)
    first, second = places.reshape(-1, 2).T
    shape = (len(nodes), len(nodes))
    _, numbers = connected_components(coo_array((np.ones(len(ends)), (first, second)), shape), directed=False)
    order = np.argsort(numbers, kind="stable")
    groups = np.split(nodes[order], np.flatnonzero(np.diff(numbers[order])) + 1)
    return [tuple(group.tolist()) for group in groups if len(group)]


def _surplus(faces: FaceSet, group: Sequence[int], *, across: bool = False) -> list[int]:
    """All of a group but the one to keep; `across`: only those in a split nearer to training than another."""
    ranks = {k: _KEPT.get(str(faces.splits[k]), 1) for k in group}
    last = max(ranks.values())
    kept = next(k for k in group if ranks[k] == last)
    return [k for k in group if (ranks[k] < last if across else k != kept)]


def _alone(found: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Every row as a group of one."""
    return tuple((k,) for k in found)


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
