"""Many photos: each is read, and none that fails stops the others."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mien.errors import MienError
from mien.reading.images import open_image
from mien.reading.recognizer import Recognizer
from mien.reading.tables import Photo


@dataclass(frozen=True, slots=True)
class Failure:
    """A photo that could not be read, and why."""

    source: str
    reason: str


def read_photos(
    paths: Iterable[Path], recognizer: Recognizer, *, keep: Callable[[Photo, object], None] | None = None
) -> Iterator[Photo | Failure]:
    """Read photos one after the other, in the order given.

    Args:
        paths: Image files, as `mien.reading.images.find_images` lists them.
        recognizer: What reads them.
        keep: Called with each photo and its pixels, uint8 (H, W, 3), while they are at hand: to draw on them, say.

    Yields:
        A photo, or a failure in its place.
    """
    for path in paths:
        try:
            image = open_image(path)
            height, width = image.shape[:2]
            photo = Photo(str(path), width, height, recognizer.name, recognizer.read_image(image))
            if keep is not None:
                keep(photo, image)
        except MienError as error:
            yield Failure(str(path), str(error))
        else:
            yield photo
