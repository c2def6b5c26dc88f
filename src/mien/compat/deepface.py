"""Stands in for the emotions of deepface: `from mien.compat.deepface import DeepFace`.

Source of the interface: https://github.com/serengil/deepface (MIT), 0.0.100.
"""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from mien.errors import InputError

ACTIONS = ("emotion", "age", "gender", "race")
DETECTORS = (
    *("opencv", "ssd", "dlib", "mtcnn", "fastmtcnn", "retinaface", "mediapipe", "yunet", "centerface", "skip"),
    *("yolov8", "yolov8n", "yolov8m", "yolov8l", "yolov11n", "yolov11s", "yolov11m", "yolov11l"),
    *("yolov12n", "yolov12s", "yolov12m", "yolov12l"),
)
"""Names that deepface knows. All of them stand for CenterFace here, but "skip": the whole image is one face."""


class _DeepFace:
    """What deepface is as a module; `DeepFace` below is the only one."""

    @staticmethod
    def analyze(
        img_path: Any,
        actions: str | Sequence[str] = ACTIONS,
        enforce_detection: bool = True,
        detector_backend: str = "opencv",
        align: bool = True,
        expand_percentage: int = 0,
        silent: bool = False,
        anti_spoofing: bool = False,
    ) -> list[Any]:
        """The expressions of each face, in percent, by the names and shapes of `DeepFace.analyze`.

        Args:
            img_path: As `mien.compat.sources.open_source` takes it: a BGR array, a path, a data URI, a binary file;
                or several: a list, or an array (B, H, W, 3).
            actions: "emotion" must be among them. A warning says that the others of `ACTIONS` are left out.
            enforce_detection: Without a face, an error; if False, the whole image is taken as one face, of
                face_confidence 0.
            detector_backend: One of `DETECTORS`.
            align: Either; faces are framed as the network learned them.
            expand_percentage: Only 0.
            silent: Either; nothing is printed.
            anti_spoofing: Only False.

        Returns:
            A face each, the largest first: {"emotion": {"angry": 0.6, ...}, "dominant_emotion": "happy", "region":
            {"x", "y", "w", "h", "left_eye", "right_eye"}, "face_confidence": 0.91}. Percentages sum to 100; the
            region is in whole pixels, its eyes are the person's own left and right. For several images a list each.

        Raises:
            InputError: There is no face, or an argument cannot be honoured.
            FileError, Damaged: As `open_source`.
        """
        from mien.compat.sources import keep_default

        keep_default(
            "DeepFace.analyze", expand_percentage=(expand_percentage, 0), anti_spoofing=(anti_spoofing, False)
        )
        _check(actions, detector_backend)
        several = isinstance(img_path, list | tuple) or getattr(img_path, "ndim", 0) == 4
        found = [
            _analyze(each, enforce_detection, skip=detector_backend == "skip")
            for each in (img_path if several else [img_path])
        ]
        return found if several else found[0]

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"mien has no DeepFace.{name}: it reads expressions, and tells no persons, ages or sexes; only "
            "DeepFace.analyze stands in"
        )


DeepFace = _DeepFace()


def _check(actions: str | Sequence[str], detector: str) -> None:
    several = isinstance(actions, Iterable) and not isinstance(actions, str)
    asked: list[Any] = list(actions) if several else [actions]
    if unknown := [action for action in asked if action not in ACTIONS]:
        raise InputError(f"expected actions among {', '.join(ACTIONS)}, but got {unknown[0]!r}")
    if "emotion" not in asked:
        raise InputError(f"mien tells expressions alone, but was asked for {asked}; pass actions=['emotion']")
    if others := [action for action in asked if action != "emotion"]:
        warnings.warn(
            f"mien tells expressions alone: {', '.join(others)} will be missing from the results; pass "
            "actions=['emotion']",
            stacklevel=3,
        )
    if detector not in DETECTORS:
        raise InputError(f"expected a detector_backend among {', '.join(DETECTORS)}, but got {detector!r}")


def _analyze(source: Any, enforce: bool, *, skip: bool) -> list[dict[str, Any]]:
    from mien.compat.sources import open_source, read_crop, recognizer, whole_box

    image = open_source(source)
    height, width = image.shape[:2]
    readings = [] if skip else recognizer().read_image(image)
    if not readings and enforce and not skip:
        named = isinstance(source, str | os.PathLike) and len(os.fspath(source)) < 260
        name = os.fspath(source) if named else type(source).__name__
        raise InputError(
            f"Face could not be detected in {name}; pass enforce_detection=False to have the whole image taken as one"
        )
    if not readings:
        region = {"x": 0, "y": 0, "w": width, "h": height, "left_eye": None, "right_eye": None}
        return [_face(read_crop(image), region, 0.0)]
    faces = []
    for reading in readings:
        box = dict(zip("xywh", whole_box(reading.face, width, height), strict=True))
        right, left = (tuple(round(v) for v in eye) for eye in reading.face.landmarks[:2])
        region = box | {"left_eye": left, "right_eye": right}
        faces.append(_face(reading.probabilities, region, reading.face.score))
    return faces


def _face(probabilities: Mapping[Any, float], region: dict[str, Any], score: float) -> dict[str, Any]:
    return {
        "emotion": {str(expression): 100 * p for expression, p in probabilities.items()},
        "dominant_emotion": str(max(probabilities, key=probabilities.__getitem__)),
        "region": region,
        "face_confidence": round(score, 2),
    }
