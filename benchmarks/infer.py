#!/usr/bin/env python3
"""Faces a second of our models, of fer's network, and of nets of the size that other packages use; in one run.

    python benchmarks/infer.py [--fer-python PATH] [--model NAME_OR_FILE ...] [--rounds 3] [--out FILE.json]

PATH is the Python of an environment of its own with fer 25.10.3 (see `peer_fer.py`). Its TFLite and its Keras network
take 64 x 64 faces. Packages that learned from AffectNet, and those with masking networks, run an EfficientNet-B0 or a
ResNet-34 at 224 x 224: here both have random weights, as only their time is asked. Everything is timed in a process of
its own on one core and on two, round robin, classification alone: no detector, no image file. Prints medians over the
rounds and writes benchmarks/results/infer.json, or FILE.json. Compare the ratios, of one processor: results/infer.json
is of one with AVX-512 and VNNI, results/infer-avx2.json of one without either.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "infer.json"
BATCHES = (1, 64)
STAND_INS = {"EfficientNet-B0 at 224 px": "efficientnet_b0", "ResNet-34 at 224 px": "resnet34"}


def time_it(call: Callable[[], Any], seconds: float = 1.0) -> float:
    """Median milliseconds of a call, after some to warm up."""
    for _ in range(3):
        call()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def run_fer(use_tflite: bool, batch: int, threads: int) -> float:
    """fer's own classifier on faces that it has prepared."""
    os.environ |= {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1"}
    from fer.fer import FER

    detector = FER(use_tflite=use_tflite)
    faces = np.random.default_rng(0).uniform(-1, 1, (batch, 64, 64)).astype(np.float32)
    return time_it(lambda: detector._classify_emotions(faces))


def run_ours(model: str, batch: int, threads: int) -> float:
    """A model of ours, from uint8 faces to calibrated probabilities."""
    import mien

    recognizer = mien.load_model(model, threads=threads)
    faces = np.random.default_rng(0).integers(0, 256, (batch, 48, 48), dtype=np.uint8)
    return time_it(lambda: recognizer.probabilities(faces))


def run_onnx(path: str, batch: int, threads: int) -> float:
    """An ONNX file that takes float (B, 3, 224, 224)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    faces = np.random.default_rng(0).normal(size=(batch, 3, 224, 224)).astype(np.float32)
    return time_it(lambda: session.run(None, {"images": faces}))


def worker(kind: str, what: str, batch: int, threads: int) -> float:
    """Time one contestant in this process, bound to as many cores as it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    match kind:
        case "fer":
            return run_fer(what == "tflite", batch, threads)
        case "mien":
            return run_ours(what, batch, threads)
        case _:
            return run_onnx(what, batch, threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fer-python")
    parser.add_argument("--model", nargs="+", action="extend", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        kind, what, batch, threads = options.worker
        print(worker(kind, what, int(batch), int(threads)))
        return

    contestants = [(Path(model).stem, sys.executable, "mien", model) for model in (options.model or ["mien-small"])]
    if options.fer_python:
        contestants += [(f"fer 25.10.3, {form}", options.fer_python, "fer", form) for form in ("tflite", "keras")]
    with TemporaryDirectory() as folder:
        import stand_ins

        for name, build in STAND_INS.items():
            path = stand_ins.write(build, Path(folder) / f"{build}.onnx")
            contestants.append((name, sys.executable, "onnx", str(path)))
        times: dict[tuple[str, int, int], list[float]] = {}
        for _ in range(options.rounds):
            for name, python, kind, what in contestants:
                for threads in (1, 2):
                    for batch in BATCHES:
                        command = [python, __file__, "--worker", kind, what, str(batch), str(threads)]
                        done = subprocess.run(command, capture_output=True, text=True)
                        if done.returncode:
                            raise SystemExit(f"{name} failed:\n{done.stderr}")
                        times.setdefault((name, threads, batch), []).append(float(done.stdout.split()[-1]) / batch)
    results = [
        {"name": name, "threads": threads, "batch": batch, "ms_a_face": round(statistics.median(found), 4)}
        for (name, threads, batch), found in times.items()
    ]
    from mien.measuring.evaluation import markdown_table
    from mien.storage import write_whole

    write_whole(options.out, lambda file: json.dump(results, file, indent=1))
    first = {(r["threads"], r["batch"]): r["ms_a_face"] for r in results if r["name"] == results[0]["name"]}
    rows = []
    for name in dict.fromkeys(r["name"] for r in results):
        mine = {(r["threads"], r["batch"]): r["ms_a_face"] for r in results if r["name"] == name}
        rows.append([name, *(f"{1000 / ms:,.0f} ({first[key] / ms:.3f} x)" for key, ms in mine.items())])
    head = [f"{threads} core{'s' * (threads > 1)}, batch {batch}" for threads in (1, 2) for batch in BATCHES]
    print(markdown_table(["faces/s", *head], rows))


if __name__ == "__main__":
    main()
