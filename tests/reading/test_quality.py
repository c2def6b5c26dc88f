import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.reading.faces import crop
from mien.reading.images import open_image
from mien.reading.quality import FLAGS, flags, measure, needed, sharpness
from mien.reading.recognizer import load_model, model_files

MEASURED = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "quality.json").read_text())
FINE = {"height": 100.0, "tilt": 5.0, "outside": 0.0}


@pytest.fixture(scope="module")
def face(collins: Path) -> np.ndarray:
    image = open_image(collins)
    return crop(image, load_model().detector.find(image)[0])


@pytest.mark.parametrize("name", FLAGS)
def test_limits_are_the_ones_that_were_measured(name: str) -> None:
    found = MEASURED[name]
    assert FLAGS[name].limit == pytest.approx(found["limit"], rel=0.01)
    assert FLAGS[name].odds == pytest.approx(found["odds"], abs=0.06)
    medians = [each["median"] for each in found["sweeps"]]
    assert found["limit"] == (min(medians) if FLAGS[name].above else max(medians))
    if found["model"] in model_files():
        assert found["threshold"] == pytest.approx(load_model(found["model"]).card.threshold)  # of the one that ships
    else:
        assert (name, found["model"]) == ("dark", "mien-small-residual")  # none that ships loses ten points there


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_raised_where_ten_points_are_lost_and_hardly_where_nothing_is_wrong(name: str) -> None:
    for sweep in MEASURED[name]["sweeps"]:
        if sweep["strength"] is None:  # the limit is chosen, since ten points are never lost
            assert max(point["fall"] for point in sweep["points"]) < 0.10
            continue
        fallen = [point["fall"] > 0.10 for point in sweep["points"]].index(True)
        first = sweep["median"] == MEASURED[name]["limit"]  # another corruption may be flagged before it costs so much
        for number, point in enumerate(sweep["points"]):
            if number >= fallen:
                assert point["flagged"] > 0.5
            else:
                assert point["flagged"] < 0.6 or not first
                assert point["flagged"] < 0.3 or point["fall"] > (0.045 if first else 0.025)
    assert all(each["flagged"] < 0.02 for each in MEASURED[name]["false"].values())


def test_a_good_picture_has_no_flag(face: np.ndarray) -> None:
    assert flags(measure(face, **FINE)) == ()


@pytest.mark.parametrize(
    ("name", "worse"),
    [
        ("blurred", lambda face: cv2.GaussianBlur(face, (0, 0), 2)),
        ("blurred", lambda face: cv2.blur(face, (9, 1))),  # along one axis alone
        ("dark", lambda face: face // 10),
        ("bright", lambda face: np.minimum(255, face.astype(int) * 3).astype(np.uint8)),
    ],
)
def test_pixels_raise_flags(face: np.ndarray, name: str, worse: object) -> None:
    assert flags(measure(worse(face), **FINE)) == (name,)


@pytest.mark.parametrize(("name", "fact"), [("small", {"height": 12.0}), ("rotated", {"tilt": -80.0}),
                                            ("cut", {"outside": 0.5})])  # fmt: skip
def test_places_raise_flags(face: np.ndarray, name: str, fact: dict[str, float]) -> None:
    assert flags(measure(face, **FINE | fact)) == (name,)


def test_flags_come_in_their_order(face: np.ndarray) -> None:
    assert flags(measure(face // 10, height=12.0, tilt=80.0, outside=0.5)) == ("small", "dark", "rotated", "cut")


def test_sharpness_knows_neither_contrast_nor_light(face: np.ndarray) -> None:
    assert sharpness(face // 2) == pytest.approx(sharpness(face), rel=0.05)
    assert sharpness(face // 2 + 100) == pytest.approx(sharpness(face // 2))
    assert sharpness(np.full((48, 48), 90, np.uint8)) == 0
    checkers = (np.indices((48, 48)).sum(0) % 2 * 200).astype(np.uint8)
    assert sharpness(checkers) == pytest.approx(4)


def test_what_a_flag_asks_for() -> None:
    assert needed(0.6, ()) == pytest.approx(0.6)
    odds = FLAGS["blurred"].odds
    assert needed(0.6, ("blurred",)) == pytest.approx(odds * 1.5 / (1 + odds * 1.5))
    assert needed(0.6, FLAGS) == max(needed(0.6, (name,)) for name in FLAGS)
    assert needed(0.0, FLAGS) == 0  # a model that calls nothing uncertain
    assert needed(1.0, FLAGS) == 1
    assert all(needed(0.6, (name,)) >= 0.6 for name in FLAGS)
