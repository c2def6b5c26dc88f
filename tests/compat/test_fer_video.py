import csv
import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import cv2
import numpy as np
import pytest

pytest.importorskip("av")
from clips import encode, paste, scene
from mien.compat.fer import FER, Video
from mien.errors import FileError, InputError
from mien.expressions import EXPRESSIONS
from mien.reading.video import VideoFile


@pytest.fixture
def party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight frames in a folder of their own; the third and fourth without a face."""
    monkeypatch.chdir(tmp_path)
    faces = [paste(scene(), "collins", 200 + 10 * k, 180, 100) for k in range(8)]
    return encode(tmp_path / "party.mp4", [scene() if k in (2, 3) else face for k, face in enumerate(faces)], rate=10)


def test_rows_table_clip_and_frames(party: Path) -> None:
    rows = Video("party.mp4").analyze(FER(), video_id="p")
    assert len(rows) == 6  # as in fer, frames without a face are left out
    assert list(rows[0]) == ["box0", *(f"{expression}0" for expression in EXPRESSIONS)]
    assert rows[0]["happy0"] > 0.5
    assert rows[-1]["box0"][0] - rows[0]["box0"][0] == pytest.approx(70, abs=6)
    assert json.loads(json.dumps(rows)) == rows
    with open("data.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == sorted(rows[0])
    assert [float(row["happy0"]) for row in table] == [row["happy0"] for row in rows]
    assert [round(p.time_s, 3) for p in VideoFile("output/party_output.mp4").frames()] == [k / 10 for k in range(8)]
    with ZipFile("output/images.zip") as frames:
        assert frames.namelist() == [f"p{k}.jpg" for k in range(8)]
        drawn = cv2.imdecode(np.frombuffer(frames.read("p0.jpg"), np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (360, 640, 3)


@pytest.mark.parametrize(
    ("arguments", "places"),
    [
        ({"frequency": 2}, [200, 240, 260]),
        ({"save_fps": 5}, [200, 240, 260]),
        ({"max_results": 2}, [200, 210]),
        ({"detection_box": {"x_min": 150, "x_max": 290, "y_min": 90, "y_max": 270}, "max_results": 1}, [200]),
    ],
)
def test_frames_are_chosen(party: Path, arguments: dict[str, Any], places: list[int]) -> None:
    rows = Video(party).analyze(FER(), save_video=False, save_frames=False, **arguments)
    assert [row["box0"][0] + row["box0"][2] / 2 for row in rows] == pytest.approx(places, abs=8)
    assert not Path("output").exists()


def test_frames_one_by_one(party: Path) -> None:
    Video(party, outdir="o").analyze(FER(), zip_images=False, save_video=False, annotate_frames=False, max_results=2)
    assert sorted(path.name for path in Path("o").iterdir()) == ["party0.jpg", "party1.jpg"]


def test_tables_are_as_in_fer(party: Path) -> None:
    pandas = pytest.importorskip("pandas")
    video = Video(party, first_face_only=False)
    faces = [[{"box": [1, 2, 3, 4], "emotions": {"happy": 0.5}}, {"box": [5, 6, 7, 8], "emotions": {"happy": 0.25}}]]
    both = video.to_pandas(faces)
    assert list(both.columns) == ["box0", "happy0", "box1", "happy1"]
    first = Video(party).to_pandas(both)
    assert list(first.columns) == ["box", "happy"]
    assert list(video.get_emotions(both).columns) == ["happy0", "happy1"]
    assert Video(party).to_pandas(first).equals(first)
    assert isinstance(Video(party).to_pandas([]), pandas.DataFrame)


def test_a_table_of_its_own_can_be_written(party: Path) -> None:
    pytest.importorskip("pandas")
    video = Video(party)
    table = video.analyze(FER(), output="pandas", save_video=False, save_frames=False, max_results=4)
    rows = video.to_csv(table)
    assert rows[0] == table.iloc[0].to_dict()
    with open("data.csv", newline="", encoding="utf-8") as file:
        assert [float(row["happy"]) for row in csv.DictReader(file)] == list(table["happy"])


def test_damage_is_told_and_the_rows_before_it_kept(party: Path) -> None:
    long = encode(party.with_name("long.mkv"), [paste(scene(), "collins", 200, 180, 100)] * 60)
    long.write_bytes(long.read_bytes()[: long.stat().st_size * 6 // 10])
    with pytest.warns(UserWarning, match="breaks off|could not be decoded"):
        rows = Video(long).analyze(FER(), save_video=False, save_frames=False)
    assert 5 < len(rows) < 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lang": "de"}, "lang of Video.analyze"),
        ({"include_audio": True}, "include_audio"),
        ({"output": "json"}, "'csv' or 'pandas'"),
        ({"detector": None}, "expected a mien.compat.fer.FER"),
        ({"save_fps": 0}, "save_fps should be a number above 0"),
        ({"frequency": -1}, "frequency should be a whole number above 0"),
        ({"max_results": -1}, "max_results should be a whole number above 0"),
        ({"detection_box": {"x_min": 2000}}, "has nothing of the frame"),
        ({"detection_box": {"x_min": -300}}, "x_min of detection_box should be a whole number from 0 on"),
    ],
)
def test_what_cannot_be_honoured_is_refused(party: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Video(party).analyze(**{"detector": FER(), "save_video": False, "save_frames": False} | arguments)


def test_a_missing_video_is_told_at_once() -> None:
    with pytest.raises(FileError, match=r"missing\.mp4"):
        Video("missing.mp4")
