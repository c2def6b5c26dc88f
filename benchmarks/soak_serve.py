#!/usr/bin/env python3
"""A soak of the server: thousands of requests, a tenth of them hostile, from several clients at once.

    python benchmarks/soak_serve.py [--requests 10000] [--clients 16]

Good requests must all be answered with the answer that the same photo had at the start. Hostile ones (random bytes,
truncated images, bombs, huge and broken heads, deep JSON, wrong types, endless bodies, senders that stop or leave)
must get an error below 500 or a closed connection. The server's memory is read after each tenth of the requests.
Exits with 1 if anything is wrong, or if memory grew by more than a tenth from the second tenth to the last.
"""

import argparse
import http.client
import json
import random
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from itertools import count
from pathlib import Path

import psutil
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"
JPEG = {"Content-Type": "image/jpeg"}


def photos() -> list[bytes]:
    """Small photos of both portraits."""
    made = []
    for number in range(20):
        portrait = Image.open(EXAMPLES / ("eileen-collins.jpg", "grace-hopper.jpg")[number % 2]).convert("RGB")
        portrait.thumbnail((220 + 5 * number, 220 + 5 * number))
        buffer = BytesIO()
        portrait.save(buffer, "JPEG", quality=85)
        made.append(buffer.getvalue())
    return made


def bomb() -> bytes:
    """400 megapixels in 50 kB."""
    buffer = BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class Soak:
    """The requests, and what came of them."""

    def __init__(self, port: int) -> None:
        self.port, self.images, self.bomb = port, photos(), bomb()
        self.expected = [self.ask(image)[1] for image in self.images]
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.wrong: list[str] = []
        self._kept = threading.local()

    def ask(self, body: bytes, headers: dict[str, str] = JPEG, *, path: str = "/v1/read") -> tuple[int, object]:
        """Status and answer on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def good(self, dice: random.Random) -> None:
        """One photo, on this thread's lasting connection."""
        number = dice.randrange(len(self.images))
        if not hasattr(self._kept, "connection"):
            self._kept.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection = self._kept.connection
        connection.request("POST", "/v1/read", self.images[number], JPEG)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        self.statuses["good", answer.status] += 1
        if answer.status != 200 or not same(told, self.expected[number]):
            self.wrong.append(f"good photo {number}: {answer.status} {told}")

    def hostile(self, dice: random.Random) -> None:
        """One of many bad things."""
        if hasattr(self._kept, "connection"):
            self._kept.connection.close()  # or the server would, while a bad sender waits; it opens again by itself
        image = dice.choice(self.images)
        cut = image[: dice.randrange(1, len(image))]
        bodies: dict[str, Callable[[], tuple[int, object]]] = {
            "random bytes": lambda: self.ask(dice.randbytes(dice.randrange(1, 50_000))),
            "truncated": lambda: self.ask(cut),
            "flipped bits": lambda: self.ask(bytes(b ^ (dice.random() < 0.001) << 3 for b in image)),
            "bomb": lambda: self.ask(self.bomb, {"Content-Type": "image/png"}),
            "deep JSON": lambda: self.ask(b"[" * 100_000, {"Content-Type": "application/json"}),
            "not base64": lambda: self.ask(b'{"image": "%%%"}', {"Content-Type": "application/json"}),
            "wrong type": lambda: self.ask(image, {"Content-Type": "text/html"}),
            "bad form": lambda: self.ask(image, {"Content-Type": "multipart/form-data; boundary=x"}),
            "too large": lambda: self.ask(bytes(6_000_000)),
            "foreign host": lambda: self.ask(image, JPEG | {"Host": "evil.example"}),
            "foreign page": lambda: self.ask(image, JPEG | {"Origin": "https://evil.example"}),
            "huge header": lambda: self.raw(b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000),
            "many headers": lambda: self.raw(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000),
            "no HTTP": lambda: self.raw(dice.randbytes(300) + b"\r\n\r\n"),
            "sender that stops": lambda: self.raw(HEAD % len(image) + cut),
            "head that stops": lambda: self.raw(b"GET /v1/mod"),
            "sender that leaves": lambda: self.raw(HEAD % len(image) + cut, leave=True),
        }
        kind = dice.choice(list(bodies))
        try:
            status, told = bodies[kind]()
        except ConnectionError:  # refused in the middle of what it sent
            status, told = 0, None
        self.statuses[kind, status] += 1
        if status >= 500 or (status == 200 and kind not in {"truncated", "flipped bits"}):
            self.wrong.append(f"{kind}: {status} {told}")

    def raw(self, sent: bytes, *, leave: bool = False) -> tuple[int, object]:
        """The status that some bytes get; 0 where the connection is only closed."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
                connection.sendall(sent)
                if leave:
                    return 0, None
                received = connection.recv(65_536)
        except ConnectionError:
            return 0, None
        return (int(received.split()[1]), received) if received else (0, None)


HEAD = b"POST /v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


def same(one: object, other: object) -> bool:
    """Whether two answers are the same up to the rounding of batches."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < 2e-3
    return one == other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    command = [sys.executable, "-m", "mien", "serve", "--port", "0", "--timeout", "20", "--max-body", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        soak = Soak(int(server.stdout.readline().split("(")[0].rsplit(":", 1)[1]))
        memory: list[float] = []
        numbers, process = count(), psutil.Process(server.pid)

        def client() -> None:
            for number in iter(numbers.__next__, None):
                if number >= options.requests:
                    return
                dice = random.Random(number)
                (soak.hostile if number % 10 == 9 else soak.good)(dice)
                if (number + 1) % (options.requests // 10) == 0:
                    memory.append(process.memory_info().rss / 1e6)
                    print(f"{number + 1:6} requests, {memory[-1]:.0f} MB", flush=True)

        threads = [threading.Thread(target=client) for _ in range(options.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.terminate()
    for (kind, status), number in sorted(soak.statuses.items()):
        print(f"{number:6}  {status:3}  {kind}")
    for line in soak.wrong[:20]:
        print("WRONG", line)
    growth = memory[-1] / memory[1] - 1
    done = sum(soak.statuses.values())
    print(f"{done} requests, {len(soak.wrong)} wrong; memory {growth:+.1%} from the second tenth to the last; "
          f"exit code of the server {server.returncode}")  # fmt: skip
    lost = done != options.requests  # a client that died took its requests along
    raise SystemExit(bool(soak.wrong) or growth > 0.1 or lost or server.returncode != 0)


if __name__ == "__main__":
    main()
