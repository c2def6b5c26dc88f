"""What a network learned from, in a few kilobytes: enough to tell how many of other images are among it.

Of the checksums of all images the smallest are kept. They are a fair sample, whatever the order of the images and the
form they were read from. Sets that were learned from one after the other have a line each, so that a small one is not
lost in a large one.

Source: https://doi.org/10.1109/SEQUEN.1997.666900 (Broder), as bottom-k sketches.
"""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from jaxtyping import UInt8

KEPT = 1024
TWINS = 0.2
"""Share of known images up to which they are strangers to a network: there are twins in every set. Of FER2013's
PublicTest 0.08 have one in Training."""
_DIGITS = 8  # of a checksum in hex; of equal length, so that their order is that of the numbers


def sketch(images: Iterable[UInt8[np.ndarray, "H W"]]) -> str:
    """The sketch of a set of images: at most `KEPT` checksums as hex, sorted."""
    return "".join(sorted(_checksums(images))[:KEPT])


def joined(*sketches: str) -> str:
    """What was learned from in all: each set's sketch once."""
    return "\n".join(dict.fromkeys(line for each in sketches for line in each.splitlines()))


def share_known(images: Iterable[UInt8[np.ndarray, "H W"]], known: str) -> float:
    """What share of the images is among those that a sketch stands for, in [0, 1]; of several, that which knows most.

    Exact where these were `KEPT` or fewer. Where they were M, N images are judged by about `KEPT` N / M of them.
    """
    asked = _checksums(images)
    return max((_share(asked, _split(line)) for line in known.splitlines()), default=0.0)


def _share(asked: set[str], kept: set[str]) -> float:
    if len(kept) == KEPT:  # there were more than it holds
        asked = {each for each in asked if each <= max(kept)}
    return len(asked & kept) / len(asked) if asked else 0.0


def _checksums(images: Iterable[UInt8[np.ndarray, "H W"]]) -> set[str]:
    return {blake2b(image.tobytes(), digest_size=_DIGITS // 2).hexdigest() for image in images}


def _split(text: str) -> set[str]:
    return {text[k : k + _DIGITS] for k in range(0, len(text), _DIGITS)}
