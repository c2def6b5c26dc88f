"""The images in a request's body, whichever of the forms it has; nothing is written to disk."""

import base64
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from itertools import islice

from pydantic import ValidationError
from pydantic_core import from_json
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mien.web.limits import Limits, Refusal, too_large
from mien.web.schemas import ImagesIn

RAW = ("image/", "application/octet-stream", "application/x-www-form-urlencoded")
"""Types of a raw body. The last is what `curl --data-binary` says of any file unless told otherwise."""

_FORMS = "send an image as the raw body (Content-Type: image/jpeg), as multipart/form-data, or as JSON with base64"


@dataclass(frozen=True, slots=True)
class Upload:
    """One encoded image, or why there is none."""

    source: str
    content: bytes | Refusal


@dataclass(frozen=True, slots=True)
class Uploads:
    """The images of one request, and whether it could have had several."""

    images: list[Upload]
    several: bool


async def uploads(request: Request, limits: Limits, source: str) -> Uploads:
    """Read a body, and stop as soon as it is too large.

    Raises:
        Refusal: It is too large, of another type, or not what its type says; or its only image is none.
    """
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        images = await _multipart(request, limits)
        several = True
    elif kind == "application/json":
        fields = _fields(await _body(request, limits))
        several = fields.images is not None
        texts = fields.images or [fields.image or ""]
        if len(texts) > limits.images:  # before millions of them are decoded
            raise _too_many(limits)
        images = [Upload(fields.source, _decode(text)) for text in texts]
    elif kind.startswith(RAW):
        several = False
        images = [Upload(source, await _body(request, limits) or _empty())]
    else:
        raise Refusal(415, "wrong_type", f"expected an image, but the Content-Type is {kind[:80]!r}", _FORMS)
    if len(images) > limits.images:
        raise _too_many(limits)
    if not several and isinstance(images[0].content, Refusal):
        raise images[0].content
    return Uploads(images, several)


async def _chunks(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.body:
        raise too_large(limits.body)
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limits.body:
                raise too_large(limits.body)
            yield chunk
    except ClientDisconnect as error:
        raise Refusal(400, "cut_off", "the connection ended before the body did", "send it again") from error


async def _body(request: Request, limits: Limits) -> bytes:
    return b"".join([chunk async for chunk in _chunks(request, limits)])


class _InMemory(MultiPartParser):
    spool_max_size = sys.maxsize  # Starlette would write what is larger than a megabyte to a temporary file
    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _multipart(request: Request, limits: Limits) -> list[Upload]:
    chunks = _chunks(request, limits)
    parser = _InMemory(_boundary(request), chunks, max_files=limits.images, max_fields=limits.images)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many"):
            raise _too_many(limits) from error
        raise _bad_multipart(error.message) from error
    if not parser.ended:  # what came last was cut off, and is not in the form
        raise _bad_multipart("it ends before its last boundary")
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise Refusal(400, "no_image", "the form has no file", "add one with curl: -F image=@photo.jpg")
    return [Upload(file.filename or "image", await file.read() or _empty()) for file in files]


def _boundary(request: Request) -> Headers:
    """The Content-Type with nothing but its boundary: Starlette would decode names in any codec that it says."""
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary", b"")
    if not boundary or b'"' in boundary or b"\\" in boundary:
        raise _bad_multipart("its Content-Type has no boundary, or one with quotes")
    return Headers(raw=[(b"content-type", b'multipart/form-data; boundary="' + boundary + b'"')])


def _fields(body: bytes) -> ImagesIn:
    try:
        given = from_json(body)
    except ValueError as error:
        raise _bad_json("the body", f"it is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise _bad_json("the body", "it should be an object")
    try:  # a million keys would be a million errors, and one of the first few is unknown too
        return ImagesIn.model_validate(dict(islice(given.items(), len(ImagesIn.model_fields) + 1)))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise _bad_json(".".join(map(str, first["loc"])) or "the body", first["msg"]) from error


def _decode(text: str) -> bytes | Refusal:
    data = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(data, validate=True) or _empty()
    except ValueError as error:  # binascii's is one; the other is of characters beyond ASCII
        message = f"an image is not base64: {error}"
        return Refusal(422, "bad_base64", message, "encode the file's bytes, without line breaks")


def _empty() -> Refusal:
    return Refusal(400, "empty_body", "an image has no bytes", _FORMS)


def _bad_json(where: str, reason: str) -> Refusal:
    hint = 'send {"image": "<base64>"} or {"images": ["<base64>", ...]}'
    return Refusal(422, "bad_json", f"the JSON is not as expected, at {where}: {reason}", hint)


def _bad_multipart(reason: str) -> Refusal:
    return Refusal(400, "bad_multipart", f"the body is no multipart/form-data: {reason}", _FORMS)


def _too_many(limits: Limits) -> Refusal:
    message = f"a request may have {limits.images} images, and this one has more"
    return Refusal(413, "too_many_images", message, "send them in several requests")
