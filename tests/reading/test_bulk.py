from pathlib import Path

import numpy as np

from mien.reading.bulk import Failure, find_photos, read_photos
from mien.reading.recognizer import load_model
from mien.reading.tables import Photo


def test_order_is_kept_and_nothing_stops_the_others(collins: Path, hopper: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("hello")
    wanted = [collins, tmp_path / "empty", tmp_path / "text.jpg", tmp_path / "*.nothing", hopper]
    results = list(read_photos(find_photos(wanted), load_model()))
    assert [type(result) for result in results] == [Photo, Failure, Failure, Failure, Photo]
    assert [result.source for result in results] == list(map(str, wanted))
    for failure in results[1:4]:
        assert str(failure).count(failure.source) == 1


def test_pixels_are_at_hand(collins: Path) -> None:
    kept: list[tuple[str, tuple[int, ...]]] = []

    def keep(photo: Photo, image: np.ndarray) -> None:
        kept.append((photo.source, image.shape))

    list(read_photos([collins], load_model(), keep=keep))
    assert kept == [(str(collins), (512, 512, 3))]


def test_a_failure_names_its_source_once() -> None:
    assert str(Failure("a.jpg", "a.jpg is empty")) == "a.jpg is empty"
    assert str(Failure("a.jpg", "is empty")) == "a.jpg: is empty"
