"""The process: how it starts, what it says, how it ends, and clients that dawdle."""

import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from serving import COLLINS, serving, two_faces

from mien.cli import app
from mien.errors import InputError, MissingExtra
from mien.web.limits import Limits
from mien.web.server import listen


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`mien serve` on a free port, and its address."""
    command = [sys.executable, "-m", "mien", "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            line = running.stdout.readline()
            yield running, re.search(r"http://\S+:\d+", line)[0]
        finally:
            running.kill()


def exchange(port: int, *parts: bytes) -> bytes:
    """Send parts, then read until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        return finish(connection, *parts)


def finish(connection: socket.socket, *parts: bytes) -> bytes:
    for part in parts:
        connection.sendall(part)
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


HEAD = b"POST /v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 9000\r\n"


@contextmanager
def begun(port: int, body: bytes) -> Iterator[Callable[[], bytes]]:
    """A request the server works on, since it has asked for the body, which the call sends for the answer."""
    head = HEAD.replace(b"9000", b"%d" % len(body)).replace(b"/read", b"/read?source=secret")
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 100 ")
        yield lambda: finish(connection, body)


def test_sigterm_finishes_what_runs_and_logs_nothing_of_it() -> None:
    with process() as (running, url), ExitStack() as stack, ThreadPoolExecutor(8) as clients:
        body = two_faces()
        requests = [stack.enter_context(begun(httpx.URL(url).port, body)) for _ in range(8)]
        running.send_signal(signal.SIGTERM)
        answers = list(clients.map(lambda request: request(), requests))
        out, err = running.communicate(timeout=60)
    assert [len(json.loads(answer.partition(b"\r\n\r\n")[2])["faces"]) for answer in answers] == [2] * 8
    assert running.returncode == 0
    assert "secret" not in out + err
    assert err == ""


def test_ctrl_c_ends_it_quietly() -> None:
    with process() as (running, _):
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize(("arguments", "warned"), [([], True), (["--token", "x"], False)])
def test_an_open_address_without_a_token_is_warned_of(arguments: list[str], warned: bool) -> None:
    with process("--host", "0.0.0.0", *arguments) as (running, url):
        assert url.startswith("http://0.0.0.0:")
        running.terminate()
        _, err = running.communicate(timeout=60)
    assert ("--token" in err) == warned


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--allow-origin", "*"], "not a wildcard"),
        (["--token", "ü"], "printable ASCII"),
        (["--model", "mien-smal"], "did you mean 'mien-small'"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1"),  # not an address of ours
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "inf"], "--timeout takes a number up to 1,000,000, but got inf"),
        (["--max-pixels", "inf"], "--max-pixels takes a number up to 178, but got inf"),
        (["--max-pixels", "179"], "up to 178, but got 179"),
        (["--host", "é" * 70], "give --host an address of this machine"),
        (["--max-pixels", "nan"], "--max-pixels"),
        (["--max-body", "1e400"], "--max-body takes"),
        (["--token", ""], "is empty"),
        (["--host="], "--host is empty"),
        (["--host", "nosuchname.invalid"], "give --host an address of this machine"),
        (["--allow-host", "http://x"], "--allow-host takes a name"),
        (["--allow-origin", "example.org"], "--allow-origin takes an origin"),
    ],
)
def test_mistakes_are_told_before_anything_is_served(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mien", "serve", "--port", "0", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_empty_token_in_the_environment_is_a_mistake_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_TOKEN", "")
    with pytest.raises(InputError, match="MIEN_TOKEN is empty"):
        app(["serve", "--port", "0"], standalone_mode=False)


def test_a_bare_install_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("mien.errors.find_spec", lambda name: None if name == "fastapi" else real(name))
    with pytest.raises(MissingExtra, match=r"fastapi not found.*pip install 'mien\[web\]'"):
        app(["serve", "--port", "0"], standalone_mode=False)


def test_a_taken_port_is_told() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(InputError, match="--port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_who_dawdles_is_let_go() -> None:
    with serving(limits=Limits(seconds=0.3)) as server:
        assert exchange(server.port) == b""  # nothing at all
        assert exchange(server.port, b"GET /healthz HT") == b""  # half a head
        answer = exchange(server.port, HEAD + b"\r\n" + COLLINS[:100])  # a body that stops
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "body_too_slow"
        again = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert exchange(server.port, again, b"GET /he").count(b"200 OK") == 1  # half a second head


@pytest.mark.parametrize(
    "head",
    [b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 100_000, b"GET  HTTP/9\r\n\r\n"],
)
def test_bad_heads_get_an_answer(head: bytes) -> None:
    with serving() as server:
        answer = exchange(server.port, head)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"


def test_who_asks_before_sending_is_answered_before() -> None:
    """`Expect: 100-continue`, as curl sends it: a refused body is never sent."""
    head = HEAD.replace(b"9000", b"99000000") + b"Expect: 100-continue\r\n\r\n"
    with serving() as server:
        assert exchange(server.port, head).startswith(b"HTTP/1.1 413 ")


KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
LENGTH = b"Content-Length: 3\r\n"


def handshake(*lines: bytes, method: bytes = b"GET", path: bytes = b"/v1/stream", host: bytes = b"localhost") -> bytes:
    head = method + b" " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    return head + b"Sec-WebSocket-Version: 13\r\n" + b"".join(lines) + b"\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (handshake(KEY, LENGTH) + b"abc", 400),
        (handshake(KEY, LENGTH, method=b"POST", host=b"evil.example") + b"abc", 400),
        (handshake(KEY, b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", 400),
        (handshake(KEY, method=b"POST"), 405),
        (handshake(b"Sec-WebSocket-Key: x\r\n"), 400),
        (handshake(KEY, b"X: " + b"x" * 9_000 + b"\r\n"), 431),
        (handshake(KEY, path=b"/" + b"x" * 9_000), 414),
        (handshake(KEY, path=b"/nothing"), 404),
        (handshake(KEY, host=b"evil.example"), 403),
    ],
)
def test_every_handshake_has_an_answer(sent: bytes, status: int, capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        answer = exchange(server.port, sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert set(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]) == {"code", "message", "hint"}
    assert capfd.readouterr().err == ""


def test_who_asks_and_reads_no_answer_is_let_go() -> None:
    """Each ping has its pong, and these would pile up in memory."""
    ping = b"\x89\xfd" + bytes(4) + b"x" * 125
    with serving() as server, socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(handshake(KEY))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 101 ")
        with pytest.raises(ConnectionError):
            connection.sendall(ping * 1_000_000)  # 131 MB, and what a system buffers is some


def test_a_bad_handshake_does_not_disturb_the_end() -> None:
    with process() as (running, url), socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as bad:
        bad.sendall(handshake(KEY, LENGTH) + b"abc")
        with begun(httpx.URL(url).port, two_faces()) as request:
            running.send_signal(signal.SIGTERM)
            assert len(json.loads(request().partition(b"\r\n\r\n")[2])["faces"]) == 2
        _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")


def test_broken_chunks_are_told_from_a_broken_head() -> None:
    head = b"POST /v1/read HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving() as server:
        answer = exchange(server.port, head, b"zz\r\nabc\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "chunks" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
