"""Frames out: an H.264 clip with its sound, a live window. Knows nothing of faces. Needs PyAV (the `video` extra)."""

import os
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from mien.errors import FileError, InputError
from mien.reading.video import need_av, open_container
from mien.storage import need_other, need_writable, suffix_of

CLIPS = (".mp4", ".m4v", ".mov", ".mkv")
"""Suffixes of the clips that are written."""

_TICKS = 90_000  # a second in a clip's own time; any usual frame rate is a whole number of them
_BT601, _LIMITED = 6, 1  # FFmpeg's AVCOL_SPC_SMPTE170M and AVCOL_RANGE_MPEG
_PART = 60  # frames from one that stands alone to the next; so many may be lost when writing is cut off
_SOUND = {  # what is copied as it is; FFmpeg writes no other of these into such a file
    ".mp4": {"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"},
    ".m4v": {"aac", "ac3", "alac"},
    ".mov": {"aac", "mp3", "ac3", "eac3", "alac"},
    ".mkv": {"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"},
}


def check_clip(path: str | PathLike[str], source: str | None = None) -> None:
    """Refuse a clip's file name before long work rather than after it.

    Raises:
        InputError: Its suffix is none of `CLIPS`, or it is the source itself.
        FileError: It cannot be written.
    """
    path = Path(path)
    if suffix_of(path) not in CLIPS:
        raise InputError(f"clips are written as {', '.join(CLIPS)}, but the file is {path.name!r}")
    need_other(path, source)
    need_writable(path)


class ClipWriter:
    """An H.264 clip, written frame by frame, with the sound of the file that the frames came from.

    What is there stays playable when writing ends early: MP4 is written in fragments, which are joined at the end.

    Args:
        path: A file with one of the suffixes `CLIPS`; an older one is replaced.
        size: Width and height of the pictures, in pixels. H.264 needs even ones: an odd one loses a pixel.
        source: A video file whose first sound is copied, or encoded as AAC where a clip cannot carry it as it is.

    Raises:
        InputError, FileError: As `check_clip`; or the pictures are less than 2 pixels wide or high.
        FileError: The clip cannot be written.
    """

    def __init__(self, path: str | PathLike[str], size: tuple[int, int], *, source: str | None = None) -> None:
        av = need_av()
        self.path = Path(path)
        check_clip(self.path, source)
        if min(size) < 2:
            raise InputError(f"a clip needs 2 pixels or more a side, but the video has {size[0]} x {size[1]}")
        self._size = size[0] // 2 * 2, size[1] // 2 * 2
        self._times: list[float] = []  # of the first frame, the one before the last, the last
        parts = {"movflags": "hybrid_fragmented+frag_keyframe", "flush_packets": "1"}
        options = parts if suffix_of(self.path) != ".mkv" else {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(f"file:{self.path}", "w", options=options)
        except (OSError, av.FFmpegError) as error:
            raise self._failed(error) from error
        # No frames that lean on later ones: they would shift all times by their delay.
        options = {"preset": "veryfast", "crf": "21", "bf": "0", "g": str(_PART)}
        self._stream = self._container.add_stream("libx264", rate=30, options=options)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        # FFmpeg turns RGB into BT.601 of limited range; players take a large clip that does not say so for BT.709.
        self._stream.codec_context.colorspace, self._stream.codec_context.color_range = _BT601, _LIMITED
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        sound = open_container(source) if source else None
        try:
            self._sound = _Sound(sound, self._container, _SOUND[suffix_of(self.path)]) if sound else None
            self._container.start_encoding()
        except (OSError, ValueError, av.FFmpegError) as error:  # ValueError: PyAV knows that it cannot be
            raise self._failed(error) from error

    def add(self, image: UInt8[np.ndarray, "H W 3"], time_s: float) -> None:
        """Append a frame.

        Args:
            image: RGB pixels; where the stream has changed its size, they are scaled and padded to the clip's.
            time_s: Its time in the source, later than that of the frame before.

        Raises:
            FileError: It cannot be written.
        """
        av = need_av()
        self._times = [*(self._times[:1] or [time_s]), self._times[-1] if self._times else time_s, time_s]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(_fit(image, *self._size)), format="rgb24")
        frame.pts, frame.time_base = round((time_s - self._times[0]) * _TICKS), Fraction(1, _TICKS)
        try:
            self._container.mux(self._stream.encode(frame))
            if self._sound:
                self._sound.copy(self._times[0], time_s)
        except (OSError, av.FFmpegError) as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Write what is left, and the index.

        Raises:
            FileError: It cannot be written; what was written before can be played.
        """
        av = need_av()
        try:
            try:
                if self._times:
                    self._container.mux(self._stream.encode())
                    first, before, last = self._times
                    if self._sound:
                        self._sound.copy(first, last + (last - before))
            finally:
                self._container.close()
        except (OSError, av.FFmpegError) as error:
            raise self._failed(error) from error
        finally:
            if self._sound:
                self._sound.close()

    def _failed(self, error: Exception) -> FileError:
        return FileError(f"cannot write {self.path}: {getattr(error, 'strerror', None) or error}")


def _fit(image: UInt8[np.ndarray, "H W 3"], width: int, height: int) -> UInt8[np.ndarray, "h w 3"]:
    """The picture less an odd row or column; one of another size scaled to fit, on black."""
    tall, wide = image.shape[:2]
    if (wide // 2 * 2, tall // 2 * 2) == (width, height):
        return image[:height, :width]
    scale = min(width / wide, height / tall)
    inner = max(1, min(width, round(wide * scale))), max(1, min(height, round(tall * scale)))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    smaller = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=smaller)
    return canvas


class _Sound:
    """The first sound of a file on its way into a clip that can carry some codecs; nothing where there is none."""

    def __init__(self, source: Any, clip: Any, carried: set[str]) -> None:
        self._container, self._clip = source, clip
        # A stream whose codec FFmpeg does not know has no context.
        self._stream = next((each for each in self._container.streams.audio if each.codec_context), None)
        self._copied = self._stream is not None and self._stream.codec_context.name.removesuffix("float") in carried
        if self._copied:
            self._output = clip.add_stream_from_template(self._stream)
        elif self._stream is not None:
            rates = need_av().codec.Codec("aac", "w").audio_rates
            higher = [each for each in rates if each >= self._stream.rate]  # AAC has a few only; no tone shall be lost
            self._output = clip.add_stream("aac", rate=min(higher, default=max(rates)))
        self._parts: Iterator[tuple[float, list[Any]]] | None = None
        self._waiting: tuple[float, list[Any]] | None = None

    def copy(self, first_s: float, until_s: float) -> None:
        """Bring the sound up to a time of the source; `first_s` is where the clip starts."""
        if self._parts is None:
            self._parts = self._shifted(first_s) if self._stream is not None else iter(())
            self._waiting = next(self._parts, None)
        while self._waiting is not None and self._waiting[0] < until_s:
            self._clip.mux(self._waiting[1])
            self._waiting = next(self._parts, None)

    def _shifted(self, first_s: float) -> Iterator[tuple[float, list[Any]]]:
        """Packets for the clip and their times in the source."""
        broken = need_av().FFmpegError
        zero_s = (self._container.start_time or 0) / 1e6
        try:
            for part in (self._container.demux if self._copied else self._container.decode)(self._stream):
                if part.pts is None:  # the mark at the end
                    continue
                time_s, shift = float(part.pts * part.time_base) - zero_s, round((first_s + zero_s) / part.time_base)
                if time_s < first_s:
                    continue
                part.pts -= shift
                if self._copied:
                    part.dts, part.stream = part.dts - shift, self._output
                # The encoder starts before 0, which would push all pictures back.
                yield time_s, [part] if self._copied else [each for each in self._output.encode(part) if each.pts >= 0]
        except broken:  # a damaged file: `VideoFile` tells of it
            return
        if not self._copied:
            yield first_s, self._output.encode(None)

    def close(self) -> None:
        self._container.close()


class Window:
    """A live window; Escape, Q or closing it ends the show.

    Args:
        title: Stands above it.

    Raises:
        InputError: There is no display.
    """

    def __init__(self, title: str) -> None:
        bare = sys.platform.startswith("linux") and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
        try:
            if not bare:
                cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error:  # OpenCV was built without windows
            bare = True
        if bare:
            raise InputError(
                "there is no display for a live window; use --rows FILE for a table, --out clip.mp4 for an annotated "
                "clip, or mien serve for a page in a browser"
            )
        self._title = title
        self._begin: float | None = None

    def show(self, image: UInt8[np.ndarray, "H W 3"], time_s: float) -> bool:
        """Show RGB pixels, not before their time has come.

        Returns:
            Whether to go on.
        """
        cv2.imshow(self._title, image[..., ::-1])
        now = time.monotonic()
        if self._begin is None:
            self._begin = now - time_s
            height, width = image.shape[:2]
            shrink = min(1.0, 1280 / max(height, width))  # larger ones would not fit many screens
            cv2.resizeWindow(self._title, round(width * shrink), round(height * shrink))
        key = cv2.waitKey(max(1, round((self._begin + time_s - now) * 1000)))
        return key not in (27, ord("q")) and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        """Take the window away."""
        cv2.destroyWindow(self._title)
