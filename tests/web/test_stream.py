"""The live stream."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator

import pytest
from serving import COLLINS, Running, Stuck, no_face, serving, two_faces
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mien.reading.recognizer import load_model
from mien.web.limits import Limits


def to(server: Running) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}/v1/stream", max_size=None)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(limits=Limits(streams=1, body=200_000)) as running:
        yield running


def test_frames_are_answered_in_order(server: Running) -> None:
    with to(server) as socket:
        for number, (content, faces) in enumerate([(COLLINS, 1), (no_face(), 0), (COLLINS, 1)]):
            socket.send(content)
            answer = json.loads(socket.recv())
            assert (answer["frame"], answer["dropped"], len(answer["faces"])) == (number, 0, faces)
            assert set(answer) == {"frame", "time_s", "dropped", "width", "height", "model", "faces"}
        assert answer["time_s"] > 0
        (face,) = answer["faces"]
        assert face["expression"] == "happy"


def test_tracks_follow_faces_and_begin_anew_with_each_stream(server: Running) -> None:
    for _ in range(2):
        with to(server) as socket:
            told = []
            for content in (COLLINS, two_faces(), two_faces()):
                socket.send(content)
                told.append(json.loads(socket.recv())["faces"])
            assert [face["track"] for face in told[0]] == [1]
            numbers = [face["track"] for face in told[1]]
            assert len(set(numbers)) == 2
            assert [face["track"] for face in told[2]] == numbers
            for face in told[2]:
                assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-3)


def test_a_bad_frame_does_not_end_the_stream(server: Running) -> None:
    with to(server) as socket:
        for content, code in ((b"hello", "not_an_image"), ("text", "not_an_image"), (COLLINS[:9000], "damaged_image")):
            socket.send(content)
            assert json.loads(socket.recv())["error"]["code"] == code
        socket.send(COLLINS)
        assert "faces" in json.loads(socket.recv())


def test_a_frame_may_be_so_large(server: Running) -> None:
    with to(server) as socket:
        socket.send(bytes(200_001))
        with pytest.raises(Exception, match="1009|message too big"):
            socket.recv()


def test_there_are_so_many_places(server: Running) -> None:
    with to(server), pytest.raises(InvalidStatus) as refused, to(server):
        pass
    assert refused.value.response.status_code == 503
    assert json.loads(refused.value.response.body)["error"]["code"] == "busy"


DROPPED = 'mien_stream_frames_total{outcome="dropped"}'


def test_old_frames_are_dropped_never_queued() -> None:
    recognizer, detector = load_model(), Stuck()
    recognizer.detector = detector
    frame = no_face()
    with serving(recognizer) as server, to(server) as socket:
        socket.send(frame)
        assert detector.busy.wait(60)  # the first is being read ...
        for _ in range(50):
            socket.send(frame)
        while dropped(server) < 49:  # ... while all others but the newest give way (else the time limit ends this)
            time.sleep(0.01)
        detector.go.set()
        first, last = json.loads(socket.recv()), json.loads(socket.recv())
        assert (first["frame"], first["dropped"]) == (0, 0)
        assert (last["frame"], last["dropped"]) == (50, 49)


def dropped(server: Running) -> float:
    text = server.http.get("/metrics").text
    return next((float(line.split()[1]) for line in text.splitlines() if DROPPED in line), 0.0)


def test_a_silent_stream_is_closed() -> None:
    limits, closed = Limits(seconds=0.2), pytest.raises(ConnectionClosedOK, match="no frame came")
    with serving(limits=limits) as server, to(server) as socket, closed:
        socket.recv()


def test_who_takes_in_no_answer_keeps_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    real = WebSocketsSansIOProtocol.send

    async def full(stream: WebSocketsSansIOProtocol, message: dict) -> None:
        if message["type"] == "websocket.send":  # as if the way to the client were full
            await asyncio.Event().wait()
        await real(stream, message)

    monkeypatch.setattr(WebSocketsSansIOProtocol, "send", full)
    with serving(limits=Limits(seconds=0.5, streams=1)) as server, to(server) as client:
        client.send(COLLINS)
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=20)
        assert "mien_streams 0.0" in server.http.get("/metrics").text


def test_a_text_that_is_none_ends_the_stream_and_is_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as server, to(server) as client:
        client.send(b"\xff", text=True)
        with pytest.raises(ConnectionClosedError, match="1007"):
            client.recv(timeout=20)
    assert capfd.readouterr().err == ""


def test_nor_is_one_that_comes_after_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(limits=Limits(seconds=0.3)) as server:
        key = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        head = f"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: Upgrade\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(f"{head}{key}\r\n".encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
            assert client.recv(64)[0] == 0x88  # it closes the stream, and this client does not answer that
            client.sendall(b"\x81\x81\0\0\0\0\xff")
            time.sleep(0.3)
    assert capfd.readouterr().err == ""
