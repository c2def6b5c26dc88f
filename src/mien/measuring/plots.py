"""Pictures of scores: confusion matrix, learning curves, reliability and coverage. Needs matplotlib.

And contact sheets of faces, which need nothing.

Figures are made without pyplot, so that nothing global changes and nothing opens a window.
"""

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from mien.errors import need_extra
from mien.expressions import Expression
from mien.measuring import metrics
from mien.measuring.corruptions import CORRUPTIONS
from mien.measuring.evaluation import Report
from mien.measuring.robustness import Robustness
from mien.storage import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def need_plots() -> None:
    """Refuse before long work what could not be drawn after it.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    need_extra("lab", "plotting", "matplotlib")


def _figure(width: float, height: float) -> "Figure":
    need_plots()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: "Figure", path: str | PathLike[str]) -> Path:
    """Write a figure as a PNG, whole or not at all."""
    return write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110), binary=True)


def confusion(matrix: Sequence[Sequence[int]], title: str) -> "Figure":
    """True expression by row, answer by column; colour is the share of the row, the text the share and count."""
    counts = np.asarray(matrix)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = _figure(7, 6.2)
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(counts)):
        for column in range(len(counts)):
            axes.text(
                column,
                row,
                f"{share[row, column]:.0%}\n{counts[row, column]}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share[row, column] > 0.55 else "black",
            )
    names = [str(e) for e in Expression][: len(counts)]
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="truth", title=title)
    return figure


def curves(history: Sequence[dict[str, float]], title: str) -> "Figure":
    """Loss and accuracy of training and validation by epoch."""
    figure = _figure(9, 3.6)
    epochs = [row["epoch"] for row in history]
    for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, label in (("train", "training"), ("val", "validation")):
            axes.plot(epochs, [row[f"{part}_{measure}"] for row in history], marker=".", label=label)
        axes.set(xlabel="epoch", ylabel=measure)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(title)
    return figure


def reliability(report: Report) -> "Figure":
    """How often answers of a confidence are right, and how many there are of each."""
    count, confidence, hits = metrics.reliability(report.probabilities, report.labels).T
    used = count > 0
    figure = _figure(5, 5.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], "--", color="grey", label="perfect")
    upper.plot(confidence[used], hits[used], "o-", label="this model")
    upper.set(ylabel="accuracy", title=f"{report.model}, {report.split}: reliability", ylim=(0, 1))
    upper.legend(frameon=False)
    edges = np.linspace(0, 1, len(count) + 1)
    lower.bar(edges[:-1], count, width=np.diff(edges), align="edge", edgecolor="white")
    lower.set(xlabel="confidence", ylabel="faces", xlim=(0, 1))
    return figure


def coverage(report: Report) -> "Figure":
    """Accuracy on the surest answers, by the share that is answered."""
    share, accuracy, _ = metrics.risk_coverage(report.probabilities, report.labels).T
    start = len(share) // 50  # the first few answers are too few for a share
    figure = _figure(5, 3.8)
    axes = figure.add_subplot()
    axes.plot(share[start:], accuracy[start:])
    axes.set(xlabel="share of faces answered", ylabel="accuracy on them", xlim=(0, 1))
    axes.set_title(f"{report.model}, {report.split}: answering only when sure")
    axes.grid(alpha=0.3)
    return figure


def save_report(report: Report, folder: str | PathLike[str]) -> list[Path]:
    """The three plots of a report as PNG files."""
    folder = Path(folder)
    first = next(iter(report.scores.values()))
    title = f"{report.model}, {report.split}: {first.accuracy:.2%} of {first.n:,}"
    return [
        save(confusion(first.confusion, title), folder / "confusion.png"),
        save(reliability(report), folder / "reliability.png"),
        save(coverage(report), folder / "coverage.png"),
    ]


def contact_sheet(
    groups: Sequence[Sequence[UInt8[np.ndarray, "48 48"]]], captions: Sequence[str], *, width: int = 16
) -> Image.Image:
    """Faces in rows at twice their size, a group beside each other in one frame, its caption below.

    Args:
        groups: Grey faces; a group of more than `width` is cut.
        captions: A few words for each group, cut to its width.
        width: Faces in a row.
    """
    side, gap, line = 96, 8, 14
    places, x, y = [], 0, 0
    for group in groups:
        count = min(len(group), width)
        if x + count > width:
            x, y = 0, y + 1
        places.append((x, y))
        x += count
    step = side + gap + line
    sheet = Image.new("L", (width * (side + gap) + gap, (y + 1) * step + gap), 255)
    draw = ImageDraw.Draw(sheet)
    for group, caption, (column, row) in zip(groups, captions, places, strict=True):
        left, top, count = gap + column * (side + gap), gap + row * step, min(len(group), width)
        right = left + count * (side + gap) - gap
        for k, face in enumerate(group[:count]):
            sheet.paste(Image.fromarray(face).resize((side, side)), (left + k * (side + gap), top))
        draw.rectangle((left - 2, top - 2, right + 1, top + side + 1), outline=150)
        shown = caption.encode("ascii", "backslashreplace").decode()
        while shown and draw.textlength(shown) > right - left:
            shown = shown[:-1]
        draw.text((left, top + side + 3), shown, fill=60)
    return sheet


def robustness(measured: Robustness) -> "Figure":
    """For each corruption: accuracy, the share that is answered and what of it is right, from clean to severe."""
    figure = _figure(11, 8)
    columns = 4
    grid = figure.subplots(math.ceil(len(measured.points) / columns), columns, sharey=True, squeeze=False).ravel()
    for axes, (name, points) in zip(grid, measured.points.items(), strict=False):
        line = [measured.clean, *points.values()]
        places = range(len(line))
        axes.axhline(measured.clean.accuracy - 0.1, color="grey", linestyle=":", label="ten points lost")
        axes.plot(places, [p.accuracy for p in line], "o-", label="accuracy")
        axes.plot(places, [p.coverage for p in line], "s--", label="answered")
        right = [math.nan if p.accuracy_answered is None else p.accuracy_answered for p in line]
        axes.plot(places, right, "^-", label="right of what is answered")
        axes.set_xticks(places, ["clean", *(f"{s:g}" for s in points)], fontsize=8)
        axes.set(xlabel=CORRUPTIONS[name].unit, title=name, ylim=(0, 1))
        axes.grid(alpha=0.3)
    for axes in grid[len(measured.points) :]:
        axes.axis("off")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="lower right", frameon=False)
    figure.suptitle(f"{measured.model}, {measured.split} made worse, n = {measured.n:,}")
    return figure
