"""Who may come in."""

import base64
from collections.abc import Iterator

import pytest
from serving import COLLINS, Running, serving
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from mien.errors import InputError
from mien.web.gate import check_names

TOKEN = "correct horse"


@pytest.fixture(scope="module")
def open_server() -> Iterator[Running]:
    with serving(hosts=["photos.example"], origins=["https://friend.example"]) as running:
        yield running


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    with serving(token=TOKEN, origins=["https://friend.example"]) as running:
        yield running


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("192.168.1.7:8000", 200),  # an address cannot be rebound
        ("photos.example:8000", 200),
        ("PHOTOS.example", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("evil.example; script-src *", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_hosts(open_server: Running, host: str, status: int) -> None:
    answer = open_server.http.get("/healthz", headers={"Host": host})
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "forbidden_host"
        assert "script-src *" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [("same", 200), ("https://friend.example", 200), ("https://evil.example", 403), ("null", 403), ("http://[", 403)],
)
def test_origins(open_server: Running, origin: str, status: int) -> None:
    origin = f"http://127.0.0.1:{open_server.port}" if origin == "same" else origin
    answer = open_server.read(COLLINS, headers={"Origin": origin})
    assert answer.status_code == status
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (origin if origin == "https://friend.example" else None)


def test_no_wildcard_for_other_origins(open_server: Running) -> None:
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    friend = open_server.http.options("/v1/read", headers={"Origin": "https://friend.example", **ask})
    assert friend.status_code == 200
    assert friend.headers["access-control-allow-origin"] == "https://friend.example"
    stranger = open_server.http.options("/v1/read", headers={"Origin": "https://evil.example", **ask})
    assert stranger.status_code == 403
    assert "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize(
    ("header", "status"),
    [(None, 401), ("Bearer wrong", 401), ("Bearer", 401), (f"Basic {TOKEN}", 401), ("Bearer ü", 401),
     (f"Bearer {TOKEN}", 200), (f"bearer {TOKEN}", 200)],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics"])
def test_tokens(locked: Running, path: str, header: str | None, status: int) -> None:
    headers = {"Authorization": header.encode()} if header else {}
    answer = locked.http.get(path, headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "unauthorized"


def test_an_allowed_page_can_read_why_it_is_refused(locked: Running) -> None:
    friend = {"Origin": "https://friend.example"}
    answer = locked.http.get("/v1/models", headers=friend)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, friend["Origin"])
    assert answer.headers["vary"] == "Origin"
    answer = locked.http.get("/v1/models", headers={**friend, "Host": "evil.example"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (403, friend["Origin"])
    answer = locked.http.get("/v1/models", headers={**friend, "Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    stranger = locked.http.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert stranger.status_code == 403
    assert "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize("names", [["http://x"], ["x:8000"], [""], ["a b"], ["[::1]"]])
def test_names_that_no_client_sends_are_refused(names: list[str]) -> None:
    with pytest.raises(InputError, match="--allow-host takes"):
        check_names(names, ())


@pytest.mark.parametrize("origin", ["example.org", "https://example.org/", "https://Example.org", "*", "https://*", "",
                                    "https://example.org:443", "http://[::1]:80"])  # fmt: skip
def test_origins_that_no_browser_sends_are_refused(origin: str) -> None:
    with pytest.raises(InputError, match="--allow-origin takes"):
        check_names((), [origin])


def test_names_and_origins_as_clients_send_them() -> None:
    check_names(["photos.example", "PHOTOS", "10.0.0.1"],
                ["https://example.org", "http://localhost:3000", "http://[::1]:8080", "http://x.org:443"])  # fmt: skip


def test_a_long_head_is_refused_though_it_comes_at_once(open_server: Running) -> None:
    assert open_server.http.get("/healthz", headers={"X": "x" * 30_000}).status_code == 200
    answer = open_server.http.get("/healthz", headers={"X": "x" * 40_000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


def test_a_range_is_not_looked_at(open_server: Running) -> None:
    assert open_server.http.get("/static/app.js", headers={"Range": "bytes=x"}).status_code == 200


def test_the_page_and_the_health_need_no_token(locked: Running) -> None:
    for path in ("/", "/docs", "/healthz", "/openapi.json", "/static/app.js"):
        assert locked.http.get(path).status_code == 200


def test_a_refused_upload_still_sees_its_answer(locked: Running) -> None:
    assert locked.read(bytes(3_000_000)).status_code == 401


def stream(running: Running, **headers: str) -> int:
    """The status of a stream's handshake."""
    subprotocols = headers.pop("subprotocols", "").split() or None
    try:
        with connect(
            f"ws://127.0.0.1:{running.port}/v1/stream",
            additional_headers=headers,
            origin=headers.pop("Origin", None),
            subprotocols=subprotocols,
        ) as socket:
            assert socket.subprotocol == (subprotocols[0] if subprotocols else None)
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def test_streams_have_the_same_door(locked: Running, open_server: Running) -> None:
    hidden = base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")
    assert stream(locked) == 401
    assert stream(locked, Authorization=f"Bearer {TOKEN}") == 101
    assert stream(locked, subprotocols=f"mien bearer.{hidden}") == 101
    assert stream(locked, subprotocols="mien bearer.d3Jvbmc") == 401
    assert stream(locked, subprotocols="mien bearer.x") == 401  # no base64
    assert stream(open_server) == 101
    assert stream(open_server, Origin="https://evil.example") == 403
    assert stream(open_server, Origin=f"http://127.0.0.1:{open_server.port}") == 101


def test_every_answer_has_the_headers_of_a_careful_server(open_server: Running) -> None:
    for path in ("/", "/v1/models", "/nothing"):
        headers = open_server.http.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
