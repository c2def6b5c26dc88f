"""Files that are there whole or not at all."""

import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any
from uuid import uuid4

from mien.errors import FileError


def need_folder(path: str | PathLike[str]) -> None:
    """Refuse a file's place before long work rather than after it.

    Raises:
        FileError: Its folder is not there.
    """
    if not Path(path).parent.is_dir():
        raise FileError(f"cannot write {path}: the folder {Path(path).parent} is not there; make it first")


def write_whole(path: str | PathLike[str], write: Callable[[Any], object], *, binary: bool = False) -> Path:
    """Have `write` fill a new file beside `path`, then put it in place in one step.

    Args:
        path: Where the file shall be; its folder is made.
        write: Called with the open file.
        binary: Open it for bytes instead of UTF-8 text.

    Returns:
        The path.

    Raises:
        FileError: The place cannot be written to. Nothing is left behind, and an older file stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.part")
    options: dict[str, Any] = {"mode": "wb"} if binary else {"mode": "w", "newline": "", "encoding": "utf-8"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, **options) as file:
                write(file)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    return path
