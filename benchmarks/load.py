"""How long reading FER2013 takes: the usual tutorial loop, the first read and the read from the cache, in one run.

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

WAYS = ("tutorial loop", "first read", "cached read")


def tutorial_loop(path: str) -> int:
    """What most tutorials do: every pixel through `int`, every face through a list.

    Returns:
        Bytes of the arrays.
    """
    import numpy as np

    faces, labels = [], []
    with open(path) as file:
        next(file)
        for line in file:
            emotion, pixels, _ = line.split(",")
            face = [int(pixel) for pixel in pixels.split(" ")]
            faces.append(np.asarray(face).reshape(48, 48).astype("uint8"))
            labels.append(int(emotion or -1))
    return np.asarray(faces).nbytes + np.asarray(labels, np.int8).nbytes


def read(path: str) -> int:
    """`load`, with whatever the cache holds.

    Returns:
        Bytes of the arrays.
    """
    from mien.measuring.data import load

    faces = load(path)
    # Cached arrays are pages of a file: touch them all, or their time would be somebody else's.
    return int(faces.images.max() > 0) * (faces.images.nbytes + faces.labels.nbytes)


def peak() -> int:
    """The most memory that this process had at once, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(way: str, path: str) -> None:
    """Print seconds, the growth of the peak and the size of the arrays as one line of JSON."""
    import mien.measuring.data

    assert mien.measuring.data
    before, start = peak(), time.perf_counter()
    size = tutorial_loop(path) if way == "tutorial loop" else read(path)
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
    loop = results["tutorial loop"]["seconds"]
    print(f"{'way':<14} {'times as fast':>13} {'seconds':>8} {'peak memory':>12} {'of the arrays':>14}")
    for way, result in results.items():
        print(
            f"{way:<14} {loop / result['seconds']:>13.1f} {result['seconds']:>8.3f} "
            f"{result['peak'] / 1e6:>9.0f} MB {result['peak'] / result['arrays']:>13.2f}x"
        )


if __name__ == "__main__":
    main()
