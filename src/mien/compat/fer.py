"""Stands in for fer 25.10.3: `from mien.compat.fer import FER, Video`.

Source of the interface: https://github.com/JustinShenk/fer (MIT).
"""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from mien.compat.fer_video import Video as Video
from mien.errors import InputError

if TYPE_CHECKING:
    from mien.reading.recognizer import Reading

_BORDER = 40  # pixels


class FER:
    """Finds faces and tells their expressions, by the names and shapes of `fer.FER`.

    Args:
        cascade_file: Only None: there is no Haar cascade.
        mtcnn: As in fer, `min_face_size` is not looked at where it is True. The detector is CenterFace either way.
        tfserving: Only False.
        use_tflite: Either; there is one network.
        scale_factor: Only 1.1: it tunes the cascade.
        min_face_size: Faces are dropped whose box has a longer side below this, in pixels.
        min_neighbors: Only 5: it tunes the cascade.
        offsets: Only (10, 10): faces are framed as the network learned them.

    Raises:
        InputError: An argument that cannot be honoured.
    """

    def __init__(
        self,
        cascade_file: str | None = None,
        mtcnn: bool = False,
        tfserving: bool = False,
        use_tflite: bool = True,
        scale_factor: float = 1.1,
        min_face_size: int = 50,
        min_neighbors: int = 5,
        offsets: Sequence[int] = (10, 10),
    ) -> None:
        from mien.compat.sources import keep_default

        keep_default(
            "FER",
            cascade_file=(cascade_file, None),
            tfserving=(tfserving, False),
            scale_factor=(scale_factor, 1.1),
            min_neighbors=(min_neighbors, 5),
            offsets=(tuple(offsets) if isinstance(offsets, Iterable) else offsets, (10, 10)),
        )
        if not isinstance(min_face_size, Real) or not min_face_size >= 1:
            raise InputError(f"min_face_size should be 1 pixel or more, but is {min_face_size!r}")
        self.use_tflite, self.tfserving = use_tflite, tfserving
        self._smallest: float = 0 if mtcnn else min_face_size

    def detect_emotions(self, img: Any, face_rectangles: Any = None) -> list[dict[str, Any]]:
        """The faces of an image, the largest first, each as {"box": [x, y, w, h], "emotions": {"angry": 0.02, ...}}.

        Args:
            img: As `mien.compat.sources.open_source` takes it: a BGR or grey array, a path, a data URI.
            face_rectangles: Read these boxes (x, y, w, h) instead, in their order; one outside the image is left out.

        Returns:
            Boxes in whole pixels inside the image, probabilities to two decimals.

        Raises:
            FileError, Damaged, InputError: As `open_source`; or a rectangle is none.
        """
        from mien.compat.sources import open_source

        image = open_source(img)
        if face_rectangles is None:
            self.emotions, _ = self.read_frame(image)
        else:
            faces = [_rectangle(image, _checked(each)) for each in face_rectangles]
            self.emotions = [face for face in faces if face is not None]
        return self.emotions

    def batch_detect_emotions(self, imgs: Iterable[Any]) -> list[list[dict[str, Any]]]:
        """`detect_emotions` of each image."""
        return [self.detect_emotions(img) for img in imgs]

    def top_emotion(self, img: Any) -> tuple[str, float] | tuple[None, None]:
        """The most probable expression of the largest face and its probability; (None, None) without a face."""
        faces = self.detect_emotions(img)
        if not faces:
            return None, None
        emotions: dict[str, float] = faces[0]["emotions"]
        best = max(emotions, key=emotions.__getitem__)
        return best, emotions[best]

    def find_faces(self, img: Any, bgr: bool = True, gray_img: Any = None) -> list[list[int]]:
        """The boxes [x, y, w, h] of an image, the largest first.

        Args:
            img: As in `detect_emotions`.
            bgr: Either; an array says by its shape whether it is grey.
            gray_img: Look at this one instead.
        """
        from mien.compat.sources import open_source, recognizer, whole_box

        image = open_source(img if gray_img is None else gray_img)
        boxes = [whole_box(face, image.shape[1], image.shape[0]) for face in recognizer().detector.find(image)]
        return [list(box) for box in boxes if max(box[2:]) >= self._smallest]

    def read_frame(self, image: Any) -> "tuple[list[dict[str, Any]], list[Reading]]":
        """The faces of RGB pixels as `detect_emotions` gives them, and as mien's own readings."""
        from mien.compat.sources import recognizer, whole_box

        height, width = image.shape[:2]
        found = [(whole_box(reading.face, width, height), reading) for reading in recognizer().read_image(image)]
        found = [(box, reading) for box, reading in found if max(box[2:]) >= self._smallest]
        return [_face(box, reading.probabilities) for box, reading in found], [reading for _, reading in found]


def _face(box: Sequence[int], probabilities: Mapping[Any, float]) -> dict[str, Any]:
    return {"box": list(box), "emotions": {str(e): round(p, 2) for e, p in probabilities.items()}}


def _checked(rectangle: Any) -> tuple[int, int, int, int]:
    try:
        x, y, w, h = (int(v) for v in rectangle)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"expected a face rectangle (x, y, w, h) of four numbers, but got {rectangle!r}") from error
    if w < 1 or h < 1:
        raise InputError(f"a face rectangle should be 1 pixel or more wide and high, but {rectangle!r} is {w} x {h}")
    return x, y, w, h


def _rectangle(image: Any, rectangle: tuple[int, int, int, int]) -> dict[str, Any] | None:
    """One face where the caller says it is: a square around the rectangle, ten pixels wider on each side.

    At the edge of the image it goes on into a border of one grey, 40 pixels wide, as in fer.
    """
    import cv2

    from mien.compat.sources import read_crop

    x, y, w, h = rectangle
    if x >= image.shape[1] or y >= image.shape[0] or x + w <= 0 or y + h <= 0:
        return None
    grey = [float(image[-2:].mean())] * 3
    padded = cv2.copyMakeBorder(image, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_CONSTANT, value=grey)
    side = max(w, h) + 20
    left, top = x + w // 2 - side // 2 + _BORDER, y + h // 2 - side // 2 + _BORDER
    return _face(rectangle, read_crop(padded[max(top, 0) : top + side, max(left, 0) : left + side]))
