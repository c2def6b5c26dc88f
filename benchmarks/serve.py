#!/usr/bin/env python3
"""The server beside `mien.read` in process, on the same photos in the same run.

    python benchmarks/serve.py [--seconds 10]

Photos of 640 x 480 pixels with one face. In process: one by one as `mien.read` does, whose median the
server's is compared with, and with the network over batches of 64, for its rate. Then `mien serve` in a process of its
own on loopback, with 1, 8 and 64 clients: requests/s, p50 and p99. Compare the ratios, not the times; the clients' own
work is on the same cores.
"""

import argparse
import http.client
import statistics
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from mien.reading.images import open_image
from mien.reading.recognizer import Recognizer, load_model

PORTRAIT = Path(__file__).parent.parent / "examples" / "eileen-collins.jpg"


def photos(count: int = 7) -> list[bytes]:
    """Different photos of 640 x 480 pixels with one face each."""
    portrait = Image.open(PORTRAIT).convert("RGB").resize((480, 480))
    made = []
    for number in range(count):
        canvas = Image.new("RGB", (640, 480), (90, 110, 90 + 20 * number))
        canvas.paste(portrait, (10 * number, 0))
        buffer = BytesIO()
        canvas.save(buffer, "JPEG", quality=88)
        made.append(buffer.getvalue())
    return made


def one_by_one(recognizer: Recognizer, images: list[bytes], seconds: float) -> list[float]:
    """Seconds of each reading."""
    taken, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        assert len(recognizer.read(images[len(taken) % len(images)])) == 1
        taken.append(time.perf_counter() - start)
    return taken


def in_batches(recognizer: Recognizer, images: list[bytes], seconds: float, size: int = 64) -> float:
    """Photos a second, with the network over batches."""
    done, start = 0, time.perf_counter()
    while (now := time.perf_counter()) < start + seconds:
        crops = [recognizer.find_faces(open_image(images[(done + k) % len(images)]))[1] for k in range(size)]
        assert len(recognizer.probabilities(np.concatenate(crops))) == size
        done += size
    return done / (now - start)


def over_http(port: int, images: list[bytes], clients: int, seconds: float) -> tuple[float, list[float]]:
    """Requests a second, and seconds of each, with so many clients that send one request after the other."""
    taken: list[float] = []
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (start := time.perf_counter()) < end:
            connection.request("POST", "/v1/read", images[number % len(images)], {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            taken.append(time.perf_counter() - start)
            assert body.count(b'"box"') == 1
            number += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(taken) / (time.perf_counter() - start), taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the five measurements")
    seconds = parser.parse_args().seconds
    images = photos()
    recognizer = load_model()
    one_by_one(recognizer, images, 2)  # warms up
    taken = one_by_one(recognizer, images, seconds)
    alone = statistics.median(taken)
    rate = in_batches(recognizer, images, seconds)
    print(f"{'':28}{'photos/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'p50 ratio':>11}{'rate ratio':>12}")
    single = len(taken) / seconds
    print(f"{'mien.read, one by one':28}{single:10.1f}{1e3 * alone:9.1f}{'':9}{1:11.2f}{single / rate:12.2f}")
    print(f"{'in batches of 64':28}{rate:10.1f}{'':29}{1:12.2f}")
    command = [sys.executable, "-m", "mien", "serve", "--port", "0"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().split("(")[0].rsplit(":", 1)[1])
        ready = time.perf_counter() - start
        try:
            over_http(port, images, 2, 2)  # warms up
            for clients in (1, 8, 64):
                served, waited = over_http(port, images, clients, seconds)
                p50, p99 = np.percentile(waited, [50, 99])
                name = f"mien serve, {clients} client{'s' * (clients > 1)}"
                times = f"{1e3 * p50:9.1f}{1e3 * p99:9.1f}{p50 / alone:11.2f}"
                print(f"{name:28}{served:10.1f}{times}{served / rate:12.2f}")
        finally:
            server.terminate()
    print(f"from the start of the process to the line that it is ready: {ready:.2f} s")


if __name__ == "__main__":
    main()
