import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.errors import InputError
from mien.expressions import FERPLUS, Expression, Labels
from mien.measuring.faceset import FaceSet
from mien.measuring.fer_csv import read_votes
from mien.measuring.ferplus import relabelled, shares, targets

# Each row of votes with its label by the majority and by the most frequent vote; None where the row is dropped.
ROWS: list[tuple[dict[str, int], Expression | None, Expression | None]] = [
    ({"happiness": 10}, Expression.HAPPY, Expression.HAPPY),
    ({"sadness": 4, "neutral": 3, "fear": 1, "anger": 1, "disgust": 1}, Expression.SAD, Expression.SAD),  # 4 of 7
    ({"neutral": 5, "sadness": 5}, None, Expression.SAD),  # a half is no majority; of equals the first of Expression
    ({"contempt": 6, "neutral": 4}, Expression.CONTEMPT, Expression.CONTEMPT),
    ({"unknown": 6, "anger": 4}, None, None),
    ({"NF": 10}, None, None),
    ({"surprise": 4, "unknown": 3, "NF": 3}, None, Expression.SURPRISE),  # 4 of 10: those two count
    (dict.fromkeys(FERPLUS, 1), None, None),  # nothing is left
]


def voted(*rows: dict[str, int]) -> FaceSet:
    votes = np.array([[row.get(name, 0) for name in FERPLUS] for row in rows], np.uint8)
    return blank(votes, np.array(["Training"] * len(rows)))


def blank(votes: np.ndarray, splits: np.ndarray) -> FaceSet:
    count = len(votes)
    images = np.zeros((count, 48, 48), np.uint8)
    return FaceSet(images, np.zeros(count, np.int8), splits, np.arange(count), votes, "0" * 64, "some.csv")


@pytest.mark.parametrize(("labels", "place"), [("ferplus", 1), ("ferplus-votes", 2)])
def test_labels_by_hand(labels: Labels, place: int) -> None:
    found = relabelled(voted(*(row[0] for row in ROWS)), labels)
    expected = {k: row[place] for k, row in enumerate(ROWS) if row[place] is not None}
    assert found.rows.tolist() == list(expected)
    assert [list(Expression)[label] for label in found.labels] == list(expected.values())


def test_shares_are_those_of_the_expressions_that_are_left() -> None:
    votes = voted({"sadness": 4, "neutral": 2, "unknown": 3, "fear": 1}, {"contempt": 7, "happiness": 3}).votes
    assert votes is not None
    assert dict(zip(Expression, shares(votes)[0], strict=True)) == pytest.approx(
        dict.fromkeys(Expression, 0.0) | {Expression.SAD: 2 / 3, Expression.NEUTRAL: 1 / 3}
    )
    assert shares(votes)[1].tolist() == pytest.approx([0, 0, 0, 0.3, 0, 0, 0, 0.7])
    assert shares(votes, 7)[1].tolist() == [0, 0, 0, 1, 0, 0, 0]  # among seven, those who said contempt say nothing


def test_shares_are_nothing_where_no_expression_leads() -> None:
    votes = voted({"unknown": 6, "anger": 4}, {"contempt": 10}).votes
    assert votes is not None
    assert not shares(votes)[0].any()
    assert not shares(votes, 7)[1].any()


def test_the_loss_compares_with_labels_or_with_shares() -> None:
    faces = voted({"happiness": 10}, {"neutral": 5, "sadness": 5})
    assert targets(relabelled(faces, "ferplus"), "ferplus").tolist() == [3]
    soft = targets(relabelled(faces, "ferplus-votes"), "ferplus-votes")
    assert soft.dtype == np.float32
    assert soft.argmax(1).tolist() == relabelled(faces, "ferplus-votes").labels.tolist()


def test_rows_without_votes_are_unlabelled_and_no_votes_at_all_are_refused() -> None:
    faces = voted({"happiness": 10}, {})
    assert relabelled(faces, "ferplus").labels.tolist() == [3, -1]
    assert relabelled(faces, "fer2013") is faces
    with pytest.raises(InputError, match=r"some.csv has none; name the FER\+ file"):
        relabelled(replace(faces, votes=None), "ferplus")


def test_the_real_votes_leave_as_many_rows_as_are_published(fer2013: Path) -> None:
    path = fer2013.with_name("fer2013new.csv")
    table = read_votes(path)
    faces = blank(table.votes, table.usages)
    expected = {"Training": 25_060, "PublicTest": 3_199, "PrivateTest": 3_589}  # the last is unlabelled here
    assert relabelled(faces, "ferplus").sizes == expected
    assert relabelled(faces, "ferplus-votes").sizes == expected | {"Training": 28_389, "PublicTest": 3_553}

    counted = Counter()  # the rule once more, word for word
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            votes = {name: int(row[name]) for name in FERPLUS if row[name] not in ("", "0", "1")}
            best = max(votes, key=votes.__getitem__, default="NF")
            if best not in ("unknown", "NF") and votes[best] > sum(votes.values()) / 2:
                counted[row["Usage"]] += 1
    assert counted == {"Training": 25_060, "PublicTest": 3_199}
