"""Data sets of labelled faces: a csv, a folder of images or .npy arrays -> `FaceSet`.

It reads pixels and labels as they are, and knows nothing of networks, scores or augmentation.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from os import PathLike
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import BinaryIO

import numpy as np

from mien.errors import Damaged, FileError, InputError, MienError, NotFound
from mien.expressions import EXPRESSIONS, parse
from mien.measuring import cache as store
from mien.measuring.faceset import FaceSet
from mien.measuring.fer_csv import SIDE, SPLIT_WORDS, SPLITS, read_faces, read_votes, reading
from mien.measuring.ferplus import most_voted
from mien.measuring.npy import array_pairs, read_arrays
from mien.reading.images import FORMATS, UNREAD, grey, open_image, resize
from mien.storage import need_file, suffix_of

_LARGEST_AREA = 16_000_000  # pixels of a picture in a folder: one is decoded by each thread, and all are faces
_LARGEST_PICTURE = 100_000_000  # bytes
_AT_ONCE = 4096  # images that wait for their turn
_LISTED = 5  # damaged rows that a message names
_ENOUGH = 500  # labels, before their agreement with votes is judged
_ALIKE = 0.4  # what most voters say is the label of 62 % of FER2013's rows, and of 18 % with the votes shuffled


def load(
    path: str | PathLike[str],
    *,
    ferplus: str | PathLike[str] | None = None,
    skip_bad: bool = False,
    cache: bool = True,
) -> FaceSet:
    """Read a data set, whatever common form it has.

    - A csv with `pixels` and maybe `emotion` and `Usage`, in any order: `fer2013.csv`, `icml_face_data.csv`,
      `train.csv` (no Usage: all Training), `test.csv` (pixels alone: unlabelled, split "test").
    - A folder of class-named folders of images (`mien.reading.images.FORMATS`), as `train/angry/1.jpg`. A file name
      that begins with `Training_`, `PublicTest_` or `PrivateTest_` names its split; else the nearest folder called
      train, test, validation and the like does; else it is Training. Colour is made grey, and another size is resized
      to 48 x 48 whatever its shape. Row numbers follow the sorted paths.
    - A folder that `save_npy` wrote, or one like it: `X.npy` and `y.npy`, `X_test.npy` and `y_test.npy` (the
      name tells the split) and so on; or the path of one such image array. Images are (N, 48, 48), with an axis
      of one before or after, or (N, 2304), of whole numbers in [0, 255] or those divided by 255; labels are whole
      numbers or one-hot.

    Args:
        path: The csv, folder or .npy file.
        ferplus: `fer2013new.csv`, whose rows match those of the csv.
        skip_bad: Leave damaged rows or images out and list them in `FaceSet.faults`, instead of stopping there.
        cache: Keep a csv that is whole in `mien.measuring.cache.cache_folder()`, and take it from there the next time.

    Raises:
        FileError: Something is missing or may not be read, or changed while it was read.
        Damaged: A row or image is not what it should be (each is named with its line and reason), or one in a folder
            cannot be read; none is left; or the FER+ votes belong to another file. Votes that may be in another order
            are told in the notes.
        InputError: FER+ votes were given for something other than a csv.
    """
    path = Path(path)
    files = [path] if ferplus is None else [path, Path(ferplus)]
    identity = store.identify(files)
    if path.is_dir() or suffix_of(path) == ".npy":
        if ferplus is not None:
            raise InputError(f"FER+ votes belong to the rows of a csv, but {path} is none; leave them out")
        arrays = array_pairs(path)
        return read_arrays(path, arrays) if arrays else _read_folder(path, skip_bad)
    checksum = store.known_checksum(files, identity) if cache else store.sha256_of(files)
    faces = store.recall(checksum, files) if cache else None
    if faces is None:
        faces = _read_csv(files, checksum, skip_bad)
        if identity != store.identify(files):
            raise FileError(f"{faces.source} changed while it was read; load it again")
        if cache and not faces.faults:  # else a later call without skip_bad would find nothing to complain of
            store.keep(faces, files)
    return replace(faces, notes=_doubts(faces))


def _doubts(faces: FaceSet) -> tuple[str, ...]:
    """A remark where votes seem to be those of other rows; Usage alone does not tell the order within a split."""
    if faces.votes is None:
        return ()
    asked = (faces.labels >= 0) & faces.votes.any(1)
    agreed = most_voted(faces.votes[asked]) == faces.labels[asked]
    if len(agreed) < _ENOUGH or (share := agreed.mean()) >= _ALIKE:
        return ()
    return (
        f"**FER+ votes agree with {share:.0%} of the labels alone**, on FER2013 with 62%: they may be in another order "
        f"than the rows of {faces.name}.",
    )


def _settle(source: str, faults: Iterable[str], left: int, skip_bad: bool) -> tuple[str, ...]:
    """The faults, where damage is to be skipped and something is left; else the error that lists them."""
    faults = tuple(faults)
    listed = "".join(f"\n  {fault}" for fault in faults[:_LISTED])
    listed += f"\n  ... and {len(faults) - _LISTED:,} more" if len(faults) > _LISTED else ""
    if faults and not skip_bad:
        count = f"{len(faults):,} damaged row{'s' if len(faults) > 1 else ''}"
        raise Damaged(f"{count} in {source}; to leave out what is damaged: skip_bad=True, --skip-bad{listed}")
    if not left:
        raise Damaged(f"there is no sound face in {source}{listed}")
    return faults


# The csv


def _read_csv(files: list[Path], checksum: str, skip_bad: bool) -> FaceSet:
    """The faces of a csv, with the votes of a FER+ csv where a second file is given."""
    source = store.source_of(files)
    table = read_faces(files[0])
    votes, faults, sound = None, table.faults, np.ones(len(table.rows), bool)
    if len(files) > 1:
        ferplus = read_votes(files[1], table.total + 1)
        apart = f"{files[1]} does not belong to {files[0]}"
        if len(ferplus.votes) != table.total:
            count = len(ferplus.votes)
            came = f"over {table.total:,}" if count > table.total else f"{count:,}"
            raise Damaged(f"{apart}: it has {came} rows, expected {table.total:,}")
        votes, usages = ferplus.votes[table.rows], ferplus.usages[table.rows]
        sound = ~np.isin(table.rows, list(ferplus.faults))
        if table.has_usage and (differ := (usages != table.splits) & sound).any():
            k = int(differ.argmax())
            raise Damaged(f"{apart}: Usage of row {table.rows[k]} is {usages[k]}, expected {table.splits[k]}")
        faults = ferplus.faults | faults
    dropped = _settle(source, (faults[row] for row in sorted(faults)), int(sound.sum()), skip_bad)
    faces = FaceSet(table.images, table.labels, table.splits, table.rows, votes, checksum, source, dropped)
    return faces if sound.all() else faces.take(sound)


# The folder of images


def _read_folder(root: Path, skip_bad: bool) -> FaceSet:
    """The images of class-named folders, in the order of their paths; they lie in a nameless temporary file."""
    digest = sha256()
    labels, splits, rows, faults = [], [], [], []
    with _kept_aside() as kept:
        for row, (file, (content, image)) in enumerate(_read_pictures(_pictures(root))):
            digest.update(file.relative_to(root).as_posix().encode(errors="surrogateescape") + b"\0" + content)
            try:
                label = EXPRESSIONS.index(parse(os.path.basename(os.path.dirname(os.path.abspath(file)))))
            except NotFound as error:
                image = f"its folder should name an expression: {error}"
            if isinstance(image, str):
                faults.append(f"{file}: {image}")
                continue
            kept.write(image.tobytes())
            labels.append(label)
            splits.append(_split_of(file, root))
            rows.append(row)
        kept.flush()
        dropped = _settle(str(root), faults, len(labels), skip_bad)
        images = np.asarray(np.memmap(kept, np.uint8, "c")).reshape(-1, SIDE, SIDE)
    arrays = images, np.array(labels, np.int8), np.array(splits, np.str_), np.array(rows, np.int64)
    return FaceSet(*arrays, None, digest.hexdigest(), str(root), dropped)


@contextmanager
def _kept_aside() -> Iterator[BinaryIO]:
    """A nameless temporary file, whose errors say where it lies."""
    try:
        with TemporaryFile(prefix="mien-") as file:
            yield file
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"cannot keep images in {gettempdir()}: {error.strerror}; set TMPDIR to a folder") from error


def _pictures(root: Path) -> list[Path]:
    """The image files below a folder, sorted; hidden ones, as `._1.jpg` from a Mac, and hidden folders are left out."""

    def stop(error: OSError) -> None:
        with reading(error.filename):
            raise error

    files = []
    for folder, inside, names in os.walk(root, onerror=stop, followlinks=True) if root.is_dir() else ():
        if os.path.islink(folder) and any(above.samefile(folder) for above in Path(folder).parents):
            inside.clear()  # a link to what it lies in has no end
        else:
            inside[:] = [name for name in inside if not name.startswith(".")]
            files += [Path(folder, name) for name in names]
    visible = (file for file in files if not file.name.startswith("."))
    pictures = sorted(file for file in visible if suffix_of(file) in (*FORMATS, *UNREAD))
    if not pictures:
        raise FileError(
            f"there is no data set in {root}: expected images in folders named after expressions, "
            "as train/angry/1.jpg, or a pair of arrays, as images.npy and labels.npy"
        )
    return pictures


def _read_pictures(files: list[Path]) -> Iterator[tuple[Path, tuple[bytes, np.ndarray | str]]]:
    """Each file and what `_read_picture` says of it, in their order."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), _AT_ONCE):
            block = files[start : start + _AT_ONCE]
            yield from zip(block, pool.map(_read_picture, block), strict=True)


def _read_picture(file: Path) -> tuple[bytes, np.ndarray | str]:
    """The checksum of an image file, and its face, uint8 (48, 48), or what is wrong with it."""
    try:
        need_file(file)
        if (size := file.stat().st_size) > _LARGEST_PICTURE:
            return sha256(str(size).encode()).digest(), f"{size:,} bytes, at most {_LARGEST_PICTURE:,} are read"
        content = file.read_bytes()
    except OSError as error:
        reason = str(error) if isinstance(error, FileError) else f"cannot be read: {error.strerror}"
        return sha256(b"cannot be read").digest(), reason
    checksum = sha256(content).digest()
    if not content:
        return checksum, "the file is empty"
    try:
        image = open_image(content, max_pixels=_LARGEST_AREA)
    except MienError as error:
        return checksum, str(error).removeprefix("the data ")
    return checksum, grey(image if image.shape[:2] == (SIDE, SIDE) else resize(image, SIDE, SIDE))


def _split_of(file: Path, root: Path) -> str:
    """The split that an image's name or the nearest folder above its class folder means."""
    prefix = file.name.partition("_")[0]
    if prefix in SPLITS:
        return prefix
    above = (os.path.basename(os.path.abspath(root)), *file.relative_to(root).parts[:-2])
    named = (SPLIT_WORDS[name.lower()] for name in reversed(above) if name.lower() in SPLIT_WORDS)
    return next(named, SPLITS[0])
