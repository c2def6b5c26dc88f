"""What a source stands for: images in files, in tar archives and in Parquet tables, here or behind a URL.

A listing is lazy and always in the same order, so that millions of images take no more memory than one folder of them
does. It knows nothing of faces, nor of who reads the images.
"""

import glob
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from mien.errors import Damaged, FileError, InputError, MienError, MissingExtra, need_extra
from mien.reading.images import FORMATS, UNREAD
from mien.storage import need_file, suffix_of

ARCHIVE, TABLE, LISTS = ".tar", ".parquet", (".txt", ".lst", ".list")
"""Suffixes of what holds many images: an archive, a Parquet table, a list of names."""

RESULTS = {"manifest.json", "plan.parquet"}
"""What a folder of results holds: it is no source, though tables lie in it."""

_PACKED = re.compile(r"\.(tgz|tbz2?|txz|tar\.(gz|bz2|xz|zst|lz4|lzma|z|br)|zip|7z|rar)$")
"""What ends the name of an archive of which no member can be read alone."""

_ROWS = 32  # of a table, encoded images that are held at once


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source, or what kept some from being listed.

    Attributes:
        path: The file, archive or table, a path or URL, as the source names it.
        inside: What follows `path` in the image's name: "/member" of an archive, "#row" of a table.
        offset: The first byte in the archive, or the row of the table, from 0.
        size: Bytes of the file, the member or the whole table; None where the listing does not say.
        problem: Why there is nothing to be read; None: there is.
    """

    path: str
    inside: str = ""
    offset: int | None = None
    size: int | None = None
    problem: str | None = None

    @property
    def source(self) -> str:
        """The image's name in rows and failures."""
        return self.path + self.inside


def list_source(source: str, *, column: str = "", skip: str = "") -> Iterator[Item]:
    """The images of a source, lazily; sorted, but for a list, which keeps its order.

    Args:
        source: A folder with whatever lies in it, but for results of other runs; a pattern (`*`, `?`, `[`, `**` for
            any depth) of files; a list, a text file with a path or URL a line, from the current folder; an archive
            (.tar); a table (.parquet); or one image. A path, or a URL that fsspec opens.
        column: The column of tables that holds encoded images; "": the only one that can, or "image".
        skip: A folder that is left out, as a full path: where the results go.

    Yields:
        Images; and in the place of a folder, archive or table that cannot be read, or of the rest of one that is
        damaged, an item with a problem.

    Raises:
        FileError: The source is not there, cannot be read or has no images.
        Damaged, InputError: It is an archive or a table itself, and none of images.
        InputError: It is empty, and would stand for the current folder.
        MissingExtra: fsspec, or the driver of the URL, is not installed.
    """
    if not source:
        raise InputError(
            "expected a folder, pattern, list, archive, table or image, but got an empty name; is a shell variable "
            "unset? The current folder is ."
        )
    source = _plain(source)
    source = source if is_url(source) else str(Path(source))
    fs, root = _filesystem(source)
    if _asked(source, fs.isdir, root):
        if "::" in source and is_url(source):
            raise InputError(f"{source} is a folder inside another file, whose images cannot be named; unpack it first")
        found = _images_inside(source, column, skip)
        nothing = f"there are no images in {source}; expected files named {', '.join((*FORMATS, ARCHIVE, TABLE))}"
    elif not _asked(source, fs.exists, root) and glob.has_magic(source):
        found = _matches(source, column, skip)
        nothing = f"no file matches {source}; a pattern stands for files, and ** for folders of any depth"
    elif suffix_of(source) in LISTS:
        found = _listed(source, column)
        nothing = f"{source} is empty; expected a path or URL a line"
    else:
        found = _images_of(source, None, column)
        nothing = f"there are no images in {source}"
        if not _asked(source, fs.exists, root):
            raise FileError(f"cannot read {source}: there is no such file or folder")
    first = next(found, None)
    if first is None:
        raise FileError(nothing)
    yield first
    yield from found


def read_items(items: Iterable[Item], column: str) -> Iterator[tuple[Item, str | bytes | MienError]]:
    """What `mien.reading.images.open_image` takes of each item, in order: its path, or its bytes; or the error.

    The bytes of a file behind a URL and of an archive's members are left to `fetch`; tables are read as they come.
    """
    # Rows of a table that follow each other are read together.
    for (path, _), group in groupby(enumerate(items), key=lambda pair: (pair[1].path, (pair[1].offset or 0) - pair[0])):
        members = [item for _, item in group]
        if suffix_of(path) == TABLE and members[0].problem is None:
            yield from zip(members, _rows(path, column, members[0].offset or 0, len(members)), strict=True)
        else:
            yield from ((item, item.path if item.problem is None else Damaged(item.problem)) for item in members)


def fetch(item: Item, source: str | bytes) -> str | bytes:
    """The bytes of an item that lies in an archive or behind a URL; others as they are. Safe to call from any thread.

    Raises:
        FileError: They cannot be read.
    """
    if isinstance(source, bytes) or ("://" not in item.path and item.offset is None):
        return source
    fs, path = _filesystem(item.path)
    end = None if item.offset is None or item.size is None else item.offset + item.size
    with _told(item.path):
        content = bytes(fs.cat_file(path, start=item.offset, end=end))
    if end is not None and len(content) > end - (item.offset or 0):
        raise FileError(f"cannot read {item.source}: its server gives whole files alone; download {item.path} first")
    return content


def _plain(source: str) -> str:
    """A URL of a file of this machine as its path."""
    return source.removeprefix("file://").removeprefix("local://")


def is_url(source: str) -> bool:
    """Whether a source is no path of this machine."""
    return "://" in source


def _filesystem(path: str) -> tuple[Any, str]:
    """The file system of a path or URL, and its name there."""
    need_extra("label", "listing and opening sources", "fsspec")
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if not is_url(path):
        return LocalFileSystem(), os.path.abspath(path)
    with _told(path):  # some connect at once
        try:
            fs, name = url_to_fs(path)
        except ImportError as error:
            raise MissingExtra(f"{path} needs a driver that is not installed: {error}") from error
        except ValueError as error:
            raise InputError(f"expected a path, or a URL that fsspec opens, but got {path}: {error}") from error
    return fs, name


@contextmanager
def _told(path: str, raised: type[Exception] = Exception) -> Iterator[None]:
    """Have whatever a storage's driver raises say which path it is about: the drivers' errors share no other base."""
    try:
        yield
    except MienError:
        raise
    except (raised, MemoryError) as error:
        missing = "there is no such file" if isinstance(error, FileNotFoundError) else ""
        reason = getattr(error, "strerror", None) or missing or str(error) or type(error).__name__
        raise FileError(f"cannot read {path}: {reason}") from error


def _asked(source: str, question: Any, root: str) -> bool:
    with _told(source):
        return bool(question(root))


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    fs, name = _filesystem(path)
    if not is_url(path):
        need_file(path)
    with _told(path):
        file = fs.open(name, "rb")
    with file, _told(path, Exception if is_url(path) else OSError):
        yield file


def _images_of(path: str, size: int | None, column: str) -> Iterator[Item]:
    """One file's images."""
    if suffix_of(path) == ARCHIVE:
        yield from _members(path)
    elif suffix_of(path) == TABLE:
        yield from _numbered(path, column)
    elif _PACKED.search(path.lower()):
        raise InputError(f"{path} is compressed, so no image in it can be read alone; unpack it to a plain .tar first")
    else:
        yield Item(path, size=size)


def _kept(path: str, size: int | None, column: str) -> Iterator[Item]:
    """One file's images, among others: what is wrong with it must not stop them."""
    try:
        yield from _images_of(path, size, column)
    except MienError as error:
        yield Item(path, problem=str(error))


def _walk(folder: str, depth: int | None, skip: str) -> Iterator[tuple[str, Any]]:
    """Files below a folder, each with what the file system says of it, or in the place of a folder its error."""
    fs, root = _filesystem(folder)
    try:
        with _told(folder):
            inside = sorted(fs.ls(root, detail=True), key=lambda info: info["name"])
    except FileError as error:
        yield folder, error
        return
    if {info["name"].rsplit("/", 1)[-1] for info in inside} >= RESULTS:
        return
    for info in inside:
        name = info["name"].rstrip("/").rsplit("/", 1)[-1]
        path = os.path.join(folder, name) if folder != "." else name
        if name.startswith(".") or info["name"].rstrip("/") in {root.rstrip("/"), skip}:
            continue
        if info.get("islink") and os.path.isdir(path):
            yield path, FileError(f"{path} is a link to a folder, which is not followed; label that folder by its name")
        elif info["type"] != "directory":
            yield path, info
        elif depth is None or depth > 1:
            yield from _walk(path, None if depth is None else depth - 1, skip)


def _images_inside(folder: str, column: str, skip: str) -> Iterator[Item]:
    for path, info in _walk(folder, None, skip):
        if isinstance(info, MienError):
            yield Item(path, problem=str(info))
        elif suffix_of(path) in {*FORMATS, *UNREAD, ARCHIVE, TABLE} or _PACKED.search(path.lower()):
            yield from _kept(path, info["size"], column)


def _matches(pattern: str, column: str, skip: str) -> Iterator[Item]:
    """The files that match a pattern; folders are walked as deep as it goes."""
    from fsspec.utils import glob_translate

    start = pattern.index(next(c for c in pattern if c in "*?["))
    folder, slash, rest = pattern[:start].rpartition("/")
    folder, rest = folder or slash or ".", rest + pattern[start:]
    try:
        wanted = re.compile(glob_translate(rest))
    except ValueError as error:
        raise InputError(f"{pattern} is no pattern: {error}; for folders of any depth write **/*.jpg") from error
    front = 0 if folder == "." else len(folder.rstrip("/")) + 1
    for path, info in _walk(folder, None if "**" in rest else rest.count("/") + 1, skip):
        inside = path[front:]
        if not isinstance(info, MienError):
            if wanted.match(inside):
                yield from _kept(path, info["size"], column)
        elif isinstance(info.__cause__, FileNotFoundError):
            continue  # nothing there matches
        elif _may_hold(inside, rest):
            yield Item(path, problem=str(info))


def _may_hold(folder: str, pattern: str) -> bool:
    """Whether a folder may hold what a pattern asks for."""
    from fsspec.utils import glob_translate

    depth, parts = folder.count("/") + 1 if folder else 0, pattern.split("/")
    deep_enough = depth < len(parts) and re.compile(glob_translate("/".join(parts[:depth]))).match(folder)
    return "**" in pattern or bool(deep_enough)


def _listed(path: str, column: str) -> Iterator[Item]:
    """What the lines of a list name; a name that is not UTF-8 is taken as its bytes."""
    with _opened(path) as file:
        for number, line in enumerate(file):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line  # the mark that Windows puts first
            if number == 0 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise Damaged(f"{path} is a text in UTF-16, expected UTF-8; save it anew")
            if name := _plain(os.fsdecode(line.strip(b"\r\n"))):
                yield from _kept(name, None, column)


def _members(path: str) -> Iterator[Item]:
    """The images of an archive. Where it is damaged or breaks off, what came before is kept."""
    with _opened(path) as file:
        try:
            archive = tarfile.TarFile(fileobj=file)
        except tarfile.TarError as error:
            raise Damaged(f"{path} is no plain tar archive: {error}") from error
        with archive:
            try:
                for member in _heads(archive, file):
                    hidden = any(part.startswith(".") for part in member.name.split("/") if part not in {".", ".."})
                    if hidden or suffix_of(member.name) not in (*FORMATS, *UNREAD):
                        continue
                    if member.isreg():
                        yield Item(path, f"/{member.name}", member.offset_data, member.size)
                    elif member.islnk() or member.issym():
                        text = f"{path}/{member.name} is a link, which is not followed; pack files in place of links"
                        yield Item(path, f"/{member.name}", problem=text)
            except tarfile.TarError as error:
                text = f"{path} is damaged at byte {archive.offset:,}, and what follows is lost: {error}"
                yield Item(path, problem=text)


def _heads(archive: tarfile.TarFile, file: Any) -> Iterator[tarfile.TarInfo]:
    """All members, those behind an end mark too: zeros lie between archives that were joined.

    Raises:
        TarError: The rest is damaged.
    """
    block = b"\0"
    while block:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it would remember them all
            yield member
        end = archive.offset
        file.seek(end)
        while (block := file.read(tarfile.BLOCKSIZE)) and not any(block):
            archive.offset += tarfile.BLOCKSIZE
        # tarfile takes a head that it does not understand for the end, and says nothing.
        if block and archive.offset == end:
            raise tarfile.ReadError("no member begins there")


@contextmanager
def _parquet(path: str) -> Iterator[Any]:
    need_extra("label", "reading Parquet", "pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _opened(path) as file:
        try:
            with pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as table:
                yield table
        except pa.ArrowMemoryError:  # nothing is wrong with the file
            raise
        except pa.ArrowException as error:
            raise Damaged(f"{path} is a damaged Parquet file: {error}") from error
        except OSError as error:  # Arrow's own for some damages; that of a system or driver says more of itself
            if type(error) is not OSError or error.errno is not None:
                raise
            raise Damaged(f"{path} is a damaged Parquet file: {error}") from error


def _numbered(path: str, column: str) -> Iterator[Item]:
    """The rows of a table."""
    with _parquet(path) as table:
        _image_column(path, table.schema_arrow, column)
        count = table.metadata.num_rows
    fs, name = _filesystem(path)
    with _told(path):
        size = fs.size(name)
    for row in range(count):
        yield Item(path, f"#{row}", row, size)


def _image_column(path: str, schema: Any, wanted: str) -> str:
    """The column that holds encoded images: bytes, or a struct with `bytes` as Hugging Face's data sets have.

    Raises:
        InputError: There is none, or which one is unclear.
    """
    import pyarrow.types as kinds

    def binary(kind: Any) -> bool:
        return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind))

    fields = {
        field.name: binary(field.type)
        or (kinds.is_struct(field.type) and any(part.name == "bytes" and binary(part.type) for part in field.type))
        for field in schema
    }
    able: list[str] = [name for name, fits in fields.items() if fits]
    chosen: str = wanted or (able[0] if len(able) == 1 else "image")
    if chosen in able:
        return chosen
    has = ", ".join(f"{field.name} ({field.type})" for field in schema)
    missing = f"no column {wanted!r} with images" if wanted else "no image column"
    missing = "several image columns; name one (--column)" if able and not wanted else missing
    raise InputError(
        f"{path} has {missing}: expected bytes (or a struct with bytes) of encoded images, and it has {has}"
    )


def _rows(path: str, column: str, first: int, count: int) -> Iterator[bytes | MienError]:
    """The images of `count` rows of a table; errors in the place of those that cannot be read."""
    given = 0
    problem: MienError = Damaged(f"{path} has fewer rows than when it was listed")
    try:
        with _parquet(path) as table:
            for value in _values(table, _image_column(path, table.schema_arrow, column), first, count):
                yield Damaged("the row holds no image") if value is None else value
                given += 1
    except MienError as error:
        problem = error
    for _ in range(count - given):
        yield problem


def _values(table: Any, column: str, first: int, count: int) -> Iterator[bytes | None]:
    """A column's values from row `first`; of the row groups, only those that hold some are read."""
    groups: list[int] = []
    start = skip = 0
    for number in range(table.num_row_groups):
        rows = table.metadata.row_group(number).num_rows
        if start < first + count and start + rows > first:
            skip = first - start if not groups else skip
            groups.append(number)
        start += rows
    for batch in table.iter_batches(_ROWS, groups, [column]):
        wanted = batch.column(0).slice(min(skip, len(batch)), count)
        skip -= min(skip, len(batch))
        count -= len(wanted)
        for value in wanted.to_pylist():
            yield value["bytes"] if isinstance(value, dict) else value
        if not count:
            return
