"""A video or camera, frame by frame, with what its faces express: who felt what when, in constant memory."""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from os import PathLike
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mien.errors import InputError, MienError
from mien.reading.faces import CenterFace, Face, FaceDetector, crop
from mien.reading.follow import SIDE, Follower
from mien.reading.recognizer import Recognizer, default_model, need_seven
from mien.reading.tracks import TrackedReading, Tracker, TrackOptions
from mien.reading.video import Camera, Picture, VideoFile, open_video, sample

BATCH = 16
"""Frames of a file that are classified at once; of a camera each is classified as it comes."""

THREADS = 1
"""Threads of each network: the others' work is decoding, following and encoding, which need the cores too."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame and what was read in it. As long as it is kept, so is its picture.

    Attributes:
        number: Count of the video's frames before it, from the start that was asked for, those that `every_s` leaves
            out included.
        time_s: Its time in seconds from the start of the file, or from a camera's first frame.
        width, height: In pixels, upright and square: where the video's are not, its width is scaled.
        readings: One a face, the largest first where they were found anew; empty where there is none.
    """

    number: int
    time_s: float
    width: int
    height: int
    readings: list[TrackedReading]
    _picture: Picture = field(repr=False, compare=False)

    def image(self) -> UInt8[np.ndarray, "H W 3"]:
        """The frame's upright RGB pixels, made when they are asked for."""
        return self._picture.rgb()


class Watch:
    """What `watch` does, for those who need more than its frames: the length of the video, or to stop and go on.

    Args:
        source, recognizer, detector, every_s, start_s, end_s, detect_every_s, tracking: As `watch`.

    Attributes:
        name: The source.
        every_s: As `watch`.
        duration_s: Seconds to be read; None where nobody knows.
        live: It is a camera.
        recognizer: What reads the faces.
    """

    def __init__(
        self,
        source: str | PathLike[str] | int,
        *,
        recognizer: Recognizer | None = None,
        detector: FaceDetector | None = None,
        every_s: float = 0.0,
        start_s: float = 0.0,
        end_s: float | None = None,
        detect_every_s: float = 0.2,
        tracking: TrackOptions | None = None,
    ) -> None:
        if not (every_s >= 0 and detect_every_s >= 0):
            raise InputError(f"expected spans of 0 s or more, but got {every_s} and {detect_every_s}")
        if not isinstance(recognizer, Recognizer | None):
            raise InputError(f"expected a Recognizer, as mien.load_model gives, or None, but got {recognizer!r}")
        if not isinstance(tracking, TrackOptions | None):
            raise InputError(f"expected mien.TrackOptions(...) or None, but got {tracking!r}")
        self.recognizer = recognizer or default_model(THREADS)
        need_seven(self.recognizer, "watching")
        self._video = open_video(source, start_s=start_s, end_s=end_s)
        self.every_s = every_s
        self.live = isinstance(self._video, Camera)
        self.name, self.duration_s = self._video.name, self._video.duration_s
        self._tracker = Tracker(tracking, threshold=self.recognizer.card.threshold)
        self._follower = Follower(detector or CenterFace(threads=THREADS), every_s=detect_every_s)
        self._last: Picture | None = None
        self._waiting: list[_Seen] = []

    def close(self) -> None:
        """Let go of the video."""
        self._video.close()

    def frames(self, state: dict[str, Any] | None = None) -> Generator[Frame, None, None]:
        """The frames, once.

        Args:
            state: Go on where a `checkpoint` was taken, of the same video under the same arguments.

        Raises:
            Damaged: At the end, where the file breaks off or frames could not be decoded; what came before is right.
            InputError: The state is of another video.
        """
        problem = None
        try:
            try:
                for picture in self._pictures(state):
                    self._waiting.append(self._see(picture))
                    if len(self._waiting) == (1 if self.live else BATCH):
                        yield from self._read()
            except MienError as error:
                problem = error  # not before what is still waiting
            yield from self._read()
        finally:
            self.close()
        if problem is not None:
            raise problem

    def checkpoint(self) -> dict[str, Any] | None:
        """What it takes to go on behind the frame that came last, as plain values for JSON; the next frames are the
        same as without the stop. None where that is not possible: before the first frame, and inside a batch.
        """
        if self._waiting or self._last is None:
            return None
        last = {"number": self._last.number, "time_s": self._last.time_s}
        lost = self._video.lost if isinstance(self._video, VideoFile) else (0, 0.0)
        return last | {"lost": lost, "follower": self._follower.state(), "tracker": self._tracker.state()}

    def _pictures(self, state: dict[str, Any] | None) -> Iterator[Picture]:
        if state is None:
            yield from sample(self._video.frames(), self.every_s)
            return
        number, time_s = state["number"], state["time_s"]
        assert isinstance(self._video, VideoFile)  # nobody goes on with a camera
        before = number - 1, math.nextafter(time_s, -1)
        pictures = self._video.frames(after=before, lost=tuple(state.get("lost", (0, 0.0))))
        last = next(pictures, None)  # the follower compares with it
        if last is None or last.time_s != time_s:
            raise InputError(f"{self.name} has no frame at {time_s} s any more; start again without --resume")
        self._follower.restore(state["follower"], last.grey(SIDE))
        self._tracker.restore(state["tracker"])
        yield from sample(pictures, self.every_s, after_s=time_s)

    def _see(self, picture: Picture) -> "_Seen":
        """All that must happen in order: faces and who they are."""
        rgb = cache(picture.rgb)
        faces = self._follower.faces(picture.time_s, picture.grey(SIDE), picture.size, rgb)
        if self._follower.cut:
            self._tracker.cut()
        tracks = self._tracker.identify(picture.time_s, faces)
        self._last = picture
        return _Seen(picture, faces, tracks, [crop(rgb(), face) for face in faces])

    def _read(self) -> Iterator[Frame]:
        """All that can be done for many frames at once."""
        crops = [each for seen in self._waiting for each in seen.crops]
        rows = iter(self.recognizer.probabilities(np.stack(crops)) if crops else ())
        while self._waiting:
            seen = self._waiting.pop(0)
            width, height = seen.picture.size
            own = islice(rows, len(seen.faces))
            readings = self.recognizer.readings(seen.faces, seen.crops, own, width, height)
            tracked = self._tracker.smooth(seen.picture.time_s, seen.tracks, readings)
            yield Frame(seen.picture.number, seen.picture.time_s, width, height, tracked, seen.picture)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A frame that waits for its faces to be read."""

    picture: Picture
    faces: list[Face]
    tracks: list[int]
    crops: list[UInt8[np.ndarray, "48 48"]]


def watch(
    source: str | PathLike[str] | int,
    *,
    recognizer: Recognizer | None = None,
    detector: FaceDetector | None = None,
    every_s: float = 0.0,
    start_s: float = 0.0,
    end_s: float | None = None,
    detect_every_s: float = 0.2,
    tracking: TrackOptions | None = None,
) -> Generator[Frame, None, None]:
    """Read the faces of a video or camera, frame by frame.

    >>> for frame in mien.watch("party.mp4"):
    ...     for reading in frame.readings:
    ...         print(f"{frame.time_s:.2f}", reading.track, reading.expression, f"{reading.confidence:.0%}")

    Faces pass through the same crop and preprocessing as in photos and evaluation. Leaving the loop early closes the
    video. Memory does not grow with its length; but each frame that is kept keeps its picture (1 MB at 1280 x 720), so
    keep its `readings` rather than the frame.

    Args:
        source: A video file of any form that FFmpeg reads, or the number of a camera.
        recognizer: What reads the faces; None: the default model.
        detector: What finds them; None: CenterFace. One without a `side` of its own looks at 320 pixels where the faces
            are large enough for that.
        every_s: Take one frame for every so many seconds; 0: all.
        start_s: Start at this time of the file.
        end_s: Stop before this time.
        detect_every_s: Look for faces so often, in seconds, and follow them in between; 0: look on every frame.
        tracking: Gap, smoothing, margin, baseline: a `mien.TrackOptions`.

    Returns:
        The frames as they are read, those without a face included.

    Raises:
        FileError: The file or camera is not there or cannot be used.
        Damaged: It is no video; or, after the last frame, it breaks off or some frames could not be decoded.
        InputError: An argument is out of its range.
        MissingExtra: PyAV or SciPy is not installed.
    """
    return Watch(
        source,
        recognizer=recognizer,
        detector=detector,
        every_s=every_s,
        start_s=start_s,
        end_s=end_s,
        detect_every_s=detect_every_s,
        tracking=tracking,
    ).frames()
