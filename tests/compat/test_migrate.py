"""The lines of docs/migrate.md, and those of the other packages' READMEs with the import line changed."""

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import cv2
import pytest

pytest.importorskip("av")
from test_rmn import FakeWindow

from clips import FakeCapture, encode, one_face

PAGE = (Path(__file__).parents[2] / "docs" / "migrate.md").read_text(encoding="utf-8")
PHOTOS = ("photo.jpg", "justin.jpg", "img4.jpg", "some-image-path.png")  # as the pages name them

# Source: README of https://github.com/JustinShenk/fer (MIT), 25.10.3.
FER = """
from fer import FER
import cv2

img = cv2.imread("justin.jpg")
detector = FER()
detector.detect_emotions(img)
emotion, score = detector.top_emotion(img)
detector = FER(mtcnn=True)
"""
FER_VIDEO = """
from fer import Video
from fer import FER

video_filename = "tests/woman2.mp4"
video = Video(video_filename)

# Analyze video, displaying the output
detector = FER(mtcnn=True)
raw_data = video.analyze(detector, display=True)
df = video.to_pandas(raw_data)
"""
# Source: README of https://github.com/serengil/deepface (MIT), 0.0.100.
DEEPFACE = """
from deepface import DeepFace

objs = DeepFace.analyze(
  img_path = "img4.jpg", actions = ['age', 'gender', 'race', 'emotion']
)
"""
# Source: README of https://github.com/phamquiluan/ResidualMaskingNetwork (MIT), 3.3.0; it takes cv2 for granted.
RMN = """
from rmn import RMN
m = RMN()
m.video_demo()

# or
image = cv2.imread("some-image-path.png")
results = m.detect_emotion_for_single_frame(image)
print(results)
image = m.draw(image, results)
cv2.imwrite("output.png", image)
"""


@pytest.fixture(autouse=True)
def _desk(tmp_path: Path, collins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the photos and videos that the pages name, a camera, and a display."""
    monkeypatch.chdir(tmp_path)
    for name in PHOTOS:
        shutil.copy(collins, name)
    encode(Path("party.mp4"), one_face(6))
    Path("tests").mkdir()
    shutil.copy("party.mp4", "tests/woman2.mp4")
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr("mien.reading.clip.Window", FakeWindow)


def run(lines: str) -> dict[str, Any]:
    """Run the lines of a page; its other imports stay."""
    changed = re.sub(r"^from (fer|deepface|rmn)\b", r"from mien.compat.\1", lines, flags=re.MULTILINE)
    assert changed != lines
    names: dict[str, Any] = {"cv2": cv2}
    exec(compile(changed, "README.md", "exec"), names)
    return names


def test_the_lines_of_the_page_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 9
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "migrate.md", "exec"), names)
    assert names["emotion"] == names["objs"][0]["dominant_emotion"] == names["results"][0]["emo_label"] == "happy"
    assert len(names["raw_data"]) == 2
    assert Path("output.png").exists()


def test_every_import_line_of_the_page_works() -> None:
    lines = re.findall(r"`(from mien\.compat[^`]*)`", PAGE)
    assert len(lines) == 4
    for line in lines:
        exec(compile(line, "migrate.md", "exec"), {})


def test_the_lines_of_fers_readme_run() -> None:
    names = run(FER)
    assert names["emotion"] == "happy"
    assert 0.5 < names["score"] <= 1


def test_the_video_lines_of_fers_readme_run() -> None:
    pytest.importorskip("pandas")
    names = run(FER_VIDEO)
    assert list(names["df"].columns) == ["box", "angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    assert len(names["df"]) == len(names["raw_data"]) == 3  # until Q is pressed
    assert Path("output/woman2_output.mp4").exists()


def test_the_lines_of_deepfaces_readme_run() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names = run(DEEPFACE)
    assert [obj["dominant_emotion"] for obj in names["objs"]] == ["happy"]
    assert "age, gender, race will be missing" in str(caught[0].message)


def test_the_lines_of_rmns_readme_run() -> None:
    names = run(RMN)
    assert names["results"][0]["emo_label"] == "happy"
    assert cv2.imread("output.png").shape == (512, 512, 3)
