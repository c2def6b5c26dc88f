"""Hostile tables and arrays: csv files of faces, votes and predictions, .npy and .npz files, and JSON of all kinds."""

import json
import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO
from random import Random

import numpy as np
from bad_images import File, flipped

PIXELS = b" ".join(b"%d" % (k % 256) for k in range(2304))
HEAD = b"emotion,pixels,Usage\n"
ROW = b"3," + PIXELS + b",Training\n"
VOTES = b"Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
VOTE = b"Training,fer0000000.png,10,0,0,0,0,0,0,0,0,0\n"
PREDICTIONS = b"row,p0,p1,p2,p3,p4,p5,p6\n"
PREDICTION = b"0,1,0,0,0,0,0,0\n"


def faces(random: Random) -> Iterator[File]:
    """Csv files in the place of fer2013.csv."""
    sound = HEAD + ROW * 3
    yield "sound.csv", sound
    yield from _any_table(sound, HEAD, ROW, random)
    for name, pixels in {
        "too-few": PIXELS[:-4],
        "too-many": PIXELS + b" 1",
        "negative": b"-1" + PIXELS[1:],
        "256": b"256" + PIXELS[1:],
        "fractions": b"0.5" + PIXELS[1:],
        "exponent": b"1e9" + PIXELS[1:],
        "word": b"nan" + PIXELS[1:],
        "billion": b"1000000000" + PIXELS[1:],
        "5000-digits": b"1" * 5000 + PIXELS[1:],
        "empty": b"",
        "blanks": b" " * 9000,
        "plus": b"+1" + PIXELS[1:],
        "other-digits": "\u0663".encode() + PIXELS[1:],
        "tabs": PIXELS.replace(b" ", b"\t"),
        "zero-bytes": PIXELS.replace(b" ", b"\0"),
        "leading-zeros": b"000" + PIXELS,
        "half-a-million": b"1 " * 500_000,
        "two-million": b"1 " * 2_000_000,
    }.items():
        yield f"pixels-{name}.csv", HEAD + ROW + b"3," + pixels + b",Training\n"
    for name, label in {"7": b"7", "minus-2": b"-2", "word": b"happy", "fraction": b"3.0", "huge": b"9" * 9999}.items():
        yield f"label-{name}.csv", HEAD + ROW + label + b"," + PIXELS + b",Training\n"
    yield "usage-unknown.csv", HEAD + ROW + b"3," + PIXELS + b",Test\n"
    yield "usage-of-a-megabyte.csv", HEAD + ROW + b"3," + PIXELS + b"," + b"x" * 1_000_000 + b"\n"
    yield "million-damaged-rows.csv", HEAD + ROW + b"x\n" * 1_000_000
    yield "million-empty-rows.csv", HEAD + ROW + b"\n" * 1_000_000
    yield "columns-without-end.csv", HEAD + ROW + (b"," * 1_000_000 + b"\n") * 3
    yield "header-of-a-megabyte.csv", b",".join(b"c%d" % k for k in range(150_000)) + b",pixels\n" + ROW
    yield "pixels-twice.csv", b"pixels,pixels\n" + PIXELS + b"," + PIXELS + b"\n"
    yield "refused-votes-alone.csv", VOTES + VOTE


def votes(random: Random) -> Iterator[File]:
    """Csv files in the place of fer2013new.csv."""
    sound = VOTES + VOTE * 3
    yield "sound.csv", sound
    yield from _any_table(sound, VOTES, VOTE, random)
    yield "count-256.csv", VOTES + VOTE * 2 + VOTE.replace(b"10", b"256")
    yield "count-negative.csv", VOTES + VOTE * 2 + VOTE.replace(b"10", b"-1")
    yield "million-rows.csv", VOTES + VOTE * 1_000_000
    yield "million-short-rows.csv", VOTES + b",,,,,,,,,,,\n" * 1_000_000
    yield "million-damaged-rows.csv", VOTES + b"x\n" * 1_000_000


def predictions(random: Random) -> Iterator[File]:
    """Csv files in the place of a table of predictions."""
    sound = PREDICTIONS + PREDICTION + PREDICTION.replace(b"0,1", b"1,1") + PREDICTION.replace(b"0,1", b"2,1")
    yield "sound.csv", sound
    yield from _any_table(sound, PREDICTIONS, PREDICTION, random)
    rows = {
        "nan": "0,nan,0,0,0,0,0,0",
        "infinite": "0,inf,-inf,0,0,0,0,0",
        "negative": "0,-5,6,0,0,0,0,0",
        "row-of-5000-digits": "9" * 5000 + ",1,0,0,0,0,0,0",
        "row-minus-1": "-1,1,0,0,0,0,0,0",
    }
    for name, row in rows.items():
        yield f"refused-{name}.csv", PREDICTIONS + row.encode() + b"\n" + sound.partition(b"\n")[2].partition(b"\n")[2]
    yield "one-line.csv", b"0," * 10_000_000
    yield "million-rows.csv", PREDICTIONS + b"".join(b"%d,1,0,0,0,0,0,0\n" % k for k in range(1_000_000))


def _any_table(sound: bytes, head: bytes, row: bytes, random: Random) -> Iterator[File]:
    """What can be wrong with every csv."""
    yield "refused-empty.csv", b""
    yield "refused-header-alone.csv", head
    yield "refused-other-columns.csv", b"a,b\n1,2\n"
    yield "refused-utf-16.csv", sound.decode().encode("utf-16")
    yield "refused-zeros.csv", bytes(5_000_000)
    yield "refused-picture.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
    yield "byte-order-mark.csv", b"\xef\xbb\xbf" + sound
    yield "crlf.csv", sound.replace(b"\n", b"\r\n")
    yield "cr.csv", sound.replace(b"\n", b"\r")
    yield "open-quote.csv", head + b'"' + row * 2
    yield "quotes.csv", head + b'""""' * 50_000 + b"\n" + row * 2
    yield "zero-byte.csv", head + b"\0" + row * 2
    yield "not-utf-8.csv", head + b"\xff\xfe" + row * 2
    yield "surrogates.csv", head + b"\xed\xa0\x80" + row * 2
    yield "formula.csv", head + b"=cmd|' /C calc'!A0," + row * 2
    yield "ragged.csv", head + row + b",,,,\n" + row
    yield "repeated-header.csv", head + head + row * 2
    for share in (0.1, 0.5, 0.99):
        yield f"cut-{share:.0%}.csv", sound[: int(len(sound) * share)]
    for turn in range(4):
        yield f"flipped-{turn}.csv", flipped(sound, random, 3 + 5 * turn)


def npy(shape: str, kind: str = "|u1", data: bytes = b"", *, head: str | None = None) -> bytes:
    """A .npy file whose head says what a test wants."""
    text = head or f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}}}"
    raw = text.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x02\0" + struct.pack("<I", len(raw)) + raw + data


def saved_array(array: np.ndarray, **options: bool) -> bytes:
    """A .npy file as numpy writes it."""
    buffer = BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def image_arrays(code: object, random: Random) -> Iterator[File]:
    """Files in the place of images.npy, beside sound labels of three faces; `code` is run by who unpickles it."""
    sound = saved_array(np.zeros((3, 48, 48), np.uint8))
    yield "sound.npy", sound
    objects = np.empty(3, object)
    objects[:] = [code] * 3
    yield "refused-objects.npy", saved_array(objects, allow_pickle=True)
    yield "refused-pickle.npy", saved_array(objects, allow_pickle=True)[128:]
    heads = {
        "terabyte": ("(1000000000, 48, 48)", "|u1"),
        "beyond-64-bits": ("(99999999999999999999, 48, 48)", "|u1"),
        "negative": ("(-1, 48, 48)", "|u1"),
        "no-size": ("(0, 48, 48)", "|u1"),
        "number": ("()", "|u1"),
        "fraction": ("(1.5, 48, 48)", "|u1"),
        "fields": ("(3, 48, 48)", [("a", "|u1")]),
        "text": ("(3, 48, 48)", "<U9"),
        "nothing": ("(3, 48, 48)", "|V0"),
        "wide": ("(3,)", "(2304,)|u1"),
        "unknown": ("(3, 48, 48)", "quux"),
        "complex": ("(3, 48, 48)", "<c8"),
        "half": ("(3, 48, 48)", "<f2"),
        "times": ("(3, 48, 48)", "<M8[s]"),
        "many-axes": (f"({'1, ' * 100})", "|u1"),
        "true": ("(True, 48, 48)", "|u1"),
    }
    for name, (shape, kind) in heads.items():
        yield f"head-{name}.npy", npy(shape, kind, bytes(3 * 48 * 48))
    code_text = "{'descr': '|u1', 'fortran_order': False, 'shape': __import__('os').system('true')}"
    yield "refused-head-code.npy", npy("", head=code_text)
    yield "refused-head-parentheses.npy", npy("", head="(" * 9000)
    yield "refused-head-minuses.npy", npy("", head="-" * 9000 + "1")
    yield "refused-head-of-20-megabytes.npy", npy("", head=" " * 20_000_000)
    yield "refused-head-length.npy", b"\x93NUMPY\x02\0\xff\xff\xff\xff{"
    yield "refused-version.npy", b"\x93NUMPY\x09\0" + sound[8:]
    yield "refused-empty.npy", b""
    yield "refused-nan.npy", saved_array(np.full((3, 48, 48), np.nan, np.float32))
    yield "refused-infinite.npy", saved_array(np.full((3, 48, 48), np.inf, np.float64))
    yield "refused-huge-numbers.npy", saved_array(np.full((3, 48, 48), 2**63 - 1, np.int64))
    for share in (0.01, 0.5, 0.99):
        yield f"refused-cut-{share:.0%}.npy", sound[: int(len(sound) * share)]
    for turn in range(6):
        yield f"flipped-{turn}.npy", flipped(sound[:160], random, 1 + turn) + sound[160:]


def weight_files(code: object, sound: bytes) -> Iterator[File]:
    """Files in the place of the .npz beside a sound architecture."""
    objects = np.empty(1, object)
    objects[0] = code
    yield "sound", sound
    yield "refused-array-alone", saved_array(np.zeros(3))
    yield "refused-pickle-alone", saved_array(objects, allow_pickle=True)[128:]
    yield "refused-text", b"hello"
    yield "refused-empty", b""
    yield "refused-objects", _archive({"recipe.npy": saved_array(objects, allow_pickle=True)})
    yield (
        "refused-bomb",
        _archive(
            {"0.weight.npy": npy("(3000000000,)", "|u1"), "bomb.npy": npy("(700000000,)", "|u1", bytes(700_000_000))},
            zipfile.ZIP_DEFLATED,
        ),
    )
    yield "refused-no-array", _archive({"recipe.npy": b"hello", "code.pkl": b"\x80\x04."})
    yield (
        "refused-other-compression",
        _archive({"recipe.npy": saved_array(np.array("x"))}).replace(
            b"PK\x01\x02\x14\0\x14\0\0\0\0\0", b"PK\x01\x02\x14\0\x14\0\0\0\x63\0"
        ),
    )
    yield (
        "refused-encrypted",
        _archive({"recipe.npy": saved_array(np.array("x"))}).replace(
            b"PK\x01\x02\x14\0\x14\0\0\0", b"PK\x01\x02\x14\0\x14\0\x01\0"
        ),
    )
    yield "refused-path", _archive({"../../outside.npy": saved_array(np.zeros(3))})
    yield "refused-head-parentheses", _archive({"recipe.npy": npy("", head="(" * 9000)})
    yield "refused-hundred-thousand-entries", _archive({f"{k}.npy": b"" for k in range(100_000)})
    for share in (0.1, 0.5, 0.9):
        yield f"refused-cut-{share:.0%}", sound[: int(len(sound) * share)]


def _archive(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def json_texts(sound: str, random: Random) -> Iterator[File]:
    """Damaged forms of a sound JSON object."""
    value = json.loads(sound)
    yield "sound", sound.encode()
    yield "refused-empty", b""
    yield "refused-zeros", bytes(1000)
    yield "refused-number", b"1"
    yield "refused-null", b"null"
    yield "refused-list", b"[]"
    yield "refused-object", b"{}"
    yield "refused-nan", b"NaN"
    for name, opening in (("lists", b"["), ("objects", b'{"":')):
        for depth in (900, 5000, 200_000):
            yield f"refused-nested-{name}-{depth}", opening * depth
            closing = b"]" if name == "lists" else b"}"
            yield f"refused-nested-{name}-{depth}-closed", opening * depth + b"1" + closing * depth
    yield "refused-utf-16", sound.encode("utf-16")
    yield "refused-not-utf-8", b"\xff" + sound.encode()
    yield "byte-order-mark", b"\xef\xbb\xbf" + sound.encode()
    yield "refused-text-of-10-megabytes", b'"' + b"x" * 10_000_000 + b'"'
    odd = {
        "null": None,
        "nan": float("nan"),
        "huge": 10**400,
        "text": "x" * 1000,
        "list": [[[]]],
        "object": {"": "Recipe"},
        "true": True,
        "surrogate": "\ud800",
        "minus": -1,
        "numbers": list(range(1000)),
        "escape": "\x1b]0;x\x07",
    }
    for key in value:
        for name, wrong in odd.items():
            yield f"{key or 'kind'}-{name}", json.dumps(value | {key: wrong}).encode()
        yield f"{key or 'kind'}-missing", json.dumps({k: v for k, v in value.items() if k != key}).encode()
    yield "twice", (sound[:-1] + "," + sound[1:]).encode()
    yield "extra", json.dumps(value | {"__class__": "os.system", "extra": 1}).encode()
    for turn in range(8):
        yield f"flipped-{turn}", flipped(sound.encode(), random, 1 + turn)
