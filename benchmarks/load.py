"""How long reading FER2013 takes: the usual tutorial loops, the first read and the read from the cache, in one run.

    python benchmarks/load.py fer2013.csv

Every way runs in a process of its own, so that none profits from another's memory, and its peak is its own. A time
says little without the machine: the ratios are the result. The csv is read once beforehand, so that no way pays
for a cold disk.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mien.measuring.data import load

LOOPS = ("int loop", "float loop")
WAYS = (*LOOPS, "first read", "cached read")


def int_loop(path: str) -> int:
    """One of the two loops that tutorials use: every pixel through `int`.

    Returns:
        Bytes of the arrays.
    """
    faces, labels = [], []
    with open(path) as file:
        next(file)
        for line in file:
            emotion, pixels, _ = line.split(",")
            face = [int(pixel) for pixel in pixels.split(" ")]
            faces.append(np.asarray(face).reshape(48, 48).astype("uint8"))
            labels.append(int(emotion or -1))
    return np.asarray(faces).nbytes + np.asarray(labels, np.int8).nbytes


def float_loop(path: str) -> int:
    """The other one: every row of words through `np.array(words, "float32")`.

    Returns:
        Bytes of the arrays, had they been uint8.
    """
    faces, labels = [], []
    with open(path) as file:
        next(file)
        for line in file:
            emotion, pixels, _ = line.split(",")
            faces.append(np.array(pixels.split(" "), "float32"))
            labels.append(int(emotion or -1))
    return np.asarray(faces).size + np.asarray(labels, np.int8).nbytes


def read(path: str) -> int:
    """`load`, with whatever the cache holds.

    Returns:
        Bytes of the arrays.
    """
    faces = load(path)
    # Cached arrays are pages of a file: touch them all, or their time would be somebody else's.
    return int(faces.images.max() > 0) * (faces.images.nbytes + faces.labels.nbytes)


def peak() -> int:
    """The most memory that this process had at once, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(way: str, path: str) -> None:
    """Print seconds, the growth of the peak and the size of the arrays as one line of JSON."""
    before, start = peak(), time.perf_counter()
    size = {"int loop": int_loop, "float loop": float_loop}.get(way, read)(path)
    print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak() - before, "arrays": size}))


def main() -> None:
    """Run every way in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", help="fer2013.csv")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        measure(options.way, options.csv)
        return
    with open(options.csv, "rb") as file:
        while file.read(1 << 22):
            pass
    results = {}
    with tempfile.TemporaryDirectory() as cache:
        for way in WAYS:
            done = subprocess.run(
                [sys.executable, Path(__file__), options.csv, "--way", way],
                env=os.environ | {"MIEN_CACHE": cache},
                stdout=subprocess.PIPE,
                check=True,
            )
            results[way] = json.loads(done.stdout)
    print(f"{'':<12}{'seconds':>9}{'x int loop':>12}{'x float loop':>14}{'peak memory':>13}{'/ arrays':>10}")
    for way, result in results.items():
        ratios = (results[loop]["seconds"] / result["seconds"] for loop in LOOPS)
        print(
            f"{way:<12}{result['seconds']:>9.3f}{next(ratios):>12.1f}{next(ratios):>14.1f}"
            f"{result['peak'] / 1e6:>10.0f} MB{result['peak'] / result['arrays']:>10.2f}"
        )


if __name__ == "__main__":
    main()
