"""Frames of video files and cameras, with their own times. Knows nothing of faces. Needs PyAV (the `video` extra).

A frame's time is what the stream says, less the start of the file, so that a variable frame rate and a late first
frame are told as they are. Damaged frames are left out, and the end tells how many.
"""

import math
import os
import re
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from mimetypes import guess_type
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from mien.errors import BreaksOff, Damaged, FileError, InputError, MienError, need_extra
from mien.storage import need_file

_BACK_S = 1.0  # seek so much earlier: the first frames after a seek may lean on what is not there
_SHORT_S = 0.5  # a stream may end so much earlier than its head says
_NO_INDEX = ("mpegts", "mpeg")
_LONGEST = 4  # sides of a pixel, one by the other; a head that says more is nonsense
_LATEST = 2**63 - 1  # in microseconds, as FFmpeg counts

MAX_PIXELS = 36_000_000
LIMITS = {"max_pixels": str(MAX_PIXELS)}
"""FFmpeg's options for every decoder: a frame may have 8192 x 4320 pixels, of which it keeps up to 16."""

DEMUXERS = (
    "asf", "apng", "avi", "dv", "flv", "gif", "h264", "hevc", "ivf", "m4v", "matroska", "mjpeg", "mov", "mpeg",
    "mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "rm", "webm", "wtv", "yuv4mpegpipe",
)  # fmt: skip
"""FFmpeg's names of the formats that a file may have: those that hold a video, and no list of other files."""


def need_av() -> Any:
    """PyAV's module.

    Raises:
        MissingExtra: It is not installed.
    """
    need_extra("video", "reading and writing video", "av")
    import av

    return av


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame of a video, its pixels still as the decoder left them.

    Attributes:
        number: Count of the frames before it, from the start that was asked for.
        time_s: Its time in seconds from the start of the file; of a camera, from its first frame.
        content: PyAV's frame.
        aspect: Width of the content's pixels by their height, before the frame is turned upright: 1 but for tapes,
            discs and two views side by side.
    """

    number: int
    time_s: float
    content: Any
    aspect: Fraction = Fraction(1)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in square pixels, upright."""
        width, height = self._square
        return (height, width) if self._quarters % 2 else (width, height)

    @property
    def _square(self) -> tuple[int, int]:
        width, height = self.content.width, self.content.height
        wide = max(1, round(width * self.aspect))
        believed = 1 / _LONGEST <= self.aspect <= _LONGEST and wide * height <= MAX_PIXELS
        return (wide if believed else width), height

    @property
    def _quarters(self) -> int:
        return int(round(self.content.rotation / 90) % 4)

    def rgb(self) -> UInt8[np.ndarray, "H W 3"]:
        """The upright pixels, square ones, converted anew with every call."""
        width, height = self._square
        return self._upright(self.content.to_ndarray(width=width, height=height, format="rgb24"))

    def grey(self, side: int) -> UInt8[np.ndarray, "h w"]:
        """A small upright picture of its brightness, the longer side at `side` pixels."""
        scale = side / max(self._square)
        width, height = (max(1, round(length * scale)) for length in self._square)
        small = self.content.reformat(width, height, "gray", interpolation="AREA")
        return self._upright(small.to_ndarray())

    def _upright(self, pixels: np.ndarray) -> np.ndarray:
        # PyAV's rotation does not tell whether the picture is mirrored too; the sign of the determinant does.
        matrix = self.content.side_data.get("DISPLAYMATRIX")
        if matrix is not None:
            a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5] / 2**16
            pixels = pixels[::-1] if a * d < b * c else pixels
        return np.ascontiguousarray(np.rot90(pixels, self._quarters))


class VideoFile:
    """A video file, or whatever else FFmpeg opens by name.

    Args:
        source: A path, or an address with `://`.
        start_s: Leave out what is earlier, in seconds.
        end_s: Leave out what is later; None: nothing.

    Attributes:
        lost: Frames so far that could not be decoded or came out of order, and the time in s that the first came after.

    Raises:
        MissingExtra: PyAV is not installed.
        FileError: The file is missing or may not be read.
        Damaged: It is no video, or its head is missing.
        InputError: The end is not after the start, or one of them is not a number.
    """

    def __init__(self, source: str | PathLike[str], *, start_s: float = 0.0, end_s: float | None = None) -> None:
        if not 0 <= start_s < math.inf or (end_s is not None and not end_s > start_s):
            raise InputError(f"expected a start from 0 s on and an end after it, but got {start_s} s and {end_s} s")
        self.name, self.start_s, self.end_s = os.fspath(source), start_s, end_s
        self.lost = (0, 0.0)
        self._nonsense = False  # the container could not be read to its end
        self._aspect_told: Fraction | None = None
        self._open()

    def _open(self) -> None:
        av = need_av()
        self._container = open_container(self.name)
        weakref.finalize(self, self._container.close)  # a loop that was never begun does not close it
        covers = av.stream.Disposition.attached_pic  # the picture of a song is a stream too
        streams = [each for each in self._container.streams.video if not each.disposition & covers]
        if not streams or streams[0].codec_context is None:  # no decoder knows what its head names
            self.close()
            raise Damaged(f"{self.name} has no video stream, or its index is damaged; expected a video")
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.options = LIMITS

    @property
    def duration_s(self) -> float | None:
        """Seconds from the start to the end of what is read; None where the file's head does not tell."""
        ends = [each for each in (self._whole_s(), self.end_s) if each is not None]
        return max(0.0, min(ends) - self.start_s) if ends else None

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def frames(
        self, *, after: tuple[int, float] | None = None, lost: tuple[int, float] = (0, 0.0)
    ) -> Iterator[Picture]:
        """The frames in the order of their times.

        Args:
            after: Number and time of a frame: go on behind it.
            lost: The attribute, as it was there.

        Raises:
            Damaged: After the last frame: the file breaks off (BreaksOff), or some frames or all could not be decoded.
            InputError: No frame is as late as the start, or none comes before the end.
        """
        number, last = after or (-1, -1.0)
        begin = end = after[1] if after else self.start_s
        self.lost, begun = lost, False
        for content, time_s in self._decode(begin):
            if self.end_s is not None and time_s >= self.end_s:
                self._check_lost()
                if number < 0:
                    raise InputError(f"{self.name} has no frame from {self.start_s:.2f} s to {self.end_s:.2f} s")
                return
            early = time_s < begin or (after and time_s <= begin)
            if early and not begun and (content is not None or begin):
                self.lost, last = lost, time_s  # what a seek lands on may lean on frames before it
            elif content is None or time_s <= last:
                count, first_s = self.lost
                self.lost = count + 1, first_s if count else max(last, 0.0)
            else:
                # Some formats do not say how long a frame stands: as long as the one before.
                stands = float(content.duration * content.time_base) or (time_s - last if last >= 0 else 0.0)
                number, last, end, begun = number + 1, time_s, time_s + stands, True
                yield Picture(number, time_s, content, self._aspect())
        self._check_end(number, end)

    def _aspect(self) -> Fraction:
        """Of the file's head, unless the stream itself changes it midway, as television does."""
        told = self._stream.codec_context.sample_aspect_ratio
        if self._aspect_told is None:
            self._aspect_told = told
        changed = told if told != self._aspect_told else None
        return changed or self._stream.sample_aspect_ratio or Fraction(1)

    def _check_end(self, number: int, end: float) -> None:
        whole = self._whole_s()
        if number < 0 and self.start_s and not self.lost[0]:
            raise InputError(f"{self.name} has no frame after {self.start_s:.2f} s; it may be shorter than that")
        if number < 0:
            raise Damaged(f"{self.name} has no frame that can be decoded; the file may be empty or damaged")
        if self._nonsense and (whole is None or end > whole + _SHORT_S):  # a head that tells nothing, or nothing true
            raise BreaksOff(f"{self.name} breaks off after {end:.2f} s; all before that was read")
        if whole is not None and end < whole - _SHORT_S:
            raise BreaksOff(f"{self.name} breaks off after {end:.2f} s of {whole:.2f} s; all before that was read")
        self._check_lost()

    def _check_lost(self) -> None:
        count, first_s = self.lost
        if count:
            what = f"{'1 frame' if count == 1 else f'{count} frames'} of {self.name}"
            raise Damaged(f"{what} could not be decoded or came out of order, the first after {first_s:.2f} s")

    def _whole_s(self) -> float | None:
        """The end of the last frame as the head tells it."""
        if self._stream.duration is not None:
            start = float((self._stream.start_time or 0) * self._stream.time_base)
            return start + float(self._stream.duration * self._stream.time_base) - self._zero_s
        if found := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", self._stream.metadata.get("DURATION", "")):  # Matroska
            hours, minutes, seconds = map(float, found.groups())
            return hours * 3600 + minutes * 60 + seconds - self._zero_s
        if len(self._container.streams) == 1 and self._container.duration:
            return float(self._container.duration / 1e6)
        return None

    @property
    def _zero_s(self) -> float:
        return (self._container.start_time or 0) / 1e6

    def _decode(self, begin: float) -> Iterator[tuple[Any, float]]:
        """Frames from `begin` or earlier on, with their times; None in the place of one that cannot be decoded."""
        if self._seek(begin - _BACK_S - self._held_s):
            contents = self._contents()
            head = next(contents, None)
            if head is not None and head[1] <= begin:
                yield head
                yield from contents
                return
            self.close()  # it landed too late, which happens in files without a good index
            self._open()
        yield from self._contents()

    def _seek(self, time_s: float) -> bool:
        # Without an index a seek goes by the times it meets, and joined recordings have each of them twice.
        if time_s <= 0 or self._container.format.name in _NO_INDEX:
            return False
        try:
            self._container.seek(min(int((time_s + self._zero_s) * 1e6), _LATEST))
        except need_av().FFmpegError:
            self.close()
            self._open()
            return False
        return True

    def _contents(self) -> Iterator[tuple[Any, float]]:
        rate = float(self._stream.average_rate or 25)
        time_s = -1 / rate
        for content in self._raw():
            if content is not None:
                told_s = self._told_s(content)
                # A bare stream has no times; its frame rate is all there is. Sums of fractions may miss 0 by a hair.
                time_s = round(time_s + 1 / rate if told_s is None else told_s - self._zero_s, 6) + 0.0
            yield content, time_s

    def _told_s(self, content: Any) -> float | None:
        """A frame's time as the container tells it; None where it does not."""
        if self._container.format.name != "avi":
            return None if content.time is None else float(content.time)
        # AVI tells the order of decoding only, and the times that FFmpeg makes up run backwards where frames lean on
        # later ones. The frames themselves come in order, each so much later than its place in the file as it is held.
        return None if content.dts is None else float(content.dts * content.time_base) - self._held_s

    @property
    def _held_s(self) -> float:
        """Seconds for which the decoder holds each frame of an AVI file back, to give them in order."""
        if self._container.format.name != "avi":
            return 0.0
        return float(self._stream.codec_context.reorder_depth / (self._stream.average_rate or 25))

    def _raw(self) -> Iterator[Any]:
        broken = need_av().FFmpegError
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except broken:  # the file goes on as nonsense; the decoder still holds some frames before it
                yield from self._held()
                self._nonsense = True
                yield None
                return
            if packet is None:
                return
            try:
                contents = packet.decode()
            except broken:
                contents = [None]
            yield from (None if content is None or content.is_corrupt else content for content in contents)

    def _held(self) -> Iterator[Any]:
        """The frames that the decoder still holds; PyAV leaves their unit of time out."""
        try:
            contents = self._stream.decode(None)
        except need_av().FFmpegError:
            return
        for content in contents:
            content.time_base = self._stream.time_base
            yield content


def open_container(name: str) -> Any:
    """PyAV's container of a file or address, opened for reading.

    Raises:
        FileError, Damaged: As `VideoFile`.
    """
    av = need_av()
    try:
        if "://" in name:
            return av.open(name, metadata_errors="replace", options=LIMITS)
        need_file(name)
        with open(name, "rb") as file:
            if not file.read(1):
                raise Damaged(f"{name} is empty; expected a video")
        # No name of a file is an address, and no file may be a list of other files or addresses to fetch.
        limits = {"protocol_whitelist": "file", "format_whitelist": ",".join(DEMUXERS)} | LIMITS
        return av.open(f"file:{name}", metadata_errors="replace", options=limits)
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise Damaged(f"{name} is no video that FFmpeg can read, or it breaks off before its index") from error
    except (OSError, ValueError, av.FFmpegError) as error:
        if isinstance(error, MienError):
            raise
        if (guess_type(name)[0] or "").startswith("image/"):
            raise Damaged(f"{name} is no video; pictures are read by: mien read {name}") from error
        raise FileError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error


class Camera:
    """A camera, through OpenCV. Its frames carry the times at which they came.

    Args:
        number: 0 for the first one.
        end_s: Stop after so many seconds; None: never.

    Raises:
        InputError: The number is none of a camera, or the end is not after the start.
        FileError: There is no such camera, or it cannot be used.
    """

    duration_s = None

    def __init__(self, number: int, *, end_s: float | None = None) -> None:
        need_av()
        if isinstance(number, bool) or not 0 <= number < 2**31:  # OpenCV takes a C int, and crashes below 0
            raise InputError(f"cameras are numbered from 0 to {2**31 - 1}, but the number is {number}")
        if end_s is not None and not end_s > 0:
            raise InputError(f"expected an end after the start, but got {end_s} s")
        self.name, self.end_s = str(number), end_s
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(0)  # what it prints of a missing camera is longer than our line
        self._capture = cv2.VideoCapture(number)
        cv2.utils.logging.setLogLevel(level)
        if not self._capture.isOpened():
            raise FileError(f"cannot open camera {number}: there is none of this number, or another program has it")

    def close(self) -> None:
        """Let go of the camera."""
        self._capture.release()

    def frames(self, *, after: tuple[int, float] | None = None) -> Iterator[Picture]:
        """Frames as they come.

        Args:
            after: Number and time of a frame: count on from there.

        Raises:
            Damaged: The camera has stopped.
        """
        number, last = after or (-1, 0.0)
        begin = time.monotonic() - last
        while True:
            came, pixels = self._capture.read()
            time_s = 0.0 if number < 0 else time.monotonic() - begin
            if number < 0:
                begin = time.monotonic()
            if not came:
                raise Damaged(f"camera {self.name} has stopped after {time_s:.1f} s")
            if self.end_s is not None and time_s >= self.end_s:
                return
            number += 1
            yield Picture(number, time_s, need_av().VideoFrame.from_ndarray(pixels, format="bgr24"))


def open_video(source: str | PathLike[str] | int, *, start_s: float = 0.0, end_s: float | None = None) -> "Video":
    """A camera for a number, also one written as text; a file for anything else.

    Raises:
        InputError: A start for a camera, a number that is none of a camera, or an end before the start.
        FileError, Damaged, MissingExtra: As `VideoFile` and `Camera`.
    """
    if isinstance(source, int) or (isinstance(source, str) and source.isdecimal() and not Path(source).exists()):
        if start_s:  # NaN too
            raise InputError("a camera has no start to skip to; leave the start out")
        return Camera(source if isinstance(source, int) else int(source), end_s=end_s)
    return VideoFile(source, start_s=start_s, end_s=end_s)


Video = VideoFile | Camera


def sample(pictures: Iterator[Picture], every_s: float, *, after_s: float | None = None) -> Iterator[Picture]:
    """The first picture at or after each multiple of `every_s` seconds; all of them for 0.

    Args:
        pictures: In the order of their times.
        every_s: Seconds.
        after_s: Time of the last picture that was taken before.
    """
    last = -1 if after_s is None or not every_s else _slot(after_s, every_s)
    for picture in pictures:
        if every_s:
            slot = _slot(picture.time_s, every_s)
            if slot <= last:
                continue
            last = slot
        yield picture


def _slot(time_s: float, every_s: float) -> int:
    return int(time_s / every_s + 1e-6)  # a time that should be a multiple may be a hair less
