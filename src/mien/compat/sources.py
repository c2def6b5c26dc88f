"""What the stand-ins share: one network, images as other packages take them, boxes in whole pixels, refusals."""

from base64 import b64decode
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mien.errors import Damaged, InputError
from mien.expressions import EXPRESSIONS, Expression
from mien.reading.faces import Face
from mien.reading.images import from_bgr, grey, open_image, resize
from mien.reading.recognizer import SIDE, Recognizer, default_model


def recognizer() -> Recognizer:
    """The default model, loaded once for all stand-ins of a process and for `mien.read`."""
    return default_model()


def open_source(source: Any) -> UInt8[np.ndarray, "H W 3"]:
    """An image as fer, deepface and rmn take it, as upright RGB pixels.

    Args:
        source: A uint8 array, grey or in OpenCV's order of colours (blue first); a path; a data URI
            (`data:image/jpeg;base64,...`); or an object with `read` that gives bytes.

    Raises:
        InputError: None, an address, or something else.
        FileError, Damaged: As `mien.reading.images.open_image`.
    """
    if source is None:
        raise InputError("expected an image, but got None, as cv2.imread gives it for a file that it cannot read")
    if isinstance(source, np.ndarray):
        return from_bgr(source)
    if isinstance(source, str) and source.startswith("data:image/"):
        return open_image(_content(source))
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        raise InputError(f"mien fetches nothing, but got the address {source}; download the image and pass its path")
    if hasattr(source, "read"):
        try:
            source = source.read()
        except UnicodeDecodeError:
            source = ""
        if not isinstance(source, bytes):
            raise InputError(f"expected a file opened in binary mode, but reading it gave {type(source).__name__}")
    return open_image(source)


def _content(uri: str) -> bytes:
    try:
        return b64decode("".join(uri.partition(",")[2].split()), validate=True)  # encoders break its lines
    except ValueError as error:  # binascii's is one
        raise Damaged(f"the data URI that begins with {uri[:30]!r} is not base64: {error}") from error


def read_crop(image: UInt8[np.ndarray, "H W 3"]) -> dict[Expression, float]:
    """The probabilities of a picture that is one face from edge to edge."""
    (row,) = recognizer().probabilities(grey(resize(image, SIDE, SIDE))[None]).tolist()
    return dict(zip(EXPRESSIONS, row, strict=True))


def whole_box(face: Face, width: int, height: int) -> tuple[int, int, int, int]:
    """x, y, width and height of a face in whole pixels, inside the image, so that slices of it are never empty."""
    x, y, w, h = face.box
    left, top = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
    right, bottom = max(min(round(x + w), width), left + 1), max(min(round(y + h), height), top + 1)
    return left, top, right - left, bottom - top


def keep_default(where: str, **arguments: tuple[Any, Any]) -> None:
    """Refuse what cannot be honoured.

    Args:
        where: The function's name.
        arguments: What was passed, and the only value that means something here.

    Raises:
        InputError: One of them is another value.
    """
    for name, (given, default) in arguments.items():
        if given != default:
            raise InputError(
                f"{name} of {where} can only be {default!r} in mien, but is {given!r}; leave it out, or see "
                "docs/migrate.md for what mien offers"
            )
