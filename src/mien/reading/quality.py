"""What speaks against trusting a reading: a face that is small, blurred, dark, bright, rotated or cut.

Each flag has one measure and one limit. The limit is the measure's median where a corruption has cost ten points of
accuracy: `benchmarks/quality.py` found it, `docs/quality.md` shows the curves.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True, slots=True)
class Flag:
    """When a flag is raised, and what it means for trust.

    Attributes:
        limit: Of the measure: raised at or below it, or, with `above`, at or above.
        odds: A flagged answer counts as certain only where its odds (confidence over the rest) are so many times
            those of the model's threshold.
        above: Large values are the bad ones.
    """

    limit: float
    odds: float
    above: bool = False


FLAGS = {
    "small": Flag(23.4, 1.0),  # height of the box, in pixels
    "blurred": Flag(0.305, 1.13),  # sharpness
    "dark": Flag(33.2, 1.0),  # 95th percentile of the greys; neither model that ships needs it
    "bright": Flag(255.0, 1.14, above=True),  # median of the greys
    "rotated": Flag(36.0, 1.0, above=True),  # degrees
    "cut": Flag(0.25, 1.0, above=True),  # share of the crop that lies outside the image
}


def measure(
    crop: UInt8[np.ndarray, "48 48"], *, height: float, tilt: float, outside: float
) -> dict[str, float]:
    """What each flag looks at, by the flag's name.

    Args:
        crop: The face as the network takes it.
        height: Of the face's box in its image, in pixels.
        tilt: Degrees by which the head leans.
        outside: Share of the crop that lies outside the image, in [0, 1].
    """
    greys = np.sort(crop, axis=None)
    return {
        "small": height,
        "blurred": sharpness(crop),
        "dark": float(greys[int(0.95 * greys.size)]),
        "bright": float(greys[greys.size // 2]),
        "rotated": abs(tilt),
        "cut": outside,
    }


def sharpness(crop: UInt8[np.ndarray, "48 48"]) -> float:
    """How quickly greys change: energy of second differences over that of first ones, in [0, 4].

    Of the two axes the less sharp one counts, as motion blurs one alone. Contrast and brightness cancel out.
    """
    found = []
    for axis in (0, 1):
        first = np.diff(crop.astype(np.float32), axis=axis)
        second = np.diff(first, axis=axis)
        found.append(np.square(second).mean() / max(1e-3, np.square(first).mean()))
    return float(min(found))


def flags(measures: dict[str, float]) -> tuple[str, ...]:
    """The flags that are raised for what `measure` gives."""
    return tuple(
        name
        for name, flag in FLAGS.items()
        if (measures[name] >= flag.limit if flag.above else measures[name] <= flag.limit)
    )


def needed(threshold: float, raised: Iterable[str]) -> float:
    """The confidence that a flagged answer needs so as not to be uncertain, in [0, 1].

    Args:
        threshold: What an unflagged one needs, in [0, 1]; 0 and 1 stay what they are.
        raised: Its flags; the one that asks most counts.
    """
    odds = max((FLAGS[name].odds for name in raised), default=1.0)
    return odds * threshold / (1 - threshold + odds * threshold)
