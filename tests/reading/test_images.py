"""Any image file becomes upright RGB pixels, or says in one sentence why not."""

import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import refuse
from mien.errors import Damaged, FileError, InputError, MienError, NotAnImage, TooManyPixels
from mien.reading import images
from mien.reading.images import encode, find_images, from_bgr, grey, open_image, resize, save_image

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def quarters(width: int = 32, height: int = 24) -> np.ndarray:
    """Red and green above blue and white: each of the eight orientations differs."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, WHITE
    return pixels


def file_of(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, body: bytes) -> bytes:
    """A PNG of one bit a pixel whose compressed pixels are `body`."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bomb(width: int, height: int) -> bytes:
    """A small, valid PNG that unpacks to width x height pixels; compressed row by row."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    return png(width, height, b"".join(packer.compress(row) for _ in range(height)) + packer.flush())


@pytest.fixture(autouse=True)
def _silent(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Neither Python nor a C library prints or warns, whatever is read."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def tiff_of_12_bits(*levels: int) -> bytes:
    """A TIFF of one line, not compressed, as cameras of microscopes write it and Pillow does not."""
    body = int("".join(f"{level:012b}" for level in levels), 2).to_bytes(len(levels) * 12 // 8, "big")
    # width, height, bits a sample, no compression, black is 0, place, samples, rows and bytes of the pixels
    values = {256: len(levels), 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(body)}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + struct.pack("<H", len(values)) + tags + bytes(4)


COLOURS = Image.fromarray(quarters())
TRANSPARENT = Image.new("RGBA", (4, 4), (0, 0, 255, 0))
HALF = Image.new("RGBA", (4, 4), (0, 0, 255, 128))
SIXTEEN = Image.fromarray(np.full((4, 4), 0x80FF, np.uint16))
MOVING = {"save_all": True, "append_images": [Image.new("RGB", (32, 24), "black")], "duration": 100}


def palette_with_hole() -> Image.Image:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*RED, *GREEN, *BLUE])
    image.info["transparency"] = b"\xff\x00\xff"  # a byte for each colour: the second is a hole
    return image


@pytest.mark.parametrize(
    ("content", "first", "last", "tolerance"),
    [
        # the common ones, lossless and not
        (file_of(COLOURS, "PNG"), RED, WHITE, 0),
        (file_of(COLOURS, "BMP"), RED, WHITE, 0),
        (file_of(COLOURS, "TIFF", compression="tiff_lzw"), RED, WHITE, 0),
        (file_of(COLOURS, "PPM"), RED, WHITE, 0),
        (file_of(COLOURS, "WEBP", lossless=True), RED, WHITE, 0),
        (file_of(COLOURS, "JPEG", quality=95), RED, WHITE, 4),
        (file_of(COLOURS, "JPEG", quality=95, progressive=True), RED, WHITE, 4),
        (file_of(COLOURS, "JPEG2000"), RED, WHITE, 4),
        # JPEG as printers use it: four inks
        (file_of(COLOURS.convert("CMYK"), "JPEG", quality=95), RED, WHITE, 4),
        # grey, one bit, palette
        (file_of(COLOURS.convert("L"), "JPEG", quality=95), (76, 76, 76), WHITE, 4),
        (file_of(COLOURS.convert("1", dither=Image.Dither.NONE), "PNG"), BLACK, WHITE, 0),
        (file_of(COLOURS.quantize(4), "PNG"), RED, WHITE, 0),
        # the first frame of animations
        (file_of(COLOURS, "GIF", **MOVING), RED, WHITE, 0),
        (file_of(COLOURS, "WEBP", lossless=True, **MOVING), RED, WHITE, 0),
        (file_of(COLOURS, "PNG", **MOVING), RED, WHITE, 0),
        # what is transparent shows white
        (file_of(TRANSPARENT, "PNG"), WHITE, WHITE, 0),
        (file_of(HALF, "PNG"), (127, 127, 255), (127, 127, 255), 1),
        (file_of(HALF, "WEBP", lossless=True), (127, 127, 255), (127, 127, 255), 1),
        (file_of(palette_with_hole(), "PNG"), WHITE, WHITE, 0),
        (file_of(Image.new("LA", (4, 4), (0, 0)), "PNG"), WHITE, WHITE, 0),
        # 16 bits: the upper 8, not cut off at 255
        (file_of(SIXTEEN, "PNG"), (128, 128, 128), (128, 128, 128), 0),
        (file_of(SIXTEEN, "TIFF"), (128, 128, 128), (128, 128, 128), 0),
        (b"P5 1 1 65535\n\x80\xff", (128, 128, 128), (128, 128, 128), 0),
        # 12 bits: the upper 8 too
        (tiff_of_12_bits(0x80F, 0xFFF), (128, 128, 128), WHITE, 0),
        # the smallest
        (file_of(Image.new("RGB", (1, 1), RED), "PNG"), RED, RED, 0),
    ],
)
def test_reads_files(content: bytes, first: tuple[int, ...], last: tuple[int, ...], tolerance: int) -> None:
    pixels = open_image(content)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels[0, 0].astype(int) - first).max() <= tolerance
    assert np.abs(pixels[-1, -1].astype(int) - last).max() <= tolerance


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # grey
        (np.full((2, 3), 7, np.uint8), (7, 7, 7)),
        # RGB stays in its order
        (np.full((2, 3, 3), RED, np.uint8), RED),
        # RGBA, on white
        (np.full((2, 3, 4), (255, 0, 0, 0), np.uint8), WHITE),
        # a view with strides
        (np.full((4, 6, 3), BLUE, np.uint8)[::2, ::-2], BLUE),
        # PIL images of several modes
        (Image.new("RGB", (3, 2), GREEN), GREEN),
        (Image.new("L", (3, 2), 9), (9, 9, 9)),
        (Image.new("1", (3, 2), 1), WHITE),
        (Image.new("RGBA", (3, 2), (0, 0, 0, 0)), WHITE),
        (Image.new("I", (3, 2), 70000), WHITE),
        (Image.new("I", (3, 2), 0x80FF), (128, 128, 128)),
        # 8 bits in the room of 32
        (Image.new("I", (3, 2), 200), (200, 200, 200)),
    ],
)
def test_reads_arrays_and_pil_images(source: np.ndarray | Image.Image, expected: tuple[int, ...]) -> None:
    pixels = open_image(source)
    assert pixels.shape == (2, 3, 3)
    assert (pixels == expected).all()


def test_strips_join_without_a_seam() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (333, 17, 3)).astype(np.uint8)
    assert (open_image(file_of(Image.fromarray(pixels), "PNG")) == pixels).all()


STORED_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize(
    ("form", "orientation"),
    [(form, orientation) for form in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF") for orientation in range(1, 9)]
    # outside of the standard: as stored
    + [("JPEG", 0), ("JPEG", 9)],
)
def test_every_orientation_comes_out_upright(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = COLOURS.transpose(STORED_BY[orientation]) if orientation in STORED_BY else COLOURS
    content = file_of(stored, form, exif=exif, quality=95)
    for source in (content, Image.open(BytesIO(content))):
        pixels = open_image(source)
        assert pixels.shape == (24, 32, 3)
        corners = pixels[[2, 2, -3, -3], [2, -3, 2, -3]].astype(int)
        assert np.abs(corners - [RED, GREEN, BLUE, WHITE]).max() < 60  # lossy at the seams


def test_broken_exif_does_not_spoil_a_sound_picture() -> None:
    content = file_of(COLOURS, "JPEG", exif=b"Exif\0\0" + b"II*\0" + b"\xff" * 40)
    assert open_image(content).shape == (24, 32, 3)


@pytest.mark.parametrize("value", [math.inf, math.nan, 1e300])
def test_an_orientation_that_is_no_number_is_none(value: float) -> None:
    entry = struct.pack("<HHHIII", 1, 0x112, 12, 1, 26, 0) + struct.pack("<d", value)
    content = file_of(COLOURS, "JPEG", exif=b"Exif\0\0II*\0" + struct.pack("<I", 8) + entry, quality=95)
    assert open_image(content).shape == (24, 32, 3)


SOUND = file_of(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)), "JPEG")


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("empty file", b"", Damaged, "is empty"),
        ("text named .jpg", b"Dear diary,\nno picture today.\n", Damaged, "no image of a known format"),
        ("JPEG without its second half", SOUND[: len(SOUND) // 2], Damaged, "truncated"),
        ("JPEG without its last byte", SOUND[:-1], Damaged, "truncated"),
        ("JPEG of ten bytes", SOUND[:10], Damaged, "damaged"),
        ("PNG without its second half", file_of(COLOURS, "PNG")[:60], Damaged, "damaged"),
        ("PNG with wrong pixels", png(8, 8, b"not compressed"), Damaged, "damaged"),
        ("GIF without its second half", file_of(COLOURS, "GIF")[:60], Damaged, "damaged"),
        ("WebP without its second half", file_of(COLOURS, "WEBP")[:60], Damaged, "damaged"),
        ("BMP without its second half", file_of(COLOURS, "BMP")[:600], Damaged, "damaged"),
        # formats that are never opened: PostScript would start another program
        ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Damaged, "no image of a known format"),
        # refused by the stated limit, and by Pillow's above it
        ("12,000 x 12,000", bomb(12_000, 12_000), InputError, "110,000,000"),
        ("20,000 x 20,000", bomb(20_000, 20_000), InputError, "110,000,000"),
        ("floating point", file_of(Image.new("F", (2, 2)), "TIFF"), InputError, "floating-point"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_bad_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, error: type[MienError], says: str
) -> None:
    path = tmp_path / f"{name}.jpg"
    path.write_bytes(content)
    if error is InputError:  # nothing is decoded before it is refused
        monkeypatch.setattr(Image.Image, "crop", lambda *_: pytest.fail("decoded"))
    for source, called in ((path, str(path)), (str(path), str(path)), (content, "the data")):
        with pytest.raises(error, match=says) as caught:
            open_image(source)
        assert called in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (np.zeros((4, 4)), "float64"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros(16, np.uint8), r"\(16,\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"\(2, 4, 4, 3\)"),
        (np.zeros((0, 4), np.uint8), "is empty: it has 4 x 0"),
        (np.zeros((4, 9, 3), np.uint8)[:, 20:], "is empty: it has 0 x 4 pixels; was it cut beyond its edge"),
        (Image.new("F", (2, 2)), "floating-point"),
    ],
)
def test_refuses_other_arrays(source: np.ndarray | Image.Image, says: str) -> None:
    with pytest.raises(InputError, match=says):
        open_image(source)


def test_a_closed_image_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as left:
        pass
    closed = Image.open(tmp_path / "a.png")
    closed.close()
    with (tmp_path / "a.png").open("rb") as file:
        without_file = Image.open(file)
    for lazy in (left, closed, without_file):
        with pytest.raises(InputError, match="closed before its pixels were loaded; read it inside"):
            open_image(lazy)
    with Image.open(tmp_path / "a.png") as loaded:
        loaded.load()
    assert open_image(loaded).shape == (9, 9, 3)


def test_the_limit_is_an_argument() -> None:
    content = file_of(COLOURS, "PNG")
    assert open_image(content, max_pixels=24 * 32).shape == (24, 32, 3)
    for source in (content, COLOURS, quarters()):
        with pytest.raises(InputError, match="32 x 24 pixels, but at most 767 are read"):
            open_image(source, max_pixels=24 * 32 - 1)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.jpg", "No such file"),
        # a folder
        ("", "it is a folder; read its images one by one, or with mien.label"),
        ("a\0b.jpg", "null byte"),
        ("n" * 300 + ".jpg", "too long|No such file"),
    ],
)
def test_names_the_file_that_cannot_be_read(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(FileError, match=says):
        open_image(f"{tmp_path}/{name}")


def test_no_read_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    save_image(path, quarters())
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser reads everything: have the system refuse
        monkeypatch.setattr(images, "open", refuse(PermissionError(13, "Permission denied")), raising=False)
    with pytest.raises(FileError, match=r"cannot read .*secret\.png: Permission denied"):
        open_image(path)


def test_a_failing_disk_is_no_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_image(tmp_path / "a.png", quarters())
    monkeypatch.setattr(Image.Image, "crop", refuse(OSError(5, "Input/output error")))
    with pytest.raises(FileError, match="Input/output error"):
        open_image(path)


@pytest.mark.parametrize(
    ("owner", "name"), [(Image, "open"), (Image.Image, "crop"), (Image.Image, "getexif")]  # the head, pixels, turning
)
def test_a_lack_of_memory_is_no_damaged_file(
    owner: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_image(tmp_path / "a.png", quarters())
    monkeypatch.setattr(owner, name, refuse(MemoryError()))
    with pytest.raises(FileError, match=r"cannot read .*a\.png: there is not enough memory to decode it"):
        open_image(path)


ODD = ["two words.png", 'it\'s "quoted".png', "Ünï-çødé-笑顔.png", "[1]*?.png", "-dash.png", "UPPER.PNG"]


@pytest.mark.parametrize("name", ODD)
def test_names_of_any_kind(tmp_path: Path, name: str) -> None:
    path = save_image(tmp_path / name, quarters())
    assert (open_image(path) == quarters()).all()
    assert find_images([path]) == [path]
    assert find_images([tmp_path]) == [path]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "sub/c.webp", "sub/deep/d.gif", ".thumbs/e.jpg"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "album" / "nothing").mkdir()
    return tmp_path / "album"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        # a folder, recursively; no text, nothing hidden
        ([""], ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.gif"]),
        # files as they are given, in that order, twice if so, missing or not
        (["b.jpg", "a.PNG", "b.jpg"], ["b.jpg", "a.PNG", "b.jpg"]),
        (["missing.jpg", "notes.txt"], ["missing.jpg", "notes.txt"]),
        # patterns, sorted
        (["*.jpg"], ["b.jpg"]),
        (["[ab].*"], ["a.PNG", "b.jpg"]),
        (["**/*.gif", "*.PNG"], ["sub/deep/d.gif", "a.PNG"]),
        # a pattern that matches a folder and the files inside it lists each file once
        (["sub/**"], ["sub/c.webp", "sub/deep/d.gif"]),
        ([], []),
    ],
)
def test_finds_images(album: Path, given: list[str], found: list[str]) -> None:
    assert find_images([album / name for name in given]) == [album / name for name in found]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nothing", "no images in .*nothing"),
        ("*.tiff", r"no image matches .*\*\.tiff"),
        ("noth*", "no image matches"),
    ],
)
def test_says_where_there_are_none(album: Path, given: str, says: str) -> None:
    with pytest.raises(FileError, match=says):
        find_images([album / given])


def test_a_link_to_a_folder_is_told_and_the_rest_is_found(album: Path) -> None:
    (album / "sub" / "loop").symlink_to(album)
    told: list[FileError] = []
    found = find_images([album], refused=told.append)
    assert [path.name for path in found] == ["a.PNG", "b.jpg", "c.webp", "d.gif"]
    assert [str(each) for each in told] == [
        f"{album / 'sub' / 'loop'} is a link to a folder, which is not followed; name that folder itself"
    ]
    with pytest.raises(FileError, match="not followed"):
        find_images([album])


def test_a_pattern_that_goes_round_in_links_lists_each_file_once(album: Path) -> None:
    (album / "sub" / "loop").symlink_to(album)
    (album / "sub" / "deep" / "self").symlink_to(album / "sub" / "deep")
    assert find_images([album / "**" / "*.jpg"]) == [album / "b.jpg"]
    found = find_images([album / "**"])
    assert found[:2] == [album / "a.PNG", album / "b.jpg"]
    assert {album / "sub" / "c.webp", album / "sub" / "deep" / "d.gif"} < set(found)
    assert not [path for path in found if {"loop", "self"} & set(path.parts)]


def test_a_link_that_a_pattern_reaches_is_not_told(album: Path, tmp_path: Path) -> None:
    (album / "deep" / "er").mkdir(parents=True)
    (tmp_path / "far").mkdir()
    save_image(tmp_path / "far" / "2.jpg", np.zeros((9, 9, 3), np.uint8))
    (album / "deep" / "er" / "link").symlink_to(tmp_path / "far")
    told: list[FileError] = []
    assert find_images([album / "deep" / "**"], refused=told.append) == [album / "deep" / "er" / "link" / "2.jpg"]
    assert not told
    save_image(album / "deep" / "1.jpg", np.zeros((9, 9, 3), np.uint8))
    assert find_images([album / "d*"], refused=told.append) == [album / "deep" / "1.jpg"]
    assert [str(each) for each in told] == [
        f"{album / 'deep' / 'er' / 'link'} is a link to a folder, which is not followed; name that folder itself"
    ]


def test_an_empty_name_is_not_the_current_folder() -> None:
    with pytest.raises(InputError, match="got an empty name; is a shell variable unset"):
        find_images([""])


def test_an_unreadable_folder_is_not_an_empty_one(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "scandir", refuse(PermissionError(13, "Permission denied", str(album))))
    with pytest.raises(FileError, match="cannot list .*album: Permission denied"):
        find_images([album])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a matter of POSIX")
@pytest.mark.timeout(20)
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", "/dev/zero"):
        with pytest.raises(FileError, match=f"cannot read {path}: expected a file, and a pipe or device is none"):
            open_image(path)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm", ".PNG"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, suffix: str) -> None:
    path = save_image(tmp_path / "new folder" / f"a{suffix}", quarters())
    assert (open_image(path) == quarters()).all()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", sorted(images.FORMATS))
def test_writes_what_it_reads(suffix: str) -> None:
    pixels = open_image(encode(quarters(), suffix))
    assert pixels.shape == (24, 32, 3)
    assert suffix in (".pbm", ".pgm") or np.abs(pixels[2, 2].astype(int) - RED).max() < 10


def test_what_cannot_be_saved_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'\.doc'"):
        save_image(tmp_path / "a.doc", quarters())
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write"):
        save_image(tmp_path / "file" / "a.png", quarters())
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_opencvs_arrays_come_out_red_first(channels: int) -> None:
    pixels = np.full((2, 3, channels), 255, np.uint8)
    pixels[..., 0] = 10  # blue, or the grey itself
    expected = (10, 10, 10) if channels == 1 else (255, 255, 10)
    assert from_bgr(pixels)[0, 0].tolist() == list(expected)
    with pytest.raises(InputError, match="blue, green, red"):
        from_bgr(pixels.astype(float))


def test_grey_is_brightness() -> None:
    assert grey(quarters())[0, 0] == 76
    assert grey(quarters())[0, -1] == 150
    assert grey(quarters())[-1, 0] == 29
    assert (grey(np.full((3, 5, 3), 200, np.uint8)) == 200).all()


def test_resize_averages_where_it_shrinks() -> None:
    stripes = np.zeros((40, 60, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (resize(stripes, 30, 20) == 100).all()
    assert resize(stripes, 90, 100).shape == (100, 90, 3)
    assert (resize(quarters(), 64, 48)[[0, 0, -1, -1], [0, -1, 0, -1]] == [RED, GREEN, BLUE, WHITE]).all()


def as_file(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


HUNGRY = [("WEBP", {}), ("AVIF", {}), ("JPEG2000", {}), ("JPEG", {"progressive": True})]


def test_a_pixel_of_a_hungry_format_counts_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    picture = Image.new("RGB", (100, 100))
    assert open_image(as_file(picture, "PNG")).shape == (100, 100, 3)
    for form, options in HUNGRY:
        with pytest.raises(TooManyPixels, match="100 x 100 .*, of which 10,000 are read"):
            open_image(as_file(picture, form, **options), max_pixels=10_000)
        assert open_image(as_file(picture, form, **options), max_pixels=35_000).shape == (100, 100, 3)


def test_a_limit_of_the_callers_own_holds_for_every_format() -> None:
    picture = Image.new("RGB", (100, 100))
    for form, options in HUNGRY:
        assert open_image(as_file(picture, form, **options), max_pixels=10_000).shape == (100, 100, 3)
        with pytest.raises(TooManyPixels, match="at most 9,999 are read; make it smaller$"):
            open_image(as_file(picture, form, **options), max_pixels=9_999)


def scan(component: int, *choice: int) -> bytes:
    """An empty scan of one component of a JPEG."""
    return bytes([0xFF, 0xDA, 0, 8, 1, component, 0x11 * (component > 1), *choice, 0, 0])


def test_a_progressive_jpeg_that_goes_over_its_pixels_without_end_is_refused() -> None:
    content = as_file(Image.new("L", (64, 64), 99), "JPEG", progressive=True)
    assert open_image(content[:-2] + scan(1, 1, 1, 0x10) * 50 + content[-2:]).shape == (64, 64, 3)
    for read in (open_image, images.image_size):
        with pytest.raises(Damaged, match="goes over its 64 x 64 pixels 10[0-9][0-9] times"):
            read(content[:-2] + scan(1, 1, 1, 0x10) * 1000 + content[-2:])


@pytest.mark.parametrize("form", ["JPEG", "MPO"])
def test_so_is_any_other_jpeg(form: str) -> None:
    more = {"save_all": True, "append_images": [Image.new("RGB", (64, 64))]} if form == "MPO" else {}
    content = as_file(Image.new("RGB", (64, 64), "red"), form, **more)
    head, tail = content[: content.index(b"\xff\xda")], content[content.index(b"\xff\xd9") :]
    scans = b"".join(scan(component, 0, 63, 0) for component in (1, 2, 3))
    assert open_image(head + scans * 33 + tail).shape == (64, 64, 3)
    for read in (open_image, images.image_size):
        with pytest.raises(Damaged, match="goes over its 64 x 64 pixels 102 times"):
            read(head + scans * 34 + tail)


def test_the_size_is_told_without_decoding() -> None:
    assert images.image_size(as_file(Image.new("L", (30, 20)), "PNG")[:60]) == (30, 20)
    with pytest.raises(NotAnImage):
        images.image_size(b"hello")


def test_an_address_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="https://example.org/a.jpg is an address, .* download it first"):
        find_images(["https://example.org/a.jpg"])
    with pytest.raises(InputError, match="is an address"):
        open_image("https://example.org/a.jpg")


def test_what_is_wrong_with_an_array_is_told() -> None:
    with pytest.raises(InputError, match=r"uint8 \(3, 9, 9\); give one image, its channels last"):
        open_image(np.zeros((3, 9, 9), np.uint8))
    with pytest.raises(InputError, match=r"float32 \(9, 9\); scale to 0..255 and convert"):
        open_image(np.zeros((9, 9), np.float32))
