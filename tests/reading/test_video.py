import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from clips import FakeCapture, damaged, encode, numbers, plain, scene, turn
from mien.errors import Damaged, FileError, InputError
from mien.reading import images, video
from mien.reading.video import Camera, Picture, VideoFile, open_video, sample


def test_times_are_those_of_the_stream(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.4, 0.44, 1.5, 1.501]
    clip = encode(tmp_path / "vfr.mp4", plain(6), times=times)
    pictures = list(VideoFile(clip).frames())
    assert [each.time_s for each in pictures] == pytest.approx(times, abs=1e-4)
    assert [each.number for each in pictures] == list(range(6))
    assert numbers(pictures) == list(range(6))


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.mov"])
def test_containers_that_start_late_start_at_zero(name: str, tmp_path: Path) -> None:
    clip = encode(tmp_path / name, plain(20), rate=25)
    pictures = list(VideoFile(clip).frames())
    assert [each.time_s for each in pictures] == pytest.approx([k / 25 for k in range(20)], abs=2e-3)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_honoured(degrees: int, tmp_path: Path) -> None:
    image = np.zeros((96, 160, 3), np.uint8)
    image[:48, :80] = 255, 0, 0  # red in the corner at the upper left
    clip = encode(tmp_path / "turned.mp4", [image] * 3)
    turn(clip, degrees)
    picture = next(VideoFile(clip).frames())
    expected = np.rot90(image, -degrees // 90)
    assert picture.size == (expected.shape[1], expected.shape[0])
    assert np.abs(picture.rgb().astype(int) - expected).mean() < 4
    small = picture.grey(80)
    assert small.shape == (expected.shape[0] // 2, expected.shape[1] // 2)
    y, x = (np.argwhere(expected[::2, ::2, 0] > 0)).mean(0)
    assert small[int(y), int(x)] > 40


@pytest.mark.parametrize("orientation", range(1, 9))
def test_mirrors_are_honoured(orientation: int, tmp_path: Path) -> None:
    """The eight ways of EXIF, written into the file as the matrix of its track."""
    upright = np.zeros((96, 160, 3), np.uint8)
    upright[:48, :80], upright[:48, 80:], upright[48:, :80] = 240, 160, 80  # no two corners are alike
    back = {6: 8, 8: 6}.get(orientation, orientation)
    stored = np.ascontiguousarray(images._UPRIGHT.get(back, np.asarray)(upright))
    clip = encode(tmp_path / "a.mp4", [stored] * 3)
    matrices = {
        1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
        5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
    }  # fmt: skip
    content = clip.read_bytes()
    place = content.index(b"tkhd") + 44
    a, b, c, d = (each << 16 for each in matrices[orientation])
    clip.write_bytes(content[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + content[place + 36 :])
    for picture in VideoFile(clip).frames():
        assert picture.size == (160, 96)
        assert np.abs(picture.rgb().astype(int) - upright).mean() < 4
        assert np.abs(picture.grey(160).astype(int) - upright[..., 0]).mean() < 20
    assert picture.number == 2


@pytest.mark.parametrize(("aspect", "width"), [("16/11", 186), ("8/9", 114), ("2", 256), ("5000", 128)])
def test_pictures_have_square_pixels(aspect: str, width: int, tmp_path: Path) -> None:
    """Also of tapes, discs and two views side by side; what cannot be is not believed."""
    clip = encode(tmp_path / "pal.mp4", plain(3), aspect=Fraction(aspect))
    for turned in (False, True):
        if turned:
            turn(clip, 90)
        picture = next(VideoFile(clip).frames())
        assert picture.size == ((96, width) if turned else (width, 96))
        assert picture.rgb().shape[1::-1] == picture.size
        assert max(picture.grey(64).shape) == 64
        height, wide = picture.grey(64).shape
        assert wide / height == pytest.approx(np.divide(*picture.size), rel=0.05)


def test_pixels_that_change_their_shape_midway_are_followed(tmp_path: Path) -> None:
    parts = [encode(tmp_path / f"{k}.h264", plain(10), aspect=Fraction(k, 11)) for k in (16, 12)]
    whole = tmp_path / "whole.h264"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    widths = [picture.size[0] for picture in VideoFile(whole).frames()]
    assert widths[:10] == [186] * 10
    assert widths[-8:] == [140] * 8  # a decoder of several threads is ahead of its frames


def test_no_aspect_makes_a_frame_larger_than_a_frame_may_be() -> None:
    content = SimpleNamespace(width=8192, height=4096, rotation=0)
    assert Picture(0, 0.0, content, Fraction(3)).size == (8192, 4096)
    assert Picture(0, 0.0, content, Fraction(1, 2)).size == (4096, 4096)


def test_start_and_end_and_going_on(tmp_path: Path) -> None:
    clip = encode(tmp_path / "a.mp4", plain(50), rate=10)
    some = list(VideoFile(clip, start_s=2.5, end_s=3.0).frames())
    assert numbers(some) == [25, 26, 27, 28, 29]
    assert [each.number for each in some] == [0, 1, 2, 3, 4]
    rest = list(VideoFile(clip).frames(after=(30, 3.0)))
    assert numbers(rest) == list(range(31, 50))
    assert [each.number for each in rest] == list(range(31, 50))
    assert VideoFile(clip, start_s=2.5, end_s=3.0).duration_s == pytest.approx(0.5)
    assert VideoFile(clip).duration_s == pytest.approx(5.0)


@pytest.mark.parametrize("start_s", [0.0, 1.0, 3.0])
def test_of_joined_recordings_the_first_is_read_and_the_rest_is_told(start_s: float, tmp_path: Path) -> None:
    """Each begins at nought again. A start later than the second one's end, too, means the first one's pictures."""
    one = encode(tmp_path / "one.ts", plain(40), rate=10)
    other = encode(tmp_path / "other.ts", 8 * plain(50)[45:], rate=10)
    one.write_bytes(one.read_bytes() + other.read_bytes())
    pictures = []
    with pytest.raises(Damaged, match=r"40 frames of .* came out of order, the first after 3\.90 s"):  # noqa: PT012
        for each in VideoFile(one, start_s=start_s).frames():
            pictures.append(each)
    assert numbers(pictures) == list(range(round(10 * start_s), 40))
    with pytest.raises(Damaged, match="40 frames"):  # noqa: PT012
        for each in VideoFile(one).frames(after=(30, 3.0)):
            pictures.append(each)
    assert numbers(pictures[-9:]) == list(range(31, 40))


def test_a_file_may_begin_later_than_at_nought(tmp_path: Path) -> None:
    """As the pieces of a long recording do: Matroska tells when the last frame ends, not how long the piece is."""
    clip = encode(tmp_path / "piece.mkv", plain(10), times=[10 + k / 25 for k in range(10)])
    video = VideoFile(clip)
    assert [each.time_s for each in video.frames()] == pytest.approx([k / 25 for k in range(10)], abs=2e-3)
    assert VideoFile(clip).duration_s == pytest.approx(0.4, abs=0.05)


def test_a_length_in_other_words_is_unknown(tmp_path: Path) -> None:
    clip = encode(tmp_path / "a.mkv", plain(10), sound="aac")
    clip.write_bytes(clip.read_bytes().replace(b"00:00:00.400000000", b"a few moments only"))
    assert len(list(VideoFile(clip).frames())) == 10


def in_avi(path: Path, codec: str, options: dict[str, str], rate: int) -> Path:
    """Fifty frames whose brightness tells their number."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number, pixels in enumerate(plain(50)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "0", "g": "10"}),
        ("libx264", {"bf": "1", "g": "10"}),
        ("libx264", {"bf": "3", "g": "10"}),
        ("libx264", {"bf": "3", "g": "10", "x264-params": "open-gop=1"}),
        ("mpeg4", {"qmax": "2"}),
        ("mpeg4", {"bf": "2", "qmax": "2"}),
    ],
)
@pytest.mark.parametrize("rate", [1, 25])
def test_an_avi_has_all_its_frames_in_time(codec: str, options: dict[str, str], rate: int, tmp_path: Path) -> None:
    """AVI tells no times, and those that FFmpeg makes up for frames that lean on later ones run backwards."""
    clip = in_avi(tmp_path / "a.avi", codec, options, rate)
    pictures = list(VideoFile(clip).frames())
    assert [each.time_s for each in pictures] == pytest.approx([k / rate for k in range(50)], abs=1e-3)
    assert numbers(pictures) == list(range(50))
    assert VideoFile(clip).duration_s == pytest.approx(50 / rate)
    for begin in (12, 31, 38, 48, 49):
        rest = list(VideoFile(clip).frames(after=(begin - 1, (begin - 0.5) / rate)))
        assert [each.time_s for each in rest] == pytest.approx([k / rate for k in range(begin, 50)], abs=1e-3)
        assert numbers(rest) == list(range(begin, 50))


@pytest.mark.parametrize("name", ["a.wmv", "a.ts"])
def test_the_last_frame_may_stand_long(name: str, tmp_path: Path) -> None:
    """These formats tell how long the file is, but not its frames."""
    clip = encode(tmp_path / name, plain(5), codec="wmv2" if name == "a.wmv" else "libx264", rate=1)
    assert [each.time_s for each in VideoFile(clip).frames()] == pytest.approx(range(5), abs=2e-3)
    assert [each.time_s for each in VideoFile(clip, start_s=3.5).frames()] == pytest.approx([4], abs=2e-3)


def test_samples_are_taken_by_time(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.19, 0.21, 0.3, 0.9, 0.95, 1.0]
    clip = encode(tmp_path / "vfr.mkv", plain(8), times=times)
    taken = list(sample(VideoFile(clip).frames(), 0.2))
    assert [each.number for each in taken] == [0, 3, 5, 7]
    again = list(sample(VideoFile(clip).frames(after=(3, 0.21)), 0.2, after_s=0.21))
    assert [each.number for each in again] == [5, 7]


@pytest.mark.parametrize(("name", "options"), [("a.mp4", {"movflags": "faststart"}), ("a.mkv", {}), ("a.ts", {})])
def test_a_truncated_file_gives_what_is_there_and_says_where_it_breaks(
    name: str, options: dict[str, str], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 96, 128, 3)).astype(np.uint8)
    clip = encode(tmp_path / name, noise, rate=10, options=options)
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) // 2])
    pictures = []
    with pytest.raises(Damaged, match=r"2\.\d+ s|3\.\d+ s"):  # noqa: PT012
        for each in VideoFile(clip).frames():
            pictures.append(each)
    assert 25 <= len(pictures) <= 35
    assert [each.time_s for each in pictures] == pytest.approx([k / 10 for k in range(len(pictures))], abs=2e-3)


def test_what_the_decoder_holds_where_the_container_breaks_is_kept(tmp_path: Path) -> None:
    """From there on no packet can be told from another; frames that were read before are not yet given out."""
    clip = encode(tmp_path / "a.ivf", plain(30), codec="libvpx")
    content = clip.read_bytes()
    half = len(content) // 2
    clip.write_bytes(content[:half] + b"\xff" * 40 + content[half + 40 :])
    pictures = []
    with pytest.raises(Damaged, match=r"breaks off after 0\.56 s"):  # noqa: PT012
        for each in VideoFile(clip).frames():
            pictures.append(each.time_s)
    assert pictures == pytest.approx([k / 25 for k in range(14)])


def test_a_damaged_frame_is_left_out_and_told(tmp_path: Path) -> None:
    clip = damaged(tmp_path / "a.mp4")
    pictures = []
    with pytest.raises(Damaged, match="could not be decoded"):  # noqa: PT012
        for each in VideoFile(clip).frames():
            pictures.append(each)
    assert 55 <= len(pictures) < 60
    assert pictures[-1].time_s == pytest.approx(5.9)
    assert [each.number for each in VideoFile(clip, end_s=1.0).frames()] == list(range(10))  # nothing is wrong there
    with pytest.raises(Damaged, match=r"could not be decoded.* after [23]\.\d+ s"):
        list(VideoFile(clip, end_s=5.0).frames())

    first = VideoFile(clip)  # who goes on behind it is told once more, and not twice as many
    *_, last = (each for each, _ in zip(first.frames(), range(50), strict=False))
    with pytest.raises(Damaged, match=rf"{first.lost[0]} frames? of .* after {first.lost[1]:.2f} s"):
        list(VideoFile(clip).frames(after=(last.number, last.time_s), lost=first.lost))


def test_damage_at_the_start_is_told_too(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (30, 96, 128, 3)).astype(np.uint8)
    clip = encode(tmp_path / "a.mkv", noise, rate=10)
    content = bytearray(clip.read_bytes())
    begin = content.index(b"\x1f\x43\xb6\x75") + 200  # in the first frame of the first cluster
    content[begin : begin + 3_000] = bytes(b ^ 0x5A for b in content[begin : begin + 3_000])
    clip.write_bytes(content)
    pictures = []
    with pytest.raises(Damaged, match=r"could not be decoded.* the first after 0\.00 s"):  # noqa: PT012
        for each in VideoFile(clip).frames():
            pictures.append(each)
    assert len(pictures) < 30
    later = [each.time_s for each in VideoFile(clip, start_s=2.0).frames()]
    assert later[0] >= 2.0


def test_bad_files_are_told_apart(tmp_path: Path, collins: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video " * 100)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(Damaged, match="is no video"):
        VideoFile(tmp_path / "text.mp4")
    with pytest.raises(Damaged, match="is empty"):
        VideoFile(tmp_path / "empty.mp4")
    with pytest.raises(FileError, match=r"missing\.mp4"):
        VideoFile(tmp_path / "missing.mp4")
    with pytest.raises(FileError, match="expected a file"):
        VideoFile(tmp_path)
    headless = encode(tmp_path / "headless.mp4", plain(10))
    headless.write_bytes(headless.read_bytes()[:-600])
    with pytest.raises(Damaged, match="index"):
        VideoFile(headless)


def test_a_song_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.m4a"), "w") as out:
        stream = out.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with pytest.raises(Damaged, match="no video stream"):
        VideoFile(tmp_path / "song.m4a")


def test_zero_frames(tmp_path: Path) -> None:
    clip = encode(tmp_path / "a.mkv", plain(1))
    content = clip.read_bytes()
    clip.write_bytes(content[: content.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster of Matroska
    with pytest.raises(Damaged, match="no frame|index"):
        list(VideoFile(clip).frames())


def test_a_start_beyond_the_end_is_a_mistake(tmp_path: Path) -> None:
    clip = encode(tmp_path / "a.mp4", plain(10))
    with pytest.raises(InputError, match="no frame after 9"):
        list(VideoFile(clip, start_s=9).frames())
    with pytest.raises(InputError, match=r"no frame from 0\.25 s to 0\.28 s"):
        list(VideoFile(encode(tmp_path / "b.mp4", plain(10), rate=10), start_s=0.25, end_s=0.28).frames())
    with pytest.raises(InputError, match="start"):
        VideoFile(clip, start_s=3, end_s=2)
    with pytest.raises(InputError, match="no frame after"):
        list(VideoFile(clip, start_s=1e300).frames())


def test_a_camera_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileError, match="camera 63"):
        open_video("63")
    with pytest.raises(InputError, match="start"):
        open_video(63, start_s=1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [-1, 2**31, "99999999999", True])
def test_no_camera_has_such_a_number(number: int | str) -> None:
    with pytest.raises(InputError, match="numbered from 0"):
        open_video(number)


def test_a_camera_gives_red_for_red_and_rising_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    camera = Camera(0)
    pictures = []
    with pytest.raises(Damaged, match="has stopped"):  # noqa: PT012
        for each in camera.frames():
            pictures.append(each)
    assert len(pictures) == 5
    assert tuple(pictures[0].rgb()[0, 0]) == (200, 0, 0)
    times = [each.time_s for each in pictures]
    assert times[0] == 0
    assert times == sorted(times)


def test_a_number_that_is_a_file_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(tmp_path / "a.mkv", plain(3)).rename(tmp_path / "7")
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_video("7"), VideoFile)


def test_scenes_have_no_face() -> None:
    from mien.reading.faces import CenterFace

    assert CenterFace().find(scene()) == []


@pytest.mark.parametrize(
    "content",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile a.ts\n"],
    ids=["playlist", "concat"],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.ffconcat"])
def test_a_file_that_names_other_files_is_no_video(content: str, name: str, tmp_path: Path) -> None:
    encode(tmp_path / "a.ts", plain(3))
    (tmp_path / name).write_text(content)
    with pytest.raises((Damaged, FileError)):
        VideoFile(tmp_path / name)


def test_frames_beyond_the_limit_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = encode(tmp_path / "a.mkv", plain(3))
    monkeypatch.setitem(video.LIMITS, "max_pixels", "100")
    with pytest.raises(Damaged):
        list(VideoFile(clip).frames())
