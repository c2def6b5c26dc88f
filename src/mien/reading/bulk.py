"""Many photos: each is read, and none that fails stops the others."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from mien.errors import FileError, MienError
from mien.reading.images import find_images, is_ours, open_image
from mien.reading.recognizer import Recognizer
from mien.reading.tables import Photo
from mien.storage import real_path


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be read, and why."""

    source: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.source in self.reason else f"{self.source}: {self.reason}"


def find_photos(
    paths: Iterable[str | PathLike[str]], *, skip: Iterable[str | PathLike[str]] = ()
) -> list[Path | Failure]:
    """The files that paths, folders and patterns stand for, in the order given (see `images.find_images`).

    Args:
        paths: As there.
        skip: Folders for what is made of the photos: where one is or lies in a folder that is searched, what mien
            itself wrote there is left out.

    Returns:
        Files, and a failure in the place of a folder that holds no images or cannot be listed, or of a pattern
        without a match.
    """
    found: list[Path | Failure] = []
    for path in paths:
        images: list[Path] = []
        refused: list[MienError] = []
        try:
            images = find_images([path], refused=refused.append)
        except MienError as error:  # where nothing could be listed, that says it all
            refused = refused or [error]
        below = [place for place in map(real_path, skip) if _searched(path) in (place, *place.parents)]
        if below:
            photos = [one for one in images if not (any(map(real_path(one).is_relative_to, below)) and is_ours(one))]
            if images and not photos:
                refused.append(FileError(f"there are no photos in {path}: what is there was drawn by mien"))
            images = photos
        found += [*(Failure(str(path), str(error)) for error in refused), *images]
    return found


def _searched(path: str | PathLike[str]) -> Path | None:
    """The folder that is searched for images: the path itself, or what comes before the first sign of a pattern."""
    if os.path.isfile(path):
        return None
    fixed = list(takewhile(lambda part: not glob.has_magic(part) or os.path.isdir(path), Path(path).parts))
    return real_path(Path(*fixed))


def read_photos(
    found: Iterable[Path | Failure],
    recognizer: Recognizer,
    *,
    keep: Callable[[Photo, UInt8[np.ndarray, "H W 3"]], None] | None = None,
) -> Iterator[Photo | Failure]:
    """Read photos one after the other, in the order given.

    Args:
        found: Image files, and failures, which are passed on.
        recognizer: What reads them.
        keep: Called with each photo and its pixels while they are at hand: to draw on them, say.

    Yields:
        A photo, or a failure in its place; a failure after its photo where `keep` raised an error of ours.
    """
    for path in found:
        if isinstance(path, Failure):
            yield path
            continue
        try:
            image = open_image(path)
            height, width = image.shape[:2]
            photo = Photo(str(path), width, height, recognizer.name, recognizer.read_image(image))
        except MienError as error:
            yield Failure(str(path), str(error))
            continue
        yield photo
        if keep is not None:
            try:
                keep(photo, image)
            except MienError as error:  # the reading itself is not lost
                yield Failure(str(path), str(error))
