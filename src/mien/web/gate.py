"""The door: who may come in, what every answer carries, and what is counted.

A server on localhost is open to every page in the user's browser. So a name in `Host` that is not ours is refused
(DNS rebinding needs one; an address cannot be rebound), and so is an `Origin` that is not this page or allowed.
"""

import asyncio
import hmac
import ipaddress
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mien.errors import InputError
from mien.web.limits import HEAD, Refusal
from mien.web.metrics import Metrics

SUBPROTOCOL = "mien"
"""What a stream's client asks for. A browser cannot set headers there; it adds `bearer.` and the token as base64url."""

_OPEN = ("/", "/docs", "/healthz", "/openapi.json")  # no token: they say nothing about anybody
_ROUTES = (*_OPEN, "/metrics", "/v1/faces", "/v1/models", "/v1/read", "/v1/stream")
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]+)?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+")
_USUAL_PORT = re.compile(r"^http:.*:80$|^https:.*:443$")  # no browser sends it
_LINGER = 2.0  # seconds


def check_names(hosts: Collection[str], origins: Collection[str]) -> None:
    """Look whether names and origins are such as clients send.

    Raises:
        InputError: One could never match.
    """
    for host in hosts:
        match = _HOST.fullmatch(host.lower())
        if match is None or match["name"] != host.lower():
            raise InputError(f"--allow-host takes a name such as photos.example.org, without a port, but got {host!r}")
    for origin in origins:
        if not _ORIGIN.fullmatch(origin) or origin.endswith("*") or _USUAL_PORT.search(origin):
            expected = "an origin such as https://example.org, not a wildcard, without a path or the usual port"
            raise InputError(f"--allow-origin takes {expected}, but got {origin!r}")


class Gate:
    """ASGI middleware around everything.

    Args:
        app: What is inside.
        metrics: Where it counts.
        token: What clients must show, if anything.
        hosts: Names in `Host` that are ours, beside localhost and addresses.
        origins: Pages of other origins that may use the API.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        token: str | None = None,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
    ) -> None:
        self._app, self._metrics = app, metrics
        self._token = token.encode() if token else None
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self._origins = set(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        # All that has ranges is small, and Starlette's errors about them have a form of their own.
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"range"]
        headers = Headers(scope=scope)
        visit = _Visit(scope, headers, receive, send)
        start = time.perf_counter()
        try:
            try:
                self._check(scope, headers)
            except Refusal as refusal:
                await self._refuse(visit, refusal, headers)
            else:
                await self._app(scope, visit.receive, visit.send)
            visit.status = visit.status or "none"  # the client left first
        except Exception:  # a fault of ours, which is logged further out
            if not visit.status:
                hint = "this is a fault of the server; its log has the traceback"
                # uvicorn closes the connection after a fault, and the client should know.
                fault = Refusal(500, "internal_error", "something went wrong", hint, {"Connection": "close"})
                await self._refuse(visit, fault, headers)
            raise
        finally:
            path = scope["path"]
            route = path if path in _ROUTES else "/static" if path.startswith("/static/") else "other"
            self._metrics.requests.labels(route, visit.status or "500").inc()
            if scope["type"] == "http":
                self._metrics.seconds.labels(route).observe(time.perf_counter() - start)

    async def _refuse(self, visit: "_Visit", refusal: Refusal, headers: Headers) -> None:
        if (origin := headers.get("origin")) in self._origins:  # its page should see what is wrong
            refusal.headers |= {"Access-Control-Allow-Origin": str(origin), "Vary": "Origin"}
        await visit.refuse(refusal)

    def _check(self, scope: Scope, headers: Headers) -> None:
        # The HTTP parser looks at the length only of heads that come in pieces.
        head = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(n) + len(v) + 4 for n, v in headers.raw)
        if head > HEAD:
            message = f"a request's head may have {HEAD:,} bytes, and this one has more"
            raise Refusal(400, "bad_request", message, "send fewer or shorter headers")
        host = headers.get("host", "")
        if not self._is_ours(host):
            hint = "use the address that the server printed, or start it with --allow-host NAME"
            raise Refusal(403, "forbidden_host", f"this server does not answer for the host {host[:80]!r}", hint)
        origin = headers.get("origin")
        if origin is not None and origin not in {*self._origins, f"http://{host}", f"https://{host}"}:
            hint = "start the server with --allow-origin and this origin, if you trust it"
            raise Refusal(403, "forbidden_origin", f"pages of {origin[:80]} may not use this server", hint)
        path = scope["path"]
        if self._token is None or path in _OPEN or path.startswith("/static/") or scope.get("method") == "OPTIONS":
            return
        if not hmac.compare_digest(self._token, _shown(headers)):
            hint = "send the header Authorization: Bearer TOKEN, with the token that the server was started with"
            message = "a token is needed, and none or a wrong one came"
            raise Refusal(401, "unauthorized", message, hint, {"WWW-Authenticate": "Bearer"})

    def _is_ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host.lower())
        return match is not None and (match["name"] in self._hosts or _is_address(match["address"] or match["name"]))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _shown(headers: Headers) -> bytes:
    """The token that a client shows, in the header or, from a browser's stream, among the subprotocols."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip().encode()
    for word in headers.get("sec-websocket-protocol", "").split(","):
        if word.strip().startswith("bearer."):
            text = word.strip().removeprefix("bearer.")
            try:
                return urlsafe_b64decode(text + "=" * (-len(text) % 4))
            except ValueError:  # not base64, or not even ASCII
                return b""
    return b""


class _Visit:
    """One request on its way through: what is still to come of its body, and the status of its answer."""

    def __init__(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        self._scope, self._headers, self._receive, self._send = scope, headers, receive, send
        self._unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        self.status = ""

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] in {"http.request", "http.disconnect"}:
            self._unread = bool(message.get("more_body"))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            self.status = str(message["status"])
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in _security(self._headers.get("host", "")).items():
                headers.setdefault(name, value)
            if self._scope["type"] == "http":
                await self._linger()
                if self._unread:
                    headers["Connection"] = "close"
        elif message["type"] == "websocket.accept":
            self.status = "101"
        elif message["type"] == "websocket.close" and not self.status:  # no route took it
            await self.refuse(Refusal(404, "not_found", "there is no stream of this name", "streams are at /v1/stream"))
            return
        await self._send(message)

    async def _linger(self) -> None:
        """Let a refused body run out for a moment: who is still writing would not see the answer."""
        if "expect" in self._headers:  # this client waits for leave before it sends
            return
        try:
            async with asyncio.timeout(_LINGER):
                while self._unread:
                    await self.receive()
        except TimeoutError:
            pass

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error; for a stream, before it is accepted."""
        response = JSONResponse(refusal.to_object(), refusal.status, refusal.headers)
        await response(self._scope, self._receive, self.send)


def _security(host: str) -> dict[str, str]:
    """Headers of every answer: the page loads nothing from elsewhere, and no other page may frame it."""
    stream = f"ws://{host} wss://{host}" if _HOST.fullmatch(host.lower()) else ""  # not every browser has it in 'self'
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        f"connect-src 'self' {stream}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Cache-Control": "no-cache",  # after an upgrade no browser may run an older page's scripts
        "Content-Security-Policy": policy,
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
