"""Data sets in every form, whole and damaged. What the real csv is known to hold is tested where it is named."""

import gzip
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mien.errors import Damaged, FileError, InputError, NotFound
from mien.expressions import EXPRESSIONS
from mien.measuring import cache as cache_module
from mien.measuring import data, fer_csv
from mien.measuring.data import load
from mien.measuring.faceset import FaceSet
from mien.measuring.fer_csv import SPLITS
from mien.measuring.npy import save_npy
from mien.reading.images import grey, open_image, resize

GENERATOR = np.random.default_rng(7)
IMAGES = GENERATOR.integers(0, 256, (3, 48, 48)).astype(np.uint8)
IMAGES[1, :, :24] = GENERATOR.integers(0, 12, (48, 24))  # many numbers of one digit
PIXELS = [" ".join(map(str, image.ravel())) for image in IMAGES]
FACES = "emotion,pixels,Usage\n" + f"0,{PIXELS[0]},Training\n3,{PIXELS[1]},PublicTest\n,{PIXELS[2]},PrivateTest\n"
VOTES_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
VOTES = (
    VOTES_HEADER + "Training,a.png,4,0,0,1,3,2,0,0,0,0\nPublicTest,,0,0,0,0,0,0,0,0,0,10\nPrivateTest,c.png,,,,,,,,,,\n"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def written(tmp_path: Path, cache: Path) -> Callable[..., Path]:
    """Write a file, as if some time ago: what is younger than two seconds is not yet trusted to stay."""

    def write(content: str | bytes, name: str = "fer2013.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files count as old enough for the index."""
    monkeypatch.setattr(cache_module, "_YOUNG", -1)


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Lose the right of the superuser to read everything."""
    if not hasattr(os, "geteuid"):
        pytest.skip("this system knows no user ids")
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


# csv forms

FORMS = {
    "fer2013": (FACES, [0, 3, -1], list(SPLITS)),
    "no line end at the end": (FACES.rstrip("\n"), [0, 3, -1], list(SPLITS)),
    "CRLF": (FACES.replace("\n", "\r\n"), [0, 3, -1], list(SPLITS)),
    "byte order mark": ("\ufeff" + FACES, [0, 3, -1], list(SPLITS)),
    "blank lines": (FACES.replace("\n", "\n\n"), [0, 3, -1], list(SPLITS)),
    "quotes": (
        f'"emotion","pixels","Usage"\n"0","{PIXELS[0]}","Training"\n"3","{PIXELS[1]}","PublicTest"\n'
        f'"","{PIXELS[2]}","PrivateTest"\n',
        [0, 3, -1],
        list(SPLITS),
    ),
    "more blanks than needed": (
        FACES.replace(PIXELS[1], f" {PIXELS[1].replace(' ', '  ', 9)} "),
        [0, 3, -1],
        list(SPLITS),
    ),
    "leading zeros": (FACES.replace(PIXELS[1], "00" + PIXELS[1]), [0, 3, -1], list(SPLITS)),
    "icml_face_data": (
        "emotion, Usage, pixels\n"
        + "".join(f"{k},{split},{pixels}\n" for k, (split, pixels) in enumerate(zip(SPLITS, PIXELS, strict=True))),
        [0, 1, 2],
        list(SPLITS),
    ),
    "a column more": (
        "id,emotion,pixels,Usage\n" + "".join(f"ä{k},{k},{pixels},Training\n" for k, pixels in enumerate(PIXELS)),
        [0, 1, 2],
        ["Training"] * 3,
    ),
    "train: no Usage": (
        "emotion,pixels\n" + "".join(f"6,{pixels}\n" for pixels in PIXELS),
        [6, 6, 6],
        ["Training"] * 3,
    ),
    "test: pixels alone": ("pixels\n" + "\n".join(PIXELS), [-1, -1, -1], ["test"] * 3),
}


@pytest.mark.parametrize("form", FORMS)
def test_csv_forms(form: str, written: Callable[..., Path]) -> None:
    text, labels, splits = FORMS[form]
    path = written(text)
    for faces in (load(path), load(path)):  # the second from the cache
        np.testing.assert_array_equal(faces.images, IMAGES)
        assert faces.images.dtype == np.uint8
        assert faces.labels.dtype == np.int8
        assert faces.labels.tolist() == labels
        assert faces.splits.tolist() == splits
        assert faces.rows.tolist() == [0, 1, 2]
        assert faces.votes is None
        assert faces.dropped == 0
        assert faces.source == str(path)
        assert faces.checksum == sha256(path.read_bytes()).hexdigest()


def test_more_rows_than_are_parsed_at_once(small_csv: Path, small_faces: FaceSet) -> None:
    faces = load(small_csv, ferplus=small_csv.with_name("fer2013new.csv"))
    for name in ("images", "labels", "splits", "rows", "votes"):
        np.testing.assert_array_equal(getattr(faces, name), getattr(small_faces, name))


def test_ferplus(written: Callable[..., Path]) -> None:
    path, ferplus = written(FACES), written(VOTES, "fer2013new.csv")
    for _ in range(2):
        faces = load(path, ferplus=ferplus)
        assert faces.votes is not None
        assert faces.votes.tolist() == [[4, 0, 0, 1, 3, 2, 0, 0, 0, 0], [0] * 9 + [10], [0] * 10]
        assert faces.checksum == sha256(path.read_bytes() + ferplus.read_bytes()).hexdigest()
        assert faces.source == f"{path} + fer2013new.csv"
    assert load(path).votes is None


# damage

TOO_FEW = PIXELS[1].rpartition(" ")[0]
DAMAGE = {
    "too few pixels": (f"3,{TOO_FEW},PublicTest", "2,303 pixels, expected 2,304"),
    "too many pixels": (f"3,{PIXELS[1]} 1,PublicTest", "2,305 pixels, expected 2,304"),
    "no pixels": ("3,,PublicTest", "0 pixels, expected 2,304"),
    "above 255": (f"3,{TOO_FEW} 256,PublicTest", "pixel 2304 is '256', expected 0 to 255"),
    "far above 255": (f"3,{TOO_FEW} {'9' * 5000},PublicTest", "pixel 2304 is '9{60}…', expected 0 to 255"),
    "below 0": (f"3,-1 {PIXELS[1].partition(' ')[2]},PublicTest", "pixel 1 is '-1', expected 0 to 255"),
    "a word": (f"3,{TOO_FEW} black,PublicTest", "pixel 2304 is 'black', not a whole number"),
    "a fraction": (f"3,{TOO_FEW} 1.5,PublicTest", "pixel 2304 is '1.5', not a whole number"),
    "a letter in a number": (f"3,{TOO_FEW} 1o,PublicTest", "pixel 2304 is '1o', not a whole number"),
    "unknown label": (f"7,{PIXELS[1]},PublicTest", "unknown label '7', expected 0 to 6 or nothing"),
    "label in words": (f"happy,{PIXELS[1]},PublicTest", "unknown label 'happy'"),
    "unknown Usage": (f"3,{PIXELS[1]},Public", "unknown Usage 'Public', expected one of Training, PublicTest"),
    "missing column": (f"3,{PIXELS[1]}", "2 columns, expected 3: emotion, pixels, usage"),
    "pixels between commas": (f"3,{PIXELS[1].replace(' ', ',')},PublicTest", "2306 columns, expected 3"),
    "not UTF-8": (f"3,{TOO_FEW} \udcff,PublicTest", "not UTF-8: byte 0xff at place"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_row_is_named_or_left_out(damage: str, written: Callable[..., Path]) -> None:
    line, reason = DAMAGE[damage]
    lines = FACES.splitlines()
    lines[2] = line
    path = written("\n".join(lines).encode(errors="surrogateescape") + b"\n")
    with pytest.raises(Damaged, match=f"fer2013.csv, line 3: {reason}"):
        load(path)
    faces = load(path, skip_bad=True)
    np.testing.assert_array_equal(faces.images, IMAGES[[0, 2]])
    assert faces.labels.tolist() == [0, -1]
    assert faces.rows.tolist() == [0, 2]
    assert faces.dropped == 1
    with pytest.raises(Damaged):  # what was left out is not forgotten by way of the cache
        load(path)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (-4, "unknown Usage 'Private'"),
        (-11, "unknown Usage ''"),
        (-14, "2 columns, expected 3"),
        (-3000, "2 columns, expected 3"),
    ],
)
def test_a_truncated_last_line(end: int, reason: str, written: Callable[..., Path]) -> None:
    path = written(FACES.rstrip("\n")[:end])
    with pytest.raises(Damaged, match=f"line 4: the file breaks off here: {reason}"):
        load(path)
    assert len(load(path, skip_bad=True)) == 2


def test_the_first_five_are_listed_and_the_others_counted(written: Callable[..., Path]) -> None:
    path = written("emotion,pixels\n" + f"0,{PIXELS[0]}\n9,{PIXELS[1]}\n" * 20)
    with pytest.raises(Damaged, match="20 damaged rows in") as caught:
        load(path)
    assert [line for line in range(100) if f"line {line}:" in str(caught.value)] == [3, 5, 7, 9, 11]
    assert "... and 15 more" in str(caught.value)
    faces = load(path, skip_bad=True)
    assert (len(faces), faces.dropped) == (20, 20)
    assert faces.faults[19].endswith("line 41: unknown label '9', expected 0 to 6 or nothing")


WHOLE = {
    "empty": (b"", "the file is empty"),
    "only a header": (b"emotion,pixels,Usage\n", "there is no sound face"),
    "no header": (FACES.partition("\n")[2].encode(), "line 1: there is no column 'pixels', only '0,"),
    "another table": (b"a,b\n1,2\n", "there is no column 'pixels', only 'a,b'"),
    "FER+ in its place": (VOTES.encode(), "no column 'pixels'.*FER\\+ votes go beside a csv"),
    "UTF-16": (FACES.encode("utf-16"), "is a text in UTF-16, expected a csv in UTF-8"),
    "latin-1": ("émotion,pixels\n".encode("latin-1"), "line 1: not UTF-8: byte 0xe9 at place 1"),
    "gzip": (gzip.compress(FACES.encode()), "is packed by gzip, expected a csv in UTF-8; unpack"),
    "CR": (FACES.replace("\n", "\r").encode(), "lines end in CR alone; save it"),
    "semicolons": (b"emotion;pixels\n0;1 2\n", "no column 'pixels'.*; columns should have commas"),
    "a column twice": (b"emotion,pixels,Emotion\n", "line 1: two columns are called 'emotion'; leave out one"),
    "no sound row": (b"pixels\n1 2 3\n", "3 pixels, expected 2,304"),
}


@pytest.mark.parametrize("case", WHOLE)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_file_that_is_damaged_as_a_whole(case: str, skip_bad: bool, written: Callable[..., Path]) -> None:
    content, reason = WHOLE[case]
    with pytest.raises(Damaged, match=reason):
        load(written(content), skip_bad=skip_bad)


VOTES_DAMAGE = {
    "a row less": (VOTES.rpartition("PrivateTest")[0], "does not belong to .*: it has 2 rows, expected 3"),
    "another order": (VOTES.replace("PublicTest", "Training"), "Usage of row 1 is Training, expected PublicTest"),
    "no column": (VOTES.replace("fear", "fury"), "fer2013new.csv, line 1: there is no column 'fear'"),
    "empty": ("", "fer2013new.csv: the file is empty"),
}


@pytest.mark.parametrize("case", VOTES_DAMAGE)
def test_ferplus_of_another_file(case: str, written: Callable[..., Path]) -> None:
    text, reason = VOTES_DAMAGE[case]
    with pytest.raises(Damaged, match=reason):
        load(written(FACES), ferplus=written(text, "fer2013new.csv"), skip_bad=True)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("4,0,0,1", "many,0,0,1", "'many' is no number of votes"),
        ("a.png,4,", "a.png,", "11 columns, expected 12"),
        ("a.png", "a\udcff.png", "not UTF-8: byte 0xff"),
    ],
)
def test_a_damaged_row_of_votes(old: str, new: str, reason: str, written: Callable[..., Path]) -> None:
    ferplus = written(VOTES.replace(old, new).encode(errors="surrogateescape"), "fer2013new.csv")
    path = written(FACES)
    with pytest.raises(Damaged, match=f"fer2013new.csv, line 2: {reason}"):
        load(path, ferplus=ferplus)
    faces = load(path, ferplus=ferplus, skip_bad=True)
    assert faces.rows.tolist() == [1, 2]
    assert faces.dropped == 1
    assert faces.votes is not None
    assert faces.votes[0, 9] == 10


def test_votes_in_another_order_are_doubted(small_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_ENOUGH", 126)
    votes = small_csv.with_name("fer2013new.csv")  # all for neutral, as one label in seven is
    (note,) = load(small_csv, ferplus=votes).notes
    assert "FER+ votes agree with 14% of the labels alone" in note
    assert "may be in another order than the rows of fer2013.csv" in note
    order = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    head, *lines = votes.read_text().splitlines()
    columns = head.split(",")
    for row, label in enumerate(load(small_csv).labels):
        fields = lines[row].split(",")
        fields[2:] = [str(10 * (name == order[label])) for name in columns[2:]]
        lines[row] = ",".join(fields)
    votes.write_text("\n".join([head, *lines]) + "\n")
    assert load(small_csv, ferplus=votes).notes == ()


def test_votes_follow_their_rows_where_faces_are_left_out(written: Callable[..., Path]) -> None:
    path = written(FACES.replace("0,", "x,", 1))
    faces = load(path, ferplus=written(VOTES, "fer2013new.csv"), skip_bad=True)
    assert faces.votes is not None
    assert faces.votes[:, 9].tolist() == [10, 0]


def test_random_damage_to_pixels_is_read_as_plain_python_reads_it(written: Callable[..., Path]) -> None:
    generator = np.random.default_rng(0)
    texts = []
    for _ in range(1000):
        text = bytearray(PIXELS[0].encode())
        for _ in range(generator.integers(1, 4)):
            place = int(generator.integers(len(text)))
            text[place : place + int(generator.integers(2))] = bytes([generator.choice(list(b"0129  -.a"))])
        texts.append(bytes(text).decode())
    faces = load(written("pixels\n" + "".join(f"{text}\n" for text in texts)), skip_bad=True)
    words = [text.split() for text in texts]
    sound = [k for k in range(1000) if len(words[k]) == 2304 and all(w in SOUND or is_padded(w) for w in words[k])]
    assert faces.rows.tolist() == sound
    assert 50 < len(sound) < 950
    for image, k in zip(faces.images, sound, strict=True):
        assert image.reshape(-1).tolist() == [int(word) for word in words[k]]


SOUND = {str(number) for number in range(256)}


def is_padded(word: str) -> bool:
    """A number of the right size in another writing, as 007 or -0."""
    return word.removeprefix("-").isdigit() and 0 <= int(word) <= 255


# files that cannot be read


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"cannot read .*absent.csv: No such file"):
        load(tmp_path / "absent.csv")


def test_missing_ferplus(written: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"cannot read .*absent.csv"):
        load(written(FACES), ferplus=tmp_path / "absent.csv")


def test_no_permission(written: Callable[..., Path], request: pytest.FixtureRequest) -> None:
    path = written(FACES)
    load(path)
    path.chmod(0)
    request.getfixturevalue("unprivileged")
    with pytest.raises(FileError, match=r"cannot read .*Permission denied"):
        load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="a pipe or device"):
        load(tmp_path / "pipe")


def test_a_file_that_changes_while_it_is_read(written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(FACES)
    parse = fer_csv._parse_pixels

    def append(texts: list[bytes]) -> list[np.ndarray | str]:
        with path.open("a") as file:
            file.write(f"0,{PIXELS[0]},Training\n" * 20)
        return parse(texts)

    monkeypatch.setattr(fer_csv, "_parse_pixels", append)
    with pytest.raises(FileError, match="changed while it was read"):
        load(path)


# the cache


def entries(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


@pytest.fixture
def never_parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and every later parse of a csv fails the test."""

    def refuse(*_: object) -> None:
        pytest.fail("the csv was parsed again")

    return lambda: monkeypatch.setattr(data, "_read_csv", refuse)


def test_the_second_read_does_not_open_the_file(
    written: Callable[..., Path],
    cache: Path,
    later: None,
    never_parsed: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = written(FACES)
    first = load(path)
    assert len(entries(cache)) == 2  # index and arrays
    assert sorted(path.parent.iterdir()) == [cache, path]  # nothing beside the user's file
    never_parsed()
    monkeypatch.setattr(cache_module, "sha256_of", lambda _: pytest.fail("the csv was hashed again"))
    second = load(path)
    for name in ("images", "labels", "splits", "rows"):
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name))
        assert type(getattr(second, name)) is np.ndarray
    assert second.checksum == first.checksum


def test_a_copy_elsewhere_is_known_by_its_content(
    written: Callable[..., Path], never_parsed: Callable[[], None]
) -> None:
    load(written(FACES))
    never_parsed()
    assert load(written(FACES, "copy.csv")).source.endswith("copy.csv")


def test_a_change_of_equal_size_and_time_is_seen(written: Callable[..., Path], later: None) -> None:
    path = written(FACES)
    before = path.stat()
    assert load(path).labels[0] == 0
    time.sleep(0.05)  # longer than a tick of the file system's clock
    written(FACES.replace("0,", "5,", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load(path).labels[0] == 5


def test_a_young_file_is_not_trusted_to_stay(written: Callable[..., Path], cache: Path) -> None:
    load(written(FACES))
    assert [path.parent.name for path in entries(cache)] == ["faces"]


def test_writing_to_cached_arrays_does_not_reach_the_cache(written: Callable[..., Path], later: None) -> None:
    path = written(FACES)
    load(path)
    load(path).images[:] = 0
    np.testing.assert_array_equal(load(path).images, IMAGES)


SPOIL: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"0",
    "empty": lambda _: b"",
    "one bit near the start": lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
    "one bit near the end": lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
    "zeros": lambda content: bytes(len(content)),
    "rubbish": lambda _: b"\xff\x00rubbish" * 90,
    "not a checksum of this form": lambda _: b"../../../etc/passwd",
}


@pytest.mark.parametrize("damage", SPOIL)
def test_a_damaged_cache_is_made_anew(damage: str, written: Callable[..., Path], cache: Path, later: None) -> None:
    path = written(FACES)
    load(path)
    sound = {entry: entry.read_bytes() for entry in entries(cache)}
    for entry, content in sound.items():
        entry.write_bytes(SPOIL[damage](content))
    faces = load(path)
    np.testing.assert_array_equal(faces.images, IMAGES)
    assert faces.labels.tolist() == [0, 3, -1]
    assert {entry: entry.read_bytes() for entry in entries(cache)} == sound


def test_without_the_cache_nothing_is_written(written: Callable[..., Path], cache: Path) -> None:
    np.testing.assert_array_equal(load(written(FACES), cache=False).images, IMAGES)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_a_warning(written: Callable[..., Path], cache: Path) -> None:
    cache.write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be written to .*MIEN_CACHE names another folder"):
        faces = load(written(FACES))
    np.testing.assert_array_equal(faces.images, IMAGES)


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"MIEN_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/mien"),
        ({"HOME": "/c"}, "/c/.cache/mien"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="paths of other systems")
def test_cache_folder(environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIEN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_module.cache_folder() == Path(folder)


# folders of images


def picture(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


PLACES = {
    "angry/1.png": (0, "Training"),
    "train/Happy/1.png": (3, "Training"),
    "Training/sadness/1.png": (4, "Training"),
    "test/fear/1.png": (2, "test"),
    "test/fear/PublicTest_77.png": (2, "PublicTest"),
    "test/fear/PrivateTest_77.png": (2, "PrivateTest"),
    "test/fear/Training_77.png": (2, "Training"),
    "data/validation/surprise/1.PNG": (5, "validation"),
    "testing/angry/1.png": (0, "test"),
    "dev/angry/1.png": (0, "validation"),
    "PublicTest/neutral/1.png": (6, "PublicTest"),
    "train/extra/disgust/Faces_77.png": (1, "Training"),
}


@pytest.mark.parametrize("place", PLACES)
def test_places_of_images(place: str, tmp_path: Path) -> None:
    picture(tmp_path / "set" / place, IMAGES[0])
    faces = load(tmp_path / "set")
    assert (int(faces.labels[0]), str(faces.splits[0])) == PLACES[place]
    np.testing.assert_array_equal(faces.images, IMAGES[:1])


def test_folder_of_images(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(40, 200, 48), (48, 1)).astype(np.uint8)
    picture(tmp_path / "train" / "angry" / "Training_1.jpg", smooth)
    picture(tmp_path / "train" / "happy" / "Training_2.png", cv2.merge([smooth] * 3))
    picture(tmp_path / "train" / "sad" / "Training_3.jpeg", cv2.resize(smooth, (96, 120)))
    for path in ("train/sad/._Training_3.jpeg", "train/sad/Thumbs.db", "readme.txt"):
        (tmp_path / path).write_text("no image")
    faces = load(tmp_path)
    assert faces.labels.tolist() == [0, 3, 4]
    assert faces.rows.tolist() == [0, 1, 2]
    for image in faces.images:
        assert np.abs(image.astype(int) - smooth).max() <= 3
    np.testing.assert_array_equal(faces.images[1], smooth)
    assert load(tmp_path).checksum == faces.checksum
    (tmp_path / "train" / "sad" / "Training_3.jpeg").rename(tmp_path / "train" / "angry" / "Training_3.jpeg")
    assert load(tmp_path).checksum != faces.checksum


@pytest.mark.skipif(os.name != "posix", reason="links need no rights on POSIX systems alone")
def test_folders_may_be_links(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "1.png", IMAGES[0])
    picture(tmp_path / "set" / "train" / "happy" / "1.png", IMAGES[1])
    (tmp_path / "set" / "train" / "angry").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "train" / "again").symlink_to(tmp_path / "set")  # round and round
    assert load(tmp_path / "set").labels.tolist() == [0, 3]


def test_a_folder_is_called_by_its_name_however_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "test" / "angry" / "1.png", IMAGES[0])
    monkeypatch.chdir(tmp_path / "test" / "angry")
    faces = load("..")
    assert (faces.name, faces.sizes, faces.labels.tolist()) == ("test", {"test": 1}, [0])


def test_a_file_that_is_too_large_is_one_damaged_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "angry" / "0.png", IMAGES[0])
    large = picture(tmp_path / "angry" / "1.png", np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8))
    monkeypatch.setattr(data, "_LARGEST_PICTURE", 20_000)
    with pytest.raises(Damaged, match=f"1.png: {large.stat().st_size:,} bytes, at most 20,000 are read"):
        load(tmp_path)
    assert len(load(tmp_path, skip_bad=True)) == 1


def test_damaged_images_are_named_or_left_out(tmp_path: Path) -> None:
    picture(tmp_path / "angry" / "0.png", IMAGES[0])
    whole = picture(tmp_path / "angry" / "1.jpg", IMAGES[1]).read_bytes()
    (tmp_path / "angry" / "1.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "angry" / "2.jpg").write_bytes(b"")
    (tmp_path / "angry" / "4.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "angry" / "3.png").write_text("text")
    picture(tmp_path / "puzzled" / "4.png", IMAGES[2])
    with pytest.raises(Damaged, match="5 damaged rows in") as caught:
        load(tmp_path)
    broken = ("1.jpg: is a damaged", "2.jpg: the file is empty", "3.png: is no image of a known", "4.HEIC: is no image")
    for reason in (*broken, "'puzzled'"):
        assert reason in str(caught.value)
    faces = load(tmp_path, skip_bad=True)
    assert (len(faces), faces.dropped) == (1, 5)
    (tmp_path / "angry" / "0.png").unlink()
    with pytest.raises(Damaged, match="there is no sound face"):
        load(tmp_path, skip_bad=True)


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(FileError, match="there is no data set in .*train/angry/1.jpg"):
        load(tmp_path)


def test_ferplus_needs_a_csv(tmp_path: Path, written: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="belong to the rows of a csv"):
        load(tmp_path, ferplus=written(VOTES, "fer2013new.csv"))


# arrays


def test_npy_round_trip(tmp_path: Path, small_faces: FaceSet) -> None:
    chosen = small_faces.take(np.arange(139, -1, -3))
    folder = tmp_path / "a" / "b"
    paths = save_npy(chosen, folder)
    assert [path.name for path in paths] == ["images.npy", "labels.npy", "splits.npy", "rows.npy", "votes.npy"]
    assert sorted(folder.iterdir()) == sorted(paths)
    for faces in (load(folder), load(folder / "images.npy")):
        for name in ("images", "labels", "splits", "rows", "votes"):
            np.testing.assert_array_equal(getattr(faces, name), getattr(chosen, name))


def test_npy_without_votes_leaves_no_older_ones(tmp_path: Path, small_faces: FaceSet) -> None:
    save_npy(small_faces, tmp_path)
    save_npy(
        FaceSet(IMAGES, *(getattr(small_faces.take([0, 1, 2]), n) for n in ("labels", "splits", "rows")), None, "", ""),
        tmp_path,
    )
    assert load(tmp_path).votes is None


def test_npy_is_written_whole_or_not_at_all(
    tmp_path: Path, small_faces: FaceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_npy(small_faces, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    save = np.save

    def full(file: Path, array: np.ndarray, **options: bool) -> None:
        if file.name == "rows.npy":
            raise OSError(28, "No space left on device")
        save(file, array, **options)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(FileError, match=r"cannot write to .*: No space left on device"):
        save_npy(small_faces.take([1]), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


ONE_HOT = np.eye(7)[[2, 0, 6]]
PAIRS: dict[str, tuple[str, np.ndarray, str, np.ndarray, list[int], str]] = {
    "plain": ("images", IMAGES, "labels", np.array([2, 0, 6]), [2, 0, 6], "Training"),
    "unlabelled": ("images", IMAGES, "labels", np.array([2, -1, 6]), [2, -1, 6], "Training"),
    "one-hot, last axis": ("X", IMAGES[..., None], "y", ONE_HOT, [2, 0, 6], "Training"),
    "first axis": ("X_test", IMAGES[:, None], "y_test", ONE_HOT.astype(bool), [2, 0, 6], "test"),
    "flat": ("fdataX", IMAGES.reshape(3, -1), "flabels", np.array([[2.0], [0], [6]]), [2, 0, 6], "Training"),
    "whole floats": ("x_train", IMAGES.astype(np.float32), "y_train", ONE_HOT, [2, 0, 6], "Training"),
    "float32 / 255": ("X", (IMAGES / 255).astype(np.float32), "Y", ONE_HOT, [2, 0, 6], "Training"),
    "float64 / 255": ("val_images", IMAGES / 255, "val_labels", ONE_HOT, [2, 0, 6], "validation"),
    "float16 / 255": ("X", (IMAGES / 255).astype(np.float16), "Y", ONE_HOT, [2, 0, 6], "Training"),
    "int64": ("modXtest", IMAGES.astype(np.int64), "modytest", ONE_HOT, [2, 0, 6], "test"),
}


@pytest.mark.parametrize("case", PAIRS)
def test_pairs_of_arrays(case: str, tmp_path: Path) -> None:
    images_name, images, labels_name, labels, expected, split = PAIRS[case]
    np.save(tmp_path / f"{images_name}.npy", images)
    np.save(tmp_path / f"{labels_name}.npy", labels)
    faces = load(tmp_path)
    np.testing.assert_array_equal(faces.images, IMAGES)
    assert faces.images.dtype == np.uint8
    assert faces.labels.tolist() == expected
    assert set(faces.splits.tolist()) == {split}


def test_several_pairs(tmp_path: Path) -> None:
    for part in ("train", "test"):
        np.save(tmp_path / f"X_{part}.npy", IMAGES)
        np.save(tmp_path / f"y_{part}.npy", ONE_HOT)
        for letter in "Xy":  # what a Mac leaves beside them
            (tmp_path / f"._{letter}_{part}.npy").write_bytes(b"Mac OS X")
    assert load(tmp_path).sizes == {"test": 3, "Training": 3}
    assert load(tmp_path / "X_train.npy").sizes == {"Training": 3}


def test_several_pairs_one_of_which_is_called_as_ours(tmp_path: Path) -> None:
    for end in ("", "_test"):
        np.save(tmp_path / f"images{end}.npy", IMAGES)
        np.save(tmp_path / f"labels{end}.npy", ONE_HOT)
    assert load(tmp_path).sizes == {"Training": 3, "test": 3}


STANDARDISED = (IMAGES - IMAGES.mean()) / IMAGES.std()
BAD_ARRAYS: dict[str, tuple[np.ndarray, np.ndarray, str]] = {
    "standardised": (STANDARDISED, ONE_HOT, "images.npy, row 0: expected whole numbers in \\[0, 255\\]"),
    "not a number": (np.where(IMAGES > 3, IMAGES, np.nan), ONE_HOT, "row 0: expected whole numbers"),
    "infinite": (np.full((3, 48, 48), np.inf), ONE_HOT, "row 0: expected whole numbers"),
    "above 255": (IMAGES + np.int64([[[0]], [[0]], [[100]]]), ONE_HOT, "row 2: expected whole numbers"),
    "another size": (IMAGES[:, :40], ONE_HOT, "expected numbers \\(N, 48, 48\\), but got uint8 \\(3, 40, 48\\)"),
    "words": (IMAGES.astype(str), ONE_HOT, "expected numbers \\(N, 48, 48\\)"),
    "objects": (IMAGES.astype(object), ONE_HOT, "images.npy is not a whole array of numbers"),
    "one number": (np.array(3), ONE_HOT, "holds one number, expected an array"),
    "no face": (IMAGES[:0], ONE_HOT[:0], "there is no sound face"),
    "a label less": (IMAGES, ONE_HOT[:2], "images.npy has 3 images, but .*labels.npy has 2 labels"),
    "label 7": (IMAGES, np.array([0, 7, 1]), "labels.npy, row 1: expected a label from -1 to 6"),
    "half a label": (IMAGES, np.array([0, 0.5, 1]), "labels.npy, row 1: expected a label from -1 to 6"),
    "probabilities": (IMAGES, ONE_HOT * 0.9, "labels.npy, row 0: expected a label from -1 to 6 or a one-hot"),
    "two ones": (IMAGES, np.ones((3, 7), int), "labels.npy, row 0: expected"),
    "eight classes": (IMAGES, np.eye(8)[:3], "expected labels \\(N,\\) or one-hot \\(N, 7\\)"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_damaged_arrays(case: str, tmp_path: Path) -> None:
    images, labels, reason = BAD_ARRAYS[case]
    np.save(tmp_path / "images.npy", images, allow_pickle=True)
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(Damaged, match=reason):
        load(tmp_path)


@pytest.mark.parametrize("size", [0, 60, 5000])
def test_a_truncated_array(size: int, tmp_path: Path, small_faces: FaceSet) -> None:
    images, *_ = save_npy(small_faces, tmp_path)
    images.write_bytes(images.read_bytes()[:size])
    with pytest.raises(Damaged, match="images.npy is not a whole array"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["splits", "rows", "votes"])
def test_an_array_of_another_set(name: str, tmp_path: Path, small_faces: FaceSet) -> None:
    save_npy(small_faces, tmp_path)
    np.save(tmp_path / f"{name}.npy", getattr(small_faces, name)[:-1])
    with pytest.raises(Damaged, match=f"do not belong together: expected {name}"):
        load(tmp_path)


def test_a_row_number_that_two_faces_have(tmp_path: Path, small_faces: FaceSet) -> None:
    save_npy(small_faces, tmp_path)
    np.save(tmp_path / "rows.npy", np.repeat(small_faces.rows[::2], 2))
    with pytest.raises(Damaged, match="rows.npy has a row number twice"):
        load(tmp_path)


def test_pairs_whose_labels_were_swapped(tmp_path: Path) -> None:
    for part, images, labels in (("train", IMAGES, ONE_HOT[:1]), ("test", IMAGES[:1], ONE_HOT)):
        np.save(tmp_path / f"X_{part}.npy", images)
        np.save(tmp_path / f"y_{part}.npy", labels)
    with pytest.raises(Damaged, match="X_test.npy has 1 images, but .*y_test.npy has 3 labels"):
        load(tmp_path)


def test_an_array_without_labels_beside_others(tmp_path: Path) -> None:
    for name, array in (("X_train", IMAGES), ("y_train", ONE_HOT), ("X_val", IMAGES)):
        np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(FileError, match="X_val.npy has no labels beside it, expected them in y_val.npy"):
        load(tmp_path)
    assert load(tmp_path / "X_train.npy").sizes == {"Training": 3}


def test_an_array_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    for path in (tmp_path, tmp_path / "images.npy"):
        with pytest.raises(FileError, match="there is no data set in .*images.npy and labels.npy"):
            load(path)


# the value


def test_take_and_split_keep_what_belongs_together(small_faces: FaceSet) -> None:
    public = small_faces.split("PublicTest")
    assert len(public) == 28
    assert public.rows.tolist() == list(range(98, 126))
    chosen = public.take([27, 0])
    assert chosen.rows.tolist() == [125, 98]
    assert chosen.votes is not None
    assert chosen.votes.shape == (2, 10)
    np.testing.assert_array_equal(chosen.images[1], small_faces.images[98])
    assert len(public.take(public.labels == 3)) == 4
    assert len(public.take([])) == 0


def test_unknown_split_names_those_there_are(small_faces: FaceSet) -> None:
    message = r"no split 'test' in small.csv; it has Training \(98 rows\), PublicTest \(28 rows\), PrivateTest \(14"
    with pytest.raises(NotFound, match=message):
        small_faces.split("test")


def test_twins(small_faces: FaceSet) -> None:
    twins = small_faces.split("PublicTest").twins_in(small_faces.split("Training"))
    np.testing.assert_array_equal(small_faces.split("PublicTest").twins_in(small_faces, "Training"), twins)
    assert twins.tolist() == [True] * 7 + [False] * 21
    assert twins.dtype == bool


def test_arrays_that_do_not_belong_together(small_faces: FaceSet) -> None:
    with pytest.raises((InputError, TypeError), match="labels"):  # TypeError where shapes in types are checked
        FaceSet(IMAGES, small_faces.labels, small_faces.splits, small_faces.rows, None, "", "")


# the real data set

PER_LABEL = {
    "Training": [3995, 436, 4097, 7215, 4830, 3171, 4965],
    "PublicTest": [467, 56, 496, 895, 653, 415, 607],
}


def test_the_real_csv(fer2013: Path, cache: Path, never_parsed: Callable[[], None]) -> None:
    faces = load(fer2013)
    assert faces.sizes == {"Training": 28709, "PublicTest": 3589, "PrivateTest": 3589}
    assert faces.dropped == 0
    assert faces.images[0, 0, :4].tolist() == [70, 80, 82, 72]
    for split, counts in PER_LABEL.items():
        assert np.bincount(faces.split(split).labels, minlength=len(EXPRESSIONS)).tolist() == counts
    training = faces.split("Training")
    assert int(faces.split("PublicTest").twins_in(training).sum()) == 280
    assert int(faces.split("PrivateTest").twins_in(training).sum()) == 288
    never_parsed()
    again = load(fer2013)
    for name in ("images", "labels", "splits", "rows", "checksum"):
        np.testing.assert_array_equal(getattr(again, name), getattr(faces, name))


def test_the_real_votes(fer2013: Path, cache: Path) -> None:
    ferplus = fer2013.with_name("fer2013new.csv")
    if not ferplus.exists():
        pytest.skip("there is no fer2013new.csv beside the csv that MIEN_FER2013 names")
    faces = load(fer2013, ferplus=ferplus)
    assert faces.votes is not None
    assert faces.votes[0].tolist() == [4, 0, 0, 1, 3, 2, 0, 0, 0, 0]
    training = faces.split("Training").votes
    assert training is not None
    assert (training.sum(1) == 10).mean() > 0.99


def test_a_file_of_nothing_but_damaged_rows_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fer_csv, "_MOST_FAULTS", 50)
    path = tmp_path / "a.csv"
    path.write_text("emotion,pixels,Usage\n" + "x\n" * 51)
    with pytest.raises(Damaged, match="over 50 damaged rows, so it is no table"):
        load(path, skip_bad=True)


def test_pictures_are_looked_at_before_they_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "happy").mkdir()
    Image.new("L", (48, 48)).save(tmp_path / "happy" / "1.png")
    Image.new("L", (8000, 4000)).save(tmp_path / "happy" / "2.png")
    Image.new("L", (48, 48)).save(tmp_path / "happy" / "3.png", "TIFF")
    Image.new("L", (48, 48)).save(tmp_path / "happy" / "4.jpg")
    sound = (tmp_path / "happy" / "4.jpg").read_bytes()
    (tmp_path / "happy" / "4.jpg").write_bytes(sound[:-2] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\0\0" * 1000 + sound[-2:])
    faces = load(tmp_path, skip_bad=True)
    assert len(faces) == 2
    assert "8,000 x 4,000 pixels, but at most 16,000,000 are read" in faces.faults[0]
    assert "goes over its 48 x 48 pixels 1001 times" in faces.faults[1]


def test_pictures_of_a_data_set_are_read_as_photos_are(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 70, 4), np.uint8)
    (tmp_path / "sad").mkdir()
    files = [tmp_path / "sad" / name for name in ("1.png", "2.webp", "3.tiff")]
    for file in files:
        Image.fromarray(noise).save(file)
    (tmp_path / "sad" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "sad" / ".ipynb_checkpoints" / "1-checkpoint.png").write_bytes(files[0].read_bytes())
    expected = [grey(resize(open_image(file), 48, 48)) for file in files]
    assert np.array_equal(load(tmp_path).images, expected)


@pytest.mark.parametrize("head", ["(" * 9000, f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({'9' * 20},)}}"])
def test_heads_that_numpy_stumbles_over_are_damaged(head: str, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.zeros(3, np.int8))
    raw = head.encode() + b"\n"
    (tmp_path / "images.npy").write_bytes(b"\x93NUMPY\x01\0" + len(raw).to_bytes(2, "little") + raw)
    with pytest.raises(Damaged, match="is not a whole array of numbers"):
        load(tmp_path)


def test_labels_that_stand_for_nothing_are_refused(small_faces: FaceSet) -> None:
    with pytest.raises(InputError, match=r"expected labels from -1 \(none\) to 7, but got -1 to 9"):
        replace(small_faces, labels=np.where(small_faces.labels == 0, 9, small_faces.labels).astype(np.int8))


def test_labels_in_a_column_of_another_name_are_not_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(f"label,pixels,Usage\n3,{' '.join(['7'] * 2304)},Training\n")
    with pytest.raises(Damaged, match="expected the labels in a column 'emotion', but they seem to be in 'label'"):
        load(file, cache=False)
