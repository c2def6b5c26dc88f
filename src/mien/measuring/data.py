"""Data sets of labelled faces: a csv, a folder of images or .npy arrays <-> `FaceSet`.

It reads pixels and labels as they are, and knows nothing of networks, scores or augmentation.
"""

import json
import os
import re
import time
import warnings
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from os import PathLike
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Int8, Int64, UInt8

from mien.errors import Damaged, FileError, InputError, NotFound
from mien.expressions import EXPRESSIONS, FERPLUS, parse
from mien.measuring.fer_csv import SIDE, SPLITS, UNMARKED, read_faces, read_votes, reading
from mien.storage import write_whole

__all__ = ["SPLITS", "UNMARKED", "FaceSet", "cache_folder", "load", "save_npy"]

_PICTURES = {".jpg", ".jpeg", ".png", ".bmp"}
_FOLDERS = {"train": SPLITS[0], "training": SPLITS[0], "publictest": SPLITS[1], "privatetest": SPLITS[2]}
_FOLDERS |= {"test": UNMARKED, "val": "validation", "valid": "validation", "validation": "validation"}
_PAIRS = [("images", "labels"), ("image", "label"), ("pixels", "emotions"), ("dataX", "labels")]
_PAIRS += [("X", "y"), ("X", "Y"), ("x", "y")]
_YOUNG = 2e9  # ns; a file may change again within one tick of a coarse file system clock and show the same time
# Bytes hashed at once. As a side effect, once such a piece was freed, glibc no longer hands the memory of each batch
# of rows back to the system, which would make the first parse half as fast.
_CHUNK = 1 << 20
_LISTED = 5  # damaged rows that a message names
_HEADER = 512  # bytes before the arrays in a cache entry


@dataclass(frozen=True, slots=True, eq=False)
class FaceSet:
    """Faces with their labels, and where they come from.

    Attributes:
        images: Grey, in [0, 255].
        labels: FER2013's order, the one of `EXPRESSIONS`; -1 for an unlabelled face.
        splits: Unicode (N,), the split each row belongs to.
        rows: Row number in the source, from 0; `take` and `split` keep it.
        votes: FER+ votes in the order of `FERPLUS`, where they were given.
        checksum: SHA-256 of the source; of several files, that of one after the other (`cat a b | sha256sum`).
        source: What it was read from.
        faults: File, line and reason of each row that was dropped because it is damaged.

    Raises:
        InputError: The arrays do not belong together.
    """

    images: UInt8[np.ndarray, "N 48 48"]
    labels: Int8[np.ndarray, "N"]
    splits: np.ndarray
    rows: Int64[np.ndarray, "N"]
    votes: UInt8[np.ndarray, "N 10"] | None
    checksum: str
    source: str
    faults: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if misfit := _misfit(self.images, self.labels, self.splits, self.rows, self.votes):
            raise InputError(misfit)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def dropped(self) -> int:
        """How many rows of the source are damaged and not in here."""
        return len(self.faults)

    @property
    def sizes(self) -> dict[str, int]:
        """How many rows each split has, in order of first appearance."""
        names, first, counts = np.unique(self.splits, return_index=True, return_counts=True)
        return {str(names[k]): int(counts[k]) for k in np.argsort(first)}

    def take(self, where: np.ndarray | Sequence[int]) -> "FaceSet":
        """The rows at a boolean mask (N,) or at indices, in their order; arrays are copied."""
        chosen = np.asarray(where)
        if chosen.size == 0:
            chosen = chosen.astype(np.int64)  # numpy takes an empty list for numbers with a fraction
        return replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            splits=self.splits[chosen],
            rows=self.rows[chosen],
            votes=None if self.votes is None else self.votes[chosen],
        )

    def split(self, name: str) -> "FaceSet":
        """The rows of one split.

        Raises:
            NotFound: There is none of that name; the message counts those there are.
        """
        where = self.splits == name
        if not where.any():
            there = ", ".join(f"{split} ({count:,} rows)" for split, count in self.sizes.items())
            raise NotFound(f"there is no split {name!r} in {self.source}; it has {there or 'no rows'}")
        return self.take(where)

    def twins_in(self, other: "FaceSet") -> Bool[np.ndarray, "N"]:
        """Which rows have all their pixels equal to those of some row of another set."""
        known = {image.tobytes() for image in other.images}
        return np.fromiter((image.tobytes() in known for image in self.images), bool, len(self))


def _misfit(images: Any, labels: Any, splits: Any, rows: Any, votes: Any) -> str:
    """Which array does not belong with the others in a FaceSet, in words; nothing where all do."""
    count = len(images)
    expected = {
        "images": (images, "uint8", (count, SIDE, SIDE)),
        "labels": (labels, "int8", (count,)),
        "splits": (splits, "str", (count,)),
        "rows": (rows, "int64", (count,)),
        "votes": (votes, "uint8", (count, len(FERPLUS))),
    }
    for name, (array, kind, shape) in expected.items():
        if array is not None and not (array.shape == shape and array.dtype.name.startswith(kind)):
            return f"expected {name} {kind} {shape}, but got {array.dtype} {array.shape}"
    return ""


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
    - A folder of class-named folders of JPEG, PNG or BMP images, as `train/angry/1.jpg`. A file name that begins
      with `Training_`, `PublicTest_` or `PrivateTest_` names its split; else the nearest folder called train,
      test, validation and the like does; else it is Training. Colour is made grey, and another size is resized
      to 48 x 48 whatever its shape. Row numbers follow the sorted paths.
    - A folder that `save_npy` wrote, or one like it: `X.npy` and `y.npy`, `X_test.npy` and `y_test.npy` (the
      name tells the split) and so on; or the path of one such image array. Images are (N, 48, 48), with an axis
      of one before or after, or (N, 2304), of whole numbers in [0, 255] or those divided by 255; labels are whole
      numbers or one-hot.

    Args:
        path: The csv, folder or .npy file.
        ferplus: `fer2013new.csv`, whose rows match those of the csv.
        skip_bad: Leave damaged rows or images out and list them in `FaceSet.faults`, instead of stopping there.
        cache: Keep a csv that is whole in `cache_folder()`, and take it from there the next time.

    Raises:
        FileError: Something is missing or may not be read, or changed while it was read.
        Damaged: A row or image is not what it should be (each is named with its line and reason), none is left,
            or the FER+ votes belong to another file.
        InputError: FER+ votes were given for something other than a csv.
    """
    path = Path(path)
    files = [path] if ferplus is None else [path, Path(ferplus)]
    identity = _identify(files)
    if path.is_dir() or path.suffix == ".npy":
        if ferplus is not None:
            raise InputError(f"FER+ votes belong to the rows of a csv, but {path} is none; leave them out")
        arrays = _array_pairs(path)
        return _read_arrays(path, arrays) if arrays else _read_folder(path, skip_bad)
    checksum = _known_checksum(files, identity) if cache else _checksum(files)
    faces = _recall(checksum, files) if cache else None
    if faces is None:
        faces = _read_csv(files, checksum, skip_bad)
        if identity != _identify(files):
            raise FileError(f"{faces.source} changed while it was read; load it again")
        if cache and not faces.faults:  # else a later call without skip_bad would find nothing to complain of
            _keep(faces, files)
    return faces


def save_npy(faces: FaceSet, folder: str | PathLike[str]) -> list[Path]:
    """Write images, labels, splits, rows and, where there are any, votes as .npy files that `load` reads back.

    All are written before the first takes its place; arrays of these names from before are replaced.

    Returns:
        The paths of the files.

    Raises:
        FileError: The folder cannot be written to; what stood there is unchanged.
    """
    folder = Path(folder)
    arrays = {"images": faces.images, "labels": faces.labels, "splits": faces.splits, "rows": faces.rows}
    if faces.votes is not None:
        arrays["votes"] = faces.votes
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=folder) as waiting:
            for name, array in arrays.items():
                np.save(Path(waiting, f"{name}.npy"), array, allow_pickle=False)
            for name in arrays:
                os.replace(Path(waiting, f"{name}.npy"), folder / f"{name}.npy")
        if faces.votes is None:
            (folder / "votes.npy").unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot write to {folder}: {error.strerror or error}") from error
    return [folder / f"{name}.npy" for name in arrays]


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


def _source(files: list[Path]) -> str:
    """The path of a csv, and the name of the FER+ csv that goes with it."""
    return " + ".join([str(files[0]), *(file.name for file in files[1:])])


def _read_csv(files: list[Path], checksum: str, skip_bad: bool) -> FaceSet:
    """The faces of a csv, with the votes of a FER+ csv where a second file is given."""
    source = _source(files)
    table = read_faces(files[0])
    votes, faults, sound = None, table.faults, np.ones(len(table.rows), bool)
    if len(files) > 1:
        ferplus = read_votes(files[1])
        apart = f"{files[1]} does not belong to {files[0]}"
        if len(ferplus.votes) != table.total:
            raise Damaged(f"{apart}: it has {len(ferplus.votes):,} rows, expected {table.total:,}")
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
    """The images of class-named folders, in the order of their paths."""
    files = _pictures(root)
    with ThreadPoolExecutor() as pool:
        read = list(pool.map(_read_picture, files))
    digest = sha256()
    images, labels, splits, rows, faults = [], [], [], [], []
    for row, (file, (content, image)) in enumerate(zip(files, read, strict=True)):
        digest.update(file.relative_to(root).as_posix().encode(errors="surrogateescape") + b"\0" + content)
        try:
            label = EXPRESSIONS.index(parse(file.absolute().parent.name))
        except NotFound as error:
            image = f"its folder should name an expression: {error}"
        if isinstance(image, str):
            faults.append(f"{file}: {image}")
            continue
        images.append(image)
        labels.append(label)
        splits.append(_split_of(file, root))
        rows.append(row)
    dropped = _settle(str(root), faults, len(images), skip_bad)
    arrays = np.stack(images), np.array(labels, np.int8), np.array(splits, np.str_), np.array(rows, np.int64)
    return FaceSet(*arrays, None, digest.hexdigest(), str(root), dropped)


def _pictures(root: Path) -> list[Path]:
    """The image files below a folder, sorted; hidden ones, as `._1.jpg` from a Mac, are none."""

    def stop(error: OSError) -> None:
        with reading(error.filename):
            raise error

    walk = os.walk(root, onerror=stop) if root.is_dir() else ()
    files = [Path(folder, name) for folder, _, names in walk for name in names]
    pictures = sorted(file for file in files if file.suffix.lower() in _PICTURES and not file.name.startswith("."))
    if not pictures:
        raise FileError(
            f"there is no data set in {root}: expected images in folders named after expressions, "
            "as train/angry/1.jpg, or a pair of arrays, as images.npy and labels.npy"
        )
    return pictures


def _read_picture(file: Path) -> tuple[bytes, np.ndarray | str]:
    """The checksum of an image file, and its face, uint8 (48, 48), or what is wrong with it."""
    with reading(file):
        content = file.read_bytes()
    checksum = sha256(content).digest()
    if not content:
        return checksum, "the file is empty"
    # OpenCV 4 fills what a truncated JPEG lacks with grey and says nothing: look for the end mark.
    cut = content.startswith(b"\xff\xd8") and b"\xff\xd9" not in content
    try:
        image = None if cut else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:  # a size beyond OpenCV's limits
        return checksum, f"cannot be decoded: {error.err}"
    if image is None:
        return checksum, "not a whole JPEG, PNG or BMP image"
    if image.shape != (SIDE, SIDE):
        shrinks = max(image.shape) > SIDE
        image = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return checksum, image


def _split_of(file: Path, root: Path) -> str:
    """The split that an image's name or the nearest folder above its class folder means."""
    prefix = file.name.partition("_")[0]
    if prefix in SPLITS:
        return prefix
    above = (root.absolute().name, *file.relative_to(root).parts[:-2])
    named = (_FOLDERS[name.lower()] for name in reversed(above) if name.lower() in _FOLDERS)
    return next(named, SPLITS[0])


# The arrays


def _array_pairs(path: Path) -> list[tuple[Path, Path, str]]:
    """Image array, label array and split of each pair in a folder, or of one image array."""
    folder = path if path.is_dir() else path.parent
    stems = {file.stem for file in folder.glob("*.npy")}
    ours = {"images", "labels"} <= stems
    pairs = []
    for stem in [path.stem] if folder != path else ["images"] if ours else sorted(stems):
        for images, labels in _PAIRS:
            other = stem.replace(images, labels, 1)
            if other != stem and other in stems:
                words = re.findall("[a-z]+", stem.replace(images, " ", 1).lower())
                split = next((_FOLDERS[word] for word in words if word in _FOLDERS), SPLITS[0])
                pairs.append((folder / f"{stem}.npy", folder / f"{other}.npy", split))
                break
    return pairs


def _read_arrays(path: Path, pairs: list[tuple[Path, Path, str]]) -> FaceSet:
    """The faces of pairs of arrays, one after the other; beside `images.npy` also splits, rows and votes."""
    files = [file for *pair, _ in pairs for file in pair]
    images = np.concatenate([_read_images(file) for file, _, _ in pairs])
    labels = np.concatenate([_read_labels(file) for _, file, _ in pairs])
    splits = np.concatenate([np.full(len(_open_array(file)), split) for file, _, split in pairs])
    beside: dict[str, Any] = {"splits": splits, "rows": np.arange(len(images)), "votes": None}
    for name in beside:
        file = pairs[0][0].with_name(f"{name}.npy")
        if pairs[0][0].stem == "images" and file.exists():
            files.append(file)
            beside[name] = np.array(_open_array(file))
    _settle(str(path), (), len(images), skip_bad=False)
    if misfit := _misfit(images, labels, **beside):
        raise Damaged(f"the arrays in {path} do not belong together: {misfit}")
    return FaceSet(images, labels, **beside, checksum=_checksum(files), source=str(path))


def _open_array(file: Path) -> np.ndarray:
    """A .npy file, not yet in memory."""
    try:
        with reading(file):
            array: np.ndarray = np.lib.format.open_memmap(file, mode="r")
    except ValueError as error:
        raise Damaged(f"{file} is not a whole array of numbers: {error}") from error
    if array.ndim == 0:
        raise Damaged(f"{file} holds one number, expected an array")
    return array


def _read_images(file: Path) -> UInt8[np.ndarray, "N 48 48"]:
    """An array of images in memory, scaled back to [0, 255] where that is exact."""
    array = _open_array(file)
    side = (SIDE, SIDE)
    if array.shape[1:] not in (side, (*side, 1), (1, *side), (SIDE * SIDE,)) or array.dtype.kind not in "uif":
        raise Damaged(f"{file}: expected numbers (N, {SIDE}, {SIDE}), but got {array.dtype} {array.shape}")
    if array.dtype == np.uint8:
        return np.array(array).reshape(-1, *side)
    images = np.empty((len(array), *side), np.uint8)
    scale = 255 if array.dtype.kind == "f" and array.max(initial=0) <= 1 else 1
    for start in range(0, len(array), 1024):
        block = array[start : start + 1024].reshape(-1, *side) * np.float64(scale)
        whole = np.rint(block)
        # Thirty times the error of a division by 255 in float32, and far less than any other scale leaves.
        sound = (whole >= 0) & (whole <= 255) & (np.abs(block - whole) < 1e-3)
        if not sound.all():
            row = start + int(sound.all((1, 2)).argmin())
            raise Damaged(
                f"{file}, row {row}: expected whole numbers in [0, 255], or all divided by 255; "
                "save the images as they are before they are standardised"
            )
        images[start : start + 1024] = whole
    return images


def _read_labels(file: Path) -> Int8[np.ndarray, "N"]:
    """An array of labels, whole numbers from -1 to 6 or one-hot rows."""
    array = np.array(_open_array(file))
    if array.shape[1:] not in ((), (1,), (len(EXPRESSIONS),)) or array.dtype.kind not in "buif":
        raise Damaged(f"{file}: expected labels (N,) or one-hot (N, 7), but got {array.dtype} {array.shape}")
    if array.shape[1:] == (len(EXPRESSIONS),):
        labels, sound = array.argmax(1), np.isin(array, (0, 1)).all(1) & (array.sum(1) == 1)
    else:
        labels = array.reshape(-1)
        sound = np.isin(labels, range(-1, len(EXPRESSIONS)))
    if not sound.all():
        row = int(sound.argmin())
        raise Damaged(f"{file}, row {row}: expected a label from -1 to 6 or a one-hot row, but got {array[row]}")
    plain: np.ndarray = labels.astype(np.int8)
    return plain


# The cache: an index from files as they are to their checksum, and an entry for each checksum


def cache_folder() -> Path:
    """Where data sets are kept to be read faster; it may be deleted at any time.

    `MIEN_CACHE` if that is set, else `mien` in `XDG_CACHE_HOME`, `LOCALAPPDATA` or `~/.cache`.

    Raises:
        FileError: None is set, and there is no home folder.
    """
    if chosen := os.environ.get("MIEN_CACHE"):
        return Path(chosen)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    except RuntimeError as error:
        raise FileError("there is no home folder to keep a cache in; set MIEN_CACHE to a folder") from error
    return Path(base) / "mien"


def _identify(files: list[Path]) -> tuple[str, int]:
    """What tells, without reading them, whether files are those of the last time; and when they changed, in ns."""
    marks, changed = [], 0
    for file in files:
        with reading(file):
            status = file.stat()
        if not (S_ISREG(status.st_mode) or S_ISDIR(status.st_mode)):
            raise FileError(f"cannot read {file}: expected a file or a folder, and a pipe or device is neither")
        # The change time notices what a copy that keeps the modification time hides.
        marks.append((os.path.abspath(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        changed = max(changed, status.st_mtime_ns, status.st_ctime_ns)
    return sha256(repr(marks).encode()).hexdigest(), changed


def _checksum(files: list[Path]) -> str:
    """SHA-256 of the files, one after the other."""
    digest = sha256()
    for file in files:
        with reading(file), file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _known_checksum(files: list[Path], identity: tuple[str, int]) -> str:
    """The checksum of files, without reading them where the index knows them as they look now."""
    key, changed = identity
    index = cache_folder() / "index" / key
    try:
        line = index.read_bytes()
    except OSError:
        line = b""
    checksum = line[:64].decode("ascii", "replace")
    if line != _index_line(checksum):
        checksum = _checksum(files)
        if time.time_ns() - changed > _YOUNG:
            _put(index, [_index_line(checksum)])
    return checksum


def _index_line(checksum: str) -> bytes:
    return b"%s %08x\n" % (checksum.encode(), zlib.crc32(checksum.encode()))


def _entry(checksum: str, files: list[Path]) -> Path:
    return cache_folder() / "faces" / f"{checksum}-{len(files)}.v1"


def _keep(faces: FaceSet, files: list[Path]) -> None:
    """Write an entry: the CRC-32 of the rest, a line of JSON, then the arrays, all of single bytes."""
    names, codes = np.unique(faces.splits, return_inverse=True)
    head = json.dumps({"faces": len(faces), "splits": names.tolist(), "votes": faces.votes is not None})
    parts: list[Any] = [head.encode().ljust(_HEADER - 9), faces.images, faces.labels, codes.astype(np.uint8)]
    if faces.votes is not None:
        parts.append(faces.votes)
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    _put(_entry(faces.checksum, files), [b"%08x\n" % crc, *parts])


def _recall(checksum: str, files: list[Path]) -> FaceSet | None:
    """The faces of an entry, or None where there is none or it is damaged.

    Pages of the file become the arrays; writing to them changes a copy, never the file.
    """
    try:
        data = np.asarray(np.memmap(_entry(checksum, files), np.uint8, "c"))
    except (OSError, ValueError):  # an empty file cannot be mapped
        return None
    if data[:9].tobytes() != b"%08x\n" % zlib.crc32(data[9:].data):
        return None
    head = json.loads(data[9:_HEADER].tobytes())
    count = head["faces"]
    ends = np.cumsum([count * SIDE * SIDE, count, count])
    images, labels, codes, votes = np.split(data[_HEADER:], ends)
    return FaceSet(
        images.reshape(count, SIDE, SIDE),
        labels.view(np.int8),
        np.array(head["splits"], np.str_)[codes],
        np.arange(count),
        votes.reshape(count, len(FERPLUS)) if head["votes"] else None,
        checksum,
        _source(files),
    )


def _put(path: Path, parts: list[Any]) -> None:
    """Write a file of the cache whole or, with a warning, not at all."""
    try:
        write_whole(path, lambda file: file.writelines(parts), binary=True)
    except FileError as error:
        reason = str(error).rpartition(": ")[2]
        kept = "so the data will be read anew next time; MIEN_CACHE names another folder"
        warnings.warn(f"{cache_folder()} cannot be written to ({reason}), {kept}", stacklevel=4)
