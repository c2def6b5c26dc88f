"""Small photos for labelling, and what a run left of them."""

import os
import tarfile
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from conftest import EXAMPLES
from mien.reading.bulk import read_photos
from mien.reading.plan import LabelOptions, Plan, open_plan
from mien.reading.recognizer import load_model
from mien.reading.tables import Photo, to_rows


@cache
def encoded(number: int) -> bytes:
    """One of six: two portraits in two sizes, a grey wall, half a JPEG."""
    buffer = BytesIO()
    if number % 6 == 4:
        Image.fromarray(np.full((60, 80, 3), 128, np.uint8)).save(buffer, "JPEG")
        return buffer.getvalue()
    image = Image.open(EXAMPLES / ("eileen-collins.jpg", "grace-hopper.jpg")[number % 2]).convert("RGB")
    image.thumbnail((96 + 16 * (number % 4),) * 2)
    image.save(buffer, "JPEG")
    return buffer.getvalue()[: -200 if number % 6 == 5 else None]


def folder_of(path: Path, count: int) -> Path:
    """So many photos as 000.jpg, 001.jpg, ...: every sixth has no face, every sixth is damaged."""
    path.mkdir(parents=True)
    for number in range(count):
        (path / f"{number:03}.jpg").write_bytes(encoded(number % 6))
    return path


def tar_of(path: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return path


def plan_of(source: str | os.PathLike[str], out: Path, **options: Any) -> Plan:
    """The plan of a run, without its lock."""
    with open_plan(source, out, LabelOptions(**options)) as plan:
        return plan


def rows_of(out: Path) -> list[dict[str, Any]]:
    """All rows of a run, sorted as the images are."""
    return pq.read_table(out / "rows").sort_by("source").to_pylist()


def read_one_by_one(paths: list[Path]) -> list[dict[str, Any]]:
    """What `mien read --parquet` would write of photos."""
    photos = [photo for photo in read_photos(paths, load_model(threads=1)) if isinstance(photo, Photo)]
    return [row for photo in photos for row in to_rows(photo)]
