"""Clips with known truth: public-domain portraits moved over made-up scenes, encoded with PyAV."""

import struct
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from conftest import EXAMPLES
from mien.reading.images import open_image
from mien.reading.video import Picture

SIZE = 640, 360
TICKS = 90_000
_FACES = {  # middle and height of the face in the photo, in pixels; Collins is read as happy, Hopper as neutral
    "collins": ("eileen-collins.jpg", (226, 119), 112),
    "hopper": ("grace-hopper.jpg", (273, 229), 218),
}


@cache
def scene(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A quiet coloured background without a face."""
    coarse = np.random.default_rng(seed).integers(40, 200, (5, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)


@cache
def _head(who: str, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A portrait's head, its face `height` pixels high, and how opaque each pixel is."""
    file, middle, tall = _FACES[who]
    reach = round(0.95 * tall)
    part = cv2.getRectSubPix(open_image(EXAMPLES / file), (2 * reach, 2 * reach), middle)
    side = round(1.9 * height)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    opaque = np.clip((1 - np.hypot(x * 1.15, y)) * 8, 0, 1)[..., None]
    return cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32), opaque


def paste(frame: np.ndarray, who: str, x: float, y: float, height: float) -> np.ndarray:
    """The frame with a face around (x, y), to the nearest pixel; what is outside is cut off."""
    head, opaque = _head(who, round(height))
    side = len(head)
    left, top = round(x) - side // 2, round(y) - side // 2
    rows = slice(max(0, top), min(frame.shape[0], top + side))
    columns = slice(max(0, left), min(frame.shape[1], left + side))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return frame
    inside = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    frame = frame.copy()
    under = frame[rows, columns]
    frame[rows, columns] = (under + opaque[inside] * (head[inside] - under)).astype(np.uint8)
    return frame


def encode(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    rate: float = 25,
    times: Iterable[float] | None = None,
    codec: str = "libx264",
    sound: str = "",
    options: dict[str, str] | None = None,
    aspect: Fraction = Fraction(1),
) -> Path:
    """Write a clip.

    Args:
        path: Its suffix names the container.
        frames: RGB pixels.
        rate: Frames a second.
        times: Seconds of each frame instead.
        codec: Of the picture.
        sound: Codec of a tone under it; none where empty.
        options: Of the container.
        aspect: Width of a pixel by its height.
    """
    with av.open(str(path), "w", options=options or {}) as out:
        quality = {"bf": "0", "preset": "veryfast", "crf": "12", "g": "25"}
        stream = out.add_stream(codec, rate=round(rate), options=quality)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS)
        stream.codec_context.sample_aspect_ratio = aspect
        tone = out.add_stream(sound, rate=48_000) if sound else None
        time_s = 0.0
        moments = iter(times) if times is not None else None
        for number, pixels in enumerate(frames):
            time_s = next(moments) if moments is not None else number / rate
            if not number:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = round(time_s * TICKS), Fraction(1, TICKS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        if tone is not None:
            wave = np.sin(np.arange(int((time_s + 1 / rate) * 48_000)) * 2 * np.pi * 440 / 48_000)
            heard = av.AudioFrame.from_ndarray((wave * 8000).astype(np.int16)[None], format="s16", layout="mono")
            heard.sample_rate, heard.pts = 48_000, 0
            out.mux(tone.encode(heard))
            out.mux(tone.encode())
    return path


def damaged(path: Path) -> Path:
    """Six seconds of noise at ten frames a second, of which some in the middle cannot be decoded."""
    noise = np.random.default_rng(0).integers(0, 255, (60, 96, 128, 3)).astype(np.uint8)
    content = bytearray(encode(path, noise, rate=10).read_bytes())
    middle = slice(len(content) // 2, len(content) // 2 + 3_000)
    content[middle] = bytes(each ^ 0x5A for each in content[middle])
    path.write_bytes(content)
    return path


def turn(path: Path, degrees: int) -> None:
    """Have an MP4 say that players shall turn it clockwise, as phones do: the matrix in its track's head."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = [cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30]
    content[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)


def one_face(count: int = 50, who: str = "collins", height: int = 100) -> Iterable[np.ndarray]:
    """A face that moves slowly to the right."""
    for number in range(count):
        yield paste(scene(), who, 200 + 2 * number, 180, height)


class FakeCapture:
    """Five frames of OpenCV's kind, blue first, and then nothing."""

    def __init__(self, number: int) -> None:
        self.left = 5

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        image = np.zeros((48, 64, 3), np.uint8)
        image[..., 2] = 200
        return (True, image) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.left = 0


def plain(count: int) -> list[np.ndarray]:
    """Frames whose brightness tells their number."""
    return [np.full((96, 128, 3), 20 + 4 * k, np.uint8) for k in range(count)]


def numbers(pictures: list[Picture]) -> Any:
    """To compare with a list of numbers."""
    return pytest.approx([(float(each.rgb().mean()) - 20) / 4 for each in pictures], abs=0.9)
