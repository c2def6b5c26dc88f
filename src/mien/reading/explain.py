"""Which parts of a face an answer rests on: parts are covered at random, and what that changes is drawn.

It needs nothing of the network but its answers, so it works on any model file. It tells what this answer depends on,
not what a person feels, nor whether the answer is right.
"""

from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

from mien.errors import InputError, NotFound
from mien.expressions import Expression
from mien.reading.recognizer import SIDE, Reading, check_faces

MASKS = 1500
GRID = 6  # cells of a mask along a side of the face
_ZOOM = 6  # pixels of a picture for each of the crop
_UNIT = 20  # height of a line of text, in pixels
_FOR, _AGAINST = np.array([214, 40, 40], np.float32), np.array([40, 90, 200], np.float32)  # red, blue


@runtime_checkable
class Predictor(Protocol):
    """Anything that tells expressions of grey faces."""

    def probabilities(self, faces: UInt8[np.ndarray, "B 48 48"]) -> Float[np.ndarray, "B C"]:
        """Probabilities of the seven `EXPRESSIONS`, or of every `Expression`, in their order."""
        ...


def occlusion_map(
    predictor: Predictor,
    face: UInt8[np.ndarray, "48 48"],
    expression: Expression | str | None = None,
    *,
    masks: int = MASKS,
    seed: int = 0,
) -> Float32[np.ndarray, "48 48"]:
    """How much of an expression's log-odds each part of a face carries.

    Half of the face, at random, fades into its mean grey, many times over, each time with the other half too. All go
    through the network at once.

    Args:
        predictor: A `Recognizer`, or anything with `probabilities`.
        face: Grey, in [0, 255].
        expression: Which; None: the one that is answered.
        masks: How many covered faces, an even number from 2 on; more make the map steadier.
        seed: Of the masks; the same gives the same map.

    Returns:
        The log-odds, in nats, that showing a pixel and what is around it adds on average; negative where covering
        it makes the expression more probable.

    Raises:
        NotFound: There is no such expression; the closest is suggested.
        InputError: Another number of masks, no grey face, or the predictor does not know the expression.

    Source: RISE (arXiv 1806.07421), here with masks in opposite pairs, a mean grey, and a least-squares slope for
    each pixel in the place of a weighted mean.
    """
    if masks < 2 or masks % 2:
        raise InputError(f"masks should be an even number from 2 on, but is {masks}")
    face = np.asarray(face)
    check_faces(face[None])
    if expression is not None and expression not in tuple(Expression):
        raise NotFound.named("expression", expression, Expression)
    shown = _masks(masks // 2, seed)
    mean = face.mean(dtype=np.float32)
    covered = np.rint(mean + shown * (face - mean)).astype(np.uint8)
    rows = predictor.probabilities(np.concatenate([face[None], covered]))
    asked = int(rows[0].argmax()) if expression is None else tuple(Expression).index(Expression(expression))
    if asked >= rows.shape[1]:
        known = ", ".join(tuple(Expression)[: rows.shape[1]])
        raise InputError(f"the predictor does not know {expression}; name one of {known}")
    p = np.clip(rows[1:, asked], 1e-6, 1 - 1e-6)
    odds, part = np.log(p / (1 - p)), shown - 0.5
    return np.asarray(np.tensordot(odds, part, 1) / np.square(part).sum(0), np.float32)


def _masks(pairs: int, seed: int) -> Float32[np.ndarray, "N 48 48"]:
    """What is shown of a face, in [0, 1]: smooth random cells at random places, and the opposite of each."""
    generator = np.random.default_rng(seed)
    cell = SIDE // GRID
    masks = np.empty((pairs, SIDE, SIDE), np.float32)
    for mask in masks:
        cells = generator.integers(0, 2, (GRID + 2, GRID + 2)).astype(np.float32)
        x, y = generator.integers(cell // 2, cell // 2 + cell, 2)
        mask[:] = cv2.resize(cells, None, fx=cell, fy=cell, interpolation=cv2.INTER_LINEAR)[y:, x:][:SIDE, :SIDE]
    return np.concatenate([masks, 1 - masks])


def draw_map(
    face: UInt8[np.ndarray, "48 48"], weight: Float32[np.ndarray, "48 48"], reading: Reading
) -> UInt8[np.ndarray, "H W 3"]:
    """The face, and beside it the face under its map, with the answer above and the scale below; RGB.

    Args:
        face: The crop that was read.
        weight: Its `occlusion_map`.
        reading: What was read.
    """
    size = SIDE * _ZOOM
    large = cv2.resize(face, (size, size), interpolation=cv2.INTER_CUBIC)
    smooth = cv2.resize(weight, (size, size), interpolation=cv2.INTER_LINEAR)
    most = float(np.abs(weight).max())
    share = (np.abs(smooth) / max(most, 1e-6))[..., None]
    colour = np.where(smooth[..., None] > 0, _FOR, _AGAINST)
    pale = np.repeat(large[..., None], 3, 2).astype(np.float32)
    heat = np.rint(pale + 0.75 * share * (colour - pale)).astype(np.uint8)
    canvas = Image.new("RGB", (2 * size + 3 * _UNIT, size + 5 * _UNIT), "white")
    canvas.paste(Image.fromarray(large), (_UNIT, 2 * _UNIT))
    canvas.paste(Image.fromarray(heat), (2 * _UNIT + size, 2 * _UNIT))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_UNIT * 0.8)
    title = f"{reading.expression} {reading.confidence:.0%}" + f" ({reading.marks})" * bool(reading.marks)
    pen.text((_UNIT, _UNIT), title, "black", font, anchor="lm")
    below = f"red speaks for {reading.expression}, blue against; full colour: {most:.1f} nats"
    pen.text((_UNIT, size + 3.5 * _UNIT), below, "black", font, anchor="lm")
    return np.asarray(canvas)
