"""The application: the routes, the page, the door around them, and the form of every error."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from mien.reading.recognizer import Recognizer
from mien.web.gate import Gate
from mien.web.limits import Limits, Refusal
from mien.web.metrics import Metrics
from mien.web.routes import about_routes, health_routes, reading_routes
from mien.web.service import Service

STATIC = Path(__file__).parent / "static"

_ABOUT = """
Finds the faces in images and says what each expresses. Nothing that is sent is stored or logged.

**An expression is not an emotion**: the labels say what strangers saw in a picture, not what a person felt.

`WS /v1/stream` takes encoded frames as binary messages and answers each frame that it reads with one JSON message:
`{"frame", "time_s", "dropped", "width", "height", "model", "faces"}`, where `frame` counts the client's messages
from 0 and `dropped` those that a newer one replaced. Each face has a `track`, its number for as long as it is seen,
beside what `/v1/read` gives; probabilities are smoothed over 0.3 s. A frame that cannot be read is answered with
`{"frame", "time_s", "dropped", "error"}`. Send at any rate: old frames are dropped, never queued.
"""


def create_app(
    recognizer: Recognizer,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: Collection[str] = (),
    origins: Collection[str] = (),
) -> FastAPI:
    """The ASGI application.

    Args:
        recognizer: The model that reads.
        limits: What is refused.
        token: What clients must show as `Authorization: Bearer`, if anything.
        hosts: Further host names under which the server is reached.
        origins: Origins whose pages may use the API (CORS).
    """
    metrics = Metrics()
    service = Service(recognizer, limits or Limits(), metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="mien",
        version=version("mien"),
        summary="Facial expressions in images.",
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,  # a photo would be sent once more, and past a proxy's TLS
        exception_handlers={Refusal: _refused, HTTPException: _http_error, RequestValidationError: _invalid},
    )
    # The last one added is the outermost.
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"],
                           expose_headers=["Retry-After"])  # fmt: skip
    app.add_middleware(Gate, metrics=metrics, token=token, hosts=hosts, origins=origins)
    described = [Security(HTTPBearer(auto_error=False))] if token else []  # the door checks it, and the stream's too
    app.include_router(reading_routes(service), dependencies=described)
    app.include_router(about_routes(service), dependencies=described)
    app.include_router(health_routes())
    app.add_route("/", _page("index.html"), include_in_schema=False)
    app.add_route("/docs", _page("docs.html"), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> FileResponse:
        return FileResponse(STATIC / name)

    return page


async def _refused(request: Request, refusal: Exception) -> JSONResponse:
    assert isinstance(refusal, Refusal)
    return JSONResponse(refusal.to_object(), refusal.status, refusal.headers)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    refusal = Refusal(error.status_code, code, str(error.detail), "see /docs for what there is", error.headers)
    return await _refused(request, refusal)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return await _refused(request, Refusal(422, "invalid", message, "see /docs for what is expected"))
