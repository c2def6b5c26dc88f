import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mien.reading.bulk import Failure, find_photos, read_photos
from mien.reading.images import save_image
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


def test_a_folder_that_cannot_be_listed_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "locked", "z"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").touch()
    scandir = os.scandir

    def locked(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    failure, *files = find_photos([tmp_path])
    assert files == [tmp_path / "a" / "1.jpg", tmp_path / "z" / "1.jpg"]
    assert str(failure) == f"cannot list {tmp_path / 'locked'}: Permission denied"
    assert find_photos([tmp_path / "*"])[1:] == files
    (alone,) = find_photos([tmp_path / "locked"])
    assert str(alone) == str(failure)


def test_what_is_made_of_the_photos_is_not_read_again(tmp_path: Path) -> None:
    made = tmp_path / "album" / "drawn"
    made.mkdir(parents=True)
    photo, own = tmp_path / "album" / "a.jpg", made / "own.jpg"
    for path in (photo, own):
        Image.new("RGB", (9, 9)).save(path)
    drawn = [save_image(made / name, np.zeros((9, 9, 3), np.uint8)) for name in ("a.jpg", "a.png")]
    for given in (tmp_path / "album", tmp_path / "album" / "**" / "*.*"):
        assert find_photos([given], skip=[made]) == [photo, own]
        assert set(find_photos([given])) == {photo, own, *drawn}
    assert find_photos([made], skip=[made]) == [own]
    assert find_photos([made / "a.jpg"], skip=[made]) == drawn[:1]
    (failure,) = find_photos([made / "a.*"], skip=[made])
    assert str(failure) == f"there are no photos in {made / 'a.*'}: what is there was drawn by mien"


def test_pipes_and_links_to_themselves_cost_no_other(collins: Path, tmp_path: Path) -> None:
    drawn, pipe, loop = tmp_path / "drawn", tmp_path / "drawn" / "p.jpg", tmp_path / "loop.jpg"
    drawn.mkdir()
    os.mkfifo(pipe)  # to open it would be to wait
    loop.symlink_to(loop)
    photos = find_photos([tmp_path, loop, collins], skip=[drawn])
    assert photos == [pipe, loop, loop, collins]


def test_an_empty_name_costs_no_other(collins: Path) -> None:
    failure, photo = find_photos(["", collins])
    assert photo == collins
    assert "got an empty name" in str(failure)


def test_pixels_are_at_hand(collins: Path) -> None:
    kept: list[tuple[str, tuple[int, ...]]] = []

    def keep(photo: Photo, image: np.ndarray) -> None:
        kept.append((photo.source, image.shape))

    list(read_photos([collins], load_model(), keep=keep))
    assert kept == [(str(collins), (512, 512, 3))]


def test_a_failure_names_its_source_once() -> None:
    assert str(Failure("a.jpg", "a.jpg is empty")) == "a.jpg is empty"
    assert str(Failure("a.jpg", "is empty")) == "a.jpg: is empty"
