#!/usr/bin/env python3
"""Frames a second and peak memory of `mien watch` beside `fer` 25.10.3, over the same clip, in one run.

    python benchmarks/video.py [--fer-python PATH] [--seconds 12]
    python benchmarks/video.py --soak MINUTES

The clip is made here: 1280 x 720, 25 frames a second, one face that moves over a noisy scene. PATH is the Python of an
environment of its own with fer 25.10.3, setuptools<81, tensorflow and opencv-contrib-python<5. Each way runs in a
process of its own; models are loaded before the clock starts. fer is asked through its `Video`, and where that fails
through `detect_emotions` in a loop over the same frames. Compare the ratios, not the frames a second.

--soak makes a long clip (320 x 240, 10 frames a second, a face that comes and goes) and watches it three times: to the
end, with the memory after one minute of video and at the end; killed in the middle; and resumed. The rows of the last
must be those of the first.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from mien.reading.faces import CenterFace
from mien.reading.images import open_image

PORTRAIT = Path(__file__).parent.parent / "examples" / "eileen-collins.jpg"

FER = """
import json, sys, tempfile, time
import cv2
from fer.fer import FER
path, detector, way, count = sys.argv[1], FER(), "Video.analyze", 0
capture = cv2.VideoCapture(path)
detector.detect_emotions(capture.read()[1])
start = time.perf_counter()
try:
    from fer.classes import Video
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    with tempfile.TemporaryDirectory() as folder:
        Video(path, outdir=folder).analyze(
            detector, display=False, save_frames=False, save_video=False, annotate_frames=False, zip_images=False
        )
except Exception as error:
    print("fer's Video failed:", repr(error), file=sys.stderr)
    way, count, capture, start = "detect_emotions in a loop", 0, cv2.VideoCapture(path), time.perf_counter()
    while True:
        came, frame = capture.read()
        if not came:
            break
        count += 1
        detector.detect_emotions(frame)
print("RESULT", json.dumps({"way": way, "frames": count, "seconds": time.perf_counter() - start}))
"""


def scenes(seconds: float, rate: int, size: tuple[int, int], height: int, away: bool) -> Iterator[np.ndarray]:
    """Frames with a face of about `height` pixels that moves to and fro; `away`: also out of the picture and back."""
    photo = open_image(PORTRAIT)
    reach = 110
    scale = height / 112  # pixels of the face in the photo
    head = cv2.resize(photo[119 - 107 : 119 + reach, 226 - reach : 226 + reach], None, fx=scale, fy=scale)
    back = np.asarray(cv2.resize(cv2.GaussianBlur(photo, (0, 0), 9), size), np.int16)
    noise = np.random.default_rng(0).integers(-4, 5, (8, *back.shape), dtype=np.int16)
    tall, wide = head.shape[:2]
    for number in range(round(seconds * rate)):
        frame = (back + noise[number % 8]).clip(0, 255).astype(np.uint8)
        swing = np.sin(number / rate * 0.7) * (1.6 if away else 0.7)
        left = round((size[0] - wide) / 2 * (1 + swing))
        begin, end = max(0, left), min(size[0], left + wide)
        top = (size[1] - tall) // 2
        if begin < end:
            frame[top : top + tall, begin:end] = head[:, begin - left : end - left]
        yield frame


def make(path: Path, seconds: float, rate: int, size: tuple[int, int], height: int, *, away: bool = False) -> Path:
    """Write the clip; it is given its name when it is whole."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(scenes(seconds, rate, size, height, away)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


class Stages:
    """Seconds by stage; a stage's time is less that of the stages inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = [0.0]

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*arguments: Any, **options: Any) -> Any:
            self._inside.append(0.0)
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                passed = time.perf_counter() - start
                self.seconds[stage] += passed - self._inside.pop()
                self._inside[-1] += passed

        return run

    def install(self) -> None:
        """Wrap what `mien watch` calls."""
        from mien.reading import record, video, watch
        from mien.reading.follow import Follower
        from mien.reading.recognizer import Recognizer
        from mien.reading.rows import RowLog
        from mien.reading.tracks import Tracker

        frames = watch.sample

        def sample(pictures: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
            step = self.timed("decode", lambda: next(pictures, None))
            yield from frames(iter(step, None), *arguments, **options)

        watch.sample = sample
        watch.crop = self.timed("crop", watch.crop)
        record.draw = self.timed("draw", record.draw)
        for owner, name, stage in (
            (video.Picture, "rgb", "convert"),
            (video.Picture, "grey", "convert"),
            (video.ClipWriter, "add", "encode"),
            (video.ClipWriter, "close", "encode"),
            (CenterFace, "find", "detect"),
            (Follower, "faces", "follow"),
            (Tracker, "identify", "track"),
            (Tracker, "smooth", "track"),
            (Recognizer, "probabilities", "classify"),
            (RowLog, "add", "rows"),
            (RowLog, "note", "rows"),
        ):
            setattr(owner, name, self.timed(stage, getattr(owner, name)))


def rss() -> float:
    """Memory of this process now, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def ours(clip: str, rows: str, out: str, resume: bool) -> None:
    """One run of ours in this process; a line of JSON with frames, seconds, stages and memory."""
    from mien.reading.recognizer import load_model
    from mien.reading.record import Outputs, Recording

    stages = Stages()
    stages.install()
    detector, recognizer = CenterFace(), load_model()
    detector.find(np.zeros((320, 320, 3), np.uint8))
    outputs = Outputs(rows=Path(rows), clip=Path(out) if out else None, resume=resume)
    start, count, early = time.perf_counter(), 0, 0.0
    recording = Recording(clip, outputs, recognizer=recognizer, detector=detector)
    for frame in recording.frames():
        count += 1
        if not early and frame.time_s >= 60:
            early = rss()
    seconds = time.perf_counter() - start
    late = rss()
    recording.finish()
    recording.close()
    result = {"frames": count, "seconds": seconds, "stages": stages.seconds, "early": early, "late": late}
    print("RESULT", json.dumps(result))


def child(command: list[str]) -> tuple[dict[str, Any], float]:
    """What a process says on its line RESULT, and its peak memory in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [line for line in process.stdout.read().splitlines() if line.startswith("RESULT")]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status or not lines:
        raise SystemExit(f"failed: {' '.join(command[:3])}")
    return json.loads(lines[-1].removeprefix("RESULT")), usage.ru_maxrss * 1024 / 1e6


def me(clip: Path, rows: Path, out: Path | None = None, *, resume: bool = False) -> list[str]:
    extra = [*(["--out", str(out)] if out else []), *(["--resume"] if resume else [])]
    return [sys.executable, __file__, "--clip", str(clip), "--rows", str(rows), *extra]


def compare(folder: Path, seconds: float, fer_python: str | None) -> None:
    """The table: ours with rows only, ours with a clip, fer; then where our time goes."""
    clip = make(folder / "clip.mp4", seconds, 25, (1280, 720), 220)
    results = {
        "mien watch --rows": child(me(clip, folder / "a.csv")),
        "mien watch --rows --out": child(me(clip, folder / "b.csv", folder / "b.mp4")),
    }
    stages = {name: result["stages"] | {"all": result["seconds"]} for name, (result, _) in results.items()}
    if fer_python:
        result, memory = child([fer_python, "-c", FER, str(clip)])
        results[f"fer: {result['way']}"] = result, memory
    base = results["mien watch --rows"][0]
    pace = base["frames"] / base["seconds"]
    print(f"{'':34}{'frames':>7}{'frames/s':>10}{'ratio':>8}{'peak MB':>9}   (ratio: ours with rows only to this)")
    for name, (result, memory) in results.items():
        rate = result["frames"] / result["seconds"]
        print(f"{name:34}{result['frames']:>7}{rate:>10.1f}{pace / rate:>8.2f}{memory:>9.0f}")
    for name, times in stages.items():
        whole = times.pop("all")
        frames = results[name][0]["frames"]
        times["else"] = whole - sum(times.values())
        parts = sorted(times.items(), key=lambda item: -item[1])
        print(f"\n{name}, milliseconds a frame and share:")
        print(", ".join(f"{stage} {s / frames * 1e3:.2f} ({s / whole:.0%})" for stage, s in parts))


def soak(folder: Path, minutes: float) -> None:
    """A long clip: memory, completeness, and a kill in the middle."""
    clip = make(folder / "long.mp4", 60 * minutes, 10, (320, 240), 70, away=True)
    print(f"{clip.stat().st_size / 1e6:.0f} MB of video", flush=True)
    whole, peak = child(me(clip, folder / "whole.csv"))
    print(f"{whole['frames']} frames of {minutes:g} minutes, {whole['frames'] / whole['seconds']:.0f} frames/s")
    early, late = whole["early"], whole["late"]
    print(f"memory: {early:.1f} MB after one minute of video, {late:.1f} MB at the end, peak {peak:.1f} MB")
    expected = (folder / "whole.csv").read_bytes()
    numbers = list(dict.fromkeys(line.split(b",")[1] for line in expected.splitlines()[1:]))
    print("a row for every frame:", numbers == [str(k).encode() for k in range(whole["frames"])])
    rows = folder / "killed.csv"
    process = subprocess.Popen(me(clip, rows), stdout=subprocess.DEVNULL)
    while not rows.exists() or rows.stat().st_size < len(expected) / 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    print(f"killed at {rows.stat().st_size / len(expected):.0%} of the rows")
    rest, _ = child(me(clip, rows, resume=True))
    print(f"resumed: {rest['frames']} frames; the same rows: {rows.read_bytes() == expected}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fer-python", help="Python of an environment with fer installed")
    parser.add_argument("--seconds", type=float, default=12, help="length of the clip")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="watch a long clip instead")
    for name in ("--clip", "--rows", "--out"):
        parser.add_argument(name, default="", help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.clip:
        ours(options.clip, options.rows, options.out, options.resume)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.soak:
            soak(Path(folder), options.soak)
        else:
            compare(Path(folder), options.seconds, options.fer_python)


if __name__ == "__main__":
    main()
