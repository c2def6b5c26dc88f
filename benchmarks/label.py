#!/usr/bin/env python3
"""Images a second of `mien label`, beside `mien.read` in a loop and `fer` 25.10.3 in a loop; in one run.

    python benchmarks/label.py --fer-python PATH [--rounds 3]
    python benchmarks/label.py --fer-python PATH --trial      # minutes, proves that it runs; writes nothing
    python benchmarks/label.py --page                         # only docs/scale.md again, from the json

PATH is the Python of an environment of its own with fer 25.10.3, setuptools<81, tensorflow and opencv-contrib-python<5.
The photos are made here: 640 x 480, one face, twelve different JPEGs under as many names as are wanted. Every
contestant runs in a process of its own, bound to as many cores as its line says, round robin over the rounds; the
median counts. Loops have read a photo before their clock starts; for `mien label` the clock starts when as many shards
are finished as there are workers, and what passes before that is given apart. Then 1,000, 4,000 and 16,000 of the
photos with two workers: time an image, and memory. Writes benchmarks/results/label.json and the block of
docs/scale.md. Compare the ratios.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
RESULTS = Path(__file__).parent / "results" / "label.json"
PORTRAIT = Path(__file__).parent.parent / "examples" / "eileen-collins.jpg"
BEGIN, END = "<!-- rates: written by benchmarks/label.py -->", "<!-- end of rates -->"
SHARD = 50
SIZES = (1_000, 4_000, 16_000)
# Name, what runs, cores, images: enough for half a minute of a fast contestant, and not too many for a slow one.
CONTESTANTS = (
    ("mien label, local, 1 worker", "local", 1, 2_000),
    ("mien label, local, 2 workers", "local", 2, 4_000),
    ("mien label, Ray, 2 actors", "ray", 2, 4_000),
    ("mien.read in a loop", "read", 1, 1_000),
    ("mien.read in a loop", "read", 2, 1_000),
    ("fer 25.10.3 in a loop", "fer", 1, 200),
    ("fer 25.10.3 in a loop", "fer", 2, 200),
)


def make(folder: Path, count: int) -> Path:
    """So many photos: hard links to twelve, in which the face has another size and place."""
    import cv2

    from mien.reading.images import open_image, save_image

    folder.mkdir()
    portrait = open_image(PORTRAIT)
    back = cv2.GaussianBlur(cv2.resize(portrait[300:], (640, 480)), (0, 0), 9)
    for number in range(min(12, count)):
        side = 300 + 15 * number
        photo = back.copy()
        left = 20 + 13 * number
        photo[480 - side :, left : left + side] = cv2.resize(portrait, (side, side))
        save_image(folder / f"{number:06}.jpg", photo)
    for number in range(12, count):
        os.link(folder / f"{number % 12:06}.jpg", folder / f"{number:06}.jpg")
    return folder


def loop(read: Any, photos: Path) -> dict[str, float]:
    paths = sorted(map(str, photos.iterdir()))
    read(paths[0])
    start = time.perf_counter()
    for path in paths:
        read(path)
    return {"rate": len(paths) / (time.perf_counter() - start)}


def fer_loop(photos: Path, cores: int) -> dict[str, float]:
    os.environ |= {"TF_NUM_INTRAOP_THREADS": str(cores), "TF_NUM_INTEROP_THREADS": "1"}
    import cv2
    from fer.fer import FER

    detector = FER()
    return loop(lambda path: detector.detect_emotions(cv2.imread(path)), photos)


def read_loop(photos: Path) -> dict[str, float]:
    import mien

    return loop(mien.read, photos)


def label_all(photos: Path, engine: str, workers: int) -> dict[str, float]:
    """The rate once each worker has finished a shard, the seconds before that, and the peak memory in MB."""
    import mien

    ended: list[tuple[float, int]] = []
    with TemporaryDirectory() as out:
        start = time.perf_counter()
        summary = mien.label(
            photos,
            Path(out) / "labels",
            mien.LabelOptions(shard_size=SHARD),
            engine=engine,
            workers=workers,
            report=lambda done, total: ended.append((time.perf_counter(), done)),
        )
    if summary.failures or summary.faces != summary.images:
        raise SystemExit(f"expected a face in each image, but got {summary}")
    (first, before), (last, all_) = ended[workers], ended[-1]
    peak = {
        name: resource.getrusage(who).ru_maxrss * 1024 / 1e6
        for name, who in (("memory", resource.RUSAGE_SELF), ("worker_memory", resource.RUSAGE_CHILDREN))
    }
    return {"rate": (all_ - before) / (last - first), "start_s": first - start, **peak}


def worker(kind: str, cores: int, photos: Path) -> dict[str, float]:
    """One contestant in this process, bound to as many cores as it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    match kind:
        case "fer":
            return fer_loop(photos, cores)
        case "read":
            return read_loop(photos)
        case _:
            return label_all(photos, kind, cores)


def child(python: str, kind: str, cores: int, photos: Path) -> dict[str, float]:
    command = [python, __file__, "--worker", kind, str(cores), str(photos)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{kind} on {cores} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(folder: Path, fer_python: str | None, rounds: int, share: float) -> dict[str, Any]:
    """All contestants, then the sizes; `share` of the images, for a trial."""
    photos: dict[int, Path] = {}

    def taken(count: int) -> Path:
        count = max(8 * SHARD, round(count * share))
        return photos.setdefault(count, photos.get(count) or make(folder / str(count), count))

    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name, kind, cores, images in CONTESTANTS:
            if kind == "fer" and fer_python is None:
                continue
            python = fer_python if kind == "fer" and fer_python else sys.executable
            found.setdefault((name, cores), []).append(child(python, kind, cores, taken(images)))
            print(f"{name}, {cores} cores: {found[name, cores][-1]}", flush=True)
    rates = [
        {"name": name, "cores": cores, "rates": [round(result["rate"], 2) for result in results]}
        | ({"start_s": round(statistics.median(r["start_s"] for r in results), 1)} if "start_s" in results[0] else {})
        for (name, cores), results in found.items()
    ]
    sizes = []
    for images in SIZES:
        results = [child(sys.executable, "local", 2, taken(images)) for _ in range(rounds)]
        sizes.append(
            {"images": len(list(taken(images).iterdir())), "ms": [round(1000 / r["rate"], 3) for r in results]}
            | {name: round(max(r[name] for r in results)) for name in ("memory", "worker_memory")}
        )
        print(sizes[-1], flush=True)
    return {"hardware": f"{platform.machine()}, {os.cpu_count()} CPUs", "rates": rates, "sizes": sizes}


def rates_table(results: list[dict[str, Any]]) -> str:
    from mien.measuring.evaluation import markdown_table

    two = statistics.median(results[1]["rates"])  # CONTESTANTS[1]
    lines = []
    for r in results:
        rate, start = statistics.median(r["rates"]), f"{r['start_s']:.1f} s" if "start_s" in r else "-"
        spread = f"{rate:.1f} ({min(r['rates']):.1f} to {max(r['rates']):.1f})"
        lines.append([r["name"], str(r["cores"]), spread, f"{two / rate:.2f}", start])
    return markdown_table(["", "cores", "images/s", "local with 2 workers, times", "until the clock starts"], lines)


def sizes_table(results: list[dict[str, Any]]) -> str:
    from mien.measuring.evaluation import markdown_table

    base = statistics.median(results[0]["ms"])
    lines = []
    for r in results:
        ms = statistics.median(r["ms"])
        memory = f"{r['memory']} MB", f"{r['worker_memory']} MB"
        lines.append([f"{r['images']:,}", f"{ms:.2f}", f"{ms / base:.3f}", *memory])
    return markdown_table(["images", "ms an image", "to the first line", "peak memory", "of a worker"], lines)


def page(measured: dict[str, Any] | None) -> str:
    """The block of docs/scale.md."""
    if measured is None:
        return (
            "*Not measured yet on a quiet machine: `python benchmarks/label.py --fer-python PATH` puts the rates,\n"
            "their ratios and what a million images cost here.*\n"
        )
    rate = statistics.median(measured["rates"][0]["rates"])  # one worker, one core
    hours = 1e6 / rate / 3600
    return (
        f"{rates_table(measured['rates'])}\n\n{sizes_table(measured['sizes'])}\n\n"
        f"One core labels {rate:.1f} images a second: **{hours:.1f} core-hours a million images**, {100 * hours:,.0f} "
        f"for 100 million.\nThat is {100 * hours / 64 / 24:.1f} days of one machine with 64 such cores, or "
        f"{100 * hours / 1000:.1f} hours of 1,000.\n\nHardware: {measured['hardware']}; local disk; rounds: "
        f"{len(measured['rates'][0]['rates'])}, medians, least and most in brackets.\n"
    )


def write_page() -> None:
    from mien.storage import write_whole

    measured = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else None
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    write_whole(PAGE, lambda file: file.write(f"{before}{BEGIN}\n{page(measured)}{END}{after}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fer-python", help="Python of an environment with fer installed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trial", action="store_true", help="a twentieth of the images, one round; nothing is written")
    parser.add_argument("--page", action="store_true", help="only write docs/scale.md again")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        kind, cores, photos = options.worker
        print(json.dumps(worker(kind, int(cores), Path(photos))))
        return
    if not options.page:
        with TemporaryDirectory() as folder:
            rounds, share = (1, 0.05) if options.trial else (options.rounds, 1.0)
            measured = measure(Path(folder), options.fer_python, rounds, share)
        print(page(measured))
        if options.trial:
            return
        from mien.storage import write_whole

        write_whole(RESULTS, lambda file: json.dump(measured, file, indent=1))
    write_page()


if __name__ == "__main__":
    main()
