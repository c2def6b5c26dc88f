import os
from pathlib import Path

import av
import numpy as np
import pytest

from clips import SIZE, encode, numbers, one_face, plain
from mien.errors import Damaged, FileError, InputError
from mien.reading.clip import _SOUND, ClipWriter, Window
from mien.reading.video import VideoFile


def sounds(path: Path) -> tuple[str, np.ndarray]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        heard = [each.to_ndarray() for each in container.decode(stream)]
        return stream.codec_context.name, np.concatenate(heard, 1)


@pytest.mark.parametrize(
    ("name", "sound", "out", "kept"),
    [
        ("a.mp4", "aac", "out.mp4", "aac"),
        ("a.mkv", "pcm_s16le", "out.mp4", "aac"),
        ("a.mkv", "libmp3lame", "out.m4v", "aac"),
        ("a.mkv", "flac", "out.m4v", "aac"),
        ("a.mkv", "libopus", "out.mov", "aac"),
        ("a.mkv", "flac", "out.mov", "aac"),
    ],
)
def test_a_clip_keeps_times_and_sound(name: str, sound: str, out: str, kept: str, tmp_path: Path) -> None:
    made = tmp_path / out
    source = encode(tmp_path / name, plain(50), rate=25, sound=sound)
    writer = ClipWriter(made, (128, 96), source=str(source))
    for each in VideoFile(source).frames():
        writer.add(each.rgb(), each.time_s)
    writer.close()
    pictures = list(VideoFile(made).frames())
    assert [each.time_s for each in pictures] == pytest.approx([k / 25 for k in range(50)], abs=2e-3)
    assert numbers(pictures) == list(range(50))
    codec, heard = sounds(made)
    assert codec == kept
    assert heard.shape[1] / 48_000 == pytest.approx(2.0, abs=0.1)
    if sound == kept:  # copied, not encoded again
        assert np.allclose(heard[:, 4096:90_000], sounds(source)[1][:, 4096:90_000], atol=1e-3)
    assert np.abs(heard).max() > 0.1


@pytest.mark.parametrize(("rate", "written"), [(192_000, 96_000), (22_254, 24_000), (5_512, 7_350)])
def test_a_sound_of_any_rate_is_heard_in_time(rate: int, written: int, tmp_path: Path) -> None:
    """Silence for a second, and then a tone. AAC has none of these rates."""
    source = encode(tmp_path / "a.mov", plain(50), rate=25)
    with av.open(str(source)) as old, av.open(str(tmp_path / "loud.mov"), "w") as out:
        (stream,) = old.streams
        picture, tone = out.add_stream_from_template(stream), out.add_stream("pcm_s16le", rate=rate, layout="mono")
        for packet in old.demux(stream):
            if packet.dts is not None:
                packet.stream = picture
                out.mux(packet)
        moments = np.arange(2 * rate) / rate
        wave = np.sin(moments * 2 * np.pi * 440) * 8000 * (moments > 1)
        heard = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], format="s16", layout="mono")
        heard.sample_rate, heard.pts = rate, 0
        out.mux(tone.encode(heard))
        out.mux(tone.encode())
    writer = ClipWriter(tmp_path / "out.mp4", (128, 96), source=str(tmp_path / "loud.mov"))
    for each in VideoFile(tmp_path / "loud.mov").frames():
        writer.add(each.rgb(), each.time_s)
    writer.close()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert (container.streams.audio[0].codec_context.name, container.streams.audio[0].rate) == ("aac", written)
    made = np.abs(sounds(tmp_path / "out.mp4")[1][0])
    assert np.argmax(made > 0.1) / written == pytest.approx(1.0, abs=0.02)
    assert len(made) / written == pytest.approx(2.0, abs=0.1)


def test_a_sound_that_nobody_knows_is_left_out(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mkv", plain(5), sound="aac")
    source.write_bytes(source.read_bytes().replace(b"A_AAC", b"A_XYZ"))
    writer = ClipWriter(tmp_path / "out.mp4", (128, 96), source=str(source))
    for each in VideoFile(source).frames():
        writer.add(each.rgb(), each.time_s)
    writer.close()
    assert len(list(VideoFile(tmp_path / "out.mp4").frames())) == 5
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert (len(container.streams.video), len(container.streams.audio)) == (1, 0)


def test_a_sound_that_cannot_be_written_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyAV refuses with a bare ValueError."""
    monkeypatch.setitem(_SOUND, ".m4v", {"flac"})
    source = encode(tmp_path / "a.mkv", plain(3), sound="flac")
    with pytest.raises(FileError, match=r"cannot write .*out\.m4v"):
        ClipWriter(tmp_path / "out.m4v", (128, 96), source=str(source))


def test_pictures_of_another_size_keep_their_shape(tmp_path: Path) -> None:
    """A tall white one in a wide clip: as high as the clip, in its middle, black on both sides."""
    writer = ClipWriter(tmp_path / "out.mp4", (128, 96))
    writer.add(np.zeros((96, 128, 3), np.uint8), 0.0)
    writer.add(np.full((192, 96, 3), 255, np.uint8), 0.04)
    writer.close()
    drawn = list(VideoFile(tmp_path / "out.mp4").frames())[-1].rgb()
    assert drawn.shape == (96, 128, 3)
    assert drawn[2:-2, 44:84].min() > 230
    assert max(drawn[:, :36].max(), drawn[:, 92:].max()) < 25


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv"])
def test_a_clip_tells_how_its_colours_are_written(name: str, tmp_path: Path) -> None:
    """Of 720 lines: without a word, players take so large a clip for BT.709, which turns this red to orange."""
    red = 200, 60, 40
    writer = ClipWriter(tmp_path / name, (1280, 720))
    writer.add(np.full((720, 1280, 3), red, np.uint8), 0.0)
    writer.close()
    with av.open(str(tmp_path / name)) as container:
        frame = next(container.decode(video=0))
    bt601, limited = 6, 1
    assert (frame.colorspace, frame.color_range) == (bt601, limited)
    brightness = np.dot([0.299, 0.587, 0.114], red) / 255  # BT.709 would give it 12 less
    assert frame.to_ndarray()[360, 640] == pytest.approx(16 + 219 * brightness, abs=2)
    assert np.allclose(next(VideoFile(tmp_path / name).frames()).rgb()[360, 640], red, atol=5)


def test_a_part_of_a_clip_has_the_sound_of_that_part(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp4", plain(50), rate=25, sound="aac")
    writer = ClipWriter(tmp_path / "out.mp4", (128, 96), source=str(source))
    for each in VideoFile(source, start_s=0.5, end_s=1.0).frames():
        writer.add(each.rgb(), each.time_s)
    writer.close()
    assert next(VideoFile(tmp_path / "out.mp4").frames()).time_s == pytest.approx(0, abs=0.03)
    assert sounds(tmp_path / "out.mp4")[1].shape[1] / 48_000 == pytest.approx(0.5, abs=0.1)


def test_a_clip_is_h264_even_where_sides_are_odd(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "odd.mp4", (129, 97))
    for k in range(3):
        writer.add(np.full((97, 129, 3), 80, np.uint8), k / 25)
    writer.close()
    with av.open(str(tmp_path / "odd.mp4")) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 128, 96)


def test_a_clip_that_was_cut_off_can_be_played(tmp_path: Path) -> None:
    """As after a kill: what is on the disk while the writer is still at work."""
    writer = ClipWriter(tmp_path / "out.mp4", SIZE)
    for k, image in enumerate(list(one_face(60)) * 10):
        writer.add(image, k / 25)
    (tmp_path / "seen.mp4").write_bytes((tmp_path / "out.mp4").read_bytes())
    writer.close()
    pictures = []
    try:
        for each in VideoFile(tmp_path / "seen.mp4").frames():
            pictures.append(each)
    except Damaged:
        pass
    assert len(pictures) > 100


def test_clips_are_refused_early(tmp_path: Path) -> None:
    source = encode(tmp_path / "a.mp4", plain(3))
    with pytest.raises(InputError, match="mp4"):
        ClipWriter(tmp_path / "a.gif", SIZE)
    with pytest.raises(InputError, match="2 pixels or more"):
        ClipWriter(tmp_path / "thin.mp4", (1, 96))
    with pytest.raises(InputError, match="replace what is read"):
        ClipWriter(source, SIZE, source=str(source))
    with pytest.raises(FileError, match="cannot write"):
        ClipWriter(source / "a.mp4", SIZE)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(FileError, match=r"folder\.mp4"):
        ClipWriter(tmp_path / "folder.mp4", SIZE)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a device that is always full")
def test_a_full_disk_under_a_clip(tmp_path: Path) -> None:
    (tmp_path / "full.mkv").symlink_to("/dev/full")
    noise = np.random.default_rng(0).integers(0, 255, (40, 240, 320, 3)).astype(np.uint8)

    def write() -> None:
        writer = ClipWriter(tmp_path / "full.mkv", (320, 240))
        try:
            for k, image in enumerate(noise):
                writer.add(image, k / 25)
        finally:
            writer.close()

    with pytest.raises(FileError, match="No space left"):
        write()


def test_without_a_display_a_window_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(InputError, match="--rows"):
        Window("x")


def test_a_window_opens_at_the_size_of_the_picture_or_of_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    monkeypatch.setenv("DISPLAY", ":0")
    for name in ("namedWindow", "imshow", "destroyWindow"):
        monkeypatch.setattr(f"cv2.{name}", lambda *_: None)
    monkeypatch.setattr("cv2.waitKey", lambda _: -1)
    monkeypatch.setattr("cv2.getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr("cv2.resizeWindow", lambda _, width, height: sizes.append((width, height)))
    for width, height in ((640, 480), (3840, 2160)):
        window = Window("x")
        assert window.show(np.zeros((height, width, 3), np.uint8), 0.0)
        assert window.show(np.zeros((height, width, 3), np.uint8), 0.001)  # only the first picture sizes it
    assert sizes == [(640, 480), (1280, 720)]
