"""Hostile requests: a Content-Type, a body, and nothing that a browser would send."""

import base64
import json
from collections.abc import Iterator
from random import Random

from bad_images import flipped, zeros

JSON, FORM = "application/json", "multipart/form-data; boundary=x"
Body = tuple[str, str, bytes]  # name, Content-Type, body


def bodies(picture: bytes, bomb: bytes, random: Random) -> Iterator[Body]:
    """Requests that read images; `picture` is a sound one, `bomb` a small file of many pixels."""
    text = base64.b64encode(picture).decode()
    sound = json.dumps({"image": text, "source": "a"}).encode()
    yield "sound-json", JSON, sound
    yield "sound-raw", "image/jpeg", picture
    for name, body in _texts(text).items():
        yield f"json-{name}", JSON, body
    for turn in range(12):
        yield f"json-flipped-{turn}", JSON, flipped(sound, random, 1 + 3 * turn)
    for share in (0.01, 0.5, 0.99):
        yield f"json-cut-{share:.0%}", JSON, sound[: int(len(sound) * share)]
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + picture + b"\r\n"
    form = part + b"--x--\r\n"
    yield "sound-form", FORM, form
    for name, (kind, body) in _forms(part, form).items():
        yield f"form-{name}", kind, body
    for turn in range(12):
        yield f"form-flipped-{turn}", FORM, flipped(form, random, 1 + 3 * turn)
    for k, kind in enumerate(
        (
            "",
            "image/",
            "image/jpeg; charset=" + "x" * 9000,
            "text/html",
            "a" * 5000,
            "\xff",
            "json",
            "application/json; charset=utf-7",
            "application/json;;;===",
            "multipart/mixed",
        )
    ):
        yield f"type-{k}", kind, sound
    several = json.dumps({"images": [base64.b64encode(bomb).decode()] * 64}).encode()
    yield "json-64-bombs", JSON, several
    yield "raw-bomb", "image/png", bomb
    yield "raw-of-19-megabytes", "image/png", bytes(19_000_000)
    yield "raw-of-21-megabytes", "image/png", bytes(21_000_000)
    yield "raw-compressed", "application/gzip", zeros(100_000_000)


def _texts(image: str) -> dict[str, bytes]:
    quoted = json.dumps(image)
    return {
        "empty": b"",
        "null": b"null",
        "number": b"1",
        "nan": b"NaN",
        "list": b"[]",
        "object": b"{}",
        "zeros": bytes(99),
        "nested-lists": b"[" * 500_000,
        "nested-objects": b'{"image":' * 500_000,
        "nested-image": b'{"image":' + b"[" * 5000 + b"]" * 5000 + b"}",
        "huge-number": b'{"image":' + b"9" * 1_000_000 + b"}",
        "exponent": b'{"image":1e999999999}',
        "nan-inside": b'{"image":NaN}',
        "infinity": b'{"source":-Infinity,"image":""}',
        "twice": f'{{"image":1,"image":{quoted}}}'.encode(),
        "both": b'{"image":"","images":[""]}',
        "images-number": b'{"images":7}',
        "images-empty": b'{"images":[]}',
        "images-nested": b'{"images":[[[""]]]}',
        "images-65": json.dumps({"images": [""] * 65}).encode(),
        "images-million": b'{"images":[' + b'"",' * 999_999 + b'""]}',
        "unknown-keys": json.dumps({f"k{k}": k for k in range(50_000)}).encode(),
        "source-long": json.dumps({"image": image, "source": "x" * 100_000}).encode(),
        "source-number": json.dumps({"image": image, "source": 1}).encode(),
        "source-surrogate": f'{{"image":{quoted},"source":"\\ud800"}}'.encode(),
        "source-zero": json.dumps({"image": image, "source": "\0\x1b[2J"}).encode(),
        "source-markup": json.dumps({"image": image, "source": "<script>alert(1)</script>"}).encode(),
        "utf-16": json.dumps({"image": image}).encode("utf-16"),
        "not-utf-8": b'{"image":"\xff\xfe"}',
        "raw-surrogate": b'{"image":"\xed\xa0\x80"}',
        "control": b'{"image":"\0\n"}',
        "base64-garbage": b'{"image":"!!!!"}',
        "base64-short": b'{"image":"A"}',
        "base64-umlaut": '{"image":"ä"}'.encode(),
        "base64-padding": b'{"image":"' + b"=" * 100_000 + b'"}',
        "base64-lines": json.dumps({"image": image[:76] + "\n"}).encode(),
        "data-url": json.dumps({"image": "data:image/png;base64," + image}).encode(),
        "data-url-empty": b'{"image":"data:,"}',
        "data-url-alone": b'{"image":"data:"}',
        "address": b'{"image":"file:///etc/passwd"}',
        "link": b'{"image":"http://127.0.0.1:9/"}',
        "comment": b'{"image":""/* */}',
        "trailing": b'{"image":""}}}}',
        "prototype": b'{"image":"","__proto__":{"a":1}}',
    }


def _forms(part: bytes, form: bytes) -> dict[str, tuple[str, bytes]]:
    head, _, picture = part.partition(b"\r\n\r\n")

    def named(name: bytes) -> bytes:
        return head.replace(b'"a.jpg"', name) + b"\r\n\r\n" + picture + b"--x--\r\n"

    return {
        "no-boundary": ("multipart/form-data", form),
        "empty-boundary": ("multipart/form-data; boundary=", form),
        "long-boundary": ("multipart/form-data; boundary=" + "x" * 20_000, form),
        "quoted-boundary": ('multipart/form-data; boundary="x\\""', form),
        "other-boundary": ("multipart/form-data; boundary=y", form),
        "empty": (FORM, b""),
        "zeros": (FORM, bytes(9999)),
        "end-alone": (FORM, b"--x--\r\n"),
        "no-end": (FORM, part),
        "cut": (FORM, form[: len(form) // 2]),
        "65-files": (FORM, part * 65 + b"--x--\r\n"),
        "parts-without-end": (FORM, b"--x\r\n\r\n\r\n" * 300_000),
        "headers-without-end": (FORM, b"--x\r\n" + b"A: b\r\n" * 1_000_000),
        "long-header": (FORM, b"--x\r\nA: " + b"b" * 9_000_000),
        "no-file": (FORM, b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nhello\r\n--x--\r\n'),
        "no-disposition": (FORM, b"--x\r\n\r\nhello\r\n--x--\r\n"),
        "name-empty": (FORM, named(b'""')),
        "name-path": (FORM, named(b'"../../../etc/passwd"')),
        "name-zero": (FORM, named(b'"a\0.jpg"')),
        "name-long": (FORM, named(b'"' + b"x" * 3000 + b'"')),
        "name-not-utf-8": (FORM, named(b'"\xff\xfe.jpg"')),
        "name-surrogate": (FORM, named(b'"\xed\xa0\x80.jpg"')),
        "name-codec": (FORM, named(b"x; filename*=hex''zz")),
        "empty-file": (FORM, head + b"\r\n\r\n\r\n--x--\r\n"),
        "newlines": (FORM, form.replace(b"\r\n", b"\n")),
        "transfer-encoding": (FORM, form.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1)),
    }


def addresses() -> list[str]:
    """Paths of requests with a picture as their body: what a name may hold."""
    return ["/v1/read?source=" + text for text in ("%ff", "%ed%a0%80", "%00", "x" * 1001, "a&source=b", "../%2e%2e/")]
