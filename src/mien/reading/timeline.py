"""A video's rows in short: who was there when with which expression, as numbers and as a picture.

Rows are read twice and never held, so that the length of the video does not matter.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from mien.expressions import EXPRESSIONS, Expression
from mien.reading.draw import COLOURS
from mien.reading.images import save_image
from mien.reading.tables import Row

_HOLD_S = 1.0  # a frame stands for the time until the next one, which may come so much later than is expected
_MOST = 8  # tracks in a picture
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)  # seconds between marks


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """One track of a video.

    Attributes:
        track: Its number.
        first_s, last_s: Times of the first and last frame with it, in seconds.
        seen_s: Seconds in which it was seen.
        shares: Share of those for each expression, as shown; they sum to 1.
        uncertain: Share of those in which the answer, whichever it was, was uncertain.
    """

    track: int
    first_s: float
    last_s: float
    seen_s: float
    shares: dict[Expression, float]
    uncertain: float


@dataclass(slots=True)
class _Sums:
    first_s: float
    last_s: float
    seen_s: float = 0.0
    uncertain_s: float = 0.0
    by_expression: dict[str, float] = field(default_factory=dict)


def summarise(rows: Iterable[Row], every_s: float = 0.0) -> list[TrackSummary]:
    """Sum up a video's rows, as `frame_rows` makes them or a table gives them back.

    Args:
        rows: Those of one video.
        every_s: As `watch`: how far apart its frames are where not all were taken.

    Returns:
        One summary a track, in the order of their numbers.
    """
    sums: dict[int, _Sums] = {}
    for row, time_s, length_s in _spans(rows, every_s):
        if row["track"] in (None, ""):
            continue
        each = sums.setdefault(int(row["track"]), _Sums(time_s, time_s))
        each.last_s = time_s
        each.seen_s += length_s
        if row["uncertain"] in (True, "True"):  # a CSV file gives text
            each.uncertain_s += length_s
        each.by_expression[row["expression"]] = each.by_expression.get(row["expression"], 0.0) + length_s
    return [
        TrackSummary(
            track=number,
            first_s=each.first_s,
            last_s=each.last_s,
            seen_s=each.seen_s,
            shares={e: each.by_expression.get(str(e), 0.0) / each.seen_s for e in EXPRESSIONS},
            uncertain=each.uncertain_s / each.seen_s,
        )
        for number, each in sorted(sums.items())
    ]


def _spans(rows: Iterable[Row], every_s: float) -> Iterator[tuple[Row, float, float]]:
    """Each row with its time and the seconds that its frame stands for: until the next; the last for as many as the
    one before it.
    """
    frame: list[Row] = []
    now, length = 0.0, 0.04
    for row in rows:
        time_s = float(row["time_s"])
        if frame and time_s > now:
            length = min(time_s - now, every_s + _HOLD_S)
            yield from ((each, now, length) for each in frame)
            frame = []
        frame.append(row)
        now = time_s
    yield from ((each, now, length) for each in frame)


_MARGIN, _STRIP, _GAP, _WIDTH = 28, 110, 34, 1400  # pixels
_INK, _PALE = (34, 37, 43), (240, 241, 244)


def draw_timeline(
    path: str | PathLike[str],
    rows: Callable[[], Iterable[Row]],
    summaries: Sequence[TrackSummary],
    title: str,
    every_s: float = 0.0,
) -> Path:
    """A picture of the expressions over time: a strip for each of the eight tracks that were seen longest.

    Its colours stand one on the other, as high as their smoothed probability; blank where the face was away.

    Args:
        path: An image file.
        rows: Gives the video's rows.
        summaries: Of the same rows.
        title: Stands above.
        every_s: As `summarise`.

    Raises:
        InputError: The suffix names no known format.
        FileError: The file cannot be written.
    """
    longest = sorted(sorted(summaries, key=lambda each: -each.seen_s)[:_MOST], key=lambda each: each.track)
    first, last = _extent(rows())
    left, right = _MARGIN, _WIDTH - _MARGIN
    shares = _shares(rows(), [each.track for each in longest], first, last, right - left, every_s)
    height = 3 * _MARGIN + max(1, len(longest)) * (_STRIP + _GAP) + 2 * _GAP
    canvas = Image.new("RGB", (_WIDTH, height), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((left, _MARGIN), title, font=ImageFont.load_default(24), fill=_INK, anchor="lm")
    small = ImageFont.load_default(16)
    top = 2 * _MARGIN
    for each in longest:
        main = max(each.shares, key=each.shares.__getitem__)
        shown = f"{each.shares[main]:.0%} {main}, uncertain {each.uncertain:.0%}"
        text = f"#{each.track}   seen {each.seen_s:.1f} s, {shown}"
        pen.text((left, top + _GAP / 2), text, font=small, fill=_INK, anchor="lm")
        strip = _strip(shares[each.track])
        canvas.paste(Image.fromarray(strip), (left, top + _GAP))
        top += _GAP + _STRIP
    if not longest:
        pen.text((left, top + _STRIP / 2), "no face", font=small, fill=_INK, anchor="lm")
        top += _GAP + _STRIP
    _axis(pen, (left, right, top), first, last)
    x = float(left)
    for expression in EXPRESSIONS:
        middle = top + 2 * _GAP
        pen.rounded_rectangle((x, middle - 8, x + 16, middle + 8), radius=4, fill=COLOURS[expression])
        pen.text((x + 24, middle), str(expression), font=small, fill=_INK, anchor="lm")
        x += 24 + small.getlength(str(expression)) + 28
    return save_image(path, np.asarray(canvas))


def _extent(rows: Iterable[Row]) -> tuple[float, float]:
    """First and last time, a moment apart at least."""
    first = last = None
    for row in rows:
        last = float(row["time_s"])
        first = last if first is None else first
    return (first or 0.0), max(last or 0.0, (first or 0.0) + 0.1)


def _shares(
    rows: Iterable[Row], tracks: Sequence[int], first: float, last: float, columns: int, every_s: float
) -> dict[int, Float[np.ndarray, "columns 7"]]:
    """Mean smoothed probabilities of each track in each column of pixels; zeros where it was away."""
    sums = {track: np.zeros((columns, len(EXPRESSIONS))) for track in tracks}
    scale = columns / (last - first)
    for row, time_s, length_s in _spans(rows, every_s):
        if row["track"] in (None, "") or int(row["track"]) not in sums:
            continue
        begin = min(int((time_s - first) * scale), columns - 1)
        end = max(begin + 1, min(columns, round((time_s + length_s - first) * scale)))
        sums[int(row["track"])][begin:end] += [float(row[f"p_{expression}"]) for expression in EXPRESSIONS]
    return {track: each / np.maximum(each.sum(1, keepdims=True), 1e-9) for track, each in sums.items()}


def _strip(shares: Float[np.ndarray, "columns 7"]) -> UInt8[np.ndarray, "strip columns 3"]:
    """Colours stacked from the bottom up."""
    heights = np.rint(shares.cumsum(1) * _STRIP).T[:, None]  # 7, 1, columns
    rank = np.arange(_STRIP)[::-1, None]
    palette = np.array([_PALE, *(COLOURS[expression] for expression in EXPRESSIONS)], np.uint8)
    index = np.where(rank < heights[-1], 1 + (rank >= heights[:-1]).sum(0), 0)
    return palette[index]


def _axis(pen: ImageDraw.ImageDraw, place: tuple[int, int, int], first: float, last: float) -> None:
    """A line with times below the strips."""
    left, right, bottom = place
    hours = math.ceil((last - first) / 12 / _STEPS[-1]) * _STEPS[-1]
    step = next((s for s in _STEPS if (last - first) / s <= 12), hours)
    for tick in range(math.ceil(first / step), math.floor(last / step) + 1):
        time_s = tick * step
        x = left + (time_s - first) / (last - first) * (right - left)
        pen.line((x, bottom, x, bottom + 6), fill=_INK)
        pen.text((x, bottom + 10), _clock(time_s, step < 1), font=ImageFont.load_default(14), fill=_INK, anchor="mt")
    pen.line((left, bottom, right, bottom), fill=_INK)


def _clock(time_s: float, tenths: bool) -> str:
    minutes, seconds = divmod(time_s, 60)
    hours, minutes = divmod(int(minutes), 60)
    end = f"{seconds:04.1f}" if tenths else f"{seconds:02.0f}"
    return f"{hours}:{minutes:02}:{end}" if hours else f"{minutes}:{end}"
