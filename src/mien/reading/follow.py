"""Where the faces of a moving picture are: found every so often, and followed in between.

Finding costs many times what following does. A face is followed by the optical flow of points spread over it, on a
small grey picture; it is looked for again at once when the points disagree, when two faces touch, and when the scene
cuts. It knows nothing of files, expressions or identities.
"""

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Complex, Float, Float32, UInt8

from mien.reading.faces import CenterFace, Face, FaceDetector, overlap, to_face

SIDE = 320
"""Longer side of the small grey picture, in pixels."""

_APART_S = 0.11  # pictures further apart in time are not compared: too much may have moved
_AGAIN_S = 2.0  # look for small faces so often
_LOOKS = (320, 640, 1280)  # longer sides for the looks in between, in pixels
_SMALL = 24  # height at the detector's scale from which a face is found for sure (see faces)
_GRID = 6  # points a side of a face
_BACK = 1.0  # pixels of the small picture that a point may miss its start by, followed there and back
_ENOUGH = 0.5  # share of the points that must agree
_LOOSE = 0.02  # of the face's height by which a point may always miss
_STEADY = 0.8  # a face that shrinks or grows by more from one picture to the next was followed wrongly
_BLANK = 4.0  # standard deviation, in levels of 256, below which a picture is a flash or dropout that shows no scene
_CUT = 18.0  # mean difference that makes a cut, in levels of 256, with the overall brightness taken out
_FLOW: dict[str, Any] = {
    "winSize": (15, 15),
    "maxLevel": 3,
    "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.03),
}


@dataclass(slots=True)
class _Known:
    """What is carried from one picture to the next."""

    time_s: float
    found_s: float  # when the detector ran last
    searched_s: float  # when it looked at all scales last
    side: int  # of its looks in between
    size: tuple[int, int]  # width and height of the picture, in pixels
    faces: list[Face]


class Follower:
    """Gives the faces of each picture of a video, in their order.

    Args:
        detector: What finds faces. A `CenterFace` without a side of its own looks at 320 pixels, more for small faces,
            and now and then as thoroughly as at a photo.
        every_s: Run it so often, in seconds; 0: on every picture.

    Attributes:
        cut: The scene has changed with the last picture.
    """

    def __init__(self, detector: FaceDetector, *, every_s: float = 0.2) -> None:
        self.detector, self.every_s = detector, every_s
        self._free: CenterFace | None = None
        if isinstance(detector, CenterFace) and detector.side is None:
            # A copy, whose side changes with every look: its owner may use it for photos at the same time.
            self.detector = self._free = copy(detector)
        self.cut = False
        self._known: _Known | None = None
        self._small: UInt8[np.ndarray, "h w"] | None = None
        self._scene: Float32[np.ndarray, "32 32"] | None = None  # of the last picture that was not blank
        self._blank = False  # the last picture was

    def faces(
        self,
        time_s: float,
        small: UInt8[np.ndarray, "h w"],
        size: tuple[int, int],
        picture: Callable[[], UInt8[np.ndarray, "H W 3"]],
    ) -> list[Face]:
        """The faces of the next picture, the largest first when they were just found.

        Args:
            time_s: Its time in seconds.
            small: The whole picture in grey, its longer side at `SIDE` pixels.
            size: Its width and height in pixels. A stream whose pictures change it is cut there.
            picture: Gives its RGB pixels; called only when faces must be found.
        """
        known, before = self._known, self._small
        tiny, was_blank = _tiny(small), self._blank
        self._small, self._blank = small, bool(tiny.std() < _BLANK)
        back = was_blank and not self._blank
        resized = known is not None and known.size != size
        self.cut = before is not None and (resized or before.shape != small.shape or self._is_cut(tiny))
        if not self._blank:
            self._scene = tiny
        if known is None or before is None or self.cut:
            return self._find(time_s, size, picture(), None)
        faces = None
        if not back and time_s - known.found_s < self.every_s - 1e-6 and time_s - known.time_s <= _APART_S:
            faces = _follow_all(before, small, known.faces, max(size) / max(small.shape))
        if faces is None:
            return self._find(time_s, size, picture(), known)
        known.time_s, known.faces = time_s, faces
        return faces

    def _find(
        self, time_s: float, size: tuple[int, int], image: UInt8[np.ndarray, "H W 3"], known: _Known | None
    ) -> list[Face]:
        longest = max(size)
        searched_s = known.searched_s if known is not None else -math.inf
        thorough = time_s - searched_s >= _AGAIN_S
        side = known.side if known is not None else _LOOKS[0]
        if self._free:
            self._free.side = None if thorough else side
        faces = self.detector.find(image)
        if faces:
            smallest = min(face.box[3] for face in faces)
            side = next((s for s in _LOOKS if s >= longest or smallest * s / longest >= _SMALL), _LOOKS[-1])
        self._known = _Known(time_s, time_s, time_s if thorough else searched_s, side, size, faces)
        return faces

    def state(self) -> dict[str, Any] | None:
        """All that it knows but for the last small picture, as plain values for JSON."""
        if self._known is None:
            return None
        # A picture that is not blank shows the scene itself.
        scene = self._scene.tolist() if self._blank and self._scene is not None else None
        return asdict(self._known) | {"blank": self._blank, "scene": scene}

    def restore(self, state: dict[str, Any] | None, small: UInt8[np.ndarray, "h w"]) -> None:
        """Take over what `state` gave.

        Args:
            state: From here or another process.
            small: The last small picture before it.
        """
        if state is None:
            return
        known = {**state, "size": tuple(state["size"]), "faces": [to_face(face) for face in state["faces"]]}
        self._small, self._blank, scene = small, known.pop("blank"), known.pop("scene")
        self._known = _Known(**known)
        if scene is not None:
            self._scene = np.array(scene, np.float32)
        elif not self._blank:
            self._scene = _tiny(small)

    def _is_cut(self, tiny: Float32[np.ndarray, "32 32"]) -> bool:
        """Whether this is another scene than the last one that was seen; blank pictures are none."""
        if self._blank or self._scene is None:
            return False
        return bool(np.abs((tiny - tiny.mean()) - (self._scene - self._scene.mean())).mean() > _CUT)


def _tiny(picture: UInt8[np.ndarray, "h w"]) -> Float32[np.ndarray, "32 32"]:
    return cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)


def _touch(faces: Sequence[Face]) -> bool:
    return any(overlap(one, other) > 0 for one, other in combinations(faces, 2))


def _follow_all(
    before: UInt8[np.ndarray, "h w"], now: UInt8[np.ndarray, "h w"], faces: Sequence[Face], scale: float
) -> list[Face] | None:
    """All the faces a picture later; None where one is lost or two touch: then following is not to be trusted."""
    if not faces or _touch(faces):
        return None if faces else []
    # OpenCV counts from the middle of the first pixel, boxes from its corner.
    starts = np.concatenate([_grid(face) for face in faces]).astype(np.float32)[:, None] / scale - 0.5
    there, came = _flow(before, now, starts)
    back, returned = _flow(now, before, there)
    sound = came & returned & (np.abs(back - starts).max((1, 2)) < _BACK)
    points = [((each[:, 0] + 0.5) * scale) @ (1, 1j) for each in (starts, there)]
    count = _GRID * _GRID
    size = before.shape[1] * scale, before.shape[0] * scale
    followed = []
    for number, face in enumerate(faces):
        mine = slice(number * count, (number + 1) * count)
        moved = _moved(face, points[0][mine], points[1][mine], sound[mine], size)
        if moved is None:
            return None
        followed.append(moved)
    return None if _touch(followed) else followed


def _flow(
    before: UInt8[np.ndarray, "h w"], now: UInt8[np.ndarray, "h w"], points: Float32[np.ndarray, "n 1 2"]
) -> tuple[Float32[np.ndarray, "n 1 2"], Bool[np.ndarray, " n"]]:
    """Where points have gone, and which of them could be followed. Source: OpenCV's pyramidal Lucas-Kanade."""
    ends, found, _ = cv2.calcOpticalFlowPyrLK(before, now, points, np.empty_like(points), **_FLOW)
    return np.asarray(ends, np.float32), np.asarray(found).ravel() > 0


def _grid(face: Face) -> Float[np.ndarray, "n 2"]:
    """Points over a face; its box's corners show what is behind it."""
    x, y, width, height = face.box
    steps = np.linspace(0.15, 0.85, _GRID)
    across, down = np.meshgrid(x + steps * width, y + steps * height)
    return np.stack([across.ravel(), down.ravel()], 1)


def _moved(
    face: Face,
    starts: Complex[np.ndarray, " n"],
    ends: Complex[np.ndarray, " n"],
    sound: Bool[np.ndarray, " n"],
    size: tuple[float, float],
) -> Face | None:
    """The face, shifted, turned and scaled as most of its points were; None where they disagree or it has left."""
    for _ in range(2):  # once with all points, once without those that went elsewhere
        if sound.sum() < _ENOUGH * len(sound):
            return None
        start, end = starts[sound].mean(), ends[sound].mean()
        away = starts[sound] - start
        # Least squares: Umeyama, IEEE PAMI 13 (1991), in the plane, where a rotation and scaling is one factor.
        turn = np.vdot(away, ends[sound] - end) / np.vdot(away, away)
        missed = np.abs(end + turn * (starts - start) - ends)
        sound = sound & (missed <= max(_LOOSE * face.box[3], 2 * float(np.median(missed[sound]))))
    x, y, width, height = face.box
    middle = complex(end + turn * (complex(x + width / 2, y + height / 2) - start))
    width, height = float(abs(turn)) * width, float(abs(turn)) * height
    if not (_STEADY < abs(turn) < 1 / _STEADY and 0 <= middle.real <= size[0] and 0 <= middle.imag <= size[1]):
        return None
    marks = end + turn * (np.array(face.landmarks) @ (1, 1j) - start)
    return Face(
        box=(middle.real - width / 2, middle.imag - height / 2, width, height),
        score=face.score,
        landmarks=tuple((mark.real, mark.imag) for mark in marks.tolist()),
    )
