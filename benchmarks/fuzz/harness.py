#!/usr/bin/env python3
"""One coverage-guided fuzzer: atheris mutates bytes, mien has to answer with a result or a MienError.

    python benchmarks/fuzz/harness.py images SEEDS -max_total_time=60

What follows the name of a harness is libFuzzer's: folders of seeds, of which the first also takes new inputs, and
options. Only modules of mien are instrumented.
"""

import asyncio
import os
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mien"]):
    from mien.errors import MienError
    from mien.expressions import EXPRESSIONS
    from mien.measuring.evaluation import evaluate_predictions
    from mien.measuring.faceset import FaceSet
    from mien.measuring.fer_csv import read_faces, read_votes
    from mien.measuring.npy import array_pairs, read_arrays
    from mien.reading.graphs import check_graph
    from mien.reading.images import open_image
    from mien.reading.recognizer import SIDE, Card
    from mien.recipes import Recipe
    from mien.web.bodies import uploads
    from mien.web.limits import Limits

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from PIL import Image
from starlette.requests import Request

PIXELS = 4_000_000
SECONDS = 5.0  # of processor time
FOLDER = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp", f"mien-fuzz-{os.getpid()}")


def images(data: bytes) -> None:
    """A picture, as a photo and as one of a data set."""
    open_image(data, max_pixels=PIXELS)


def tables(data: bytes) -> None:
    """A csv of faces, of votes or of predictions, by the first byte."""
    path = FOLDER / "table.csv"
    path.write_bytes(data[1:])
    kind = data[:1]
    if kind < b"\x55":
        read_faces(path)
    elif kind < b"\xaa":
        read_votes(path)
    else:
        arrays = np.zeros((3, SIDE, SIDE), np.uint8), np.zeros(3, np.int8), np.array(["Training"] * 3)
        evaluate_predictions(path, FaceSet(*arrays, np.arange(3), None, "", ""), "Training")


def arrays(data: bytes) -> None:
    """A .npy file beside sound labels."""
    path = FOLDER / "images.npy"
    path.write_bytes(data)
    np.save(FOLDER / "labels.npy", np.zeros(3, np.int8))
    read_arrays(FOLDER, array_pairs(FOLDER))


def models(data: bytes) -> None:
    """A model's graph and its card."""
    try:
        check_graph(data, "the model", SIDE, (len(EXPRESSIONS),))
    finally:
        try:
            model = onnx.load_model_from_string(data)
        except DecodeError:
            return
        Card.from_metadata({entry.key: entry.value for entry in model.metadata_props}, "the model")


def recipes(data: bytes) -> None:
    """A recipe's JSON, which has to survive being written again."""
    recipe = Recipe.from_json(data.decode("utf-8", "surrogateescape"))
    assert Recipe.from_json(recipe.to_json()) == recipe


def bodies(data: bytes) -> None:
    """A request: its type up to the first line end, and its body."""
    kind, _, body = data.partition(b"\n")
    scope = {"type": "http", "headers": [(b"content-type", kind)]}
    half = len(body) // 2
    messages = [
        {"type": "http.request", "body": part, "more_body": more}
        for part, more in ((body[:half], True), (body[half:], False))
    ]

    async def receive() -> dict[str, object]:
        return messages.pop(0)

    asyncio.run(uploads(Request(scope, receive), Limits(body=1_000_000), "body"))


HARNESSES: dict[str, Callable[[bytes], None]] = {
    function.__name__: function for function in (images, tables, arrays, models, recipes, bodies)
}


def main() -> None:
    harness = HARNESSES[sys.argv.pop(1)]
    warnings.simplefilter("ignore")
    FOLDER.mkdir()

    def once(data: bytes) -> None:
        begin = time.process_time()
        with suppress(MienError):
            harness(data)
        # libFuzzer's own limit counts the time of other programs too.
        assert time.process_time() - begin < SECONDS, "an input takes too long"

    Image.init()  # else the first input would be charged for it

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
