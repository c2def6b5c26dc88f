import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mien.errors import Damaged, FileError, InputError, NotFound
from mien.expressions import FERPLUS, FERPLUS_TO_LABEL
from mien.measuring import near as pictures
from mien.measuring.evaluation import Scores, evaluate, evaluate_predictions, predict
from mien.measuring.faceset import FaceSet
from mien.measuring.near import Pair, near_in_training
from mien.measuring.predictions import write_predictions
from mien.measuring.sketch import sketch
from mien.recipes import RECIPES, Protocol


class Bars:
    """Reads the made-up images' bar; in the upper half of the mirror image it is blind."""

    name = "bars"

    def __init__(self, wrong: int = 0) -> None:
        self.wrong = wrong  # answers of label 0 that are turned into label 1

    def probabilities(self, faces: np.ndarray) -> np.ndarray:
        level = np.stack([faces[:, 4 + 6 * k : 8 + 6 * k].mean((1, 2)) for k in range(7)], 1)
        sure = np.full((len(faces), 7), 0.02)
        answer = level.argmax(1)
        answer[np.flatnonzero(answer == 0)[: self.wrong]] = 1
        sure[np.arange(len(faces)), answer] = 0.88
        return sure


def test_report_has_views_and_twins(small_faces: FaceSet) -> None:
    report = evaluate(Bars(), small_faces, "PublicTest")
    assert list(report.scores) == [
        "single view, all",
        "single view, without twins",
        "with mirror, all",
        "with mirror, without twins",
    ]
    assert report.twins == 7
    assert report.scores["single view, all"].n == 28
    assert report.scores["single view, without twins"].n == 21
    assert report.scores["single view, all"].accuracy == 1.0
    assert report.scores["single view, all"].ece == pytest.approx(0.12)
    assert any("selection score" in note for note in report.notes)


@pytest.mark.usefixtures("unchecked")
def test_a_predictor_needs_no_name(small_faces: FaceSet) -> None:
    report = evaluate(SimpleNamespace(probabilities=Bars().probabilities), small_faces, "PublicTest", views="single")
    assert report.model == "SimpleNamespace"


def test_where_all_are_twins_nothing_is_left_without_them(small_faces: FaceSet) -> None:
    public = small_faces.splits == "PublicTest"
    twins = public.copy()
    twins[public] = small_faces.split("PublicTest").twins_in(small_faces, "Training")
    report = evaluate(Bars(), small_faces.take(~public | twins), "PublicTest")
    assert list(report.scores) == ["single view, all", "with mirror, all"]
    assert (report.twins, report.twin_share) == (7, 1)


def test_near_twins_are_left_out_where_that_is_asked(small_faces: FaceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of PublicTest 98 has an exact twin in Training and a near one, 110 a near one, and 111 is like 110."""

    def pairs(faces: FaceSet, model: Path) -> list[Pair]:
        assert set(faces.sizes) == {"Training", "PublicTest"}
        return [Pair(10, 110, 0.95, False), Pair(110, 111, 0.95, False), Pair(5, 98, 0.95, False)]

    assert small_faces.splits[98] == "PublicTest"
    exact = small_faces.take(np.arange(98, 112)).twins_in(small_faces, "Training")
    assert exact[0]
    assert not exact[12:14].any()
    monkeypatch.setattr(pictures, "near_twins", pairs)
    near = near_in_training(small_faces, "PublicTest")
    assert near.tolist() == [small_faces.rows[110]]
    report = evaluate(Bars(), small_faces, "PublicTest", views="single", near=near)
    assert {name: scores.n for name, scores in report.scores.items()} == {
        "single view, all": 28,
        "single view, without twins": 21,
        "single view, without near twins": 20,
    }
    assert any(note.startswith("1 more show the picture of a Training image") for note in report.notes)


@pytest.mark.parametrize(
    ("protocol", "note"),
    [
        (Protocol(train=("Training", "PublicTest"), select=0.1),
         "Rows of PublicTest may be among those it learned from: its recipe trains on Training + PublicTest; "),
        (Protocol(select="PrivateTest"), None),
        (Protocol(), None),
    ],
)  # fmt: skip
def test_a_report_tells_what_the_recipe_did_with_the_split(
    small_faces: FaceSet, protocol: Protocol, note: str | None
) -> None:
    class Trained(Bars):
        recipe = replace(RECIPES["workshop"], protocol=protocol)

    notes = evaluate(Trained(), small_faces, "PublicTest").notes
    assert [each for each in notes if "learned from: its" in each or "chose the epoch" in each] == (
        [each for each in notes if note is not None and each.startswith(note)]
    )
    assert any(note is None or each.startswith(note) for each in notes)
    if protocol.select == "PrivateTest":
        known = replace(small_faces, labels=np.abs(small_faces.labels))
        notes = evaluate(Trained(), known, "PrivateTest").notes
        assert "The PrivateTest rows chose the epoch: this is a selection score, not a test score." in notes


def test_a_report_asks_every_member_of_an_ensemble(small_faces: FaceSet) -> None:
    clean, learned = (
        {"recipe": json.loads(replace(RECIPES["workshop"], protocol=protocol).to_json())}
        for protocol in (Protocol(), Protocol(train=("Training", "PublicTest"), select=0.1))
    )

    class Pair(Bars):
        card = SimpleNamespace(scores={"members": [clean, learned]}, recipe=json.dumps(clean["recipe"]))

    notes = evaluate(Pair(), small_faces, "PublicTest").notes
    assert notes[0].startswith("Rows of PublicTest may be among those it learned from: its recipe trains on Training +")
    assert not any("selection score" in note for note in notes)


def test_more_views_are_scored_where_asked(small_faces: FaceSet) -> None:
    def views(**asked: str) -> list[str]:
        return [name for name in evaluate(Bars(), small_faces, "PublicTest", **asked).scores if name.endswith("all")]

    assert views(views="single") == ["single view, all"]
    assert views(views="ten") == ["single view, all", "with mirror, all", "ten views, all"]
    with pytest.raises(InputError, match="single, mirror, ten"):
        views(views="all")


def test_each_view_is_computed_once_and_in_chunks(small_faces: FaceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Counting(Bars):
        def probabilities(self, faces: np.ndarray) -> np.ndarray:
            asked.append(len(faces))
            return super().probabilities(faces)

    monkeypatch.setattr("mien.measuring.evaluation.CHUNK", 20)
    report = evaluate(Counting(), small_faces, "PublicTest", views="ten")
    assert asked == [20] * 10 + [8] * 10
    rows = small_faces.split("PublicTest")
    for views, name in (("single", "single view"), ("mirror", "with mirror"), ("ten", "ten views")):
        expected = Scores.of(predict(Bars(), rows, views=views), rows.labels)
        assert report.scores[f"{name}, all"].nll == pytest.approx(expected.nll)


def test_views_of_the_predictors_own_are_not_taken_for_one(small_faces: FaceSet) -> None:
    class Twice(Bars):
        views = "mirror"

    with pytest.raises(InputError, match="bars was loaded with views='mirror'; load it without"):
        evaluate(Twice(), small_faces, "PublicTest")


def test_what_it_learned_from_is_measured_where_that_is_known(small_faces: FaceSet) -> None:
    class Trained(Bars):
        learned = sketch(small_faces.split("Training").images)

    assert evaluate(Trained(), small_faces, "Training").notes[0].startswith("It learned from about 100% of these faces")
    strangers = replace(small_faces, images=255 - small_faces.images)  # or the same, compressed anew
    assert evaluate(Trained(), strangers, "Training").notes[0].endswith("unless the network learned from others.")


def test_predictions_average_the_views(small_faces: FaceSet) -> None:
    class LeftEdge:
        """As angry as the first column is bright."""

        name = "left edge"

        def probabilities(self, faces: np.ndarray) -> np.ndarray:
            angry = faces[:, :, 0].mean(1) / 255
            return np.stack([angry, 1 - angry, *(0 * angry for _ in range(5))], 1)

    edges = small_faces.images[:, :, [0, -1]].mean((1, 2)) / 255
    assert predict(LeftEdge(), small_faces, views="mirror")[:, 0] == pytest.approx(edges)
    assert predict(LeftEdge(), small_faces)[:, 0] != pytest.approx(edges)


def test_mistakes_are_counted_where_they_are(small_faces: FaceSet) -> None:
    scores = evaluate(Bars(wrong=2), small_faces, "PublicTest").scores["single view, all"]
    assert scores.accuracy == pytest.approx(26 / 28)
    assert scores.confusion[0][:2] == [2, 2]
    assert scores.recall["angry"] == 0.5
    assert scores.interval[0] < scores.accuracy < scores.interval[1]


def test_what_twins_could_explain(small_faces: FaceSet) -> None:
    report = evaluate(Bars(wrong=2), small_faces, "PublicTest")
    assert report.twin_share == pytest.approx(6 / 26)  # of the seven twins, one answer is wrong
    assert json.loads(report.to_json())["twin_share"] == report.twin_share
    assert "23.1% of the right answers (single view) are on those twins" in report.to_markdown()
    assert "exact twins alone could explain; near twins are not counted" in report.to_markdown()
    assert evaluate(Bars(), small_faces.split("PublicTest"), "PublicTest").twin_share is None


def test_binary_accuracy_comes_with_its_floor(small_faces: FaceSet) -> None:
    report = evaluate(Bars(wrong=2), small_faces, "PublicTest", binary=True)
    assert report.scores["single view, all"].binary_accuracy == pytest.approx(1 - 4 / (28 * 7))
    assert any("85.71 %" in note for note in report.notes)
    assert f"{1 - 4 / (28 * 7):.2%} |" in report.to_markdown()
    assert evaluate(Bars(), small_faces, "PublicTest").scores["single view, all"].binary_accuracy is None


def test_blind_split_is_refused_with_the_way_out(small_faces: FaceSet) -> None:
    with pytest.raises(InputError, match="14 of the 14 rows of PrivateTest have no label.*mien predict"):
        evaluate(Bars(), small_faces, "PrivateTest")


def test_missing_split_names_those_that_exist(small_faces: FaceSet) -> None:
    with pytest.raises(NotFound, match="PublicTest"):
        evaluate(Bars(), small_faces, "Public")


def test_without_training_rows_twins_are_not_claimed(small_faces: FaceSet) -> None:
    report = evaluate(Bars(), small_faces.split("PublicTest"), "PublicTest")
    assert report.twins is None
    assert any("were not looked for" in note for note in report.notes)


def test_json_and_markdown_tell_the_same(small_faces: FaceSet) -> None:
    report = evaluate(Bars(wrong=2), small_faces, "PublicTest")
    plain = json.loads(report.to_json())
    assert plain["scores"]["single view, all"]["accuracy"] == pytest.approx(26 / 28)
    assert "92.86%" in report.to_markdown()
    assert "| **angry** | 2 | 2 |" in report.to_markdown()


def test_chunks_do_not_show(small_faces: FaceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predict(Bars(), small_faces)
    monkeypatch.setattr("mien.measuring.evaluation.CHUNK", 11)
    assert np.array_equal(predict(Bars(), small_faces), whole)


def test_predictions_are_what_the_contest_takes(small_faces: FaceSet, tmp_path: Path) -> None:
    blind = small_faces.split("PrivateTest")
    probabilities = predict(Bars(), blind)
    lines = write_predictions(tmp_path / "p.csv", blind, probabilities).read_text().splitlines()
    assert lines[0] == "row,p0,p1,p2,p3,p4,p5,p6"
    assert lines[1].split(",")[:2] == ["126", "0.88000"]
    assert len(lines) == 15
    with np.load(write_predictions(tmp_path / "p.npz", blind, probabilities)) as arrays:
        assert np.array_equal(arrays["probabilities"], probabilities)
    with pytest.raises(InputError, match="csv or .npz"):
        write_predictions(tmp_path / "p.txt", blind, probabilities)


def test_a_table_of_probabilities_scores_like_its_model(small_faces: FaceSet, tmp_path: Path) -> None:
    rows = small_faces.split("PublicTest")
    path = write_predictions(tmp_path / "peer.csv", rows, predict(Bars(wrong=2), rows))
    report = evaluate_predictions(path, small_faces, "PublicTest")
    expected = evaluate(Bars(wrong=2), small_faces, "PublicTest")
    assert report.model == "peer"
    assert report.scores["as predicted, all"] == expected.scores["single view, all"]
    assert report.scores["as predicted, without twins"] == expected.scores["single view, without twins"]
    assert "answer by column (as predicted, all rows):" in report.to_markdown()


def test_a_zero_in_a_table_counts_as_what_its_decimals_leave(small_faces: FaceSet, tmp_path: Path) -> None:
    rows = small_faces.split("PublicTest")
    sure = np.eye(7)[np.where(np.arange(28) == 0, (rows.labels + 1) % 7, rows.labels)]  # the first is wrong
    path = write_predictions(tmp_path / "sure.csv", rows, sure)
    nll = evaluate_predictions(path, small_faces, "PublicTest").scores["as predicted, all"].nll
    assert nll == pytest.approx(-np.log(5e-6) / 28)


def test_tables_that_are_not_whole_are_refused(small_faces: FaceSet, tmp_path: Path) -> None:
    rows = small_faces.split("PublicTest")
    path = write_predictions(tmp_path / "peer.csv", rows, predict(Bars(), rows))
    lines = path.read_text().splitlines()
    for text, message in (
        ([*lines[:-2]], "lacks 2 of the 28 rows of PublicTest, as row 124"),
        (["emotion,pixels"], r"line 1: expected the columns row,p0"),
        ([*lines[:3], "101,0.5,0.5"], "line 4: expected 7 probabilities that sum to 1, but got 2"),
        ([*lines[:3], "101,1,1,1,1,1,1,-1"], "line 4: expected 7 .* the lowest is -1 and the sum 5"),
        ([*lines, lines[-1]], "line 30: row 125 is there twice"),
        ([*lines[:3], "x,1,0,0,0,0,0,0"], "line 4: invalid literal"),
    ):
        path.write_text("\n".join(text))
        with pytest.raises(Damaged, match=message):
            evaluate_predictions(path, small_faces, "PublicTest")
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")  # as Excel saves it
    assert evaluate_predictions(path, small_faces, "PublicTest").scores["as predicted, all"].n == 28
    with pytest.raises(FileError, match="cannot read"):
        evaluate_predictions(tmp_path / "none.csv", small_faces, "PublicTest")


ANSWERS: dict[str, tuple[np.ndarray, str]] = {
    "no numbers": (np.full((28, 7), np.nan), "values that are no numbers"),
    "logits": (np.eye(7)[np.zeros(28, int)] * 9 - 3, "do not sum to 1: are they logits"),
    "a row less": (np.full((27, 7), 1 / 7), r"an array \(27, 7\)"),
    "three classes": (np.full((28, 3), 1 / 3), r"an array \(28, 3\)"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_that_are_no_probabilities_get_no_score(case: str, small_faces: FaceSet) -> None:
    class Odd(Bars):
        def probabilities(self, faces: np.ndarray) -> np.ndarray:
            return ANSWERS[case][0]

    with pytest.raises(InputError, match=f"expected a row of 7 or 8 .*{ANSWERS[case][1]}"):
        evaluate(Odd(), small_faces, "PublicTest")


class WithContempt(Bars):
    """The same with an eighth answer, of which it is a little sure."""

    def probabilities(self, faces: np.ndarray) -> np.ndarray:
        seven = super().probabilities(faces)
        return np.concatenate([0.9 * seven, np.full((len(faces), 1), 0.1)], 1)


@pytest.fixture
def voted_faces(small_faces: FaceSet) -> FaceSet:
    """PublicTest's votes: row 98 is contempt, row 99 has no majority, row 100 no face; the others as labelled."""
    columns = [FERPLUS_TO_LABEL.index(label) for label in range(7)]
    votes = np.zeros_like(small_faces.votes)
    labelled = small_faces.labels >= 0
    votes[np.flatnonzero(labelled), np.array(columns)[small_faces.labels[labelled]]] = 10
    for row, some in ((98, {"contempt": 8, "neutral": 2}), (99, {"anger": 5, "disgust": 5}), (100, {"NF": 10})):
        votes[row] = [some.get(name, 0) for name in FERPLUS]
    return replace(small_faces, votes=votes)


def test_ferplus_labels_of_a_network_of_seven(voted_faces: FaceSet) -> None:
    report = evaluate(Bars(), voted_faces, "PublicTest", labels="ferplus")
    scores = report.scores["single view, all"]
    assert scores.n == 26
    assert scores.accuracy == 25 / 26
    assert scores.recall["contempt"] == 0.0
    assert np.array(scores.confusion).shape == (8, 8)
    # among seven, those 2 of 10 who did not say contempt in row 98 say neutral, of which it is 2 % sure
    assert scores.divergence == pytest.approx(-(25 * np.log(0.88) + np.log(0.02)) / 26)
    assert report.twins == 5
    assert any("answer contempt. Rows of that label, 1 of 26" in note for note in report.notes)
    assert any("26 of 26 rows" in note for note in report.notes)
    assert "| **contempt** | 1 | 0 |" in report.to_markdown()
    assert f"| {scores.divergence:.3f} |" in report.to_markdown()


def test_the_floor_of_binary_accuracy_is_that_of_eight_questions(voted_faces: FaceSet) -> None:
    class Nothing(Bars):
        """Sure of nothing, so that it says no to all."""

        def probabilities(self, faces: np.ndarray) -> np.ndarray:
            return np.full((len(faces), 8), 1 / 8)

    report = evaluate(Nothing(), voted_faces, "PublicTest", labels="ferplus", binary=True)
    assert report.scores["single view, all"].binary_accuracy == 0.875
    assert "asks 8 yes-or-no questions a face; answering no to all scores 87.50 %" in report.to_markdown()
    assert "binary accuracy (floor 87.50 %)" in report.to_markdown()


def test_ferplus_labels_of_a_network_of_eight(voted_faces: FaceSet) -> None:
    scores = evaluate(WithContempt(), voted_faces, "PublicTest", labels="ferplus").scores["single view, all"]
    in_row_98 = 0.8 * np.log(0.8 / 0.1) + 0.2 * np.log(0.2 / (0.9 * 0.02))
    assert scores.divergence == pytest.approx((in_row_98 - 25 * np.log(0.9 * 0.88)) / 26)
    votes = evaluate(WithContempt(), voted_faces, "PublicTest", labels="ferplus-votes")
    assert votes.scores["single view, all"].n == 27  # row 99 has a most frequent answer, if no majority
    assert votes.to_dict()["labels_of"] == "ferplus-votes"


def test_a_network_of_eight_is_scored_by_seven_labels_without_its_contempt(voted_faces: FaceSet) -> None:
    report = evaluate(WithContempt(wrong=2), voted_faces, "PublicTest")
    expected = evaluate(Bars(wrong=2), voted_faces, "PublicTest").scores["single view, all"]
    scores = report.scores["single view, all"]
    assert (scores.n, scores.confusion) == (28, expected.confusion)
    assert (scores.nll, scores.divergence) == (pytest.approx(expected.nll), pytest.approx(expected.divergence))
    assert any("contempt is left out" in note for note in report.notes)


def test_ferplus_labels_need_votes(voted_faces: FaceSet) -> None:
    with pytest.raises(InputError, match="--ferplus fer2013new.csv"):
        evaluate(Bars(), replace(voted_faces, votes=None), "PublicTest", labels="ferplus")
    with pytest.raises(InputError, match="14 of the 14 rows of PrivateTest have no label"):
        evaluate(Bars(), voted_faces, "PrivateTest", labels="ferplus")


def test_tables_of_eight_probabilities(voted_faces: FaceSet, tmp_path: Path) -> None:
    rows = voted_faces.split("PublicTest")
    path = write_predictions(tmp_path / "eight.csv", rows, predict(WithContempt(), rows))
    assert path.read_text().splitlines()[0] == "row,p0,p1,p2,p3,p4,p5,p6,p7"
    scores = evaluate_predictions(path, voted_faces, "PublicTest", labels="ferplus").scores["as predicted, all"]
    expected = evaluate(WithContempt(), voted_faces, "PublicTest", labels="ferplus").scores["single view, all"]
    assert scores.confusion == expected.confusion
    assert scores.divergence == pytest.approx(expected.divergence, abs=1e-4)


def test_probabilities_below_zero_are_damaged(small_faces: FaceSet, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("row,p0,p1,p2,p3,p4,p5,p6\n98,-5,6,0,0,0,0,0\n")
    with pytest.raises(Damaged, match="probabilities that sum to 1"):
        evaluate_predictions(path, small_faces, "PublicTest")
