"""What a labelling run has to do, fixed at its first start: the images, cut into shards, and how they are read.

    OUT/manifest.json            the plan in short: source, number of images, model and its checksum, settings
    OUT/plan.parquet             every image, in the order of the listing
    OUT/rows/part-000017.parquet the rows of shard 17; there whole or not at all
    OUT/failures.parquet         source, reason; written at the end
    OUT/summary.json             counts; written at the end

A later start does what is still missing. It is refused where it would mix the rows of two models, settings or
sources. It knows nothing of how a shard is read.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any

from mien.errors import Damaged, FileError, InputError, need_extra
from mien.reading.faces import CenterFace
from mien.reading.recognizer import DEFAULT_MODEL, load_model
from mien.reading.sources import Item, is_url, list_source
from mien.reading.tables import as_text
from mien.storage import locked, write_whole

_LARGEST = 100_000  # a shard's rows are held in memory until it is written
_GROUP = 16_384  # images of the plan that are held at once


def default_shard_size(images: int) -> int:
    """Images of a shard where no size is asked for: a 256th of all, at least 100 and at most 10,000.

    It depends on nothing else, so that the number of workers changes neither files nor rows.
    """
    return min(max(100, images // 256), 10_000)


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """What the rows depend on.

    Attributes:
        model: The name of a model in the package, or the path of an .onnx file.
        views: "single"; "mirror" to average with the mirrored face; "ten" for more of each, as `load_model`.
        side: Look for faces at this longer side only, in pixels; 0: as large as it takes.
        min_score: Drop faces the detector is less sure of; in [0.1, 1].
        column: The column of Parquet tables that holds encoded images; "": the only one that can, or "image".
        shard_size: Images that are labelled and written together, up to 100,000; 0: a 256th of all, 100 to 10,000.
    """

    model: str = DEFAULT_MODEL
    views: str = "single"
    side: int = 0
    min_score: float = 0.5
    column: str = ""
    shard_size: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What every start of a run must agree on; saved as JSON. `version` is that of mien.

    `source` is a full path, `spelling` what it was called, from which the names of images are made. `base` is the
    folder from which these start; "" where none is relative.
    """

    source: str
    spelling: str
    base: str
    images: int
    listing_sha256: str
    shard_size: int
    model: str
    model_sha256: str
    views: str
    side: int
    min_score: float
    column: str
    version: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A run's folder and manifest, and what a worker needs to do its part of it.

    Attributes:
        folder: Where everything is written; a full path.
        base: The folder from which paths of the source start.
        model: What `load_model` takes.
        manifest: What was agreed on.
    """

    folder: Path
    base: str
    model: str
    manifest: Manifest

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.manifest.images // self.manifest.shard_size)

    def part(self, shard: int) -> Path:
        """The file of a shard's rows."""
        return self.folder / "rows" / f"part-{shard:06}.parquet"

    def size(self, shard: int) -> int:
        """Images of a shard."""
        return min(self.manifest.shard_size, self.manifest.images - shard * self.manifest.shard_size)

    def missing(self) -> list[int]:
        """The shards that are still to be done."""
        try:
            done = set(os.listdir(self.folder / "rows"))
        except FileNotFoundError:
            done = set()
        return [shard for shard in range(self.shards) if self.part(shard).name not in done]

    def items(self, shard: int) -> list[Item]:
        """The images of a shard.

        Raises:
            FileError: The plan cannot be read.
            Damaged: It is not what was written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        start = shard * self.manifest.shard_size
        end = start + self.size(shard)
        groups = list(range(start // _GROUP, (end - 1) // _GROUP + 1))
        path = self.folder / "plan.parquet"
        try:
            with pq.ParquetFile(path) as file:
                table = file.read_row_groups(groups).slice(start - groups[0] * _GROUP, end - start)
            return [Item(**row | {"path": os.fsdecode(row["path"])}) for row in table.to_pylist()]
        except (pa.ArrowException, IndexError, KeyError, TypeError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # Arrow's own, for some damages, have none
                raise FileError(f"cannot read {path}: {error.strerror or error}") from error
            reason = " ".join(str(error).split())  # Arrow's has several lines
            raise Damaged(f"{path} is damaged: {reason}; put it back, or label into a new folder") from error


@contextmanager
def open_plan(source: str | os.PathLike[str], folder: str | os.PathLike[str], options: LabelOptions) -> Iterator[Plan]:
    """List the source, then make a run's folder, or find it begun with the same source, model and settings.

    The folder is locked meanwhile (where the system has POSIX locks).

    Args:
        source: As `mien.reading.sources.list_source`.
        folder: New or empty, or of an earlier start.
        options: What the rows shall depend on.

    Raises:
        InputError: The folder holds something else, or was begun with another source, model or settings; or an
            option is out of its range.
        FileError: The source or the folder cannot be used, or another run is at work in it.
        NotFound, Damaged, MissingExtra: As `load_model` and `list_source`.
    """
    need_extra("label", "labelling", "pyarrow", "fsspec")
    if not 0 <= options.shard_size <= _LARGEST:
        raise InputError(f"shard_size should be from 0 to {_LARGEST:,} images, but is {options.shard_size}")
    source, folder = os.fspath(source), Path(os.path.abspath(folder))
    recognizer = load_model(options.model, views=options.views, threads=1)
    CenterFace(side=options.side or None, min_score=options.min_score, threads=1)  # refuses what is out of range
    fixed = {
        "source": as_text(source if is_url(source) else os.path.abspath(source)),
        "spelling": as_text(source),
        "model": recognizer.name,
        "model_sha256": hashlib.sha256(recognizer.path.read_bytes()).hexdigest(),
        **{name: getattr(options, name) for name in ("views", "side", "min_score", "column")},
        "version": version("mien"),
    }
    model = options.model if recognizer.path != Path(options.model) else os.path.abspath(options.model)
    items = list_source(source, column=options.column, skip=str(folder))
    items = chain([next(items)], items)  # what is wrong with the source is raised before a folder is made
    _read_manifest(folder)  # and what is wrong with the folder before it is written to
    with locked(folder):
        for left in chain(folder.glob(".*.part"), folder.glob("rows/.*.part")):  # by a run that was killed
            left.unlink(missing_ok=True)
        manifest = _read_manifest(folder)
        if manifest is None:
            manifest = _begin(folder, items, fixed, options.shard_size)
        else:
            same = {"spelling": manifest.spelling} | ({"shard_size": options.shard_size} if options.shard_size else {})
            _check(folder, manifest, fixed | same)
            listing = _Listing(items)
            listing.exhaust()
            _check_listing(folder, manifest, listing, fixed["spelling"])
        yield Plan(folder, os.getcwd(), model, manifest)


def _begin(folder: Path, items: Iterable[Item], fixed: dict[str, Any], shard_size: int) -> Manifest:
    listing = _Listing(items)
    _write_plan(folder / "plan.parquet", listing)
    manifest = Manifest(
        **fixed,
        base=listing.base,
        images=listing.count,
        listing_sha256=listing.sha256,
        shard_size=shard_size or default_shard_size(listing.count),
    )
    text = json.dumps(asdict(manifest), indent=2) + "\n"
    write_whole(folder / "manifest.json", lambda file: file.write(text))
    return manifest


class _Listing:
    """Passes items on, counts them and takes their checksum.

    Attributes:
        count: How many there were.
        base: The folder from which their names start, where one of them is relative.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = items
        self._hash = hashlib.sha256()
        self.count = 0
        self.base = ""

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            self._hash.update(repr((as_text(item.source), item.offset, item.size)).encode())
            self.count += 1
            if not self.base and not is_url(item.path) and not os.path.isabs(item.path):
                self.base = as_text(os.getcwd())
            yield item

    def exhaust(self) -> None:
        for _ in self:
            pass

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def _write_plan(path: Path, items: Iterable[Item]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # A path is kept as the bytes that the system knows it by: they need not be text.
    kinds = {"path": pa.binary(), "inside": pa.string(), "offset": pa.int64(), "size": pa.int64()}
    schema = pa.schema(kinds | {"problem": pa.string()})
    left = iter(items)

    def write(file: Any) -> None:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            while group := list(islice(left, _GROUP)):
                rows = [
                    asdict(item)
                    | {"path": os.fsencode(item.path), "inside": as_text(item.inside)}
                    | {"problem": item.problem and as_text(item.problem)}
                    for item in group
                ]
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))

    write_whole(path, write, binary=True)


def _read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an earlier start; None for a folder in which nothing was begun."""
    path = folder / "manifest.json"
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        pass
    except NotADirectoryError as error:
        raise InputError(f"the results go to a folder, but {folder} is a file") from error
    except (OSError, ValueError, TypeError) as error:
        raise Damaged(f"{path} is no manifest of this version: {error}; name a new folder") from error
    # A start that was killed while it listed the source has left no more than this.
    inside = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if other := [name for name in inside if not name.startswith(".") and name != "plan.parquet"]:
        raise InputError(f"{folder} holds {other[0]} and no manifest of a labelling run; name a new folder")
    return None


def _check(folder: Path, begun: Manifest, now: dict[str, Any]) -> None:
    """Refuse what would mix the rows of two runs in one folder."""
    was = asdict(begun)
    if changed := [name for name, value in now.items() if was[name] != value]:
        differences = ", ".join(f"{name} {was[name]!r}, not {now[name]!r}" for name in changed)
        raise InputError(
            f"{folder} was begun with {differences}; finish it with the same, name a new folder, or delete "
            "it to begin anew"
        )


def _check_listing(folder: Path, begun: Manifest, now: _Listing, spelling: str) -> None:
    """Refuse a source that has other images now, or the same under other names."""
    if (now.count, now.sha256) == (begun.images, begun.listing_sha256):
        if now.base == begun.base:
            return
        raise InputError(
            f"{folder} was begun in {begun.base}, where the names of the images start, but this is {now.base}; start "
            "it there again, or name a new folder"
        )
    if spelling != begun.spelling:
        raise InputError(
            f"{folder} was begun with {begun.spelling}, but now it is called {spelling}, which gives its images other "
            "names; call it as before, or name a new folder"
        )
    raise InputError(
        f"{begun.source} has changed since {folder} was begun: it had {begun.images:,} images then, and has "
        f"{now.count:,} now{', others or of other sizes' if begun.images == now.count else ''}; label it "
        "into a new folder, or put it back as it was"
    )
