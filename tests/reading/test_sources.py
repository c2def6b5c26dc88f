import io
import os
import tarfile
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from mien.errors import Damaged, FileError, InputError, MienError, MissingExtra
from mien.reading.images import open_image
from mien.reading.sources import Item, fetch, list_source, read_items
from photos import encoded, folder_of, tar_of


def names(source: str | Path, **options: str) -> list[str]:
    return [item.source for item in list_source(str(source), **options)]


def contents(items: list[Item], column: str = "") -> list[bytes | str]:
    """What each item holds; the message of an error in its place."""
    read = ((item, source) for item, source in read_items(items, column))
    return [str(s) if isinstance(s, MienError) else fetch(item, s) for item, s in read]


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of everything, seen from beside it."""
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "in" / "deep" / "er", 2)
    (tmp_path / "in" / "a.PNG").touch()
    (tmp_path / "in" / ".hidden.jpg").touch()
    (tmp_path / "in" / "notes.txt").touch()
    (tmp_path / "in" / "z.jpg").symlink_to(tmp_path / "in" / "a.PNG")
    tar_of(tmp_path / "in" / "b.tar", {"x/1.jpg": encoded(0), "x/1.cls": b"3", "x/2.jpg": encoded(1)})
    pq.write_table(pa.table({"jpg": [encoded(0), encoded(1)], "label": [3, 6]}), tmp_path / "in" / "c.parquet")
    return Path("in")


def test_a_folder_in_the_order_of_mien_read(mixed: Path) -> None:
    inside = ["b.tar/x/1.jpg", "b.tar/x/2.jpg", "c.parquet#0", "c.parquet#1", "deep/er/000.jpg", "deep/er/001.jpg"]
    assert names(mixed) == ["in/a.PNG", *(f"in/{name}" for name in inside), "in/z.jpg"]
    assert names("./in/") == names("in")
    assert names(mixed, skip=str(mixed.absolute() / "deep")) == [name for name in names(mixed) if "deep" not in name]
    os.chdir(mixed)
    assert names(".")[0] == "a.PNG"


def test_patterns_stand_for_files(mixed: Path) -> None:
    assert names("in/*.jpg") == ["in/z.jpg"]
    assert names("in/**/0?[01].jpg") == ["in/deep/er/000.jpg", "in/deep/er/001.jpg"]
    assert names("i*/b.t*") == ["in/b.tar/x/1.jpg", "in/b.tar/x/2.jpg"]
    assert names(str(mixed.absolute() / "*.PNG")) == [str(mixed.absolute() / "a.PNG")]
    Path("in/[1].jpg").touch()
    assert names("in/[1].jpg") == ["in/[1].jpg"]


def test_a_list_keeps_its_order_and_its_missing_paths(mixed: Path) -> None:
    Path("list.txt").write_bytes(b"in/z.jpg\n\nin/missing.jpg\r\nin/b.tar\nnone.tar\ncaf\xe9.jpg\n")
    first, missing, one, two, no_tar, odd = list_source("list.txt")
    assert (first.source, missing.source) == ("in/z.jpg", "in/missing.jpg")
    assert (one.source, two.source) == ("in/b.tar/x/1.jpg", "in/b.tar/x/2.jpg")
    assert "none.tar: No such file" in (no_tar.problem or "")
    assert os.fsencode(odd.path) == b"caf\xe9.jpg"


def test_members_of_an_archive_and_rows_of_a_table_are_read_where_they_lie(mixed: Path) -> None:
    for source in ("in/b.tar", "in/c.parquet"):
        items = list(list_source(source))
        assert contents(items) == [encoded(0), encoded(1)]
        assert contents(items[1:]) == [encoded(1)]


def test_a_url_that_fsspec_opens(mixed: Path) -> None:
    memory = fsspec.filesystem("memory")
    for path in [path for path in mixed.rglob("*") if path.is_file()]:
        memory.pipe(f"/{path}", path.read_bytes())
    here, there = list(list_source("in")), list(list_source("memory://in"))
    assert [item.source for item in there] == [f"memory://{item.source}" for item in here]
    assert [c for c in contents(there) if c] == [encoded(0), encoded(1)] * 3
    assert names("memory://in/*.tar") == ["memory://in/b.tar/x/1.jpg", "memory://in/b.tar/x/2.jpg"]
    memory.rm("/in", recursive=True)
    with pytest.raises(FileError, match=r"cannot read memory://in/deep/er/000.jpg"):
        fetch(there[5], there[5].path)


class Breaking(MemoryFileSystem):
    """A storage whose connection breaks while an archive or a table is read, with an error of its own kind."""

    protocol = "breaking"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("breaking:/")))

    def open(self, path: str, mode: str = "rb", **_: object) -> io.BytesIO:
        content = MemoryFileSystem().cat_file(path)

        class File(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell() + (size or 0) > 600:  # the head of an archive's first member, and no more
                    raise RuntimeError("the connection was reset")
                return super().read(size)

        return File(content)


def test_a_connection_that_breaks_costs_only_what_follows_in_that_file(mixed: Path) -> None:
    fsspec.register_implementation("breaking", Breaking, clobber=True)
    memory = fsspec.filesystem("memory")
    for path in [path for path in mixed.rglob("*") if path.is_file()]:
        memory.pipe(f"/{path}", path.read_bytes())
    found = list(list_source("breaking://in"))
    assert [item.source for item in found if item.problem is None and "b.tar" not in item.path] == [
        "breaking://in/a.PNG", "breaking://in/deep/er/000.jpg", "breaking://in/deep/er/001.jpg", "breaking://in/z.jpg",
    ]
    assert [item.problem for item in found if item.problem] == [
        f"cannot read breaking://in/{name}: the connection was reset" for name in ("b.tar", "c.parquet")
    ]
    assert [item.inside for item in found if item.path.endswith(".tar")] == ["/x/1.jpg", ""]
    memory.rm("/in", recursive=True)


def test_a_listing_is_lazy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        folder_of(tmp_path / name, 1)
    listed: list[str] = []
    ls = LocalFileSystem.ls
    monkeypatch.setattr(LocalFileSystem, "ls", lambda self, path, **o: [listed.append(path), ls(self, path, **o)][1])
    assert len(list(islice(list_source(str(tmp_path)), 2))) == 2
    assert listed == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "b")]


def test_a_folder_that_cannot_be_listed_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "locked", "z"):
        folder_of(tmp_path / name, 1)
    scandir = os.scandir

    def locked(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    first, problem, last = list_source(str(tmp_path))
    assert (first.source, last.source) == (str(tmp_path / "a" / "000.jpg"), str(tmp_path / "z" / "000.jpg"))
    assert problem.problem == f"cannot read {tmp_path / 'locked'}: Permission denied"


def test_a_link_to_a_folder_is_told_and_not_followed(tmp_path: Path) -> None:
    folder_of(tmp_path / "in", 1)
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    photo, problem = list_source(str(tmp_path / "in"))
    assert photo.source == str(tmp_path / "in" / "000.jpg")
    assert (problem.source, problem.problem) == (
        str(tmp_path / "in" / "loop"),
        f"{tmp_path / 'in' / 'loop'} is a link to a folder, which is not followed; label that folder by its name",
    )
    for pattern, told in (("**/*.jpg", True), ("*/*.jpg", True), ("lo*/*.jpg", True), ("*", False), ("*.jpg", False)):
        found = list_source(str(tmp_path / "in" / pattern))
        assert any(item.problem == problem.problem for item in found) == told, pattern


@pytest.mark.parametrize(
    ("pattern", "told"),
    [("**/*.jpg", True), ("*/*.jpg", True), ("lock*/*.jpg", True), ("[az]/*.jpg", False), ("*.jpg", False)],
)
def test_a_pattern_tells_the_folders_that_it_could_not_look_into(
    pattern: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path / "all", 1)
    for name in ("a", "locked"):
        folder_of(tmp_path / "all" / name, 1)
    ls = LocalFileSystem.ls

    def breaking(self: LocalFileSystem, path: str, **options: Any) -> Any:
        if Path(path).name == "locked":
            raise OSError(5, "Input/output error")
        return ls(self, path, **options)

    monkeypatch.setattr(LocalFileSystem, "ls", breaking)
    problems = [(each.source, each.problem) for each in list_source(str(tmp_path / "all" / pattern)) if each.problem]
    expected = str(tmp_path / "all" / "locked"), f"cannot read {tmp_path / 'all' / 'locked'}: Input/output error"
    assert problems == [expected] * told


def test_a_pattern_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no pattern: .*write \*\*/\*\.jpg"):
        list(list_source(str(tmp_path / "**.jpg")))


@pytest.mark.parametrize("damage", ["head", "end"])
def test_a_damaged_archive_gives_what_came_before(damage: str, tmp_path: Path) -> None:
    """Python's tarfile takes a head that it does not understand for the end."""
    path = tar_of(tmp_path / "a.tar", {f"{k}.jpg": encoded(k % 2) for k in range(4)})
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        third = archive.getmembers()[2]
    if damage == "head":
        content[third.offset : third.offset + 100] = b"\xff" * 100
    else:
        del content[third.offset_data + 50 :]
    path.write_bytes(content)
    *good, problem = list_source(str(path))
    assert [item.inside for item in good] == ["/0.jpg", "/1.jpg"] + (["/2.jpg"] if damage == "end" else [])
    assert contents(good[:2]) == [encoded(0), encoded(1)]
    assert f"{path} is damaged at byte" in (problem.problem or "")


def test_a_sound_archive_has_no_problem(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", {"0.jpg": encoded(0)})
    path.write_bytes(path.read_bytes()[: 512 + (len(encoded(0)) + 511) // 512 * 512])  # without the closing zeros
    assert names(path) == [f"{path}/0.jpg"]


def test_archives_that_were_joined(tmp_path: Path) -> None:
    first, second = (tar_of(tmp_path / f"{k}.tar", {f"{k}.jpg": encoded(k)}) for k in range(2))
    path = tmp_path / "joined.tar"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    items = list(list_source(str(path)))
    assert [item.inside for item in items] == ["/0.jpg", "/1.jpg"]
    assert contents(items) == [encoded(0), encoded(1)]
    path.write_bytes(first.read_bytes() + b"rubbish" * 100)
    good, problem = list_source(str(path))
    assert good.inside == "/0.jpg"
    assert f"is damaged at byte {first.stat().st_size:,}" in (problem.problem or "")


def test_hidden_members_are_passed_over_as_hidden_files_are(tmp_path: Path) -> None:
    names_inside = ("./a/0.jpg", "._0.jpg", "a/._0.jpg", ".cache/0.jpg", "../1.jpg")
    path = tar_of(tmp_path / "a.tar", dict.fromkeys(names_inside, encoded(0)))
    assert names(path) == [f"{path}/./a/0.jpg", f"{path}/../1.jpg"]


def test_links_in_an_archive_are_told(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("hard.jpg", tarfile.LNKTYPE), ("soft.jpg", tarfile.SYMTYPE), ("soft.txt", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "1.jpg"
            archive.addfile(member)
    hard, soft = list_source(str(tmp_path / "a.tar"))
    assert hard.source.endswith("a.tar/hard.jpg")
    assert "hard.jpg is a link, which is not followed" in (hard.problem or "")
    assert "soft.jpg is a link" in (soft.problem or "")


def test_what_is_packed_or_of_a_telephone_is_not_passed_over(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.tar.gz", "b.tar.idx", "c.zip", "d.heic", "e.txt"):
        (tmp_path / name).touch()
    items = list(list_source(str(tmp_path)))
    assert [Path(item.path).name for item in items] == ["a.jpg", "b.tar.gz", "c.zip", "d.heic"]
    assert all("is compressed" in (item.problem or "") for item in items[1:3])


def test_a_url_of_this_machine_is_a_path(mixed: Path) -> None:
    assert names(f"file://{mixed.absolute()}") == names(mixed.absolute())
    Path("list.txt").write_text(f"file://{mixed.absolute()}/z.jpg\n")
    assert names("list.txt") == [str(mixed.absolute() / "z.jpg")]


def test_a_url_that_cannot_be_opened_costs_no_other(mixed: Path) -> None:
    Path("list.txt").write_text("in/a.PNG\nzip://a.png::in/a.PNG\nftp://127.0.0.1:9/a.png\nin/z.jpg\n")
    items = list(list_source("list.txt"))
    read = [attempt(item, source) for item, source in read_items(items, "") if not isinstance(source, MienError)]
    assert [isinstance(one, FileError) for one in read] == [False, True, True, False]
    assert "cannot read zip://a.png::in/a.PNG" in str(read[1])
    assert "cannot read ftp://127.0.0.1:9/a.png: Connection refused" in str(read[2])


def attempt(item: Item, source: str | bytes) -> str | bytes | MienError:
    try:
        return fetch(item, source)
    except MienError as error:
        return error


def test_a_server_that_gives_whole_files_alone_is_told(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/in/b.tar", (mixed / "b.tar").read_bytes())
    first, _ = list_source("memory://in/b.tar")
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda self, path, **_: (mixed / "b.tar").read_bytes())
    with pytest.raises(FileError, match=r"b.tar/x/1.jpg: its server gives whole files alone; download memory://in/b.tar"):
        fetch(first, first.path)


def test_a_list_in_utf_16_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.jpg\n", encoding="utf-16")
    with pytest.raises(Damaged, match="list.txt is a text in UTF-16, expected UTF-8"):
        names(tmp_path / "list.txt")


def test_rows_across_row_groups(tmp_path: Path) -> None:
    values = [f"image {k}".encode() for k in range(100)] + [None]
    structs = pa.array([{"bytes": value, "path": "x"} for value in values])
    pq.write_table(pa.table({"image": structs, "thumb": values}), tmp_path / "t.parquet", row_group_size=7)
    items = list(list_source(str(tmp_path / "t.parquet")))
    assert contents(items[5:90]) == values[5:90]
    assert contents(items[99:], "thumb") == [values[99], "the row holds no image"]
    doubled = items[40:42] + items[40:42]  # a list that names a table twice
    assert contents(doubled) == values[40:42] * 2


@pytest.mark.parametrize(
    ("table", "column", "message"),
    [
        ({"source": ["a.jpg"], "label": [1]}, "", "has no image column: .* it has source (string), label (int64)"),
        ({"one": [b"1"], "two": [b"2"]}, "", "several image columns; name one (--column): .*one (binary), two"),
        ({"one": [b"1"]}, "two", "has no column 'two' with images"),
    ],
)
def test_a_table_without_an_image_column(
    table: dict[str, list[object]], column: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(table), path)
    with pytest.raises(InputError, match=message.replace("(", r"\(").replace(")", r"\)")):
        list(list_source(str(path), column=column))
    folder_of(tmp_path / "u", 1)
    problem, photo = list_source(str(tmp_path), column=column)  # among others, it stops none
    assert str(path) in (problem.problem or "")
    assert photo.source == str(tmp_path / "u" / "000.jpg")


def test_a_table_that_breaks_off_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    values = [os.urandom(500) for _ in range(80)]
    pq.write_table(pa.table({"image": values}), path, row_group_size=40, use_dictionary=False)
    items = list(list_source(str(path)))
    content = bytearray(path.read_bytes())
    page = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    content[page : page + 50] = b"\xff" * 50
    path.write_bytes(content)
    read = [value for _, value in read_items(items, "")]
    assert read[:32] == values[:32]  # the rest of a batch may be lost with what is broken
    assert isinstance(read[-1], Damaged)  # and no FileError, which another start might be spared
    assert str(path) in str(read[-1])


def test_a_lack_of_memory_is_no_damaged_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": [b"1"]}), path)
    items = list(list_source(str(path)))

    def short(*_: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", short)
    ((_, error),) = read_items(items, "")
    assert isinstance(error, FileError)
    assert isinstance(error.__cause__, MemoryError)
    assert str(error) == f"cannot read {path}: malloc of size 64 failed"


def test_an_error_of_no_words_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object, **__: object) -> None:
        raise TimeoutError

    path = tar_of(tmp_path / "a.tar", {"0.jpg": encoded(0)})
    (item,) = list_source(str(path))
    monkeypatch.setattr(LocalFileSystem, "cat_file", late)
    with pytest.raises(FileError, match=r"cannot read .*a\.tar: TimeoutError$"):
        fetch(item, item.path)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("", InputError, "got an empty name; is a shell variable unset"),
        ("none", FileError, "no such file or folder"),
        ("none/*.jpg", FileError, "no file matches none/"),
        ("empty", FileError, "no images in empty"),
        ("empty.txt", FileError, "a path or URL a line"),
        ("text.tar", Damaged, "no plain tar archive"),
        ("text.parquet", Damaged, "damaged Parquet file"),
        ("photos.tar.gz", InputError, "unpack it"),
        ("nothing-like-it://x", InputError, "URL that fsspec opens"),
        ("s3://bucket/photos", MissingExtra, "driver that is not installed: .*s3fs"),
    ],
)
def test_what_is_no_source(
    source: str, error: type[MienError], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("empty.txt").touch()
    for name in ("text.tar", "text.parquet", "photos.tar.gz"):
        Path(name).write_text("hello, hello, hello")
    if source.startswith("s3") and find_spec("s3fs"):
        pytest.skip("the driver is installed")
    with pytest.raises(error, match=message):
        next(list_source(source))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("name", ["a.tar", "a.parquet", "a.txt"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(FileError, match="expected a file"):
        next(list_source(str(tmp_path / name)))


def test_the_mark_at_the_head_of_a_list_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\nb.jpg\n")
    assert names(tmp_path / "list.txt") == ["a.jpg", "b.jpg"]


def test_open_image_takes_what_comes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", 1)
    ((item, source),) = read_items(list(list_source(str(folder))), "")
    assert open_image(fetch(item, source)).shape[2] == 3
