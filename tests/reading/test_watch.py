import gc
import json
import math
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import mien
from clips import FakeCapture, encode, one_face, paste, scene, turn
from mien.errors import Damaged, InputError
from mien.expressions import Expression
from mien.reading.faces import crop
from mien.reading.recognizer import load_model
from mien.reading.tracks import TrackOptions
from mien.reading.video import Picture, VideoFile
from mien.reading.watch import BATCH, Frame, Watch


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("clips") / "one.mp4", one_face(50))


def portraits(frames: list[Frame]) -> dict[int, set[str]]:
    """Which portraits a track showed, where they are seen whole: Collins is happy, Hopper is not."""
    seen: dict[int, set[str]] = {}
    for frame in frames:
        for reading in frame.readings:
            happy = reading.raw[mien.Expression.HAPPY]
            if not 0.2 <= happy <= 0.8:
                seen.setdefault(reading.track, set()).add("collins" if happy > 0.8 else "hopper")
    return seen


def test_every_frame_comes_with_its_time_and_its_faces(clip: Path) -> None:
    frames = list(mien.watch(clip))
    assert [frame.number for frame in frames] == list(range(50))
    assert [frame.time_s for frame in frames] == pytest.approx([k / 25 for k in range(50)], abs=1e-3)
    for k, frame in enumerate(frames):
        (reading,) = frame.readings
        assert (reading.track, reading.expression) == (1, "happy")
        x, _, width, _ = reading.face.box
        assert x + width / 2 == pytest.approx(200 + 2 * k, abs=6)
        assert sum(reading.probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert (frames[0].width, frames[0].height) == (640, 360)
    assert frames[9].image().shape == (360, 640, 3)
    assert np.abs(frames[9].image().astype(int) - list(one_face(10))[9]).mean() < 3


def test_a_frame_is_read_as_a_photo_is(clip: Path) -> None:
    """The same crop, preprocessing and network: the raw probabilities of a frame are those of its face in a photo."""
    frame = next(mien.watch(clip))
    (reading,) = frame.readings
    recognizer = load_model()
    offline = recognizer.probabilities(crop(frame.image(), reading.face)[None])[0]
    assert list(reading.raw.values()) == pytest.approx(offline.tolist(), abs=1e-5)


def test_a_face_of_the_data_set_is_read_in_a_video_as_in_the_data_set(fer2013: Path, tmp_path: Path) -> None:
    from mien.measuring.data import load

    faces = load(fer2013).split("Training")
    recognizer = load_model()
    offline = recognizer.probabilities(faces.images[:600]).argmax(1)
    agree = []
    for k in np.flatnonzero(recognizer.probabilities(faces.images[:600]).max(1) > 0.9)[:24]:
        big = cv2.resize(faces.images[k], (144, 144), interpolation=cv2.INTER_CUBIC)
        image = np.full((288, 384, 3), 128, np.uint8)
        image[72:216, 120:264] = big[..., None]
        frame = list(mien.watch(encode(tmp_path / f"{k}.mp4", [image] * 3)))[-1]
        if frame.readings:
            agree.append(frame.readings[0].expression == mien.EXPRESSIONS[offline[k]])
    assert len(agree) >= 15
    assert np.mean(agree) >= 0.75


def test_two_people_who_pass_each_other_keep_their_numbers(tmp_path: Path) -> None:
    behind = [paste(scene(), "hopper", 60 + 6 * k, 170, 100) for k in range(87)]
    moving = [paste(image, "collins", 580 - 6 * k, 190, 100) for k, image in enumerate(behind)]
    frames = list(mien.watch(encode(tmp_path / "cross.mp4", moving)))
    assert portraits(frames[:25]) == portraits(frames[-25:])
    assert sorted(map(sorted, portraits(frames).values())) == [["collins"], ["hopper"]]


def test_a_face_that_passes_behind_another_keeps_its_number(tmp_path: Path) -> None:
    """Its box shrinks as it is covered, it is gone for 0.6 s, and comes back on the other side."""
    behind = [paste(scene(), "hopper", 150 + 4 * k, 180, 90) for k in range(75)]
    moving = [paste(image, "collins", 480 - 4 * k, 180, 110) for k, image in enumerate(behind)]
    frames = list(mien.watch(encode(tmp_path / "cross.mp4", moving)))
    assert min(len(frame.readings) for frame in frames) == 1
    assert portraits(frames[:25]) == portraits(frames[-12:]) == {1: {"collins"}, 2: {"hopper"}}


def test_a_face_that_scales_is_one_track(tmp_path: Path) -> None:
    growing = (paste(scene(), "collins", 320, 180, 40 + 3 * k) for k in range(60))
    frames = list(mien.watch(encode(tmp_path / "a.mp4", growing)))
    assert {reading.track for frame in frames for reading in frame.readings} == {1}
    assert all(frame.readings for frame in frames)


@pytest.mark.parametrize(("away", "tracks"), [(15, {1}), (50, {1, 2})])
def test_leaving_and_returning(away: int, tracks: set[int], tmp_path: Path) -> None:
    """Behind a curtain for 0.6 and for 2 s, where a second is allowed."""
    there = [paste(scene(), "collins", 300, 180, 100)]
    frames = list(mien.watch(encode(tmp_path / "a.mp4", [*there * 20, *[scene()] * away, *there * 20])))
    assert {reading.track for frame in frames for reading in frame.readings} == tracks
    gone = [frame.number for frame in frames if not frame.readings]
    assert set(range(20, 20 + away)) <= set(gone) <= set(range(20, 26 + away))


def test_a_cut_begins_new_tracks(tmp_path: Path) -> None:
    shots = [*[paste(scene(0), "collins", 300, 180, 100)] * 30, *[paste(scene(1), "hopper", 310, 180, 100)] * 30]
    frames = list(mien.watch(encode(tmp_path / "a.mp4", shots)))
    assert portraits(frames) == {1: {"collins"}, 2: {"hopper"}}
    assert frames[30].readings[0].track == 2


def test_a_change_of_expression_comes_through_once_and_soon(tmp_path: Path) -> None:
    shots = [paste(scene(), who, 300, 180, 100) for who in ["collins"] * 25 + ["hopper"] * 25]
    frames = list(mien.watch(encode(tmp_path / "a.mp4", shots)))
    labels = [str(frame.readings[0].expression) for frame in frames]
    change = labels.index("neutral")
    assert labels == ["happy"] * change + ["neutral"] * (50 - change)
    assert 25 < change <= 25 + 10  # 0.4 s at most


def test_variable_frame_rate_and_sampling_by_time(tmp_path: Path) -> None:
    times = [*np.arange(25) / 50, *(0.5 + np.arange(25) / 12.5)]
    made = encode(tmp_path / "vfr.mp4", one_face(50), times=times)
    assert [frame.time_s for frame in mien.watch(made)] == pytest.approx(times, abs=1e-3)
    sampled = list(mien.watch(made, every_s=0.25))
    expected = [0, 0.26, 0.5, 0.82, 1.06, 1.3, 1.54, 1.78, 2.02, 2.26]
    assert [frame.time_s for frame in sampled] == pytest.approx(expected, abs=1e-3)
    assert {reading.track for frame in sampled for reading in frame.readings} == {1}


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_phone(degrees: int, tmp_path: Path) -> None:
    upright = paste(scene(0, (360, 480)), "collins", 150, 160, 110)
    made = encode(tmp_path / "a.mp4", [np.rot90(upright, degrees // 90)] * 10)
    turn(made, degrees)
    frames = list(mien.watch(made))
    assert all(len(frame.readings) == 1 and frame.readings[0].expression == "happy" for frame in frames)
    assert (frames[0].width, frames[0].height) == (360, 480)
    x, y, w, h = frames[0].readings[0].face.box
    assert (x + w / 2, y + h / 2) == pytest.approx((150, 160), abs=8)


def test_leaving_the_loop_early_closes_the_file(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    close = VideoFile.close
    monkeypatch.setattr(VideoFile, "close", lambda self: (closed.append(self.name), close(self)))
    for frame in mien.watch(clip):
        if frame.number == 3:
            break
    gc.collect()
    assert closed == [str(clip)]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="Linux tells which files are open")
def test_frames_that_nobody_asked_for_hold_no_file(clip: Path) -> None:
    def held() -> int:
        return sum(each.resolve() == clip.resolve() for each in Path("/proc/self/fd").iterdir())

    before = held()
    frames = mien.watch(clip)
    assert held() == before + 1
    del frames
    assert held() == before


def test_frames_that_are_let_go_of_are_gone(clip: Path) -> None:
    """Constant memory: no more than the frames of a batch are alive."""
    most = 0
    for _ in mien.watch(clip):
        most = max(most, sum(isinstance(each, Picture) for each in gc.get_objects()))
    assert 0 < most <= BATCH + 1


@pytest.mark.parametrize("stop", [BATCH, 2 * BATCH])
def test_going_on_gives_the_same_frames(stop: int, tmp_path: Path) -> None:
    def two() -> list[np.ndarray]:
        return [paste(image, "hopper", 600 - 4 * k, 150, 80) for k, image in enumerate(one_face(60))]

    made = encode(tmp_path / "a.mp4", two())
    options = TrackOptions(baseline_s=0.8)
    expected = list(mien.watch(made, tracking=options))
    first = Watch(made, tracking=options)
    frames = first.frames()
    for _ in range(stop):
        next(frames)
    state = json.loads(json.dumps(first.checkpoint()))
    next(frames)
    assert first.checkpoint() is None  # inside a batch
    frames.close()
    assert list(Watch(made, tracking=options).frames(state)) == expected[stop:]


def test_who_goes_on_is_told_what_was_lost_before(tmp_path: Path) -> None:
    """Joined recordings: of the second all frames come too late, of the third those of the first 0.8 s."""
    parts = [encode(tmp_path / f"{count}.ts", one_face(count)) for count in (20, 5, 60)]
    made = tmp_path / "joined.ts"
    made.write_bytes(b"".join(part.read_bytes() for part in parts))
    expected = []
    with pytest.raises(Damaged, match="25 frames"):  # noqa: PT012
        for frame in mien.watch(made):
            expected.append(frame)
    first = Watch(made)
    frames = first.frames()
    for _ in range(2 * BATCH):
        next(frames)
    state = json.loads(json.dumps(first.checkpoint()))
    frames.close()
    rest = []
    with pytest.raises(Damaged, match=r"25 frames .* the first after 0\.76 s"):  # noqa: PT012
        for frame in Watch(made).frames(state):
            rest.append(frame)
    assert rest == expected[2 * BATCH :]


def test_a_truncated_video_gives_its_frames_first(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 60, (40, 360, 640, 3)).astype(np.uint8)
    made = encode(tmp_path / "a.mkv", (image // 2 + each // 2 for image, each in zip(one_face(40), noise, strict=True)))
    made.write_bytes(made.read_bytes()[: made.stat().st_size * 6 // 10])
    frames = []
    with pytest.raises(Damaged, match="breaks off"):  # noqa: PT012
        for frame in mien.watch(made):
            frames.append(frame)
    assert 20 <= len(frames) <= 28
    assert len(frames) % BATCH  # those that were still waiting came too


def test_spans_below_zero_are_refused(clip: Path) -> None:
    with pytest.raises(InputError, match="0 s or more"):
        mien.watch(clip, every_s=-1)


def test_networks_of_eight_labels_are_refused(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = load_model()
    monkeypatch.setattr(recognizer, "labels", tuple(Expression))
    with pytest.raises(InputError, match="watching takes networks of the seven"):
        mien.watch(clip, recognizer=recognizer)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("wrong", [{"recognizer": "mien-base"}, {"tracking": {"max_gap_s": 1}}])
def test_what_is_no_recognizer_and_no_options_is_refused(wrong: dict[str, Any], clip: Path) -> None:
    with pytest.raises(InputError, match="expected .* or None, but got"):
        mien.watch(clip, **wrong)


@pytest.mark.parametrize("name", ["every_s", "start_s", "end_s", "detect_every_s"])
def test_what_is_no_number_is_refused(name: str, clip: Path) -> None:
    with pytest.raises(InputError, match="nan"):
        mien.watch(clip, **{name: math.nan})


def test_a_camera_is_read_frame_by_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for a batch to fill."""
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    frames = mien.watch(0)
    first = next(frames)
    assert first.number == 0
    assert tuple(first.image()[0, 0]) == (200, 0, 0)
