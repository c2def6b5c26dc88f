"""A cache of csv data sets: an index from files as they are to their checksum, and an entry for each checksum.

An entry is written whole or not at all, never beside the user's file, and a damaged one counts as none.
"""

import json
import os
import time
import warnings
import zlib
from hashlib import sha256
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

import numpy as np

from mien.errors import FileError
from mien.expressions import FERPLUS
from mien.measuring.faceset import FaceSet
from mien.measuring.fer_csv import SIDE, reading
from mien.storage import write_whole

_YOUNG = 2e9  # ns; a file may change again within one tick of a coarse file system clock and show the same time
# Bytes hashed at once. As a side effect, once such a piece was freed, glibc no longer hands the memory of each batch
# of rows back to the system, which would make the first parse half as fast.
_CHUNK = 1 << 20
_HEADER = 512  # bytes before the arrays in a cache entry


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


def identify(files: list[Path]) -> tuple[str, int]:
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


def sha256_of(files: list[Path]) -> str:
    """SHA-256 of the files, one after the other."""
    digest = sha256()
    for file in files:
        with reading(file), file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def known_checksum(files: list[Path], identity: tuple[str, int]) -> str:
    """The checksum of files, without reading them where the index knows them as they look now."""
    key, changed = identity
    index = cache_folder() / "index" / key
    try:
        line = index.read_bytes()
    except OSError:
        line = b""
    checksum = line[:64].decode("ascii", "replace")
    if line != _index_line(checksum):
        checksum = sha256_of(files)
        if time.time_ns() - changed > _YOUNG:
            _put(index, [_index_line(checksum)])
    return checksum


def _index_line(checksum: str) -> bytes:
    return b"%s %08x\n" % (checksum.encode(), zlib.crc32(checksum.encode()))


def _entry(checksum: str, files: list[Path]) -> Path:
    return cache_folder() / "faces" / f"{checksum}-{len(files)}.v1"


def keep(faces: FaceSet, files: list[Path]) -> None:
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


def recall(checksum: str, files: list[Path]) -> FaceSet | None:
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
        source_of(files),
    )


def _put(path: Path, parts: list[Any]) -> None:
    """Write a file of the cache whole or, with a warning, not at all."""
    try:
        write_whole(path, lambda file: file.writelines(parts), binary=True)
    except FileError as error:
        reason = str(error).rpartition(": ")[2]
        kept = "so the data will be read anew next time; MIEN_CACHE names another folder"
        warnings.warn(f"{cache_folder()} cannot be written to ({reason}), {kept}", stacklevel=4)


def source_of(files: list[Path]) -> str:
    """The path of a csv, and the name of the FER+ csv that goes with it."""
    return " + ".join([str(files[0]), *(file.name for file in files[1:])])
