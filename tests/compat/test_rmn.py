import inspect
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from clips import FakeCapture
from mien.compat.rmn import RMN
from mien.errors import Damaged, InputError


def test_faces_have_rmns_shape_and_miens_answer(collins: Path, capfd: pytest.CaptureFixture[str]) -> None:
    frame = cv2.imread(str(collins))
    (result,) = RMN().detect_emotion_for_single_frame(frame)
    assert list(result) == ["xmin", "ymin", "xmax", "ymax", "emo_label", "emo_proba", "proba_list"]
    labels = [name for share in result["proba_list"] for name in share]
    assert labels == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    (reading,) = mien.read(frame[..., ::-1])
    assert (result["emo_label"], result["emo_proba"]) == ("happy", reading.confidence)
    assert {"happy": reading.confidence} in result["proba_list"]
    assert result["xmax"] - result["xmin"] == pytest.approx(result["ymax"] - result["ymin"], abs=1)
    assert json.loads(json.dumps(result)) == result
    assert [RMN().detect_faces(frame)[0][side] for side in ("xmin", "xmax")] == [result["xmin"], result["xmax"]]
    assert capfd.readouterr().out == ""


def test_a_single_face_image_is_read_as_it_is(collins: Path) -> None:
    m = RMN(face_detector=False)
    face = cv2.imread(str(collins))[65:173, 173:280]
    label, probability, shares = m.detect_emotion_for_single_face_image(face)
    assert label == "happy"
    assert {"happy": probability} in shares
    assert sum(p for share in shares for p in share.values()) == pytest.approx(1)
    grey = m.detect_emotion_for_single_face_image(cv2.cvtColor(face, cv2.COLOR_BGR2GRAY))
    assert grey[1] == pytest.approx(probability, abs=0.02)
    with pytest.raises(InputError, match="finds no faces"):
        m.detect_emotion_for_single_frame(face)


def test_draw_changes_the_frame_around_the_face(collins: Path) -> None:
    frame = cv2.imread(str(collins))
    before = frame.copy()
    result = {"xmin": 173, "ymin": 65, "xmax": 280, "ymax": 173, "emo_label": "happy", "emo_proba": 0.98}
    assert RMN.draw(frame, [result]) is frame
    changed = (frame != before).any(2)
    assert changed[65:173, 173:280].any()
    assert not changed[300:].any()
    assert frame[119, 173].tolist() == [46, 184, 245]  # the colour of happy, blue first
    assert list(inspect.signature(RMN.draw).parameters) == ["frame", "results"]


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 4), (60, 80, 3)])
def test_a_frame_that_cannot_be_drawn_into_is_refused(shape: tuple[int, ...]) -> None:
    frame = np.zeros(shape, np.uint8)
    frame.flags.writeable = shape != (60, 80, 3)
    with pytest.raises(InputError, match=r"BGR array \(H, W, 3\) that may be written to"):
        RMN.draw(frame, [])


class FakeWindow:
    """A window whose user presses Q at the third frame."""

    shown: list[np.ndarray]

    def __init__(self, title: str) -> None:
        FakeWindow.shown = []

    def show(self, image: np.ndarray, time_s: float) -> bool:
        self.shown.append(image)
        return len(self.shown) < 3

    def close(self) -> None:
        self.shown.append(np.zeros(0))


def test_the_demo_shows_the_camera_until_q(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr("mien.reading.clip.Window", FakeWindow)
    RMN().video_demo()
    assert len(FakeWindow.shown) == 4  # and closed
    assert FakeWindow.shown[0][0, 0].tolist() == [200, 0, 0]  # red stays red


def test_a_camera_that_stops_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr("mien.reading.clip.Window", FakeWindow)
    monkeypatch.setattr(FakeWindow, "show", lambda *_: True)
    with pytest.raises(Damaged, match="camera 0 has stopped"):
        RMN().video_demo()
