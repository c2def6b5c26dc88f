"""What an audit says of made-up data, and each of its numbers on the real csv against a count of a few lines."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from math import log2
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien.errors import InputError, MissingExtra, NotFound
from mien.expressions import EXPRESSIONS, FERPLUS_TO_LABEL
from mien.measuring import findings
from mien.measuring.audit import Audit, audit
from mien.measuring.data import load
from mien.measuring.faceset import FaceSet
from mien.measuring.findings import Finding
from mien.measuring.near import Pair, near_in_training, near_twins
from mien.measuring.predictions import write_predictions
from mien.reading.faces import CenterFace, crop
from mien.reading.images import open_image
from mien.reading.recognizer import load_model, model_files


def found(done: Audit, reason: str) -> Finding:
    return next(finding for finding in done.findings if finding.reason == reason)


# Made-up data


def test_twins_and_the_copy_that_is_kept(small_faces: FaceSet) -> None:
    done = audit(small_faces, quick=True)
    twin = found(done, "twin")
    assert twin.numbers == {
        "groups": 7,
        "images": 14,
        "copies beyond the first": 7,
        "groups in more than one split": 7,
        "images of PublicTest in Training": 7,
        "images of PrivateTest in Training": 0,
    }
    assert twin.drop == tuple(range(7))  # of Training; PublicTest stays whole
    assert done.exclusions(small_faces) == {k: ["twin"] for k in range(7)}
    assert done.counts["PrivateTest"]["unlabelled"] == 14


def test_conflicts_count_known_labels_alone(small_faces: FaceSet) -> None:
    labels = small_faces.labels.copy()
    labels[0] = (labels[98] + 1) % 7
    labels[99] = -1
    done = audit(replace(small_faces, labels=labels), quick=True)
    conflict = found(done, "conflict")
    assert conflict.groups == ((0, 98),)
    assert conflict.drop == (0, 98)
    assert conflict.numbers == {"groups": 1, "images": 2, "groups with a hidden label that may conflict": 1}
    assert done.exclusions(small_faces, ["conflict"]) == {0: ["conflict"], 98: ["conflict"]}


def test_flat_images_are_listed(small_faces: FaceSet) -> None:
    images = small_faces.images.copy()
    images[20] = 7
    images[30, :, :24], images[30, :, 24:] = 100, 110
    flat = found(audit(replace(small_faces, images=images), quick=True), "flat")
    assert flat.groups == ((20,), (30,))
    assert flat.notes == ("Training 20, neutral, deviation 0.0", "Training 30, fear, deviation 5.0")


def test_votes_outvote_labels_and_faces(small_faces: FaceSet) -> None:
    votes = np.zeros((140, 10), np.uint8)
    votes[:, 0] = 10  # neutral
    votes[1, :] = [4, 0, 0, 0, 0, 0, 0, 0, 0, 6]
    votes[6, :] = [5, 5, 0, 0, 0, 0, 0, 0, 0, 0]
    votes[139] = 0
    done = audit(replace(small_faces, votes=votes), quick=True)
    assert found(done, "no-face").groups == ((1,),)
    vote = found(done, "vote")
    neutral = int((small_faces.labels == 6).sum())
    assert vote.numbers["labelled images with votes"] == 126
    assert vote.numbers["with a majority for one of the seven"] == 124
    assert vote.numbers["outvoted"] == 126 - neutral - 1
    assert done.votes is not None
    assert done.votes["agree"] == neutral
    assert done.votes["agreement"][5:] == [1, 1, 0, 0, 0, 124]
    assert done.votes["entropy_bits"]["neutral"] == pytest.approx(1 / neutral, abs=1e-4)


def test_without_votes_there_is_nothing_about_them(small_faces: FaceSet) -> None:
    done = audit(replace(small_faces, votes=None), quick=True)
    assert done.votes is None
    assert [finding.reason for finding in done.findings] == ["twin", "conflict", "flat"]
    assert len(done.left_out) == 1
    assert len(done.exclusions(small_faces)) == 7
    with pytest.raises(NotFound, match="label was not looked for, only twin, conflict, flat"):
        done.exclusions(small_faces, ["label"])


def test_a_whole_audit(small_faces: FaceSet, collins: Path, tmp_path: Path) -> None:
    """Near twins, faces and doubts too: mirrored copies of Training rows in PublicTest, swapped labels."""
    pytest.importorskip("cleanlab")
    noise = np.random.default_rng(0).normal(0, 1, (140, 48, 48))
    images = np.stack([(128 + 300 * cv2.GaussianBlur(each, (0, 0), 2)).clip(0, 255).astype(np.uint8) for each in noise])
    images[110] = images[10][:, ::-1]
    images[111] = images[11]
    images[120] = crop(open_image(collins), CenterFace().find(open_image(collins))[0])
    images[121] = 0
    labels = small_faces.labels.copy()
    labels[[50, 60]] = (labels[[50, 60]] + 1) % 7
    faces = replace(small_faces, images=images, labels=labels, votes=None)
    sure = np.full((140, 7), 0.02)
    sure[np.arange(140), np.arange(140) % 7] = 0.88
    table = write_predictions(tmp_path / "p.csv", faces, sure)
    done = audit(faces, probabilities=table)
    near = found(done, "near-twin")
    assert near.groups == ((10, 110),)
    assert near.drop == (10,)
    assert near.numbers["mirrored pairs"] == 1
    assert near.numbers["images of PublicTest with a near twin, but no exact one, in Training"] == 1
    faceless = found(done, "no-face-found")
    assert faceless.numbers["images looked at"] == 140
    assert 121 in faceless.drop
    assert 120 not in faceless.drop
    assert sorted(found(done, "label").drop) == [50, 60]
    assert found(done, "label").numbers["labelled images looked at"] == 126
    assert set(done.exclusions(faces)) == {11, 111, 121}  # estimates are left out only when asked for
    json.dumps(done.to_dict(faces))
    assert not [finding.text for finding in done.findings if "FER2013" in finding.text]  # other data is looked over too


def test_given_probabilities_may_know_contempt(small_faces: FaceSet, tmp_path: Path) -> None:
    """Of seven labels none is contempt, so a network of eight is asked among seven."""
    pytest.importorskip("cleanlab")
    labels = small_faces.labels.copy()
    labels[50] = 3
    sure = np.full((140, 7), 0.02)
    sure[np.arange(140), np.arange(140) % 7] = 0.88
    eight = np.concatenate([0.4 * sure, np.full((140, 1), 0.6)], 1)
    faces = replace(small_faces, labels=labels)
    seven, more = (
        found(audit(faces, probabilities=write_predictions(tmp_path / name, faces, table)), "label")
        for name, table in (("7.csv", sure), ("8.csv", eight))
    )
    assert more == seven
    assert more.drop == (50,)
    assert more.notes == ("Training 50, happy; rather disgust, 88%",)


def test_a_near_twin_of_a_near_twin_is_none(small_faces: FaceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of PublicTest 110 is paired with Training, 112 a copy of it, 120 paired with a Training row that has a copy."""
    small_faces.images[112] = small_faces.images[110]
    pairs = [Pair(10, 110, 0.95, False), Pair(110, 111, 0.95, False), Pair(0, 120, 0.95, False)]
    monkeypatch.setattr(findings, "near_twins", lambda faces, model: pairs)
    near = findings.near(small_faces, Path())
    assert near.groups == ((0, 98, 120), (10, 110, 111, 112))
    assert near.numbers["images of PublicTest with a near twin, but no exact one, in Training"] == 3


def test_rows_without_votes_are_called_nothing_by_ferplus(small_faces: FaceSet, tmp_path: Path) -> None:
    pytest.importorskip("cleanlab")
    labels, votes = small_faces.labels.copy(), np.zeros((140, 10), np.uint8)
    labels[[50, 60, 110]] = (labels[[50, 60, 110]] + 1) % 7
    columns = np.array([FERPLUS_TO_LABEL.index(label) for label in range(7)])
    votes[np.arange(40, 60), columns[np.arange(40, 60) % 7]] = 10  # right, and of the wrong labels only one
    sure = np.full((140, 7), 0.02)
    sure[np.arange(140), np.arange(140) % 7] = 0.88
    faces = replace(small_faces, labels=labels, votes=votes)
    label = found(audit(faces, probabilities=write_predictions(tmp_path / "p.csv", faces, sure)), "label")
    assert sorted(label.drop) == [50, 60, 110]
    assert list(label.numbers.items())[3:] == [
        ("doubtful labels of Training", 2),
        ("of these, share that FER+ calls otherwise (Training)", 1.0),
        ("of all, share that FER+ calls otherwise (Training)", 0.05),
        ("doubtful labels of PublicTest", 1),
    ]


def test_too_few_images_for_doubts_are_said(small_faces: FaceSet) -> None:
    pytest.importorskip("cleanlab")
    done = audit(small_faces.take(np.arange(14)))
    assert "label" not in [finding.reason for finding in done.findings]
    assert any("each with 5 different images or more" in what for what in done.left_out)


def test_an_expression_of_a_few_pictures_is_left_out_of_the_doubts(small_faces: FaceSet) -> None:
    """A rare expression, if made large by copying: its folds would never have seen it, or there are too few of them."""
    pytest.importorskip("cleanlab")
    labels, images = small_faces.labels.copy(), small_faces.images.copy()
    labels[:70] = np.arange(70) % 7
    rare = np.flatnonzero(labels == 1)
    images[rare] = images[rare[0]]
    faces = replace(small_faces, labels=labels, images=images)
    finding = found(audit(faces), "label")
    assert "Left out, with fewer than 5 different images: disgust." in finding.text
    assert finding.numbers["labelled images looked at"] == (faces.labels >= 0).sum() - len(rare)


def test_mistakes_are_told_first(small_faces: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no doubtful labels"):
        audit(small_faces, quick=True, probabilities=tmp_path / "p.csv")
    with pytest.raises(InputError, match="at least one row"):
        audit(small_faces.take([]))
    monkeypatch.setattr("mien.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"--quick goes without.*mien\[audit\]"):
        audit(small_faces)
    assert audit(small_faces, quick=True).findings


# The real csv


@pytest.fixture(scope="module")
def real() -> tuple[list[dict[str, str]], list[list[int]], dict[str, Any], FaceSet]:
    """The rows of both files by the standard library, and the JSON of an audit of them."""
    if not os.environ.get("MIEN_FER2013"):
        pytest.skip("MIEN_FER2013 does not name a fer2013.csv")
    path = Path(os.environ["MIEN_FER2013"])
    plus = path.with_name("fer2013new.csv")
    if not plus.exists():
        pytest.skip("there is no fer2013new.csv beside it")
    with open(path, newline="") as file:
        rows = [{key.strip().lower(): value for key, value in row.items()} for row in csv.DictReader(file)]
    with open(plus, newline="") as file:
        votes = [[int(cell or 0) for cell in line[2:]] for line in list(csv.reader(file))[1:]]
    faces = load(path, ferplus=plus, cache=False)
    return rows, votes, audit(faces, quick=True).to_dict(faces), faces


NAMES = [str(e) for e in EXPRESSIONS]
PLUS = ["neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt", "unknown", "NF"]


def test_real_counts(real: Any) -> None:
    rows, _, told, _ = real
    counted = Counter((row["usage"], NAMES[int(row["emotion"])] if row["emotion"] else "unlabelled") for row in rows)
    assert {(s, e): n for s, table in told["counts"].items() for e, n in table.items() if n} == dict(counted)
    assert told["data"]["rows"] == len(rows)


def test_real_twins_and_conflicts(real: Any) -> None:
    rows, _, told, _ = real
    places = defaultdict(list)
    for k, row in enumerate(rows):
        places[row["pixels"]].append(k)
    groups = [group for group in places.values() if len(group) > 1]
    usage, label = [row["usage"] for row in rows], [row["emotion"] for row in rows]
    in_training = {row["pixels"] for row in rows if row["usage"] == "Training"}
    known = [{label[k] for k in group} - {""} for group in groups]
    conflicts = [group for group, labels in zip(groups, known, strict=True) if len(labels) > 1]
    twin, conflict = told["findings"]["twin"], told["findings"]["conflict"]
    assert twin["numbers"] == {
        "groups": len(groups),
        "images": sum(map(len, groups)),
        "copies beyond the first": sum(map(len, groups)) - len(groups),
        "groups in more than one split": sum(len({usage[k] for k in group}) > 1 for group in groups),
        **{
            f"images of {split} in Training": sum(r["usage"] == split and r["pixels"] in in_training for r in rows)
            for split in ("PublicTest", "PrivateTest")
        },
    }
    assert sorted(group["rows"] for group in twin["groups"]) == sorted(groups)
    assert conflict["numbers"] == {
        "groups": len(conflicts),
        "images": sum(map(len, conflicts)),
        "groups with a hidden label that may conflict": sum(
            len(labels) < 2 and any(not label[k] for k in group) for group, labels in zip(groups, known, strict=True)
        ),
    }
    assert sorted(group["rows"] for group in conflict["groups"]) == sorted(conflicts)
    # One copy is left of each picture, and it is of PrivateTest, else of PublicTest, where it stands there.
    left = Counter(rows[k]["pixels"] for k in set(range(len(rows))) - set(twin["drop"]))
    assert set(left.values()) == {1}
    assert len(left) == len(places)
    order = ["Training", "PublicTest", "PrivateTest"]
    for group in groups:
        (kept,) = set(group) - set(twin["drop"])
        assert order.index(usage[kept]) == max(order.index(usage[k]) for k in group)


def test_real_numbers_that_are_known(real: Any) -> None:
    """What others counted in the whole file; conflicts are fewer where PrivateTest's labels are hidden."""
    numbers = real[2]["findings"]["twin"]["numbers"]
    assert [numbers[k] for k in ("groups", "images")] == [1518, 3373]
    assert [numbers[f"images of {split} in Training"] for split in ("PublicTest", "PrivateTest")] == [280, 288]
    conflict = real[2]["findings"]["conflict"]["numbers"]
    hidden = conflict["groups with a hidden label that may conflict"]
    assert conflict["groups"] <= 60 <= conflict["groups"] + hidden


def test_real_flat_images(real: Any) -> None:
    rows, _, told, _ = real
    flat = [k for k, row in enumerate(rows) if np.fromstring(row["pixels"], int, sep=" ").std() < 6]
    assert sorted(told["findings"]["flat"]["drop"]) == flat
    assert told["findings"]["flat"]["numbers"] == {"images": len(flat)}


def test_real_votes(real: Any) -> None:
    rows, votes, told, _ = real
    labelled = [(NAMES[int(r["emotion"])], v) for r, v in zip(rows, votes, strict=True) if r["emotion"] and any(v)]
    most = [PLUS[v.index(max(v))] for _, v in labelled]
    plus = told["votes"]
    assert plus["rows"] == len(labelled)
    assert plus["agree"] == sum(name == voted for (name, _), voted in zip(labelled, most, strict=True))
    assert plus["agreement"] == [sum(max(v) == n for _, v in labelled) for n in range(11)]
    table = Counter(zip([name for name, _ in labelled], most, strict=True))
    assert plus["table"] == [[table[name, voted] for voted in PLUS] for name in NAMES]
    for name in NAMES:
        bits = [-sum(n / sum(v) * log2(n / sum(v)) for n in v if n) for label, v in labelled if label == name]
        assert plus["entropy_bits"][name] == pytest.approx(sum(bits) / len(bits), abs=1e-4)
    clear = [(name, v) for name, v in labelled if max(v[:7]) >= 6]
    outvoted = sum(PLUS[v.index(max(v))] != name for name, v in clear)
    assert told["findings"]["vote"]["numbers"] == {
        "labelled images with votes": len(labelled),
        "with a majority for one of the seven": len(clear),
        "outvoted": outvoted,
        "share of those with a majority": round(outvoted / len(clear), 4),
    }
    faceless = [k for k, v in enumerate(votes) if v[9] >= 6]
    assert sorted(told["findings"]["no-face"]["drop"]) == faceless
    assert told["findings"]["no-face"]["numbers"]["images"] == len(faceless)
    assert told["findings"]["no-face"]["numbers"]["images with votes"] == sum(map(any, votes))


def test_real_near_twins_of_a_part(real: Any) -> None:
    """300 images, 12 of them also darker and cut: most are found, and nothing else among what is new."""
    pytest.importorskip("sklearn")
    faces = real[3].take(np.arange(300))
    altered = [cv2.resize(image[2:46, 1:45], (48, 48)) // 2 + 20 for image in faces.images[40:52]]
    both = replace(
        faces,
        images=np.concatenate([faces.images, np.stack(altered).astype(np.uint8)]),
        labels=np.concatenate([faces.labels, faces.labels[40:52]]),
        splits=np.array(["Training"] * 312),
        rows=np.arange(312),
        votes=None,
    )
    new = {(pair.first, pair.second) for pair in near_twins(both, model_files()["mien-small"]) if pair.second >= 300}
    assert new <= {(40 + k, 300 + k) for k in range(12)}
    assert len(new) >= 10


PAIRS = """
import json, sys
from dataclasses import astuple
import numpy as np
from mien.measuring.data import load
from mien.measuring.near import near_twins
from mien.reading.recognizer import load_model
faces = load(sys.argv[1], cache=False)
part = faces.take(np.arange(0, len(faces), 6))
print(json.dumps([astuple(pair) for pair in near_twins(part, load_model().path)]))
"""


@pytest.fixture(scope="module")
def looked(real: Any) -> tuple[FaceSet, list[Pair], Finding, Finding, Finding]:
    """Every sixth row of the real csv with what a model, a detector and cleanlab find: pairs, and three findings."""
    pytest.importorskip("sklearn")
    pytest.importorskip("cleanlab")
    faces, model = real[3].take(np.arange(0, len(real[3]), 6)), load_model()
    # In a process of its own, where the types of arrays are not checked at each of 200,000 calls.
    command = [sys.executable, "-c", PAIRS, os.environ["MIEN_FER2013"]]
    pairs = [Pair(*each) for each in json.loads(subprocess.run(command, check=True, capture_output=True).stdout)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "near_twins", lambda *_: pairs)
        near = findings.near(faces, model.path)
    doubted = findings.doubted(faces, model, None)
    assert isinstance(doubted, Finding)
    return faces, pairs, near, findings.unseen(faces, CenterFace(side=findings.FRAME, min_score=0.1)), doubted


def test_real_near_twins_are_counted_from_their_pairs(looked: Any) -> None:
    faces, pairs, near, _, _ = looked
    pictures = [image.tobytes() for image in faces.images]
    copies = defaultdict(set)
    for k, picture in enumerate(pictures):
        copies[picture].add(k)
    versions: dict[bytes, set[bytes]] = {}  # of a picture: all that hang together with it, shared among them
    for pair in pairs:
        one, other = pictures[pair.first], pictures[pair.second]
        joined = versions.get(one, {one}) | versions.get(other, {other})
        versions |= dict.fromkeys(joined, joined)
    groups = {frozenset(k for picture in group for k in copies[picture]) for group in map(frozenset, versions.values())}
    beside = defaultdict(set)
    for pair in pairs:
        beside[pictures[pair.first]].add(pictures[pair.second])
        beside[pictures[pair.second]].add(pictures[pair.first])
    learned = {picture for picture, split in zip(pictures, faces.splits, strict=True) if split == "Training"}
    leaking = {
        split: sum(picture not in learned and bool(beside[picture] & learned) for picture, own in
                   zip(pictures, faces.splits, strict=True) if own == split)
        for split in ("PublicTest", "PrivateTest")
    }  # fmt: skip
    assert near.numbers == {
        "pairs": len(pairs),
        "mirrored pairs": len([pair for pair in pairs if pair.mirrored]),
        "groups": len(groups),
        "images": len(set().union(*groups)),
        "groups in more than one split": sum(len({faces.splits[k] for k in group}) > 1 for group in groups),
        **{f"images of {split} with a near twin, but no exact one, in Training": n for split, n in leaking.items()},
    }
    assert {frozenset(group) for group in near.groups} == groups


def test_real_near_twins_look_alike_and_strangers_do_not(looked: Any) -> None:
    """By plain correlation of blurred pixels at shifts up to six: no details, no zoom, no network."""
    faces, pairs, *_ = looked
    random = np.random.default_rng(0)

    def alike(first: int, second: int, mirrored: bool) -> float:
        one, other = (cv2.GaussianBlur(faces.images[k].astype(float), (0, 0), 2) for k in (first, second))
        middle = (one[:, ::-1] if mirrored else one)[6:42, 6:42].ravel()
        places = [other[y : y + 36, x : x + 36].ravel() for y in range(13) for x in range(13)]
        return max(np.corrcoef(middle, place)[0, 1] for place in places)

    drawn = [pairs[k] for k in random.choice(len(pairs), 100, replace=False)]
    twins = [alike(pair.first, pair.second, pair.mirrored) for pair in drawn]
    strangers = [alike(*random.choice(len(faces), 2, replace=False), False) for _ in range(100)]
    assert np.median(twins) > 0.95
    assert np.quantile(twins, 0.05) > np.quantile(strangers, 0.95)


def test_real_near_twins_are_those_of_the_list(looked: Any, real: Any) -> None:
    """Which is fixed, where a search follows the default network: of every sixth row it finds hardly any other."""
    faces, pairs, *_ = looked
    known = set(faces.rows[faces.splits == "Training"].tolist())
    for split, count in (("PublicTest", 847), ("PrivateTest", 836)):
        near = set(near_in_training(real[3], split).tolist())
        assert len(near) == count
        own = set(faces.rows[faces.splits == split].tolist())
        both = [set(faces.rows[[pair.first, pair.second]].tolist()) for pair in pairs]
        found = set().union(*(pair & own for pair in both if pair & own and pair & known))
        assert len(found) > 10
        assert len(found & near) >= 0.95 * len(found)


def test_real_faces_that_are_not_found(looked: Any, real: Any) -> None:
    faces, _, _, unseen, _ = looked
    silent = [k for k, votes in enumerate(real[1][::6]) if not any(votes)]
    detector, missed = CenterFace(side=128, min_score=0.1), []
    for k in silent:
        canvas = np.full((128, 128, 3), 128, np.uint8)
        canvas[32:96, 32:96] = cv2.resize(faces.images[k], (64, 64), interpolation=cv2.INTER_CUBIC)[..., None]
        if not detector.find(canvas):
            missed.append(k)
    assert unseen.numbers == {"images looked at": len(silent), "images": len(missed)}
    assert list(unseen.drop) == missed


def test_real_doubtful_labels(looked: Any, real: Any) -> None:
    from cleanlab.filter import find_label_issues
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    faces, *_, doubted = looked
    rows, votes = (each[::6] for each in real[:2])
    known = [k for k, row in enumerate(rows) if row["emotion"]]
    labels = np.array([int(rows[k]["emotion"]) for k in known])
    first: dict[str, int] = {}
    groups = [first.setdefault(rows[k]["pixels"], place) for place, k in enumerate(known)]
    logits = load_model().logits(faces.images[known]).astype(float)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(logits, labels, groups)
    shares = cross_val_predict(
        LogisticRegression(max_iter=200), logits, labels, cv=list(folds), method="predict_proba"
    )
    ways = [find_label_issues(labels, shares, filter_by=f"prune_by_{way}", n_jobs=1) for way in ("class", "noise_rate")]
    doubts = [k for k, *each in zip(known, *ways, strict=True) if all(each)]
    expected = {
        "labelled images looked at": len(known),
        "accuracy of the probabilities": round(float((shares.argmax(1) == labels).mean()), 4),
        "doubtful labels": len(doubts),
    }
    for split in ("Training", "PublicTest"):
        those, here = ([k for k in part if rows[k]["usage"] == split] for part in (doubts, known))
        expected[f"doubtful labels of {split}"] = len(those)
        for which, part in (("these", those), ("all", here)):
            asked = [k for k in part if any(votes[k])]
            differ = [PLUS[int(np.argmax(votes[k]))] != NAMES[int(rows[k]["emotion"])] for k in asked]
            expected[f"of {which}, share that FER+ calls otherwise ({split})"] = round(sum(differ) / len(asked), 4)
    assert doubted.numbers == expected
    assert sorted(doubted.drop) == doubts
