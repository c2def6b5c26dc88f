"""Faces over time: who is who from frame to frame, and what each expresses when the flicker is taken out.

It knows times and boxes, not pixels or files: a video, a camera and a web socket use it alike, one frame after the
other. Identities come from where a face is, not from whose it is: who is away for longer than a short gap comes
back under a new number. Needs SciPy (the `video` extra).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from mien.checked import Checked, NotNegative, Share
from mien.errors import InputError, need_extra
from mien.expressions import EXPRESSIONS
from mien.reading.faces import Face, box_overlap, overlap, to_face
from mien.reading.quality import needed
from mien.reading.recognizer import Reading

_T = TypeVar("_T", "_Place", "_Mood")

_TOO_FAR = 1.8  # cost from which two faces are not one: no overlap, and landmarks 0.8 face sizes away
_STOPPED = 0.3  # added cost of finding a face where it was last seen rather than where it was heading
_HEADING_S = 0.15  # time constant of a face's velocity, in seconds
_WHOLE = 0.9  # of a face's area: beside another, a smaller box is of a face that is being covered
_INSTANT_S = 1e-6  # weight of a track's first frame, which stands for no span of time yet


@dataclass(frozen=True, slots=True)
class TrackOptions(Checked):
    """How faces are held together over time.

    Attributes:
        max_gap_s: A face that comes back within so many seconds keeps its number; and one that is in the next frame,
            however late that comes.
        smoothing_s: Time constant of the smoothing, in seconds; 0 leaves the probabilities as they are.
        margin: Another expression takes over when its smoothed probability is higher by so much, in [0, 1].
        baseline_s: The resting face is the mean over so many seconds from the start of a track; 0: none is taken.

    Raises:
        InputError: A negative number, or a margin above 1.
    """

    max_gap_s: NotNegative = 1.0
    smoothing_s: NotNegative = 0.3
    margin: Share = 0.1
    baseline_s: NotNegative = 0.0


@dataclass(frozen=True, slots=True)
class TrackedReading(Reading):
    """What one face expresses in one frame, as part of a track.

    `probabilities` are smoothed over time. `expression` changes only where another one is clearly ahead, so it is not
    always the most probable one of a single frame; `confidence` is its smoothed probability.

    Attributes:
        track: The face's number, from 1 on, in order of appearance; a number is never given twice.
        raw: This frame's own probabilities.
        shift: Smoothed probabilities less those of the resting face, each in [-1, 1]; None as long as there is no
            resting face to compare with.
    """

    track: int = 0
    raw: dict[str, float] = field(default_factory=dict)
    shift: dict[str, float] | None = None


@dataclass(slots=True)
class _Place:
    """Where a track was last."""

    face: Face
    time_s: float
    velocity: complex = 0j  # pixels a second


@dataclass(slots=True)
class _Mood:
    """What a track expressed so far; arrays are lists, so that JSON takes them."""

    first_s: float
    time_s: float
    smoothed: list[float]
    shown: int  # index of the expression
    resting: list[float]  # sum over time
    resting_s: float


class Tracker:
    """Gives faces their numbers and takes the flicker out of their expressions, one frame after the other.

    >>> tracker = Tracker(threshold=recognizer.card.threshold)
    >>> tracked = tracker.update(time_s, recognizer.read_image(image))   # the same faces, in the same order

    Args:
        options: Gap, smoothing, margin, baseline.
        threshold: Smoothed confidence below which a reading is called uncertain: `recognizer.card.threshold`. A flagged
            face needs more (see `quality.needed`).

    Raises:
        MissingExtra: SciPy is not installed.

    Source: assignment of predicted to found boxes at least cost, as in SORT (arXiv 1602.00763), here with landmarks
    and a plain velocity in the place of a Kalman filter.
    """

    def __init__(self, options: TrackOptions | None = None, *, threshold: float = 0.0) -> None:
        need_extra("video", "following faces", "scipy")
        self.options = options or TrackOptions()
        self.threshold = threshold
        self._places: dict[int, _Place] = {}  # by track
        self._moods: dict[int, _Mood] = {}  # apart, as they may come later by some frames
        self._last = 0  # the number given last
        self._time_s = -math.inf  # of the frame identified last
        self._smoothed_s = -math.inf  # of the frame smoothed last

    def update(self, time_s: float, readings: Sequence[Reading]) -> list[TrackedReading]:
        """One frame with all the faces found in it, possibly none.

        Args:
            time_s: The frame's time in seconds, from any zero; never less than the one before.
            readings: The frame's readings, as `Recognizer.read_image` gives them.

        Returns:
            A tracked reading for each, in the same order.

        Raises:
            InputError: Time runs backwards.
        """
        return self.smooth(time_s, self.identify(time_s, [reading.face for reading in readings]), readings)

    def identify(self, time_s: float, faces: Sequence[Face]) -> list[int]:
        """The first half of `update`: a track number for each face, before anything is read from it.

        Raises:
            InputError: Time runs backwards.
        """
        if not time_s >= self._time_s:
            raise InputError(f"time should not run backwards, but {time_s} s came after {self._time_s} s")
        self._places = self._recent(self._places, self._time_s, time_s)
        self._time_s = time_s
        known = list(self._places)
        costs = [[_cost(self._places[number], time_s, face) for face in faces] for number in known]
        pairs = _assign(np.array(costs, float).reshape(len(known), len(faces)))
        numbers = []
        for column, face in enumerate(faces):
            if column in pairs:
                numbers.append(known[pairs[column]])
                _move(self._places[numbers[-1]], time_s, face, beside=_beside(column, faces))
            else:
                self._last += 1
                numbers.append(self._last)
                self._places[self._last] = _Place(face, time_s)
        return numbers

    def smooth(self, time_s: float, numbers: Sequence[int], readings: Sequence[Reading]) -> list[TrackedReading]:
        """The second half of `update`, which may follow for several frames at once, in their order.

        Args:
            time_s: As given to `identify`.
            numbers: What it returned.
            readings: What was read from those faces.
        """
        self._moods = self._recent(self._moods, self._smoothed_s, time_s)
        self._smoothed_s = time_s
        return [self._smooth(time_s, number, reading) for number, reading in zip(numbers, readings, strict=True)]

    def cut(self) -> None:
        """The scene has changed: whoever is seen next is somebody new."""
        self._places = {}

    def _recent(self, known: dict[int, _T], before_s: float, time_s: float) -> dict[int, _T]:
        """Those who were in the frame before, and those who have not been away for too long."""
        earliest = min(before_s, time_s - self.options.max_gap_s)
        return {number: each for number, each in known.items() if each.time_s >= earliest}

    def _smooth(self, time_s: float, number: int, reading: Reading) -> TrackedReading:
        raw = np.array(list(reading.probabilities.values()))
        if number not in self._moods:
            first, nothing = raw.tolist(), [0.0] * len(raw)
            self._moods[number] = _Mood(time_s, time_s, first, int(raw.argmax()), nothing, 0.0)
        mood = self._moods[number]
        passed, mood.time_s = time_s - mood.time_s, time_s
        keep = math.exp(-passed / self.options.smoothing_s) if self.options.smoothing_s else 0.0
        smoothed = raw + keep * (np.array(mood.smoothed) - raw)
        mood.smoothed = smoothed.tolist()
        if smoothed.max() > smoothed[mood.shown] + self.options.margin:
            mood.shown = int(smoothed.argmax())
        confidence = mood.smoothed[mood.shown]
        return TrackedReading(
            face=reading.face,
            expression=EXPRESSIONS[mood.shown],
            confidence=confidence,
            uncertain=confidence < needed(self.threshold, reading.flags),
            probabilities=_named(smoothed),
            flags=reading.flags,
            track=number,
            raw=reading.probabilities,
            shift=self._shift(mood, max(passed, _INSTANT_S), raw),
        )

    def _shift(self, mood: _Mood, passed: float, raw: Float[np.ndarray, "7"]) -> dict[str, float] | None:
        """Take the resting face in the first seconds, and compare with it afterwards."""
        if not self.options.baseline_s:
            return None
        if mood.time_s - mood.first_s < self.options.baseline_s:
            mood.resting = (np.array(mood.resting) + passed * raw).tolist()
            mood.resting_s += passed
            return None
        return _named(np.array(mood.smoothed) - np.array(mood.resting) / mood.resting_s)

    def state(self) -> dict[str, Any]:
        """All that it knows, as plain values for JSON: `restore` of it goes on as if nothing had happened."""
        places = {
            number: asdict(place) | {"velocity": [place.velocity.real, place.velocity.imag]}
            for number, place in self._places.items()
        }
        moods = {number: asdict(mood) for number, mood in self._moods.items()}
        times = {"time_s": self._time_s, "smoothed_s": self._smoothed_s}
        return {"last": self._last, **times, "places": places, "moods": moods}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave, here or in another process."""
        self._last, self._time_s, self._smoothed_s = state["last"], state["time_s"], state["smoothed_s"]
        self._places = {
            int(number): _Place(to_face(place["face"]), place["time_s"], complex(*place["velocity"]))
            for number, place in state["places"].items()
        }
        self._moods = {int(number): _Mood(**mood) for number, mood in state["moods"].items()}


def _named(values: Float[np.ndarray, "7"]) -> dict[str, float]:
    return dict(zip(EXPRESSIONS, values.tolist(), strict=True))


def _middle(face: Face) -> complex:
    x, y, width, height = face.box
    return complex(x + width / 2, y + height / 2)


def _beside(column: int, faces: Sequence[Face]) -> bool:
    """Whether a face is so close to another that one head may cover the other: it is larger than its box."""
    boxes = [(x - w / 4, y - h / 4, 1.5 * w, 1.5 * h) for x, y, w, h in (face.box for face in faces)]
    return any(box_overlap(boxes[column], box) > 0 for other, box in enumerate(boxes) if other != column)


def _move(place: _Place, time_s: float, face: Face, *, beside: bool) -> None:
    """Take over where a face is now; of one that passes behind another, the size and velocity it had when whole."""
    passed, way = time_s - place.time_s, _middle(face) - _middle(place.face)
    if beside and face.box[2] * face.box[3] < _WHOLE * place.face.box[2] * place.face.box[3]:
        place.face, place.time_s = _moved(place.face, way), time_s
        return
    if passed > 0:
        velocity = way / passed
        place.velocity = velocity + math.exp(-passed / _HEADING_S) * (place.velocity - velocity)
    place.face, place.time_s = face, time_s


def _moved(face: Face, way: complex) -> Face:
    x, y, width, height = face.box
    marks = tuple((mark[0] + way.real, mark[1] + way.imag) for mark in face.landmarks)
    return Face((x + way.real, y + way.imag, width, height), face.score, marks)


def _cost(place: _Place, time_s: float, face: Face) -> float:
    """How badly a face continues a track: at the place it was heading for, or where it was seen last."""
    heading = _moved(place.face, place.velocity * (time_s - place.time_s))
    return min(_distance(heading, face), _distance(place.face, face) + _STOPPED)


def _distance(one: Face, other: Face) -> float:
    """1 less the overlap, and the mean distance of the landmarks in face sizes."""
    apart = [math.dist(a, b) for a, b in zip(one.landmarks, other.landmarks, strict=True)]
    size = (one.box[2] + one.box[3] + other.box[2] + other.box[3]) / 4
    return 1 - overlap(one, other) + sum(apart) / len(apart) / size


def _assign(costs: Float[np.ndarray, "tracks faces"]) -> dict[int, int]:
    """The track (row) of each face (column) that has one, at the least total cost."""
    from scipy.optimize import linear_sum_assignment

    if not costs.size:
        return {}
    # A pair that is too far counts like no pair, or it could push two good ones apart.
    rows, columns = linear_sum_assignment(np.minimum(costs, _TOO_FAR))
    return {int(c): int(r) for r, c in zip(rows, columns, strict=True) if costs[r, c] < _TOO_FAR}
