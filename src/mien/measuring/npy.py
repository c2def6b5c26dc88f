"""FaceSets as .npy arrays: those that mien writes, and pairs of images and labels that others wrote."""

import os
import re
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from tokenize import TokenError
from typing import Any

import numpy as np
from jaxtyping import Int8, UInt8

from mien.errors import Damaged, FileError
from mien.expressions import EXPRESSIONS
from mien.measuring.cache import sha256_of
from mien.measuring.faceset import FaceSet, misfit
from mien.measuring.fer_csv import SIDE, SPLIT_WORDS, SPLITS, reading
from mien.storage import need_file

_PAIRS = [("images", "labels"), ("image", "label"), ("pixels", "emotions"), ("dataX", "labels")]
_PAIRS += [("X", "y"), ("X", "Y"), ("x", "y")]
_BROKEN = (ValueError, TypeError, OverflowError, MemoryError, RecursionError, SyntaxError, TokenError)
"""What numpy raises for the head of a damaged array, which it reads as Python's literals."""


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
        raise FileError(f"cannot write to {folder}: {error.strerror or f'{error}; is the disk full?'}") from error
    return [folder / f"{name}.npy" for name in arrays]


def array_pairs(path: Path) -> list[tuple[Path, Path, str]]:
    """Image array, label array and split of each pair in a folder, or of one image array.

    Raises:
        FileError: Beside pairs there is an image array without labels.
    """
    folder = path if path.is_dir() else path.parent
    stems = {file.stem for file in folder.glob("*.npy") if not file.name.startswith(".")}  # as `._X.npy` from a Mac
    ours = {"images", "labels", "splits", "rows"} <= stems  # what `save_npy` wrote, but for votes
    pairs, alone = [], dict[str, str]()
    for stem in [path.stem] if folder != path else ["images"] if ours else sorted(stems):
        for images, labels in _PAIRS:
            other = stem.replace(images, labels, 1)
            if other != stem and other in stems:
                words = re.findall("[a-z]+", stem.replace(images, " ", 1).lower())
                split = next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), SPLITS[0])
                pairs.append((folder / f"{stem}.npy", folder / f"{other}.npy", split))
                alone.pop(stem, None)
                break
            if images in re.split("[^A-Za-z]+", stem):
                alone.setdefault(stem, other)
    if pairs and alone:
        stem, other = next(iter(alone.items()))
        raise FileError(
            f"{folder / stem}.npy has no labels beside it, expected them in {other}.npy; name the one array to be "
            "read, or move this one elsewhere"
        )
    return pairs


def read_arrays(path: Path, pairs: list[tuple[Path, Path, str]]) -> FaceSet:
    """The faces of pairs of arrays, one after the other; beside `images.npy` also splits, rows and votes."""
    files = [file for *pair, _ in pairs for file in pair]
    parts = [(_read_images(file), _read_labels(other)) for file, other, _ in pairs]
    for (file, other, _), (faces, truth) in zip(pairs, parts, strict=True):
        if len(faces) != len(truth):
            raise Damaged(f"{file} has {len(faces):,} images, but {other} has {len(truth):,} labels")
    images = parts[0][0] if len(parts) == 1 else np.concatenate([faces for faces, _ in parts])
    labels = np.concatenate([truth for _, truth in parts])
    splits = np.concatenate([np.full(len(truth), split) for (_, truth), (*_, split) in zip(parts, pairs, strict=True)])
    beside: dict[str, Any] = {"splits": splits, "rows": np.arange(len(images)), "votes": None}
    for name in beside:
        file = pairs[0][0].with_name(f"{name}.npy")
        if pairs[0][0].stem == "images" and file.exists():
            files.append(file)
            beside[name] = np.array(_open_array(file))
    if not len(images):
        raise Damaged(f"there is no sound face in {path}")
    if problem := misfit(images, labels, **beside):
        raise Damaged(f"the arrays in {path} do not belong together: {problem}")
    if len(np.unique(beside["rows"])) < len(images):
        file = pairs[0][0].with_name("rows.npy")
        raise Damaged(f"{file} has a row number twice, expected each once; without that file rows are numbered anew")
    return FaceSet(images, labels, **beside, checksum=sha256_of(files), source=str(path))


def _open_array(file: Path) -> np.ndarray:
    """A .npy file, not yet in memory."""
    try:
        need_file(file)
        with reading(file):
            array: np.ndarray = np.lib.format.open_memmap(file, mode="r")
    except _BROKEN as error:
        raise Damaged(f"{file} is not a whole array of numbers: {str(error)[:300]}") from error
    if array.ndim == 0:
        raise Damaged(f"{file} holds one number, expected an array")
    return array


def _read_images(file: Path) -> UInt8[np.ndarray, "N 48 48"]:
    """An array of images, scaled back to [0, 255] where that is exact; one of bytes is not read into memory."""
    array = _open_array(file)
    side = (SIDE, SIDE)
    if array.shape[1:] not in (side, (*side, 1), (1, *side), (SIDE * SIDE,)) or array.dtype.kind not in "uif":
        raise Damaged(f"{file}: expected numbers (N, {SIDE}, {SIDE}), but got {array.dtype} {array.shape}")
    if array.dtype == np.uint8:  # it stays in its file, and what is written to it never gets there
        return np.asarray(np.lib.format.open_memmap(file, mode="c")).reshape(-1, *side)
    images = np.empty((len(array), *side), np.uint8)
    scale = 255 if array.dtype.kind == "f" and array.max(initial=0) <= 1 else 1
    # Thirty times the error of a division by 255 in float32 (in float16 about twice), and far less than any other scale
    # leaves.
    close = 0.13 if array.dtype == np.float16 and scale == 255 else 1e-3
    for start in range(0, len(array), 1024):
        block = array[start : start + 1024].reshape(-1, *side) * np.float64(scale)
        whole = np.rint(block)
        with np.errstate(invalid="ignore"):  # infinity less infinity is no number, hence not close
            sound = (whole >= 0) & (whole <= 255) & (np.abs(block - whole) < close)
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
