"""Hostile pictures and videos: cut off, bits flipped, sizes that lie, bombs, loops, odd modes."""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

LARGE = 10_480  # its square is just below the 110 million pixels that are read
FORMS = {
    "jpg": ("JPEG", {}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "lossless.webp": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate.tif": ("TIFF", {"compression": "tiff_deflate"}),
    "ppm": ("PPM", {}),
    "jp2": ("JPEG2000", {}),
    "avif": ("AVIF", {}),
}

File = tuple[str, bytes]


def images(random: Random) -> Iterator[File]:
    """Name and content of each hostile picture."""
    plain = _picture()
    for name, (form, options) in FORMS.items():
        content = _encoded(plain, form, **options)
        yield f"sound.{name}", content
        for share in (0.02, 0.3, 0.7, 0.97):
            yield f"cut-{share:.0%}.{name}", content[: int(len(content) * share)]
        for turn in range(3):
            yield f"flipped-{turn}.{name}", flipped(content, random, 2 + 6 * turn)
        yield f"doubled.{name}", content + content
    yield from _modes()
    yield from _pngs()
    yield from _jpegs()
    yield from _lying_sizes(plain)
    yield from _notes(plain)
    yield from _names(plain)


def videos(random: Random, folder: Path) -> Iterator[File]:
    """Name and content of each hostile video; `folder` holds what is encoded on the way."""
    import av

    contents = {}
    for name in ("mp4", "mkv", "avi", "ts"):
        path = folder / f"sound.{name}"
        with av.open(str(path), "w") as file:
            stream = file.add_stream("mpeg4", rate=10)
            stream.width, stream.height = 64, 48
            for number in range(12):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number, np.uint8), format="rgb24")
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        contents[name] = path.read_bytes()
        path.unlink()
    for name, content in contents.items():
        yield f"sound.{name}", content
        for share in (0.1, 0.5, 0.9):
            yield f"cut-{share:.0%}.{name}", content[: int(len(content) * share)]
        for turn in range(3):
            yield f"flipped-{turn}.{name}", flipped(content, random, 2 + 10 * turn)
    yield "empty.mp4", b""
    yield "text.mp4", b"no video\n" * 100
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    # Files that name other files, or the network: FFmpeg would fetch what they say.
    yield "refused-playlist-file.m3u8", playlist.format("sound.ts").encode()
    yield "refused-playlist-address.m3u8", playlist.format("http://127.0.0.1:9/secret.ts").encode()
    yield "refused-playlist-named.mp4", playlist.format("sound.ts").encode()
    yield "refused-concat.mp4", b"ffconcat version 1.0\nfile sound.mp4\n"
    yield "refused-concat-absolute.ffconcat", b"ffconcat version 1.0\nfile /etc/hostname\n"
    yield "refused-sdp.sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"
    gif = BytesIO()
    Image.new("P", (2, 2)).save(gif, "GIF")
    yield "giant-screen.gif", gif.getvalue()[:6] + struct.pack("<HH", 65535, 65535) + gif.getvalue()[10:]
    yield "picture-as-video.mp4", png_of(30_000, 30_000)


def flipped(content: bytes, random: Random, bits: int) -> bytes:
    """The content with some bits turned, the first 200 bytes more often than the rest."""
    changed = bytearray(content)
    for number in range(bits):
        place = random.randrange(min(200, len(changed)) if number % 2 else len(changed))
        changed[place] ^= 1 << random.randrange(8)
    return bytes(changed)


def _picture(side: int = 96) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _modes() -> Iterator[File]:
    plain = _picture()
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        converted = plain.convert("L").convert(mode) if mode.startswith("I") else plain.convert(mode)
        yield f"mode-{mode.replace(';', '-')}.png", _encoded(converted, "PNG")
    for mode in ("L", "CMYK"):
        yield f"mode-{mode}.jpg", _encoded(plain.convert(mode), "JPEG")
    for mode in ("CMYK", "LAB", "F", "I;16", "YCbCr"):
        converted = plain.convert("L").convert(mode) if mode in {"F", "I;16"} else plain.convert(mode)
        yield f"mode-{mode.replace(';', '-')}.tif", _encoded(converted, "TIFF")
    yield "palette-of-alpha.png", _encoded(plain.convert("P"), "PNG", transparency=bytes(range(256)))
    frames = [plain.rotate(k) for k in range(5)]
    for name, form in (("gif", "GIF"), ("webp", "WEBP"), ("png", "PNG"), ("tif", "TIFF"), ("avif", "AVIF")):
        yield f"animated.{name}", _encoded(frames[0], form, save_all=True, append_images=frames[1:])
    mpo = _encoded(frames[0], "MPO", save_all=True, append_images=frames[1:2])
    yield "two.mpo", mpo
    yield "two-with-a-wrong-offset.mpo", mpo.replace(b"MPF\0", b"MPF\1")
    for name, (form, options) in FORMS.items():
        yield f"one-pixel.{name}", _encoded(Image.new("RGB", (1, 1), "red"), form, **options)
    for size in ((1, 8000), (8000, 1)):
        yield f"thin-{size[0]}x{size[1]}.png", _encoded(Image.new("L", size), "PNG")


def _chunk(kind: bytes, data: bytes, *, size: int | None = None) -> bytes:
    head = struct.pack(">I", len(data) if size is None else size)
    return head + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(
    width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 0, pixels: bytes | None = None
) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = zlib.compress(bytes(2 * 2 + 2), 9) if pixels is None else pixels
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """Zlib's stream of `count` zeros, about a thousandth of their size and made in no time."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)  # stands for itself wherever it is put
    rest = packer.compress(bytes(count & ((1 << 20) - 1))) + packer.flush()
    return b"\x78\x9c" + block * (count >> 20) + rest + struct.pack(">I", count % 65521 << 16 | 1)


def png_of(width: int, height: int, colour: int = 0, channels: int = 1) -> bytes:
    return _png(width, height, colour=colour, pixels=zeros(height * (1 + width * channels)))


def _pngs() -> Iterator[File]:
    yield "bomb-900-megapixels.png", png_of(30_000, 30_000)
    yield "bomb-110-megapixels.png", png_of(LARGE, LARGE)
    yield "bomb-110-megapixels-rgba.png", png_of(LARGE, LARGE, colour=6, channels=4)
    yield (
        "bomb-110-megapixels-16-bit.png",
        _png(LARGE, LARGE, depth=16, colour=6, pixels=zeros(LARGE * (1 + 8 * LARGE))),
    )
    yield "largest-size.png", _png(2**31 - 1, 2**31 - 1)
    yield "no-size.png", _png(0, 0)
    yield "no-height.png", _png(5, 0)
    yield "missing-pixels.png", _png(5000, 5000)
    yield "text-bomb.png", _png(2, 2, _chunk(b"zTXt", b"a\0\0" + zeros(200_000_000)))
    yield "many-texts.png", _png(2, 2, *[_chunk(b"zTXt", b"a\0\0" + zeros(900_000)) for _ in range(100)])
    yield "text-of-8-megabytes.png", _png(2, 2, _chunk(b"tEXt", b"a\0" + b"x" * 8_000_000))
    yield "profile-bomb.png", _png(2, 2, _chunk(b"iCCP", b"a\0\0" + zeros(300_000_000)))
    yield "chunk-of-2-gigabytes.png", _png(2, 2, _chunk(b"tEXt", b"a", size=2**31 - 1))
    yield "negative-chunk.png", _png(2, 2, _chunk(b"tEXt", b"a", size=2**32 - 1))
    yield "endless-animation.png", _png(2, 2, _chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0)))
    yield "ten-thousand-chunks.png", _png(2, 2, *[_chunk(b"tIME", bytes(7))] * 10_000)
    yield "palette-without-colours.png", _png(2, 2, colour=3)
    yield "depth-3.png", _png(2, 2, depth=3)


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _jpeg_with_size(content: bytes, width: int, height: int) -> bytes:
    """The same JPEG with another size in its head."""
    place = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    return content[: place + 5] + struct.pack(">HH", height, width) + content[place + 9 :]


def _jpegs() -> Iterator[File]:
    colour, grey = _picture(), _picture().convert("L")
    baseline, progressive = _encoded(colour, "JPEG"), _encoded(grey, "JPEG", progressive=True)
    yield "largest-size.jpg", _jpeg_with_size(baseline, 65535, 65535)
    yield "110-megapixels-of-nothing.jpg", _jpeg_with_size(baseline, LARGE, LARGE)
    yield (
        "110-megapixels-of-nothing-progressive.jpg",
        _jpeg_with_size(_encoded(colour, "JPEG", progressive=True), LARGE, LARGE),
    )
    # Each scan of a JPEG goes over the whole picture, whatever is in it.
    first = baseline.find(b"\xff\xda")
    apart = b"".join(_segment(0xDA, bytes([1, k, 0x11 * (k > 1), 0, 63, 0])) + b"\0\0" for k in (1, 2, 3))
    for name, side, scans in (("small", 96, 2000), ("large", 4000, 1000), ("largest", LARGE, 8)):
        head = _jpeg_with_size(baseline[:first], side, side)
        yield f"baseline-scan-bomb-{name}.jpg", head + apart * scans + b"\xff\xd9"
    first = progressive.find(b"\xff\xda")
    refinement = _segment(0xDA, bytes([1, 1, 0, 1, 1, 0x10])) + b"\0\0"
    for name, side, scans in (("small", 96, 400), ("large", 6000, 400), ("largest", LARGE, 50)):
        head = _jpeg_with_size(progressive[:first], side, side)
        yield f"scan-bomb-{name}.jpg", head + progressive[first:-2] + refinement * scans + b"\xff\xd9"
    yield "many-empty-comments.jpg", baseline[:2] + _segment(0xFE, b"") * 200_000 + baseline[2:]
    yield (
        "profile-of-16-megabytes.jpg",
        baseline[:2]
        + b"".join(_segment(0xE2, b"ICC_PROFILE\0" + bytes([k, 255]) + bytes(65_000)) for k in range(1, 256))
        + baseline[2:],
    )
    yield "segment-without-a-length.jpg", baseline[:2] + b"\xff\xe1\0\0" + baseline[2:]
    yield "no-tables.jpg", baseline[:2] + baseline[baseline.find(b"\xff\xc0") :]
    yield "twelve-bits.jpg", baseline.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c")
    yield "arithmetic.jpg", baseline.replace(b"\xff\xc0", b"\xff\xc9")


def _lying_sizes(plain: Image.Image) -> Iterator[File]:
    """Heads that promise far more pixels than the file has; lossless bombs that have them."""
    bmp, gif, ppm = (_encoded(plain, form) for form in ("BMP", "GIF", "PPM"))
    for name, side in (("largest", 2**31 - 1), ("110-megapixels", LARGE)):
        yield f"{name}.bmp", bmp[:18] + struct.pack("<ii", side, side) + bmp[26:]
        yield f"{name}.ppm", ppm.replace(b"96 96", b"%d %d" % (side, side))
    yield "upside-down.bmp", bmp[:22] + struct.pack("<i", -96) + bmp[26:]
    yield "run-length.bmp", bmp[:30] + struct.pack("<I", 1) + bmp[34:]
    yield "huge-number.ppm", b"P6\n" + b"9" * 5000 + b" 1 255\n"
    yield "endless-comment.ppm", b"P6\n#" + b"x" * 3_000_000
    yield "plain-text.ppm", b"P3\n2 2\n255\n" + b"7" * 2_000_000
    yield "float.ppm", b"PF\n2 2\n-1.0\n" + bytes(48)
    for name, side in (("largest", 65535), ("110-megapixels", LARGE)):
        yield f"{name}.gif", gif[:6] + struct.pack("<HH", side, side) + gif[10:]
    jp2 = _encoded(plain, "JPEG2000", no_jp2=True)
    sized = jp2[:8] + struct.pack(">II", LARGE, LARGE) + jp2[16:24] + struct.pack(">II", LARGE, LARGE) + jp2[32:]
    yield "110-megapixels.jp2", sized
    yield (
        "tiny-tiles.jp2",
        jp2[:8] + struct.pack(">II", LARGE, LARGE) + jp2[16:24] + struct.pack(">II", 1, 1) + jp2[32:],
    )
    yield "110-megapixels.webp", _encoded(Image.new("RGB", (LARGE, LARGE)), "WEBP", lossless=True, method=0, quality=0)
    yield "268-megapixels.webp", b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f" + bytes(9)
    for name, side in (("largest", 2**31 - 1), ("110-megapixels", LARGE)):
        yield f"{name}.tif", _tiff(side)
        yield f"{name}-deflate.tif", _tiff(side, compression=8, data=zeros(min(side * side, 200_000_000)))
    yield "loop.tif", _tiff(2, following=8)
    yield "strips-without-end.tif", _tiff(2, strips=2**31)
    yield "bits-per-sample-200.tif", _tiff(2, bits=200)


def _tiff(
    side: int, *, compression: int = 1, data: bytes = b"1234", following: int = 0, strips: int = 1, bits: int = 8
) -> bytes:
    """A grey TIFF whose head says what a test wants."""
    tags = [
        (256, side),
        (257, side),
        (258, bits),
        (259, compression),
        (262, 1),
        (277, 1),
        (278, side),
        (279, len(data)),
    ]
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags]
    entries.insert(5, struct.pack("<HHII", 273, 4, strips, start))
    return (
        b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", following) + data
    )


def _notes(plain: Image.Image) -> Iterator[File]:
    """EXIF that loops, lies about its length, or is nothing but a bomb."""

    def exif(entries: bytes, count: int, following: int = 0) -> bytes:
        return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + struct.pack("<I", following)

    orientation = struct.pack("<HHII", 0x112, 3, 1, 6)
    cases = {
        "loop": exif(orientation, 1, 8),
        "looping-sub-directory": exif(orientation + struct.pack("<HHII", 0x8769, 4, 1, 8), 2),
        "count-of-4-billion": exif(struct.pack("<HHII", 0x112, 3, 2**32 - 1, 8), 1),
        "sixty-thousand-entries": exif(orientation * 5000, 65_535),
        "offset-beyond": b"Exif\0\0II*\0\xff\xff\xff\x7f",
        "text-for-a-number": exif(struct.pack("<HHI4s", 0x112, 2, 4, b"six\0"), 1),
        "division-by-zero": exif(struct.pack("<HHII", 0x112, 5, 1, 8), 1),
        "nothing": b"Exif\0\0",
    }
    for name, notes in cases.items():
        for form, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")):
            yield f"exif-{name}.{suffix}", _encoded(plain, form, exif=notes)


def _names(plain: Image.Image) -> Iterator[File]:
    jpeg = _encoded(plain, "JPEG")
    yield "jpeg-as-png.png", jpeg
    yield "gif-as-jpeg.jpg", _encoded(plain, "GIF")
    yield "no-suffix", jpeg
    yield "refused-empty.jpg", b""
    yield "refused-zeros.png", bytes(100_000)
    yield "refused-text.jpg", b"hello\n"
    yield "refused-web-page.jpg", b"<html><script>alert(1)</script></html>"
    yield "refused-drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "refused-postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n"
    yield "refused-pickle.jpg", b"\x80\x04cos\nsystem\n(S'true'\ntR."
    yield "refused-archive.jpg", b"PK\x03\x04" + bytes(200)
