import inspect
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import mien
from mien.compat.deepface import ACTIONS, DeepFace

BLANK = np.full((120, 160, 3), 127, np.uint8)


def test_the_signature_is_that_of_deepface() -> None:
    # Source: deepface/DeepFace.py, 0.0.100.
    assert {name: each.default for name, each in inspect.signature(DeepFace.analyze).parameters.items()} == {
        "img_path": inspect.Parameter.empty,
        "actions": ("emotion", "age", "gender", "race"),
        "enforce_detection": True,
        "detector_backend": "opencv",
        "align": True,
        "expand_percentage": 0,
        "silent": False,
        "anti_spoofing": False,
    }


def test_faces_have_deepfaces_shape_and_miens_answer(collins: Path) -> None:
    (obj,) = DeepFace.analyze(str(collins), actions=["emotion"])
    assert list(obj) == ["emotion", "dominant_emotion", "region", "face_confidence"]
    assert list(obj["emotion"]) == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    assert list(obj["region"]) == ["x", "y", "w", "h", "left_eye", "right_eye"]
    (reading,) = mien.read(collins)
    assert obj["dominant_emotion"] == "happy"
    assert type(obj["dominant_emotion"]) is str
    assert obj["emotion"]["happy"] == pytest.approx(100 * reading.confidence)
    assert sum(obj["emotion"].values()) == pytest.approx(100)
    assert obj["face_confidence"] == round(reading.face.score, 2)
    assert [obj["region"][side] for side in "xywh"] == pytest.approx(reading.face.box, abs=1)
    assert obj["region"]["left_eye"][0] > obj["region"]["right_eye"][0]  # the person's own left
    assert {type(v) for v in (*obj["emotion"].values(), *obj["region"]["left_eye"])} == {float, int}
    json.dumps(obj)


def test_several_images_give_a_list_each(collins: Path) -> None:
    image = cv2.imread(str(collins))
    single = DeepFace.analyze(image, actions=("emotion",))
    assert DeepFace.analyze([image, image], actions="emotion") == [single, single]
    assert DeepFace.analyze(np.stack([image, image]), actions=["emotion"]) == [single, single]


def test_without_a_face_it_is_an_error_or_the_whole_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^Face could not be detected in ndarray"):
        DeepFace.analyze(BLANK, actions=["emotion"])
    Image.fromarray(BLANK).save(tmp_path / "wall.png")
    with pytest.raises(ValueError, match=r"could not be detected in .*wall\.png;"):
        DeepFace.analyze(tmp_path / "wall.png", actions=["emotion"])
    (obj,) = DeepFace.analyze(BLANK, actions=["emotion"], enforce_detection=False)
    assert obj["region"] == {"x": 0, "y": 0, "w": 160, "h": 120, "left_eye": None, "right_eye": None}
    assert obj["face_confidence"] == 0
    assert sum(obj["emotion"].values()) == pytest.approx(100)


def test_skip_reads_the_whole_image(collins: Path) -> None:
    face = cv2.imread(str(collins))[55:175, 165:285]
    (obj,) = DeepFace.analyze(face, actions=["emotion"], detector_backend="skip")
    assert obj["dominant_emotion"] == "happy"
    assert obj["region"]["w"] == 120
    assert DeepFace.analyze(BLANK, actions=["emotion"], detector_backend="skip")[0]["face_confidence"] == 0


def test_other_actions_are_left_out_with_a_warning(collins: Path) -> None:
    with pytest.warns(UserWarning, match="age, gender, race will be missing"):
        (obj,) = DeepFace.analyze(str(collins))
    assert not set(obj) & {"age", "gender", "race"}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"actions": ["age"]}, "pass actions=.'emotion'."),
        ({"actions": None}, "but got None"),
        ({"actions": []}, "pass actions=.'emotion'."),
        ({"actions": ["emotions"]}, "but got 'emotions'"),
        ({"expand_percentage": 10}, "expand_percentage of DeepFace.analyze"),
        ({"anti_spoofing": True}, "anti_spoofing of DeepFace.analyze"),
        ({"detector_backend": "haar"}, "but got 'haar'"),
    ],
)
def test_what_cannot_be_honoured_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepFace.analyze(BLANK, **{"actions": ["emotion"]} | arguments)


def test_other_functions_say_why_they_are_missing() -> None:
    with pytest.raises(AttributeError, match=r"no DeepFace\.verify: it reads expressions"):
        DeepFace.verify("a.jpg", "b.jpg")
    assert not hasattr(DeepFace, "find")
    assert ACTIONS[0] == "emotion"
