from pathlib import Path

import pytest

from mien.errors import FileError
from mien.storage import write_whole


def test_writes_into_a_new_folder(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a" / "b.txt", lambda file: file.write("ü\n"))
    assert path.read_bytes() == "ü\n".encode()


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half(file: object) -> None:
        file.write("new")  # type: ignore[attr-defined]
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_whole(path, half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileError, match="cannot write .*file/a.txt"):
        write_whole(tmp_path / "file" / "a.txt", lambda file: file.write("x"))
