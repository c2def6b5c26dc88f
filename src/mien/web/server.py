"""uvicorn around the application: one process, a socket of ours, and clients that dawdle shown the door."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from h11 import IDLE
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from mien.errors import InputError
from mien.web.limits import Limits, Refusal

_HEAD = 32_768  # bytes of a request's head at most


class _Protocol(H11Protocol):
    """uvicorn's HTTP, with a time limit for a request's head and our form of errors.

    Args:
        seconds: From the connection, or the head's first byte, to its last.
        options: As uvicorn calls it.
    """

    def __init__(self, seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does this only where the listener names its protocol. Without it an answer's body waits 40 ms, until
        # the client acknowledges its head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.trailing_data[0]:  # the next head has begun, and came with this request
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        if self.conn.their_state is not IDLE:
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self._seconds, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send_400_response(self, msg: str) -> None:
        message = f"the request's head is not HTTP/1.1, or longer than {_HEAD:,} bytes"
        body = json.dumps(Refusal(400, "bad_request", message, "use an HTTP client").to_object()).encode()
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn, with a call of ours once it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: The address is not ours, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot listen on {host}, port {port}: {reason}; choose another with --port") from error


def make_server(app: ASGIApp, limits: Limits, ready: Callable[[], object]) -> uvicorn.Server:
    """uvicorn, set up; `run(sockets=[listener])` serves until SIGINT or SIGTERM and finishes first what runs then.

    Args:
        app: The application.
        limits: For the time a request's head may take, the size of frames, and how long the end is waited for.
        ready: Called once requests are answered.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it would log the bytes it did not expect
    options: dict[str, Any] = {
        "http": partial(_Protocol, limits.seconds),
        "ws": "websockets-sansio",
        "lifespan": "on",
        "log_level": "error",  # a warning for every malformed request would fill the disk
        "access_log": False,  # paths and addresses are nobody's business
        "server_header": False,
        "proxy_headers": False,
        "h11_max_incomplete_event_size": _HEAD,
        "ws_max_size": limits.body,
        "ws_per_message_deflate": False,  # frames are compressed already
        "timeout_keep_alive": 30,  # longer than clients keep an idle connection, or both might meet in the middle
        "timeout_graceful_shutdown": int(limits.seconds) + 5,
    }
    return _Server(uvicorn.Config(app, **options), ready)
