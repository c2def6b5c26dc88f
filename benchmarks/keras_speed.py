#!/usr/bin/env python3
"""Training images a second: each seed network here and in Keras 3 on TensorFlow; same images, batch and machine.

    python benchmarks/keras_speed.py fer2013.csv --keras-python PATH [--recipes workshop alexnet paul] [--steps 10]

PATH is the Python of an environment of its own with tensorflow-cpu (`tools/golden_keras.py` says how). The two take
turns, `--rounds` times, each in a process of its own; the first steps of a process, which build graphs and warm
caches, are not timed. Prints medians and ratios and writes benchmarks/results/keras-speed.json. Compare the ratios.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
LOSSES = {
    "workshop": "categorical_crossentropy",
    "alexnet": "binary_crossentropy",
    "paul": "categorical_crossentropy",
}
BATCHES = {"workshop": 64, "alexnet": 128, "paul": 64}
WARM = 3  # steps before the clock starts


def time_keras(name: str, images: np.ndarray, labels: np.ndarray, steps: int) -> float:
    """Images a second of Keras' own compiled training loop."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    spec = importlib.util.spec_from_file_location("golden_keras", HERE.parent / "tools" / "golden_keras.py")
    assert spec is not None
    assert spec.loader is not None
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    import keras

    model = getattr(golden, name)("softmax")
    model.compile(loss=LOSSES[name], optimizer=keras.optimizers.Adam(1e-3), metrics=["accuracy"])
    x, y = images[..., None].astype(np.float32) / 255, np.eye(7, dtype=np.float32)[labels]
    batch = BATCHES[name]
    model.fit(x[: WARM * batch], y[: WARM * batch], batch_size=batch, epochs=1, verbose=0)
    start = time.perf_counter()
    model.fit(x[: steps * batch], y[: steps * batch], batch_size=batch, epochs=1, verbose=0)
    return steps * batch / (time.perf_counter() - start)


def time_ours(name: str, images: np.ndarray, labels: np.ndarray, steps: int) -> float:
    """Images a second of `mien train`'s own loop: a Lightning trainer over the recipe's module and data."""
    import logging
    import warnings
    from dataclasses import replace

    import lightning as L

    from mien.lab.batches import FaceData
    from mien.lab.module import Classifier
    from mien.measuring.faceset import FaceSet
    from mien.recipes import RECIPES, Constant, Protocol

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    # No validation, hence no plateau rule: only the steps count.
    recipe = replace(RECIPES[name], epochs=1, protocol=Protocol(), schedule=Constant())
    assert recipe.batch == BATCHES[name]
    rows = (WARM + steps) * recipe.batch
    splits = np.array(["Training"] * rows + ["PublicTest"] * 2)
    faces = FaceSet(
        images[: rows + 2], labels[: rows + 2].astype(np.int8), splits, np.arange(rows + 2), None, "0" * 64, "speed"
    )
    ends: list[float] = []

    class Clock(L.Callback):
        def on_train_batch_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[Clock()], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(Classifier(recipe), datamodule=FaceData(faces, recipe))
    return steps * recipe.batch / (ends[-1] - ends[WARM - 1])


def worker(options: argparse.Namespace) -> None:
    """Time one network in this process, and print the rate last."""
    arrays = np.load(options.data)
    run = time_keras if options.worker == "keras" else time_ours
    print(run(options.recipes[0], arrays["images"], arrays["labels"], options.steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--keras-python")
    parser.add_argument("--recipes", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=("keras", "mien"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    if not options.keras_python:
        parser.error("--keras-python is needed")

    from mien.measuring.data import load
    from mien.storage import write_whole

    faces = load(options.data).split("Training")
    results = []
    with TemporaryDirectory() as folder:
        arrays = Path(folder) / "faces.npz"
        count = (WARM + options.steps) * max(BATCHES.values()) + 2
        np.savez(arrays, images=faces.images[:count], labels=faces.labels[:count])
        for name in options.recipes:
            rates: dict[str, list[float]] = {"keras": [], "mien": []}
            for _ in range(options.rounds):
                for kind, python in (("keras", options.keras_python), ("mien", sys.executable)):
                    command = [python, __file__, str(arrays), "--worker", kind, "--recipes", name]
                    done = subprocess.run([*command, "--steps", str(options.steps)], capture_output=True, text=True)
                    if done.returncode:
                        raise SystemExit(f"{kind} failed:\n{done.stderr}")
                    rates[kind].append(float(done.stdout.split()[-1]))
            ours, theirs = statistics.median(rates["mien"]), statistics.median(rates["keras"])
            results.append({"recipe": name, "batch": BATCHES[name], "threads": os.cpu_count(), "rates": rates,
                            "ratio": round(ours / theirs, 2)})  # fmt: skip
            print(f"{name}: mien {ours:.1f}, Keras {theirs:.1f} images/s; ratio {ours / theirs:.2f}", flush=True)
    text = json.dumps(results, indent=1)
    write_whole(HERE / "results" / "keras-speed.json", lambda file: file.write(text))


if __name__ == "__main__":
    main()
