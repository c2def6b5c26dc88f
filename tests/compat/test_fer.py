import inspect
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import mien
from mien.compat.fer import FER
from mien.errors import InputError

LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
BLANK = np.full((120, 160, 3), 127, np.uint8)


def test_the_signatures_are_those_of_fer() -> None:
    # Source: inspect.signature of fer 25.10.3.
    assert [(name, each.default) for name, each in inspect.signature(FER).parameters.items()] == [
        ("cascade_file", None),
        ("mtcnn", False),
        ("tfserving", False),
        ("use_tflite", True),
        ("scale_factor", 1.1),
        ("min_face_size", 50),
        ("min_neighbors", 5),
        ("offsets", (10, 10)),
    ]
    assert list(inspect.signature(FER.detect_emotions).parameters) == ["self", "img", "face_rectangles"]
    assert list(inspect.signature(FER.find_faces).parameters) == ["self", "img", "bgr", "gray_img"]


def test_faces_have_fers_shape_and_miens_answer(collins: Path) -> None:
    detector = FER()
    (face,) = detector.detect_emotions(cv2.imread(str(collins)))
    assert list(face) == ["box", "emotions"]
    assert list(face["emotions"]) == LABELS
    (reading,) = mien.read(collins)
    assert face["box"] == pytest.approx(reading.face.box, abs=1)
    assert face["emotions"] == pytest.approx({str(e): p for e, p in reading.probabilities.items()}, abs=0.02)
    assert all(round(p, 2) == p for p in face["emotions"].values())
    assert json.loads(json.dumps(face)) == face
    assert {type(v) for v in (*face["box"], *face["emotions"].values())} == {int, float}
    assert detector.emotions == [face]


def test_top_emotion_is_of_the_largest_face(collins: Path, hopper: Path) -> None:
    assert FER().top_emotion(str(hopper)) == ("neutral", FER().detect_emotions(str(hopper))[0]["emotions"]["neutral"])
    small = cv2.resize(cv2.imread(str(collins)), (256, 256))
    both = np.hstack([small, cv2.imread(str(hopper))[100:356, 100:450]])
    faces = FER().detect_emotions(both)
    assert len(faces) == 2
    assert faces[0]["box"][3] > faces[1]["box"][3]
    assert FER().top_emotion(both) == max(faces[0]["emotions"].items(), key=lambda item: item[1])


def test_no_face_is_empty() -> None:
    assert FER().detect_emotions(BLANK) == []
    assert FER().top_emotion(BLANK) == (None, None)
    assert FER().find_faces(BLANK) == []


def test_faces_are_found_in_colour_and_grey(collins: Path) -> None:
    image = cv2.imread(str(collins))
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    (box,) = FER().find_faces(image)
    assert FER().find_faces(grey, bgr=False)[0] == pytest.approx(box, abs=4)
    assert FER().find_faces(BLANK, gray_img=grey)[0] == pytest.approx(box, abs=4)
    assert [len(faces) for faces in FER().batch_detect_emotions([image, BLANK, str(collins)])] == [1, 0, 1]


def test_small_faces_are_dropped_as_in_fer(collins: Path) -> None:
    small = cv2.resize(cv2.imread(str(collins)), (180, 180), interpolation=cv2.INTER_AREA)
    assert FER().detect_emotions(small) == []
    assert len(FER(min_face_size=30).detect_emotions(small)) == 1
    assert len(FER(mtcnn=True).detect_emotions(small)) == len(FER(mtcnn=True).find_faces(small)) == 1


def test_given_rectangles_are_read(collins: Path) -> None:
    image = cv2.imread(str(collins))
    whole, corner = FER().detect_emotions(image, np.array([[184, 63, 84, 112], [-5, -5, 40, 40]]))
    assert whole["box"] == [184, 63, 84, 112]
    assert max(whole["emotions"], key=whole["emotions"].__getitem__) == "happy"
    assert list(corner["emotions"]) == LABELS
    (inside,) = FER().detect_emotions(image, [(900, 10, 40, 40), (184, 63, 84, 112)])
    assert inside == whole


@pytest.mark.parametrize("rectangle", [(1, 2), (float("nan"), 2, 3, 4), (184, 63, -84, 112), (1, 2, 3, "x"), 7])
def test_what_is_no_rectangle_is_refused(rectangle: Any) -> None:
    with pytest.raises(InputError, match="face rectangle"):
        FER().detect_emotions(BLANK, [rectangle])


def test_a_face_at_the_edge_keeps_its_shape(collins: Path) -> None:
    """As in fer, what lies beyond the edge is a border, so that the face is not stretched."""
    image = cv2.imread(str(collins))
    cut = image[:, 200:]  # without the left of the face
    (edge,) = FER().detect_emotions(cut, [(-16, 63, 84, 112)])
    bordered = cv2.copyMakeBorder(cut, 0, 0, 80, 0, cv2.BORDER_CONSTANT, value=[float(cut[-2:].mean())] * 3)
    (whole,) = FER().detect_emotions(bordered, [(64, 63, 84, 112)])
    assert edge["emotions"] == whole["emotions"]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "arguments",
    [
        {"cascade_file": "x.xml"},
        {"tfserving": True},
        {"scale_factor": 1.3},
        {"min_neighbors": 3},
        {"offsets": (0, 0)},
        {"min_face_size": 0},
        {"min_face_size": "50"},
        {"offsets": 10},
    ],
)
def test_what_cannot_be_honoured_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        FER(**arguments)
