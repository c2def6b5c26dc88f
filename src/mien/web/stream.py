"""Live frames in, readings out, over a WebSocket: always of the newest frame, so that no queue can grow."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from mien.reading.tables import Photo, to_object
from mien.reading.tracks import TrackedReading, Tracker
from mien.web.gate import SUBPROTOCOL
from mien.web.limits import Refusal
from mien.web.service import Service


@dataclass(frozen=True, slots=True)
class _Frame:
    number: int  # among all frames that came, from 0
    time_s: float  # since the first frame
    content: bytes


class _Newest:
    """Holds one frame at most: a newer one takes its place.

    Args:
        drop: Called for each frame that gives way.
    """

    def __init__(self, drop: Callable[[], object]) -> None:
        self._drop = drop
        self._frame: _Frame | None = None
        self._changed = asyncio.Event()
        self._ended = False
        self._first: float | None = None
        self._count = 0
        self.dropped = 0

    def put(self, content: bytes) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
        if self._frame is not None:
            self.dropped += 1
            self._drop()
        self._frame = _Frame(self._count, now - self._first, content)
        self._count += 1
        self._changed.set()

    def end(self) -> None:
        self._ended = True
        self._changed.set()

    async def take(self) -> _Frame | None:
        """The newest frame, once there is one; None at the end."""
        await self._changed.wait()
        self._changed.clear()
        frame, self._frame = self._frame, None
        return None if self._ended else frame


async def serve_stream(socket: WebSocket, service: Service) -> None:
    """Serve one stream until its client leaves, or sends nothing for as long as a request may take."""
    try:
        with service.streaming():
            await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
            newest = _Newest(service.metrics.frames.labels("dropped").inc)
            async with asyncio.TaskGroup() as group:
                group.create_task(_receive(socket, newest))
                group.create_task(_answer(socket, newest, service))
    except Refusal as refusal:
        await socket.send_denial_response(JSONResponse(refusal.to_object(), refusal.status, refusal.headers))


async def _receive(socket: WebSocket, newest: _Newest) -> None:
    while (message := await socket.receive())["type"] == "websocket.receive":
        newest.put(message.get("bytes") or (message.get("text") or "").encode())
    newest.end()


async def _answer(socket: WebSocket, newest: _Newest, service: Service) -> None:
    frames = service.metrics.frames
    tracker = await service.run(lambda: Tracker(threshold=service.recognizer.card.threshold))  # it imports SciPy
    try:
        while True:
            try:
                async with asyncio.timeout(service.limits.seconds):
                    frame = await newest.take()
            except TimeoutError:
                await socket.close(1000, f"no frame came for {service.limits.seconds:g} s")
                return
            if frame is None:
                return
            answer: dict[str, Any] = {"frame": frame.number, "time_s": round(frame.time_s, 3)}
            answer["dropped"] = newest.dropped
            try:
                photo = await service.read(frame.content, "stream")
                answer |= _tracked(photo, tracker.update(frame.time_s, photo.readings))
                frames.labels("read").inc()
            except Refusal as refusal:
                answer |= refusal.to_object()
                frames.labels("bad").inc()
            await socket.send_text(json.dumps(answer))
    except WebSocketDisconnect:  # it left while its answer was made; `_receive` hears of it too
        return


def _tracked(photo: Photo, readings: Sequence[TrackedReading]) -> dict[str, Any]:
    """A frame as a photo is told, each face with its number and smoothed over time."""
    told = to_object(replace(photo, readings=list(readings)))
    faces = [{"track": reading.track, **face} for reading, face in zip(readings, told["faces"], strict=True)]
    return {"width": told["width"], "height": told["height"], "model": told["model"], "faces": faces}
