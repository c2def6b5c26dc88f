"""What the API answers: reading images, and telling about itself."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, WebSocket
from fastapi.responses import JSONResponse

from mien.expressions import EXPRESSIONS
from mien.reading.tables import Photo, to_object
from mien.web import schemas
from mien.web.bodies import Upload, uploads
from mien.web.limits import Allowance, Refusal
from mien.web.metrics import CONTENT_TYPE
from mien.web.service import Service
from mien.web.stream import serve_stream

Responses = dict[int | str, dict[str, Any]]
Read = Callable[[bytes, str, Allowance], Awaitable[Photo]]

_PICTURE = {"type": "string", "format": "binary"}
_FILES = {"type": "object", "properties": {"image": {"type": "array", "items": _PICTURE, "minItems": 1}},
          "required": ["image"]}  # fmt: skip
_BODY = {
    "requestBody": {
        "required": True,
        "description": "An image as it is, a form with one or more files, or JSON with base64.",
        "content": {
            "image/*": {"schema": _PICTURE},
            "application/octet-stream": {"schema": _PICTURE},
            "multipart/form-data": {"schema": _FILES},
            "application/json": {"schema": schemas.ImagesIn.model_json_schema()},
        },
    }
}
_ERRORS: Responses = {
    status: {"model": schemas.ErrorOut, "description": text}
    for status, text in {
        400: "The body is empty, cut off, or not what its type says.",
        401: "The server asks for a token.",
        403: "The request came through a host name or page that is not allowed.",
        408: "The body came too slowly.",
        413: "The body has too many bytes, or too many images.",
        415: "The body is of no type that is taken, or no image.",
        422: "An image is damaged or has too many pixels, or the JSON is not as expected.",
        500: "A fault of the server, whose log has it.",
        503: "Too many requests are waiting; see Retry-After.",
        504: "Reading took too long.",
    }.items()
}
_DOORS: Responses = {status: _ERRORS[status] for status in (401, 403, 500)}
_OPEN_DOORS: Responses = {status: _ERRORS[status] for status in (403, 500)}  # no token is asked for

Source = Annotated[str, Query(max_length=1000, description="A name for a raw body, which comes back with the answer.")]


def reading_routes(service: Service) -> APIRouter:
    """Images in, readings out."""
    router = APIRouter(prefix="/v1", tags=["reading"])

    @router.post(
        "/read",
        summary="Find and read the faces of one or several photos",
        description="One image (a raw body, or `image` in JSON) gives one object; several give `photos`, where an "
        "image that cannot be read has an `error` and does not stop the others.",
        responses={200: {"model": schemas.PhotoOut | schemas.PhotosOut}, **_ERRORS},
        openapi_extra=_BODY,
    )
    async def read(request: Request, source: Source = "body") -> Response:
        results, several = await _work(service, request, source, service.read)
        if several:
            return JSONResponse({"photos": list(map(_to_json, results))})
        return JSONResponse(_to_json(results[0]))

    @router.post(
        "/faces",
        summary="Read faces that are cropped already",
        description="Each image is a face and nothing else, framed as FER2013 frames its faces; it is made grey and "
        "resized to 48 x 48. One of several that cannot be read has an `error` in its place.",
        responses={200: {"model": schemas.CropsOut}, **_ERRORS},
        openapi_extra=_BODY,
    )
    async def faces(request: Request, source: Source = "body") -> Response:
        results, _ = await _work(service, request, source, service.read_crop)
        return JSONResponse({"model": service.recognizer.name, "faces": list(map(_to_crop, results))})

    @router.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        await serve_stream(socket, service)

    return router


def about_routes(service: Service) -> APIRouter:
    """The model, and the server's counters."""
    router = APIRouter(tags=["about"])

    @router.head("/v1/models", include_in_schema=False)
    @router.get(
        "/v1/models",
        summary="The model's card, and the limits",
        response_model=schemas.ModelsOut,
        responses=_DOORS,
    )
    async def models() -> dict[str, Any]:
        card, limits = service.recognizer.card, service.limits
        shown = ("name", "temperatures", "biases", "threshold", "licence", "scores")
        model = {name: getattr(card, name) for name in shown}
        model |= {"labels": list(EXPRESSIONS), "views": service.recognizer.views}
        return {"models": [model], "limits": {name: getattr(limits, name) for name in schemas.LimitsOut.model_fields}}

    @router.head("/metrics", include_in_schema=False)
    @router.get(
        "/metrics",
        summary="Counters for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_DOORS},
    )
    async def counters() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    return router


def health_routes() -> APIRouter:
    """Whether the server is there, which nobody needs a token to ask."""
    router = APIRouter(tags=["about"])

    @router.head("/healthz", include_in_schema=False)  # monitors ask so
    @router.get("/healthz", summary="Is it there?", response_model=schemas.HealthOut, responses=_OPEN_DOORS)
    async def health() -> dict[str, str]:
        return {"status": "ok", "version": version("mien")}

    return router


async def _work(service: Service, request: Request, source: str, read: Read) -> tuple[list["Photo | Failure"], bool]:
    """The images of a request, read within its time; and whether its form is that for several.

    Raises:
        Refusal: The request cannot be served, or its only image not be read.
    """
    came, seconds = None, service.limits.seconds
    try:
        with service.admitted():
            async with asyncio.timeout(seconds):
                came = await uploads(request, service.limits, source)
                allowance = Allowance(service.limits)
                results = await asyncio.gather(*(_one(image, read, allowance) for image in came.images))
    except TimeoutError as error:
        raise _late(seconds, sent=came is not None) from error
    if not came.several and isinstance(results[0], Failure):
        raise results[0].refusal
    return results, came.several


@dataclass(frozen=True, slots=True)
class Failure:
    """An image of several that could not be read."""

    source: str
    refusal: Refusal


async def _one(image: Upload, read: Read, allowance: Allowance) -> Photo | Failure:
    if isinstance(image.content, Refusal):
        return Failure(image.source, image.content)
    try:
        return await read(image.content, image.source, allowance)
    except Refusal as refusal:
        return Failure(image.source, refusal)


def _to_json(result: Photo | Failure) -> dict[str, Any]:
    if isinstance(result, Failure):
        return {"source": result.source, **result.refusal.to_object()}
    return to_object(result)


def _to_crop(result: Photo | Failure) -> dict[str, Any]:
    answer = _to_json(result)
    if "faces" not in answer:
        return answer
    (face,) = answer["faces"]
    return {"source": answer["source"], **{k: v for k, v in face.items() if k not in {"box", "score"}}}


def _late(seconds: float, *, sent: bool) -> Refusal:
    if sent:
        hint = "send smaller images or fewer at once, or start the server with a larger --timeout"
        return Refusal(504, "too_slow", f"reading was not done after {seconds:g} s", hint)
    return Refusal(408, "body_too_slow", f"the body was not complete after {seconds:g} s", "send it faster")
