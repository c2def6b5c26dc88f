"""Stands in for rmn 3.3.0: `from mien.compat.rmn import RMN`.

Source of the interface: https://github.com/phamquiluan/ResidualMaskingNetwork (MIT).
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from mien.errors import InputError

if TYPE_CHECKING:
    from mien.reading.faces import Face

_MARGIN = 1.1  # side of a box / mean side of the face


class RMN:
    """Finds faces and tells their expressions, by the names and shapes of `rmn.RMN`.

    Args:
        face_detector: If False, only single face images are read.
    """

    def __init__(self, face_detector: bool = True) -> None:
        self._detects = face_detector

    def detect_emotion_for_single_frame(self, frame: Any) -> list[dict[str, Any]]:
        """The faces of a frame, the largest first.

        Args:
            frame: A uint8 array, BGR or grey.

        Returns:
            A face each: {"xmin", "ymin", "xmax", "ymax": whole pixels, "emo_label": "happy", "emo_proba": 0.98,
            "proba_list": [{"angry": 0.01}, ...]}.

        Raises:
            InputError: No such array, or there is no detector.
        """
        from mien.compat.sources import recognizer

        image = self._open(frame)
        return [
            _square(reading.face)
            | dict(zip(("emo_label", "emo_proba", "proba_list"), _answer(reading.probabilities), strict=True))
            for reading in recognizer().read_image(image)
        ]

    def detect_emotion_for_single_face_image(self, face_image: Any) -> tuple[str, float, list[dict[str, float]]]:
        """The most probable expression of an image that one face fills, its probability, and those of all seven.

        Args:
            face_image: A uint8 array, BGR or grey.
        """
        from mien.compat.sources import open_source, read_crop

        return _answer(read_crop(open_source(face_image)))

    def detect_faces(self, frame: Any) -> list[dict[str, int]]:
        """A square around each face of a frame, the largest first: {"xmin", "ymin", "xmax", "ymax"}."""
        from mien.compat.sources import recognizer

        return [_square(face) for face in recognizer().detector.find(self._open(frame))]

    @staticmethod
    def draw(frame: Any, results: Sequence[dict[str, Any]]) -> Any:
        """Draw what was read into a BGR frame.

        Args:
            frame: A uint8 array (H, W, 3); it is changed.
            results: As `detect_emotion_for_single_frame` gives them.

        Returns:
            The same array.

        Raises:
            InputError: No such array, or one that may not be changed.
        """
        from mien.compat.sources import open_source
        from mien.reading.draw import draw

        shape: tuple[int, ...] = getattr(frame, "shape", ())
        if len(shape) != 3 or shape[2] != 3 or not frame.flags.writeable:
            raise InputError(
                "RMN.draw draws into the frame, so it should be a BGR array (H, W, 3) that may be written to, as "
                f"frame.copy() is, but is {type(frame).__name__} {shape}"
            )
        frame[...] = draw(open_source(frame), [_reading(each) for each in results])[..., ::-1]
        return frame

    def video_demo(self) -> None:
        """A live window on the first camera, mirrored, until Q, Escape or closing it. Needs the `video` extra.

        Raises:
            FileError: There is no camera.
            InputError: There is no display.
        """
        from mien.reading.clip import Window
        from mien.reading.video import Camera

        with closing(Camera(0)) as camera, closing(Window("mien: press q to exit")) as window:
            for picture in camera.frames():
                frame = picture.rgb()[:, ::-1, ::-1].copy()
                self.draw(frame, self.detect_emotion_for_single_frame(frame))
                if not window.show(frame[..., ::-1], picture.time_s):
                    break

    def _open(self, frame: Any) -> Any:
        from mien.compat.sources import open_source

        if not self._detects:
            raise InputError("RMN(face_detector=False) finds no faces; leave the argument out")
        return open_source(frame)


def _square(face: "Face") -> dict[str, int]:
    """A square around a face, not less than 0; as in rmn it may reach beyond the image at the right and below."""
    x, y, w, h = face.box
    reach = _MARGIN * (w + h) / 4
    middle_x, middle_y = x + w / 2, y + h / 2
    return {
        "xmin": max(0, round(middle_x - reach)),
        "ymin": max(0, round(middle_y - reach)),
        "xmax": round(middle_x + reach),
        "ymax": round(middle_y + reach),
    }


def _answer(probabilities: Mapping[Any, float]) -> tuple[str, float, list[dict[str, float]]]:
    best = max(probabilities, key=probabilities.__getitem__)
    return str(best), probabilities[best], [{str(expression): p} for expression, p in probabilities.items()]


def _reading(result: dict[str, Any]) -> Any:
    """A result as `draw` takes it."""
    from mien.expressions import Expression
    from mien.reading.faces import Face
    from mien.reading.recognizer import Reading

    x, y = result["xmin"], result["ymin"]
    shares = result.get("proba_list") or [{result["emo_label"]: result["emo_proba"]}]
    return Reading(
        face=Face((x, y, result["xmax"] - x, result["ymax"] - y), 1.0, ()),
        expression=Expression(result["emo_label"]),
        confidence=result["emo_proba"],
        uncertain=False,
        probabilities={Expression(name): p for share in shares for name, p in share.items()},
    )
