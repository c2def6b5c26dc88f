import base64
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien.compat.sources import keep_default, open_source, recognizer, whole_box
from mien.errors import Damaged, FileError, InputError
from mien.reading.faces import Face
from mien.reading.images import open_image


def test_every_form_gives_the_same_pixels(collins: Path) -> None:
    expected = open_image(collins)
    content = collins.read_bytes()
    uri = "data:image/jpeg;base64," + base64.b64encode(content).decode()
    broken = "data:image/jpeg;base64," + base64.encodebytes(content).decode()
    for source in (str(collins), collins, uri, broken, io.BytesIO(content), expected[..., ::-1]):
        assert np.array_equal(open_source(source), expected)


def test_opencv_arrays_keep_their_colours(collins: Path) -> None:
    difference = open_source(cv2.imread(str(collins))).astype(int) - open_image(collins)
    assert np.abs(difference).mean() < 1  # two decoders of JPEG


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (None, InputError, "cv2.imread"),
        ("https://example.org/a.jpg", InputError, "fetches nothing"),
        (io.StringIO("a.jpg"), InputError, "binary mode"),
        (io.TextIOWrapper(io.BytesIO(b"\xff\xd8\xff"), "utf-8"), InputError, "binary mode"),
        ("data:image/png;base64,???", Damaged, "not base64"),
        ("data:image/png;base64,é", Damaged, "not base64"),
        ("data:image/png;base64,AAAA", Damaged, "no image"),
        ("missing.jpg", FileError, "missing.jpg"),
        (np.zeros((4, 4, 3)), InputError, "blue, green, red"),
        (7, InputError, "got int"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_other_sources_are_refused(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_source(source)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((10.4, 5.6, 20.0, 30.0), (10, 6, 20, 30)),
        ((-8.0, -3.0, 20.0, 10.0), (0, 0, 12, 7)),  # cut at the upper left
        ((90.0, 40.0, 30.0, 30.0), (90, 40, 10, 10)),  # at the lower right
        ((99.9, 49.9, 0.4, 0.4), (99, 49, 1, 1)),  # less than a pixel
    ],
)
def test_boxes_are_whole_and_inside(box: tuple[float, ...], expected: tuple[int, ...]) -> None:
    x, y, w, h = box
    assert whole_box(Face((x, y, w, h), 1.0, ()), 100, 50) == expected


def test_other_values_than_the_default_are_refused() -> None:
    keep_default("FER", offsets=((10, 10), (10, 10)))
    with pytest.raises(InputError, match=r"offsets of FER can only be \(10, 10\) in mien, but is \(0, 0\)"):
        keep_default("FER", mtcnn=(1, 1), offsets=((0, 0), (10, 10)))


def test_all_stand_ins_share_one_network() -> None:
    assert recognizer() is recognizer()
