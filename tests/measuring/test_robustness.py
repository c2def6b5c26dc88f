from dataclasses import replace

import numpy as np
import pytest

from mien.errors import InputError
from mien.expressions import FERPLUS, Labels
from mien.measuring.corruptions import CORRUPTIONS, corrupt
from mien.measuring.faceset import FaceSet
from mien.measuring.robustness import Robustness, evaluate_corrupted
from mien.recipes import RECIPES, Protocol


class Bars:
    """Reads the made-up images' bar, and is as sure as the bar is bright."""

    name = "bars"

    def probabilities(self, faces: np.ndarray) -> np.ndarray:
        level = np.stack([faces[:, 4 + 6 * k : 8 + 6 * k].mean((1, 2)) for k in range(7)], 1)
        sure = 0.2 + 0.7 * level.max(1) / 255
        rows = np.repeat((1 - sure)[:, None] / 6, 7, 1)
        rows[np.arange(len(faces)), level.argmax(1)] = sure
        return rows


@pytest.fixture
def measured(small_faces: FaceSet) -> Robustness:
    return evaluate_corrupted(Bars(), small_faces, "PublicTest", threshold=0.7)


def test_every_corruption_at_every_strength_is_what_its_images_score(
    measured: Robustness, small_faces: FaceSet
) -> None:
    assert {name: tuple(points) for name, points in measured.points.items()} == {
        name: corruption.strengths for name, corruption in CORRUPTIONS.items()
    }
    rows = small_faces.split("PublicTest")
    for name, strength in (("shift", 9), ("darker", 0.5), ("noise", 30)):
        answers = Bars().probabilities(corrupt(rows.images, name, strength))
        point = measured.points[name][strength]
        assert point.accuracy == pytest.approx((answers.argmax(1) == rows.labels).mean())
        assert point.coverage == pytest.approx((answers.max(1) >= 0.7).mean())


def test_noise_is_drawn_by_the_seed(measured: Robustness, small_faces: FaceSet) -> None:
    other = evaluate_corrupted(Bars(), small_faces, "PublicTest", threshold=0.7, seed=1)
    assert measured.points["noise"] != other.points["noise"]
    assert measured.points["jpeg"] == other.points["jpeg"]


def test_what_is_lost_shows(measured: Robustness) -> None:
    assert measured.clean.accuracy == measured.clean.coverage == 1
    assert measured.points["shift"][12].accuracy < 0.6  # the bar's place tells the label
    dark = measured.points["darker"][0.1]
    assert (dark.accuracy, dark.coverage, dark.accuracy_answered) == (1, 0, None)
    assert dark.ece > measured.points["darker"][0.7].ece
    assert "| darker | 0.1 (light left) | 100.0% | 0.0 | " in measured.to_markdown()
    assert "| 0.0% | - |" in measured.to_markdown()


def test_learned_rows_are_not_called_a_selection_score(measured: Robustness, small_faces: FaceSet) -> None:
    class Trained(Bars):
        recipe = replace(RECIPES["workshop"], protocol=Protocol(train=("Training", "PublicTest"), select=0.1))

    assert measured.notes[0].startswith("PublicTest chooses epochs and settings: this is a selection score")
    learned = evaluate_corrupted(Trained(), small_faces, "PublicTest").notes[0]
    assert learned.startswith("Rows of PublicTest may be among those it learned from")
    assert evaluate_corrupted(Bars(), small_faces, "Training").notes[0].startswith("Training rows are learned from")


def test_json_brings_all_of_it_back(measured: Robustness) -> None:
    assert Robustness.from_json(measured.to_json()) == measured


def test_a_predictor_without_a_threshold_gets_one(small_faces: FaceSet) -> None:
    measured = evaluate_corrupted(Bars(), small_faces, "PublicTest")
    assert measured.clean.coverage == 1
    assert any("brings no threshold" in note for note in measured.notes)


def test_what_cannot_be_scored_is_refused(small_faces: FaceSet) -> None:
    with pytest.raises(InputError, match="14 of the 14 rows of PrivateTest have no label"):
        evaluate_corrupted(Bars(), small_faces, "PrivateTest")
    with pytest.raises(InputError, match="threshold should be from 0 to 1"):
        evaluate_corrupted(Bars(), small_faces, "PublicTest", threshold=1.5)


def test_a_network_of_eight_is_asked_among_the_labels_it_is_scored_by(small_faces: FaceSet) -> None:
    class Contemptuous(Bars):
        """Sees contempt in half of everything."""

        def probabilities(self, faces: np.ndarray) -> np.ndarray:
            return np.concatenate([0.5 * super().probabilities(faces), np.full((len(faces), 1), 0.5)], 1)

    def score(predictor: Bars, labels: Labels) -> Robustness:
        return evaluate_corrupted(predictor, small_faces, "PublicTest", labels=labels, threshold=0.7)

    votes = np.zeros_like(small_faces.votes)
    votes[:98, FERPLUS.index("neutral")] = votes[98:, FERPLUS.index("contempt")] = 10
    small_faces = replace(small_faces, votes=votes)
    seven = score(Contemptuous(), "fer2013")
    assert seven.clean.accuracy == seven.clean.coverage == 1
    assert seven.points["shift"][12].accuracy == score(Bars(), "fer2013").points["shift"][12].accuracy
    assert any("contempt is left out" in note for note in seven.notes)
    eight = score(Contemptuous(), "ferplus")
    assert (eight.clean.accuracy, eight.points["shift"][12].accuracy, eight.labels_of) == (1, 1, "ferplus")
    assert score(Bars(), "ferplus").clean.accuracy == 0
    with pytest.raises(InputError, match="--ferplus"):
        evaluate_corrupted(Bars(), replace(small_faces, votes=None), "PublicTest", labels="ferplus")


def test_the_picture_has_a_panel_for_each(measured: Robustness) -> None:
    pytest.importorskip("matplotlib")
    from mien.measuring import plots

    figure = plots.robustness(replace(measured, model="net"))
    titles = [axes.get_title() for axes in figure.axes if axes.axison]
    assert titles == list(CORRUPTIONS)
