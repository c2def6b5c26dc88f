"""What a network learned from, in a few kilobytes: enough to tell how many of other images are among it.

Of the checksums of all images the smallest are kept. They are a fair sample, whatever the order of the images and the
lossless form they were read from. Sets that were learned from one after the other have a line each, so that a small
one is not lost in a large one.

Source: https://doi.org/10.1109/SEQUEN.1997.666900 (Broder), as bottom-k sketches.
"""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from jaxtyping import UInt8

KEPT = 1024
KNOWN = 0.5
"""Share of known images from which a set was learned from: there are twins in others, too. Of FER2013's PublicTest 0.08
have one in Training."""
_ENOUGH = 3  # comparable images, to say anything
_DIGITS = 8  # of a checksum in hex; of equal length, so that their order is that of the numbers


def sketch(images: Iterable[UInt8[np.ndarray, "H W"]]) -> str:
    """The sketch of a set of images: at most `KEPT` checksums as hex, sorted."""
    return "".join(sorted(checksums(images))[:KEPT])


def without(known: str, one: str) -> str:
    """All sketches but that one."""
    return "\n".join(line for line in known.splitlines() if line != one)


def joined(*sketches: str) -> str:
    """What was learned from in all: each set's sketch once; nothing where a part is not known."""
    if not all(sketches):
        return ""
    return "\n".join(dict.fromkeys(line for each in sketches for line in each.splitlines()))


def share_known(images: Iterable[UInt8[np.ndarray, "H W"]], known: str) -> float | None:
    """What share of the images is among those that a sketch stands for, in [0, 1]; of several, that which knows most.

    Exact where these were `KEPT` or fewer. Where they were M, N images are judged by about `KEPT` N / M of them; None
    where these are too few to say. Images that were compressed anew are others.
    """
    if not known:
        return None
    asked = checksums(images)
    shares = [_share(asked, _split(line)) for line in known.splitlines()]
    return max((share for share in shares if share is not None), default=None)


def _share(asked: set[str], kept: set[str]) -> float | None:
    if len(kept) < KEPT:
        return len(asked & kept) / max(1, len(asked))
    asked = {each for each in asked if each <= max(kept)}  # there were more than it holds
    return len(asked & kept) / len(asked) if len(asked) >= _ENOUGH else None


def checksums(images: Iterable[UInt8[np.ndarray, "H W"]]) -> set[str]:
    """`checksum` of each."""
    return {checksum(image) for image in images}


def checksum(image: UInt8[np.ndarray, "H W"]) -> str:
    """A short one of an image's pixels, in hex. That another has the same is a chance of 1 in 4,300 million."""
    return blake2b(image.tobytes(), digest_size=_DIGITS // 2).hexdigest()


def _split(text: str) -> set[str]:
    return {text[k : k + _DIGITS] for k in range(0, len(text), _DIGITS)}
