"""A server in a thread of the test process, and pictures to send to it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from PIL import Image

from mien.reading.recognizer import Recognizer, load_model
from mien.web.app import create_app
from mien.web.limits import Limits
from mien.web.server import listen, make_server

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
COLLINS = (EXAMPLES / "eileen-collins.jpg").read_bytes()
HOPPER = (EXAMPLES / "grace-hopper.jpg").read_bytes()


class Stuck:
    """A detector that finds nothing, and only when it may."""

    def __init__(self) -> None:
        self.busy, self.go = Event(), Event()

    def find(self, image: object) -> list:
        self.busy.set()
        assert self.go.wait(60)
        return []


class Running:
    """A server that runs.

    Attributes:
        app: The application.
        port: Where it listens, on 127.0.0.1.
        http: A client.
    """

    def __init__(self, app: FastAPI, port: int, http: httpx.Client) -> None:
        self.app, self.port, self.http = app, port, http

    def read(self, content: bytes, kind: str = "image/jpeg", **options: Any) -> httpx.Response:
        headers = {"Content-Type": kind, **options.pop("headers", {})}
        return self.http.post("/v1/read", content=content, headers=headers, **options)


@contextmanager
def serving(recognizer: Recognizer | None = None, limits: Limits | None = None, **options: Any) -> Iterator[Running]:
    limits = limits or Limits()
    app = create_app(recognizer or load_model(), limits=limits, **options)
    listener, ready = listen("127.0.0.1", 0), Event()
    server = make_server(app, limits, ready.set)
    thread = Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        assert ready.wait(60)
        port = listener.getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            yield Running(app, port, http)
    finally:
        server.should_exit = True
        thread.join(60)


def encoded(image: Image.Image | np.ndarray, form: str = "JPEG", **options: Any) -> bytes:
    buffer = BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, form, **options)
    return buffer.getvalue()


def no_face() -> bytes:
    return encoded(np.full((120, 160, 3), 127, np.uint8))


def two_faces() -> bytes:
    """Both portraits side by side."""
    canvas = Image.new("RGB", (900, 460), "white")
    for number, content in enumerate((COLLINS, HOPPER)):
        portrait = Image.open(BytesIO(content)).convert("RGB")
        portrait.thumbnail((440, 440))
        canvas.paste(portrait, (10 + 450 * number, 10))
    return encoded(canvas, quality=90)


def variations(count: int) -> list[bytes]:
    """Different small portraits: another face, place, size and brightness each."""
    heads = [(COLLINS, (150, 30, 300, 200)), (HOPPER, (130, 40, 400, 340))]
    heads = [Image.open(BytesIO(content)).convert("RGB").crop(box) for content, box in heads]
    made = []
    for number in range(count):
        head = heads[number % 2]
        side = 80 + number % 23
        small = head.resize((side, side * head.height // head.width))
        small = small.point(lambda v, gain=0.7 + (number % 11) * 0.05: min(255, int(v * gain)))
        canvas = Image.new("RGB", (128, 128), (number % 256, 90, 120))
        canvas.paste(small, (number % 17, number % 13))
        made.append(encoded(canvas, quality=90))
    return made
