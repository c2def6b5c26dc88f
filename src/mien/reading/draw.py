"""Boxes and bars on a picture, with Pillow and the font inside it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from mien.expressions import EXPRESSIONS, Expression
from mien.reading.recognizer import Reading

COLOURS: dict[Expression, tuple[int, int, int]] = {
    Expression.ANGRY: (214, 69, 65),
    Expression.DISGUST: (122, 160, 58),
    Expression.FEAR: (142, 94, 190),
    Expression.HAPPY: (245, 184, 46),
    Expression.SAD: (66, 133, 200),
    Expression.SURPRISE: (240, 128, 60),
    Expression.NEUTRAL: (150, 158, 166),
}
"""One colour an expression (red, green, blue), the same in every picture and plot."""

_PANEL = (24, 26, 30, 200)
_TRACK = (78, 82, 90, 220)
_WHITE = (255, 255, 255, 255)


def draw(image: UInt8[np.ndarray, "H W 3"], readings: Sequence[Reading]) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the picture with a box, a caption and seven bars for each face.

    Sizes follow the picture, so that a caption is readable in a thumbnail and in a large print. An uncertain
    reading's caption ends in a question mark.

    Args:
        image: RGB pixels, upright.
        readings: What was read in it.
    """
    canvas = Image.fromarray(image).convert("RGBA")
    layer = Image.new("RGBA", canvas.size)
    pen = ImageDraw.Draw(layer)
    unit = max(9, round(min(canvas.size) / 40))  # height of a line of text
    font = ImageFont.load_default(unit)
    for reading in reversed(readings):  # the largest face comes last, on top
        _face(pen, reading, unit, font, canvas.size)
    return np.asarray(Image.alpha_composite(canvas, layer).convert("RGB"))


def _face(
    pen: ImageDraw.ImageDraw,
    reading: Reading,
    unit: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    x, y, w, h = reading.face.box
    colour = COLOURS[reading.expression]
    line = max(2, unit // 6)
    pen.rounded_rectangle((x, y, x + w, y + h), radius=unit // 2, outline=(*colour, 255), width=line)

    caption = f"{reading.expression} {reading.confidence:.0%}" + (" ?" if reading.uncertain else "")
    pad = unit // 3
    width = pen.textlength(caption, font=font) + 2 * pad
    left = min(max(0, x), max(0, size[0] - width))
    top = y - unit - 2 * pad - line if y > unit + 2 * pad + line else min(y + h + line, size[1] - unit - 2 * pad)
    pen.rounded_rectangle((left, top, left + width, top + unit + 2 * pad), radius=pad, fill=(*colour, 255))
    pen.text((left + pad, top + pad + unit / 2), caption, font=font, fill=(20, 20, 20, 255), anchor="lm")

    if h < 5 * unit:  # the bars would hide the neighbours of a small face
        return
    row = min(unit, h / (len(EXPRESSIONS) + 1))
    small = ImageFont.load_default(max(8, round(row * 0.85)))
    names = max(pen.textlength(str(e), font=small) for e in EXPRESSIONS)
    bar = 5 * row
    panel = names + bar + 3 * pad
    left = x + w + line if x + w + line + panel <= size[0] else max(0, x - line - panel)
    pen.rounded_rectangle((left, y, left + panel, y + 2 * pad + row * len(EXPRESSIONS)), radius=pad, fill=_PANEL)
    for k, (expression, probability) in enumerate(reading.probabilities.items()):
        middle = y + pad + (k + 0.5) * row
        pen.text((left + pad + names, middle), str(expression), font=small, fill=_WHITE, anchor="rm")
        start = left + 2 * pad + names
        pen.rectangle((start, middle - row * 0.3, start + bar, middle + row * 0.3), fill=_TRACK)
        pen.rectangle(
            (start, middle - row * 0.3, start + max(1.0, bar * probability), middle + row * 0.3),
            fill=(*COLOURS[expression], 255),
        )
