import os
from pathlib import Path
from typing import Any

import pytest

from mien.errors import Damaged, FileError
from mien.storage import need_file, need_writable, parse_json, write_whole


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
    with pytest.raises(FileError, match="cannot write .*file/a.txt"):
        need_writable(tmp_path / "file" / "a.txt")
    with pytest.raises(FileError, match="cannot write .*: Is a directory"):
        need_writable(tmp_path)


def test_asking_for_a_place_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    need_writable(tmp_path / "a.txt")
    need_writable(tmp_path / "new" / "newer" / "b.txt")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_names_as_long_as_they_may_be_and_links(tmp_path: Path) -> None:
    assert write_whole(tmp_path / ("a" * 255), lambda file: file.write("x")).read_text() == "x"
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    write_whole(tmp_path / "link.txt", lambda file: file.write("through it"))
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "through it"


def test_what_the_writer_itself_meets_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"^cannot read .*none: No such file"):
        write_whole(tmp_path / "a.txt", lambda file: need_file(tmp_path / "none"))


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        calls.append(f"fsync of {os.fstat(descriptor).st_size if not calls else 'the folder'}")

    def replaced(*paths: Any) -> None:
        replace(*paths)
        calls.append("replace")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_whole(tmp_path / "a.txt", lambda file: file.write("abc"))
    assert calls[:2] == ["fsync of 3", "replace"]
    if os.name == "posix":
        assert calls[2:] == ["fsync of the folder"]


def test_names_that_are_not_utf8_can_be_written(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.txt", lambda file: file.write("caf\udce9"))
    assert path.read_text(encoding="utf-8") == "caf\\udce9"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_only_files_of_a_fitting_size_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(10))
    need_file(tmp_path / "file", most=10)
    with pytest.raises(Damaged, match="has 10 bytes, and what it should be has at most 9"):
        need_file(tmp_path / "file", most=9)
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, tmp_path / "none", "a\0b", "/dev/zero"):
        with pytest.raises(FileError, match="cannot read"):
            need_file(place)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"":' * 100_000, "1" * 5000, "", b"\xff"])
def test_json_that_cannot_be_followed_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="."):
        parse_json(text)
