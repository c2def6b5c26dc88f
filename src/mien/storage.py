"""Files that are there whole or not at all, and what every file from strangers is asked before it is read."""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EISDIR
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from stat import S_ISREG
from tempfile import TemporaryFile
from typing import Any, BinaryIO
from uuid import uuid4

from mien.errors import Damaged, FileError, InputError, MienError

LOCK = ".lock"
"""The file in a folder that runs are at work in, by which they keep each other out."""


def suffix_of(path: str | PathLike[str]) -> str:
    """What a file's name ends in, in small letters, by which its form is told: ".csv" of DATA.CSV."""
    return Path(path).suffix.lower()


def check_suffix(path: str | PathLike[str], *suffixes: str) -> None:
    """Refuse a file's name before long work rather than after it.

    Raises:
        InputError: It ends in none of the suffixes.
    """
    if suffix_of(path) not in suffixes:
        raise InputError(f"expected a file name that ends in {' or '.join(suffixes)}, but got {Path(path).name!r}")


def need_writable(*paths: str | PathLike[str] | None) -> None:
    """Refuse files' places before long work rather than after it. None stands for what was not asked for.

    Nothing is made: of folders that are missing, the nearest one that is there is asked.

    Raises:
        FileError: No file can be written to one of them.
    """
    for path in (Path(path) for path in paths if path is not None):
        try:
            TemporaryFile(dir=next(folder for folder in path.absolute().parents if os.path.lexists(folder))).close()
            if path.is_dir():
                raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
        except OSError as error:
            raise FileError(f"cannot write {path}: {error.strerror or error}") from error


def real_path(path: str | PathLike[str]) -> Path:
    """The same for every way to name a file. `Path.resolve` raises where a link leads to itself, before Python 3.13."""
    return Path(os.path.realpath(path))


def need_file(path: str | PathLike[str], *, most: float = math.inf) -> None:
    """Refuse what is no file before it is opened: to open a pipe is to wait for whoever writes to it.

    Args:
        path: What shall be read.
        most: Bytes that it may have.

    Raises:
        FileError: It is missing, or a folder, a pipe or a device.
        Damaged: It is larger.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise FileError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not S_ISREG(status.st_mode):
        raise FileError(f"cannot read {path}: expected a file, and a folder, pipe or device is none")
    if status.st_size > most:
        raise Damaged(f"{path} has {status.st_size:,} bytes, and what it should be has at most {most:,}")


def parse_json(text: str | bytes) -> Any:
    """JSON from strangers as plain values.

    Raises:
        ValueError: It is no JSON, or nested more deeply than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def need_other(path: str | PathLike[str] | None, *sources: str | PathLike[str] | None) -> None:
    """Refuse to write over what is read. None stands for what was not asked for.

    Raises:
        InputError: Both are the same file.
    """
    if path is not None and Path(path).exists():
        for source in sources:
            if source is not None and Path(source).exists() and Path(path).samefile(source):
                raise InputError(f"{path} would replace what is read; give it another name")


def write_whole(path: str | PathLike[str], write: Callable[[Any], object], *, binary: bool = False) -> Path:
    """Have `write` fill a new file beside `path`, then put it in place in one step.

    The file is on the disk before it gets its name, so that a power cut leaves the old one or the new one too.

    Args:
        path: Where the file shall be; its folder is made.
        write: Called with the open file.
        binary: Open it for bytes instead of UTF-8 text (where what is no character, as in the name of a file
            whose bytes are not UTF-8, becomes an escape, as `\\udce9` for the byte E9).

    Returns:
        The path.

    Raises:
        FileError: The place cannot be written to. Nothing is left behind, and an older file stays.
    """
    path = Path(path)
    place = Path(os.path.realpath(path))  # a link to a file stays one
    temporary = place.with_name(f".{uuid4().hex}.part")  # a name of its own: one as long as a name may be fits too
    text = {"mode": "w", "newline": "", "encoding": "utf-8", "errors": "backslashreplace"}
    options: dict[str, Any] = {"mode": "wb"} if binary else text
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, **options) as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
            _sync_folder(place.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except MienError:  # of `write` itself: it says what it is about
        raise
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _sync_folder(folder: Path) -> None:
    """Have the disk know the new name too, on systems where a folder can be opened and synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(folder: Path, *, need: bool = True) -> Iterator[None]:
    """Keep a second run out of the folder, which is made; the system lets go of it however this one ends.

    Args:
        folder: What they would both write to.
        need: Whether a file system without locks is refused. A system that knows no POSIX locks is not.

    Raises:
        FileError: Another run is at work there, or nothing can be written or locked there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "wb")  # noqa: SIM115
    except OSError as error:
        raise FileError(f"cannot write to {folder}: {error.strerror or error}") from error
    with file:
        if find_spec("fcntl"):
            _lock(file, folder, need)
        yield


def _lock(file: BinaryIO, folder: Path, need: bool) -> None:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileError(f"another run is at work in {folder}; wait for it, or name another folder") from error
    except OSError as error:
        if need:
            raise FileError(
                f"cannot lock {folder}: {error.strerror or error}; name a folder on a file system with locks"
            ) from error
