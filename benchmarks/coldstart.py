#!/usr/bin/env python3
"""From a cold process to the first answer: `import mien`, `mien read photo --json`, beside `fer`; in one run.

    python benchmarks/coldstart.py [--fer-python PATH] [--runs 5]

PATH is the Python of an environment of its own with fer 25.10.3 and setuptools<81 installed. Prints medians, peak
memory, and ratios; compare the ratios, not the seconds.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

PHOTO = Path(__file__).parent.parent / "examples" / "eileen-collins.jpg"
FER = f"import cv2; from fer.fer import FER; print(FER().detect_emotions(cv2.imread({str(PHOTO)!r})))"


def measure(command: list[str], runs: int) -> tuple[float, float]:
    """Median seconds and the largest peak memory in MB of fresh processes; one run more warms the disk cache."""
    seconds, memory = [], 0.0
    for run in range(runs + 1):
        start = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            os.execv(command[0], command)
        _, status, usage = os.wait4(pid, 0)
        if status:
            raise SystemExit(f"failed: {' '.join(command)}")
        if run:
            seconds.append(time.perf_counter() - start)
            memory = max(memory, usage.ru_maxrss / 1024)
    return statistics.median(seconds), memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fer-python", help="Python of an environment with fer installed")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    jobs = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import mien": [sys.executable, "-c", "import mien"],
        "mien read photo --json": [sys.executable, "-m", "mien", "read", str(PHOTO), "--json"],
    }
    if options.fer_python:
        jobs["fer: import"] = [options.fer_python, "-c", "from fer.fer import FER"]
        jobs["fer: detect_emotions(photo)"] = [options.fer_python, "-c", FER]
    results = {name: measure(command, options.runs) for name, command in jobs.items()}
    base = results["mien read photo --json"][0]
    print(f"{'':30} {'seconds':>8} {'ratio':>7} {'peak MB':>8}   (median of {options.runs}, ratio to mien read)")
    for name, (seconds, memory) in results.items():
        print(f"{name:30} {seconds:8.2f} {seconds / base:7.2f} {memory:8.0f}")


if __name__ == "__main__":
    main()
