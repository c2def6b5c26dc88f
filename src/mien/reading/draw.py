"""Boxes and bars on a picture, with Pillow and the font inside it."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from mien.expressions import Expression
from mien.reading.recognizer import Reading
from mien.reading.tracks import TrackedReading

COLOURS: dict[str, tuple[int, int, int]] = {
    Expression.ANGRY: (214, 69, 65),
    Expression.DISGUST: (122, 160, 58),
    Expression.FEAR: (142, 94, 190),
    Expression.HAPPY: (245, 184, 46),
    Expression.SAD: (66, 133, 200),
    Expression.SURPRISE: (240, 128, 60),
    Expression.NEUTRAL: (150, 158, 166),
    Expression.CONTEMPT: (178, 112, 92),
}
"""One colour an expression (red, green, blue), the same in every picture and plot."""

_PANEL = (24, 26, 30, 200)
_TRACK = (78, 82, 90, 220)
_WHITE = (255, 255, 255, 255)


def draw(image: UInt8[np.ndarray, "H W 3"], readings: Sequence[Reading]) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the picture with a box, a caption and a bar an expression for each face.

    Sizes follow the picture, so that a caption is readable in a thumbnail and in a large print. An uncertain
    reading's caption ends in a question mark.

    Args:
        image: RGB pixels, upright.
        readings: What was read in it.
    """
    annotated = image.copy()
    height, width = image.shape[:2]
    unit = max(9, round(min(width, height) / 40))  # height of a line of text
    for reading in reversed(readings):  # the largest face comes last, on top
        left, top, right, bottom = _reach(reading, unit, width, height)
        part = Image.fromarray(annotated[top:bottom, left:right]).convert("RGBA")
        layer = Image.new("RGBA", part.size)
        _face(ImageDraw.Draw(layer), reading, unit, (-left, -top, width - left, height - top))
        annotated[top:bottom, left:right] = np.asarray(Image.alpha_composite(part, layer).convert("RGB"))
    return annotated


def _reach(reading: Reading, unit: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is touched: most of a frame of a video is not, and need not be composed."""
    x, y, w, h = (round(v) for v in reading.face.box)
    aside, above, below = 13 * unit, 3 * unit, 10 * unit  # the caption stands above or below, the bars aside or below
    left, right = max(0, min(x - aside, width - 2 * aside)), min(width, max(x + w + aside, 2 * aside))
    top, bottom = max(0, min(y - above, height - above)), min(height, max(y + h + below, above))
    return left, top, max(right, left + 1), max(bottom, top + 1)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=64)
def _names(size: int, expressions: tuple[Expression, ...]) -> float:
    """Width of the longest name, in pixels."""
    return max(_font(size).getlength(str(expression)) for expression in expressions)


def _face(
    pen: ImageDraw.ImageDraw, reading: Reading, unit: int, edges: tuple[int, int, int, int]
) -> None:
    """Draw one face.

    Args:
        pen: Draws on a part of the picture.
        reading: In the whole picture's pixels.
        unit: Height of a line of text.
        edges: Left, top, right, bottom of the whole picture, in the part's pixels.
    """
    x, y, w, h = reading.face.box
    x, y = x + edges[0], y + edges[1]
    colour, font = COLOURS[reading.expression], _font(unit)
    line = max(2, unit // 6)
    pen.rounded_rectangle((x, y, x + w, y + h), radius=unit // 2, outline=(*colour, 255), width=line)

    caption = f"{reading.expression} {reading.confidence:.0%}" + (" ?" if reading.uncertain else "")
    if isinstance(reading, TrackedReading):
        caption = f"#{reading.track} {caption}"
    pad = unit // 3
    width = pen.textlength(caption, font=font) + 2 * pad
    left = min(max(edges[0], x), max(edges[0], edges[2] - width))
    top = y - unit - 2 * pad - line
    if top <= edges[1]:
        top = min(y + h + line, edges[3] - unit - 2 * pad)
    pen.rounded_rectangle((left, top, left + width, top + unit + 2 * pad), radius=pad, fill=(*colour, 255))
    pen.text((left + pad, top + pad + unit / 2), caption, font=font, fill=(20, 20, 20, 255), anchor="lm")

    if h < 5 * unit:  # the bars would hide the neighbours of a small face
        return
    bars = len(reading.probabilities)
    row = min(unit, h / (bars + 1))
    small = max(8, round(row * 0.85))
    names = _names(small, tuple(reading.probabilities))
    bar = 5 * row
    panel = names + bar + 3 * pad
    tall = 2 * pad + row * bars
    floor = top if top > y else edges[3]  # the caption keeps its place
    if x + w + line + panel <= edges[2]:
        left, top = x + w + line, y
    elif x - line - panel >= edges[0]:
        left, top = x - line - panel, y
    else:  # a portrait that fills its picture: better over the chin than over an eye
        left, top = max(edges[0], min(x, edges[2] - panel)), min(y + h + line, floor - tall)
    pen.rounded_rectangle((left, top, left + panel, top + tall), radius=pad, fill=_PANEL)
    for k, (expression, probability) in enumerate(reading.probabilities.items()):
        middle = top + pad + (k + 0.5) * row
        pen.text((left + pad + names, middle), str(expression), font=_font(small), fill=_WHITE, anchor="rm")
        start = left + 2 * pad + names
        pen.rectangle((start, middle - row * 0.3, start + bar, middle + row * 0.3), fill=_TRACK)
        pen.rectangle(
            (start, middle - row * 0.3, start + max(1.0, bar * probability), middle + row * 0.3),
            fill=(*COLOURS[expression], 255),
        )
