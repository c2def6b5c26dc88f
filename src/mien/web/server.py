"""uvicorn around the application: one process, a socket of ours, and clients that dawdle shown the door."""

import asyncio
import errno
import json
import logging
import socket
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from h11 import IDLE
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Response
from websockets.server import ServerProtocol

from mien.errors import InputError
from mien.web.limits import HEAD, Limits, Refusal

_UNREAD = 1_000_000  # bytes of answers to pings that may wait for a client


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
        if self.cycle is not None and self.cycle.more_body:  # a head was read, and what follows it is bad
            message = "the request's body is not in chunks, as its head says"
        else:
            message = f"the request's head is not HTTP/1.1, or longer than {HEAD:,} bytes"
        body = json.dumps(Refusal(400, "bad_request", message, "use an HTTP client").to_object()).encode()
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()


class _Handshake(ServerProtocol):
    """The WebSocket protocol, with our form of errors for handshakes that are none."""

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        phrase = HTTPStatus(status).phrase
        hint = "open a stream with a WebSocket client: GET /v1/stream, without a body"
        if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            hint = "send at most 128 headers of 8 KiB each, 32 KiB together; cookies are not needed"
        refusal = Refusal(int(status), phrase.lower().replace(" ", "_"), text.strip() or phrase, hint)
        response = super().reject(status, json.dumps(refusal.to_object()))
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response


class _Stream(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, which leaves no handshake without an answer and waits for no client for ever.

    Args:
        seconds: How long a client may take in nothing of what it is sent.
        config, arguments, options: As uvicorn calls it.
    """

    def __init__(self, seconds: float, config: uvicorn.Config, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self._seconds = seconds
        self.conn = _Handshake(max_size=config.ws_max_size, logger=self.logger)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and not self.close_sent:  # a whole head came, and it is no handshake
            self.handshake_complete = self.close_sent = True
            answer = b"".join(self.conn.data_to_send())  # empty where the head could not be read at all
            if not answer:
                reason = getattr(self.conn.handshake_exc, "__cause__", None) or "malformed"
                answer = self.conn.reject(400, f"this is no WebSocket handshake: {reason}").serialize()
            self.transport.write(answer)
            self.transport.close()

    def handle_ping(self) -> None:
        super().handle_ping()
        if self.transport.get_write_buffer_size() > _UNREAD:  # it asks and asks, and reads no answer
            self.transport.abort()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:  # uvicorn ends the stream too, but logs it as an error of ours
                self.conn.send_close(1007)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    async def send(self, message: Any) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await super().send(message)
        except TimeoutError:
            self.transport.abort()  # to close it would mean to wait for the client once more
            raise ClientDisconnected from None
        if self.close_sent:  # a refusal is a complete answer, which uvicorn would log as an error of ours
            self.handshake_complete = True


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
    except (OSError, UnicodeError, TypeError) as error:  # the last two of names that no network could carry
        reason = getattr(error, "strerror", None) or error
        # The others are of the address, or of its name.
        of_port = getattr(error, "errno", None) in {errno.EADDRINUSE, errno.EACCES}
        hint = "choose another with --port" if of_port else "give --host an address of this machine"
        raise InputError(f"cannot listen on {host}, port {port}: {reason}; {hint}") from error


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
        "ws": partial(_Stream, limits.seconds),
        "lifespan": "on",
        "log_level": "error",  # a warning for every malformed request would fill the disk
        "access_log": False,  # paths and addresses are nobody's business
        "server_header": False,
        "proxy_headers": False,
        "h11_max_incomplete_event_size": HEAD,
        "ws_max_size": limits.body,
        "ws_per_message_deflate": False,  # frames are compressed already
        "timeout_keep_alive": 30,  # longer than clients keep an idle connection, or both might meet in the middle
        "timeout_graceful_shutdown": int(limits.seconds) + 5,
    }
    return _Server(uvicorn.Config(app, **options), ready)
