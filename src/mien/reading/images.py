"""Files and arrays to upright RGB pixels, and back.

The only module that knows colour order: inside mien an image is uint8 (H, W, 3), red first, the way up that a
viewer shows it. It knows nothing of faces.

Pillow decodes everything. OpenCV prints warnings of damaged files to standard error and returns half a picture
for a truncated one; what it would save stands at `_pixels`. Embedded colour profiles are not applied. Of damaged
TIFF files alone something reaches standard error: the lines of libtiff inside Pillow, which nobody can turn off but
by closing the standard error of the whole process.
"""

import glob
import os
import re
import struct
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BufferedReader, BytesIO
from mimetypes import guess_type
from os import PathLike
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from threading import Lock

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from mien.errors import Damaged, FileError, InputError, MienError, NotAnImage, TooManyPixels
from mien.storage import real_path, suffix_of, write_whole

ImageSource = str | PathLike[str] | bytes | np.ndarray | Image.Image

MAX_PIXELS = 110_000_000
"""Images with more pixels are refused before they are decoded: a 108-megapixel phone photo still passes and takes
0.8 GB while it is decoded."""

MOST_PIXELS = 2 * 89_478_485
"""Pillow opens no image with more, twice its `Image.MAX_IMAGE_PIXELS`, whatever limit it is given."""

_WEIGHTS = {"AVIF": 1.7, "JPEG2000": 3.5, "WEBP": 2.5}
_SCANS = 1.7  # a progressive JPEG, or another of more than one scan
"""What a pixel of these counts for, where one of another format counts 1: their decoders hold more copies. Bytes in
memory per pixel, at most, of pictures of 20 megapixels: 7.3, and 9.5 (AVIF), 19.4, 18.0, 12.0 (progressive JPEG)."""

MAX_SCANS = 100
MAX_SCANNED = 3_000_000_000
"""Scans of a JPEG, and pixels of all of them together: encoders make ten or twelve for a progressive one, each costs
time for the whole picture, and a file of a few kilobytes has room for thousands."""

FORMATS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".mpo": "JPEG", ".png": "PNG", ".webp": "WEBP", ".gif": "GIF",
    ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".pbm": "PPM", ".pgm": "PPM", ".ppm": "PPM", ".pnm": "PPM",
    ".jp2": "JPEG2000", ".avif": "AVIF",
}  # fmt: skip
"""Suffixes that count as images in a folder, and Pillow's name of each format. No other format is opened, whatever
a file's name: some of Pillow's readers start other programs."""

UNREAD = (".heic", ".heif")
"""Suffixes that count as images in a folder too, so that nobody thinks that photos of a telephone were read."""

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # of a JPEG's segments, those that have a length, and the end
_BROKEN = (OSError, SyntaxError, ValueError, RuntimeError, TypeError, LookupError, EOFError, ArithmeticError,
           struct.error)  # fmt: skip
"""What Pillow's readers raise for damaged content: the first four for 30,000 files of all formats, cut off or with
bytes flipped; the others because Pillow itself expects them from its readers."""

_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
"""What turns stored pixels upright, by EXIF orientation; 1 and unknown values: nothing. Source: EXIF 2.32, 4.6.4."""

_MAKER = "mien"

_FILTERS = Lock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's warnings, of large sizes and odd metadata, from the user: what matters is raised instead."""
    # The lock, because `catch_warnings` changes a list that all threads share.
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """Any image as upright RGB pixels in [0, 255].

    EXIF orientation is applied, transparency laid on white, 12 and 16 bits cut to the upper 8, CMYK and palettes
    converted; of an animation the first frame is taken.

    Args:
        source: A path, the bytes of an encoded file, a PIL image (its current frame), or a uint8 array: grey
            (H, W), RGB (H, W, 3) or RGBA (H, W, 4).
        max_pixels: Largest width times height. WebP, AVIF, JPEG 2000 and progressive JPEG, whose decoders need more
            memory, have limits of their own below `MAX_PIXELS`.

    Returns:
        The pixels. An RGB array comes back as it is, without a copy.

    Raises:
        FileError: The file is missing, may not be read, or is a pipe or device; or memory is short.
        Damaged: It is no image (NotAnImage), is empty, or breaks off: half a picture is no picture.
        InputError: An array or object of another kind, one without pixels or a PIL image that was closed before it
            was loaded; an address; or more pixels than `max_pixels` (TooManyPixels).
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        try:
            return _decode(source, "the image", max_pixels)
        except (AssertionError, Damaged) as error:
            # Pillow's word for it, where its `with` ended; otherwise Python's for its file.
            if isinstance(error, Damaged) and "closed" not in str(error.__cause__):
                raise
            problem = "the image was closed before its pixels were loaded"
            raise InputError(f"{problem}; read it inside its with block, or pass the path") from error
    if isinstance(source, bytes):
        return _read(BytesIO(source), "the data", max_pixels)
    if not isinstance(source, str | PathLike):
        raise InputError(
            f"expected one image, as a path, bytes, a uint8 array or a PIL image, but got {type(source).__name__}"
        )
    _need_no_address(str(source))
    try:
        mode = os.stat(source).st_mode  # asked first: to open a pipe is to wait for whoever writes to it
        if S_ISDIR(mode):
            raise FileError(f"cannot read {source}: it is a folder; read its images one by one, or with mien.label")
        if not S_ISREG(mode):
            raise FileError(f"cannot read {source}: expected a file, and a pipe or device is none; save it to one")
        with open(source, "rb") as file:
            return _read(file, str(source), max_pixels)
    except MienError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise FileError(f"cannot read {source}: {getattr(error, 'strerror', None) or error}") from error


def image_size(content: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height in pixels that the head of an encoded image names; nothing is decoded.

    Args:
        content: The image.
        max_pixels: How many are read, for the message where there are more than Pillow opens.

    Raises:
        Damaged: It is no image, its head is damaged, or it is a JPEG of too many scans.
        TooManyPixels: As `open_image`.
    """
    file = BytesIO(content)
    with _opened(file, "the data", max_pixels) as image:
        _check_scans(image, file, "the data")
        return image.size


def _read(file: BufferedReader | BytesIO, name: str, max_pixels: int) -> UInt8[np.ndarray, "H W 3"]:
    with _opened(file, name, max_pixels) as image:
        several = _check_scans(image, file, name) > 1 or image.info.get("progressive")
        weight = _SCANS if several else _WEIGHTS.get(str(image.format), 1.0)
        limit = int(max(max_pixels, MAX_PIXELS) / weight)
        if limit < max_pixels:
            advice = f"make it smaller, or save it as a plain JPEG or PNG, of which {max_pixels:,} are read"
            _check_size(name, *image.size, limit, advice)
        return _decode(image, name, max_pixels)


def _opened(file: BufferedReader | BytesIO, name: str, max_pixels: int) -> Image.Image:
    """An image whose head is read."""
    try:
        with _quiet():
            return Image.open(file, formats=list(dict.fromkeys(FORMATS.values())))
    except UnidentifiedImageError as error:
        file.seek(0)
        what = "is no image of a known format, or its head is damaged" if file.read(1) else "is empty"
        known = ", ".join(dict.fromkeys(FORMATS.values()))
        advice = "; videos are read by mien watch" if (guess_type(name)[0] or "").startswith("video/") else ""
        advice = "; save HEIC photos as JPEG first" if suffix_of(name) in UNREAD else advice
        raise NotAnImage(f"{name} {what}; expected one of {known}{advice}") from error
    except Image.DecompressionBombError as error:
        limit = min(max_pixels, MOST_PIXELS)
        raise TooManyPixels(f"{name} has more than the {limit:,} pixels that are read; make it smaller") from error
    except (*_BROKEN, MemoryError) as error:
        raise _damaged(name, error) from error


def _check_scans(image: Image.Image, file: BufferedReader | BytesIO, name: str) -> int:
    """How often a JPEG goes over its pixels; another image: 0. More often than any encoder lets it is refused."""
    if image.format not in {"JPEG", "MPO"}:
        return 0
    before = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    content = file.read(min(size, 1 << 28))  # more than any picture has
    file.seek(before)
    scans, place = 0, 2
    while (marker := _MARKER.search(content, place)) and marker[0] != b"\xff\xd9":
        scans += marker[0] == b"\xff\xda"
        place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    width, height = image.size
    if scans > MAX_SCANS or scans * width * height > MAX_SCANNED:
        raise Damaged(f"{name} goes over its {width:,} x {height:,} pixels {scans} times; save it anew")
    return scans


def _decode(image: Image.Image, name: str, max_pixels: int) -> UInt8[np.ndarray, "H W 3"]:
    _check_size(name, *image.size, max_pixels)
    if image.mode == "F":
        raise InputError(f"{name} should have 8 or 16 bits, but has floating-point pixels; convert it first")
    try:
        if image.format == "TIFF":  # the one that warns while loading, and turns itself upright
            with _quiet():
                image.load()
        pixels = _pixels(image)
        turn = _UPRIGHT.get(_orientation(image))
        return pixels if turn is None else np.ascontiguousarray(turn(pixels))
    except (*_BROKEN, MemoryError) as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> MienError:
    """The error to raise for Pillow's: the disk's own failures carry a number, those of the content do not."""
    if isinstance(error, MemoryError):
        return FileError(f"cannot read {name}: there is not enough memory to decode it; free some, or scale it down")
    if isinstance(error, OSError) and error.errno is not None:
        return FileError(f"cannot read {name}: {error.strerror}")
    return Damaged(f"{name} is a damaged image, get it again: {error}")


def _check_size(name: str, width: int, height: int, max_pixels: int, advice: str = "make it smaller") -> None:
    if not width * height:
        raise InputError(f"{name} is empty: it has {width:,} x {height:,} pixels; was it cut beyond its edge?")
    if width * height > max_pixels:
        raise TooManyPixels(f"{name} has {width:,} x {height:,} pixels, but at most {max_pixels:,} are read; {advice}")


def _orientation(image: Image.Image) -> int:
    try:
        with _quiet():
            return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _BROKEN:  # broken notes on a sound picture: no reason to refuse the picture
        return 1


def _pixels(image: Image.Image, rows: int = 64) -> UInt8[np.ndarray, "H W 3"]:
    """A PIL image as RGB, in strips.

    Strips stay in the processor's cache and keep conversions small: 78 ms for a grainy JPEG of 12 megapixels, where
    converting at once takes 136 and OpenCV 44 (benchmarks/detect.py, one busy core).
    """
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    depth = _depth(image)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = _rgb(strip, depth)
    return pixels


def _depth(image: Image.Image) -> int:
    """Bits of a grey level, where an image has room for more than 8."""
    # Of 32 bits nothing says how many are used. Taken for 16, levels up to 255 would all be black.
    if image.mode == "I" and image.getextrema()[1] in range(256):
        return 8
    bits: tuple[int, ...] = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,))
    return min(16, max(bits))  # Pillow leaves the 12 bits of a TIFF as they are; those of other formats fill 16


def _rgb(strip: Image.Image, depth: int) -> UInt8[np.ndarray, "h W 3"]:
    if strip.mode.startswith("I"):  # more than 8 bits, which Pillow's own conversion would cut off at 255
        levels = np.asarray(strip).clip(0, (1 << depth) - 1) >> (depth - 8)
        strip = Image.fromarray(levels.astype(np.uint8))
    if strip.has_transparency_data:
        white = Image.new("RGBA", strip.size, "white")
        strip = Image.alpha_composite(white, strip.convert("RGBA"))
    return np.asarray(strip.convert("RGB"))


def from_bgr(array: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """An array as OpenCV gives images, blue first, as RGB pixels.

    Args:
        array: uint8, grey (H, W) or (H, W, 1), BGR (H, W, 3), or BGRA (H, W, 4).

    Raises:
        InputError: Another array, or more than `MAX_PIXELS` pixels.
    """
    if array.ndim == 3 and array.shape[2] in (3, 4):
        array = array[:, :, [2, 1, 0, 3][: array.shape[2]]]
    return _from_array(array, MAX_PIXELS, "blue, green, red")


def _from_array(
    array: np.ndarray, max_pixels: int, order: str = "red, green, blue"
) -> UInt8[np.ndarray, "H W 3"]:
    if array.ndim == 3 and array.shape[2] == 1:  # as Keras has grey images
        array = array[..., 0]
    grey_or_colour = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not grey_or_colour:
        advice = "scale to 0..255 and convert with .astype('uint8')"
        raise InputError(
            f"expected a uint8 array of shape (H, W), (H, W, 3) in the order {order}, or (H, W, 4), but got "
            f"{array.dtype} {array.shape}; {'give one image, its channels last' if array.dtype == np.uint8 else advice}"
        )
    _check_size("the array", array.shape[1], array.shape[0], max_pixels)
    if array.ndim == 3 and array.shape[2] == 3:
        return np.ascontiguousarray(array)
    return _pixels(Image.fromarray(array))


def grey(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
    """The brightness of RGB pixels, in [0, 255]. Source: ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B)."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def resize(image: UInt8[np.ndarray, "H W 3"], width: int, height: int) -> UInt8[np.ndarray, "height width 3"]:
    """The image at another size in pixels: averaged over areas where it shrinks, interpolated where it grows."""
    while image.shape[0] >= 4 * height and image.shape[1] >= 4 * width:
        # OpenCV halves fast: 12 megapixels to 320 x 240 take 7 ms this way and 33 at once. An odd last line is lost.
        half = image.shape[1] // 2, image.shape[0] // 2
        even = image[: 2 * half[1], : 2 * half[0]]
        image = np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA), np.uint8)
    shrinks = width * height < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def _need_no_address(text: str) -> None:
    if "://" in text and not os.path.lexists(text):
        raise InputError(f"{text} is an address, and photos are read from files; download it first")


def find_images(
    paths: Iterable[str | PathLike[str]], *, refused: Callable[[FileError], None] | None = None
) -> list[Path]:
    """The image files that paths, folders and patterns stand for, in the order given.

    Args:
        paths: A file stands for itself, whatever its suffix and even if it is missing, so that opening it tells
            what is wrong and the others are still read. A folder stands for the files inside it and its folders
            that have a suffix of `FORMATS` or `UNREAD` and no leading dot, sorted; links to folders are not followed.
            A name with `*`, `?` or `[` that is no file stands for all that matches it, sorted; `**` for any depth.
        refused: Called with the error of each folder inside that is a link or cannot be listed, so that the rest is
            found; without it the first is raised.

    Raises:
        FileError: A folder holds no images, cannot be listed or has a link to another, or nothing matches a pattern.
        InputError: A path is empty.
    """
    found: list[Path] = []
    for path in paths:
        text = os.fspath(path)
        if not text:
            raise InputError("expected a file, folder or pattern, but got an empty name; is a shell variable unset?")
        _need_no_address(text)
        if os.path.isdir(text):
            inside = _images_inside(text, refused)
            problem = f"there are no images in {text}; expected files named {', '.join(FORMATS)}"
        elif glob.has_magic(text) and not os.path.lexists(text):
            inside, problem = _matching(text, refused), f"no image matches {text}"
        else:
            inside, problem = [Path(text)], ""
        if not inside:
            raise FileError(problem)
        found += inside
    return found


def _matching(pattern: str, refused: Callable[[FileError], None] | None) -> list[Path]:
    """The images that a pattern stands for, each once: it may match a folder and what is in it, or a link to that."""
    real = cache(real_path)  # thousands of files share a folder

    @cache
    def goes_round(path: Path) -> bool:
        """Whether a path leads through a link to a folder that the link lies in."""
        if path.is_symlink() and real(path.parent).is_relative_to(real_path(path)):
            return True
        return path.parent != path and goes_round(path.parent)

    named = dict.fromkeys(sorted(map(Path, glob.glob(pattern, recursive=True))))
    once: dict[Path, Path] = {}
    for match in named:
        if not goes_round(match):
            for file in _images_inside(match, refused, named) if match.is_dir() else [match]:
                once.setdefault(real(file.parent) / file.name, file)
    return list(once.values())


def _images_inside(
    folder: str | Path, refused: Callable[[FileError], None] | None, named: Collection[Path] = ()
) -> list[Path]:
    """The images in a folder and its folders; links to folders are refused, but for those that are named apart."""
    def refuse(problem: str, error: OSError | None = None) -> None:
        if refused is None:
            raise FileError(problem) from error
        refused(FileError(problem))

    def unlisted(error: OSError) -> None:
        refuse(f"cannot list {error.filename}: {error.strerror}", error)

    found = []
    for place, folders, names in os.walk(folder, onerror=unlisted):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = (path for name in folders if (path := Path(place, name)).is_symlink() and path not in named)
        for link in sorted(links):
            refuse(f"{link} is a link to a folder, which is not followed; name that folder itself")
        visible = (Path(place, name) for name in names if not name.startswith("."))
        found += [path for path in visible if suffix_of(path) in (*FORMATS, *UNREAD)]
    return sorted(found)


def check_format(suffix: str) -> None:
    """Refuse an image's file name before long work rather than after it.

    Raises:
        InputError: No format of `FORMATS` has this suffix.
    """
    if suffix.lower() not in FORMATS:
        raise InputError(f"expected a file name that ends in one of {', '.join(FORMATS)}, but got {suffix!r}")


def encode(image: UInt8[np.ndarray, "H W 3"], suffix: str = ".jpg") -> bytes:
    """RGB pixels as the content of an image file (JPEG and WebP at quality 92), which names its maker where it can.

    Raises:
        InputError: No format of `FORMATS` has this suffix.
    """
    check_format(suffix)
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, FORMATS[suffix.lower()], quality=92, exif=_made())
    return buffer.getvalue()


def _made() -> Image.Exif:
    """What tells a picture of ours from a photo."""
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = _MAKER
    return exif


def is_ours(path: str | PathLike[str]) -> bool:
    """Whether an image file, of a format that can tell it, was written by `save_image`."""
    if not os.path.isfile(path):  # to open a pipe is to wait for whoever writes to it
        return False
    try:
        with open(path, "rb") as file, _opened(file, str(path), MAX_PIXELS) as image, _quiet():
            if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode it all to look further
                return False
            return bool(image.getexif().get(ExifTags.Base.Software) == _MAKER)
    except (*_BROKEN, MienError, MemoryError):
        return False


def save_image(path: str | PathLike[str], image: UInt8[np.ndarray, "H W 3"]) -> Path:
    """Write RGB pixels to an image file, whole or not at all, in the format of its suffix.

    Returns:
        The path.

    Raises:
        InputError: The suffix names no known format.
        FileError: The file cannot be written.
    """
    content = encode(image, Path(path).suffix)
    return write_whole(path, lambda file: file.write(content), binary=True)
