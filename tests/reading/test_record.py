"""Recording as a caller and as a user of `mien watch` meets it."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from clips import damaged, encode, one_face, paste, scene, turn
from mien.errors import FileError, InputError
from mien.expressions import Expression
from mien.reading.record import Outputs, Recording
from mien.reading.tracks import TrackOptions
from mien.reading.video import VideoFile


def mien(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mien", "watch", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second with a face, half a second without, a second with it again; with sound."""
    faces = list(one_face(50))
    images = [*faces[:25], *[scene()] * 12, *faces[25:]]
    return encode(tmp_path_factory.mktemp("clips") / "party.mp4", images, sound="aac")


def test_everything_at_once(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "by it"
    names = {kind: folder / name for kind, name in
             {"rows": "rows.csv", "out": "out.mp4", "timeline": "timeline.png"}.items()}
    done = mien(clip, *(part for kind, path in names.items() for part in (f"--{kind}", path)), "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (one,) = json.loads(done.stdout)
    assert (one["track"], one["first_s"]) == (1, 0)
    assert one["seen_s"] == pytest.approx(2.0, abs=0.3)
    assert one["shares"]["happy"] == 1
    rows = table(names["rows"])
    assert list(dict.fromkeys(row["frame"] for row in rows)) == [str(k) for k in range(62)]  # those without a face too
    assert [float(row["time_s"]) for row in rows] == pytest.approx([k / 25 for k in range(62)], abs=1e-3)
    assert rows[30]["track"] == rows[30]["expression"] == rows[30]["x"] == ""
    assert (rows[20]["track"], rows[50]["track"], rows[50]["expression"]) == ("1", "1", "happy")
    with av.open(str(names["out"])) as container:
        assert {stream.codec_context.name for stream in container.streams} == {"h264", "aac"}
    drawn, plain = (list(VideoFile(path).frames()) for path in (names["out"], clip))
    assert [each.time_s for each in drawn] == pytest.approx([each.time_s for each in plain], abs=2e-3)
    x, y, _, h = (round(float(rows[10][name])) for name in "xywh")
    changed = np.abs(drawn[10].rgb().astype(int) - plain[10].rgb()).max(2) > 60
    assert changed[y + h // 2, x - 3 : x + 4].any()  # the left edge of the box
    assert not (np.abs(drawn[30].rgb().astype(int) - plain[30].rgb()).max(2) > 60).any()
    assert sorted(path.name for path in folder.iterdir()) == ["out.mp4", "rows.csv", "timeline.png"]


def test_the_summary_is_a_table(clip: Path) -> None:
    done = mien(clip, "--summary", "--end", "0.8s", "--every", "200ms")
    assert done.returncode == 0, done.stderr
    assert "#1" in done.stdout
    assert "happy 100%" in done.stdout


def test_a_baseline_takes_the_resting_face_out(tmp_path: Path) -> None:
    """Neutral first, then happy: the shift is towards happy, and the raw values stay what they are."""
    shots = [paste(scene(), who, 300, 180, 100) for who in ["hopper"] * 30 + ["collins"] * 30]
    made = encode(tmp_path / "a.mp4", shots)
    recording = Recording(made, Outputs(rows=tmp_path / "a.jsonl"), tracking=TrackOptions(baseline_s=1.0))
    frames = list(recording.frames())
    recording.finish()
    recording.close()
    assert frames[20].readings[0].shift is None
    last, shift = frames[-1].readings[0], frames[-1].readings[0].shift
    assert shift is not None
    resting = {each: np.mean([frame.readings[0].raw[each] for frame in frames[1:25]]) for each in shift}
    for each, moved in shift.items():
        assert moved == pytest.approx(last.probabilities[each] - resting[each], abs=1e-3)
    assert shift[Expression.HAPPY] > 0.7
    assert shift[Expression.NEUTRAL] < -0.5
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert rows[20]["shift_happy"] is None
    assert rows[-1]["shift_happy"] == pytest.approx(shift[Expression.HAPPY], abs=1e-4)
    assert rows[-1]["raw_happy"] > 0.8


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_killed_in_the_middle_and_resumed(suffix: str, tmp_path: Path) -> None:
    small = [paste(scene(0, (320, 180)), "collins", 100 + k, 90, 60) for k in range(60)]
    made = encode(tmp_path / "a.mp4", [*small, *small[::-1]] * 2)
    assert mien(made, "--rows", tmp_path / f"whole.{suffix}").returncode == 0
    rows = tmp_path / f"killed.{suffix}"
    grown = rows if suffix == "csv" else tmp_path / "killed.parquet.jsonl"
    command = [sys.executable, "-m", "mien", "watch", str(made), "--rows", str(rows)]
    process = subprocess.Popen(command)
    while process.poll() is None and not (grown.exists() and len(grown.read_bytes().splitlines()) > 60):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 60 < len(grown.read_bytes().splitlines()) < 240
    refused = mien(made, "--rows", rows)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    done = mien(made, "--rows", rows, "--resume")
    assert done.returncode == 0, done.stderr
    assert rows.read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()
    assert not grown.exists() or grown == rows
    again = mien(made, "--rows", rows, "--resume")
    assert again.returncode == 0
    assert "complete" in again.stderr


def test_complete_rows_are_summed_up(clip: Path, tmp_path: Path) -> None:
    """The other outputs of a run whose rows are there already come from these."""
    rows, picture = tmp_path / "rows.csv", tmp_path / "timeline.png"
    first = mien(clip, "--rows", rows, "--end", "0.5s", "--json")
    again = mien(clip, "--rows", rows, "--end", "0.5s", "--json", "--timeline", picture, "--resume")
    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert json.loads(again.stdout)[0]["track"] == 1
    assert picture.exists()
    other = encode(tmp_path / "other.mp4", one_face(3))
    with pytest.raises(InputError, match=r"not of .*other\.mp4"):
        Recording(other, Outputs(rows=rows, resume=True))


def test_a_run_that_fails_before_its_first_row_leaves_the_older_table(clip: Path, tmp_path: Path) -> None:
    keep = tmp_path / "keep.csv"
    keep.write_text("hello")
    recording = Recording(clip, Outputs(rows=keep), start_s=100.0)
    with pytest.raises(InputError, match="no frame after"):
        list(recording.frames())
    recording.close()
    assert keep.read_text() == "hello"
    thin = encode(tmp_path / "thin.mkv", [np.zeros((2, 1, 3), np.uint8)] * 3, codec="ffv1")
    recording = Recording(thin, Outputs(rows=keep, clip=tmp_path / "thin.mp4"))
    with pytest.raises(InputError, match="2 pixels or more"):
        list(recording.frames())
    recording.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keep.csv", "thin.mkv"]


def test_a_picture_that_cannot_be_drawn_does_not_cost_the_table(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(*arguments: object) -> None:
        raise FileError("no space for it")

    monkeypatch.setattr("mien.reading.record.draw_timeline", draw)
    recording = Recording(clip, Outputs(rows=tmp_path / "a.csv", timeline=tmp_path / "a.png"), end_s=0.3)
    list(recording.frames())
    with pytest.raises(FileError, match="no space"):
        recording.finish()
    recording.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = [paste(scene(0, (320, 180)), "collins", 100 + k, 90, 60) for k in range(60)]
    return encode(tmp_path_factory.mktemp("clips") / "long.mp4", [*small, *small[::-1]] * 10)


def stopped(how: signal.Signals, folder: Path, name: str, *arguments: object) -> tuple[int, str]:
    """Exit code and standard error of a run that gets a signal when a file of this name has grown a little."""
    command = [sys.executable, "-m", "mien", "watch", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        while process.poll() is None and not any(each.stat().st_size > 4000 for each in folder.glob(name)):
            time.sleep(0.005)
        process.send_signal(how)
        return process.wait(), process.communicate()[1]


def test_ctrl_c_says_what_can_be_done_next(long_clip: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / "a.csv", tmp_path / "a.mp4"
    code, said = stopped(signal.SIGINT, tmp_path, "a.csv", long_clip, "--rows", rows, "--out", out)
    assert code == 130
    (line,) = said.splitlines()
    assert "--resume without --out continues them" in line
    assert "a.mp4 can be played" in line
    assert len(list(VideoFile(out).frames())) > 5
    code, said = stopped(signal.SIGINT, tmp_path, "b.mp4", long_clip, "--out", tmp_path / "b.mp4")
    assert (code, len(said.splitlines())) == (130, 1)
    assert "--resume" not in said


def test_sigterm_leaves_nothing_behind(long_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = stopped(signal.SIGTERM, tmp_path, "mien-*/rows.jsonl", long_clip, "--json")
    assert found == (143, "")
    assert list(tmp_path.glob("mien-*")) == []


def test_a_camera_that_is_stopped_from_outside_leaves_its_table(clip: Path, tmp_path: Path) -> None:
    program = f"""
import os, signal, sys
from mien.cli.program import main
from mien.reading import video

class Camera(video.Camera):
    def __init__(self):
        self._file = video.VideoFile({str(clip)!r})
        self.name, self.duration_s = "camera 0", None

    def close(self):
        self._file.close()

    def frames(self, after=None):
        for number, picture in enumerate(self._file.frames()):
            if number == 10:
                os.kill(os.getpid(), signal.SIGTERM)
            yield picture

import mien.reading.watch
mien.reading.watch.open_video = lambda *rest, **more: Camera()
sys.argv = ["mien", "watch", "0", "--rows", "day.parquet", "--summary"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 143, done.stderr
    assert "happy" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["day.parquet"]


def test_a_clip_of_pixels_that_are_not_square_shows_what_was_read(tmp_path: Path) -> None:
    made = encode(tmp_path / "a.mp4", one_face(3), aspect=Fraction(16, 11))
    turn(made, 90)
    recording = Recording(made, Outputs(clip=tmp_path / "out.mp4"))
    (width, height) = {(frame.width, frame.height) for frame in recording.frames()}.pop()
    recording.close()
    picture = next(VideoFile(tmp_path / "out.mp4").frames())
    assert picture.size == (width // 2 * 2, height // 2 * 2)


def test_a_truncated_video_leaves_its_rows_and_exit_code_1(tmp_path: Path) -> None:
    made = encode(tmp_path / "a.mkv", one_face(50))
    made.write_bytes(made.read_bytes()[: made.stat().st_size // 2])
    done = mien(made, "--rows", tmp_path / "rows.csv", "--out", tmp_path / "out.mp4")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "breaks off after" in line
    rows = table(tmp_path / "rows.csv")
    assert 10 < len(rows) < 40
    assert len(list(VideoFile(tmp_path / "out.mp4").frames())) == len(rows)

    made_whole = encode(tmp_path / "b.mkv", one_face(50))
    for content in (made.read_bytes(), made_whole.read_bytes()):  # as it was, and when all of it has been copied
        made.write_bytes(content)
        again = mien(made, "--rows", tmp_path / "rows.csv", "--resume", "--summary")
        assert again.returncode == 2
        assert "ends where its video did" in again.stderr
        assert len(table(tmp_path / "rows.csv")) == len(rows)
    assert mien(made, "--rows", tmp_path / "rows.csv").returncode == 0  # anew
    assert len(table(tmp_path / "rows.csv")) == 50
    assert mien(made, "--rows", tmp_path / "rows.csv", "--resume", "--summary").returncode == 0


def test_a_frame_that_is_lost_does_not_make_rows_incomplete(tmp_path: Path) -> None:
    made = damaged(tmp_path / "a.mp4")
    done = mien(made, "--rows", tmp_path / "rows.csv")
    assert done.returncode == 1
    assert "could not be decoded" in done.stderr
    assert mien(made, "--rows", tmp_path / "rows.csv", "--resume", "--summary").returncode == 0


def test_mistakes_are_one_line(clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video " * 50)
    wrong: list[tuple[int, str, list[object]]] = [
        (1, "missing.mp4", [tmp_path / "missing.mp4", "--summary"]),
        (1, "no video", [text, "--rows", tmp_path / "rows.csv"]),
        (1, "camera 63", ["63", "--summary"]),
        (1, "cannot write", [clip, "--rows", text / "rows.csv"]),
        (2, "90s", [clip, "--summary", "--every", "often"]),
        (2, "--rows", [clip, "--summary", "--resume"]),
        (2, "behind a colon", [clip, "--summary", "--start", "1:90"]),
        (2, "ends in one of", [clip, "--timeline", tmp_path / "a.txt"]),
    ]
    for code, message, arguments in wrong:
        done = mien(*arguments)
        assert (done.returncode, done.stdout) == (code, ""), arguments
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


def test_without_a_display_it_says_what_to_use_instead(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform != "linux":
        pytest.skip("there is always a display")
    done = mien(clip)
    assert done.returncode == 2
    assert "--out clip.mp4" in done.stderr
    assert "mien serve" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs a privilege that is not there")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    made = encode(tmp_path / "a.mp4", [image for _ in range(7) for image in one_face(50)])
    done = mien(made, "--rows", small_disk / "rows.csv")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "No space left" in line
    rows = table(small_disk / "rows.csv")
    assert [row["frame"] for row in rows] == [str(k) for k in range(len(rows))]
    assert len(rows) > 50
    assert rows[-1]["raw_neutral"]


class ShyWindow:
    """Is closed after twenty frames."""

    def __init__(self, title: str) -> None:
        self.shown = 0

    def show(self, image: np.ndarray, time_s: float) -> bool:
        self.shown += 1
        return self.shown < 20

    def close(self) -> None:
        self.shown = -1


def test_closing_the_window_ends_the_show_but_not_the_table(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien.reading.record.Window", ShyWindow)
    outputs = Outputs(rows=tmp_path / "rows.csv", show=True)
    recording = Recording(clip, outputs)
    assert len(list(recording.frames())) == 19
    recording.finish()
    recording.close()
    assert mien(clip, "--rows", tmp_path / "rows.csv").returncode == 2  # it says: --resume
    rest = Recording(clip, Outputs(rows=tmp_path / "rows.csv", resume=True))
    assert not rest.complete
    list(rest.frames())
    rest.finish()
    rest.close()
    assert list(dict.fromkeys(row["frame"] for row in table(tmp_path / "rows.csv"))) == [str(k) for k in range(62)]


def test_a_camera_cannot_be_resumed_and_a_clip_has_its_place(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no clip"):
        Outputs(rows=tmp_path / "a.csv", clip=tmp_path / "a.mp4", resume=True).check(str(clip))
    for kind in ("rows", "timeline"):
        source = tmp_path / {"rows": "a.csv", "timeline": "a.gif"}[kind]
        source.touch()
        (tmp_path / f"link{source.suffix}").symlink_to(source)
        with pytest.raises(InputError, match="replace what is read"):
            Outputs(**{kind: tmp_path / f"link{source.suffix}"}).check(str(source))
    with pytest.raises(FileError, match="cannot write"):
        Outputs(timeline=clip / "t.png").check(str(clip))
