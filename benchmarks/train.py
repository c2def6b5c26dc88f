#!/usr/bin/env python3
"""Training images a second of recipes, by one process and by two that share its batch; the ratios are what counts.

    python benchmarks/train.py fer2013.csv [--recipes mien-small-plain workshop alexnet paul] [--steps 20] [--rounds 3]

On the CPU: one process with one thread, one with a thread for each of `--cores`, and two that have these between them;
with CUDA: one device, and two where there are two. All are the trainer, data and batch norms of `mien train`, each time
in processes of their own; they take turns, `--rounds` times. The first steps of a process, which allocate and build,
are not timed, and validation is left out. Prints medians and ratios and writes benchmarks/results/train.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
RECIPES = ["mien-small-plain", "workshop", "alexnet", "paul"]  # mien-small also needs FER+ votes
WARM = 3  # steps before the clock starts


def worker(options: argparse.Namespace) -> None:
    """Train some steps of one recipe as one of the processes; the first prints images a second."""
    import logging
    import warnings
    from dataclasses import replace

    import lightning as L
    import numpy as np
    import torch

    from mien.lab.batches import FaceData
    from mien.lab.module import Classifier
    from mien.lab.spread import WholeBatchNorms
    from mien.measuring.data import load
    from mien.recipes import RECIPES as ALL
    from mien.recipes import Constant, Protocol

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    # No validation, hence no plateau rule: only the steps count.
    recipe = replace(ALL[options.recipes[0]], epochs=1, protocol=Protocol(), schedule=Constant())
    faces = load(options.data)
    count = (WARM + options.steps) * recipe.batch
    roles = np.where(np.arange(len(faces)) < count, "Training", "PublicTest")
    cuda = options.worker == "cuda"
    ends: list[float] = []

    class Clock(L.Callback):
        def on_train_batch_end(self, *_: Any, **__: Any) -> None:
            if cuda:
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    trainer = L.Trainer(
        max_epochs=1, accelerator=options.worker, devices=options.processes, sync_batchnorm=cuda,
        plugins=[] if cuda else [WholeBatchNorms()], callbacks=[Clock()], logger=False, enable_checkpointing=False,
        use_distributed_sampler=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(Classifier(recipe), datamodule=FaceData(replace(faces, splits=roles), recipe))
    if trainer.is_global_zero:
        print(options.steps * recipe.batch / (ends[-1] - ends[WARM - 1]))
    if torch.distributed.is_initialized():  # else gloo's threads may abort the process as it ends
        torch.distributed.destroy_process_group()


def ways(cores: int) -> dict[str, tuple[str, int, int]]:
    """What to compare: a name to the kind of device, the processes and the threads of each."""
    import torch

    found = {"1 process, 1 thread": ("cpu", 1, 1)}
    if cores > 1:
        found[f"1 process, {cores} threads"] = ("cpu", 1, cores)
    threads = max(1, cores // 2)
    found[f"2 processes, {threads} thread{'s' * (threads > 1)} each"] = ("cpu", 2, threads)
    if torch.cuda.is_available():
        found |= {f"CUDA, {n} device{'s' * (n > 1)}": ("cuda", n, 1) for n in (1, 2) if n <= torch.cuda.device_count()}
    return found


def measure(data: Path, recipe: str, way: tuple[str, int, int], steps: int) -> float:
    """Images a second of one way, in processes of its own."""
    kind, processes, threads = way
    command = [sys.executable, __file__, str(data), "--worker", kind, "--processes", str(processes)]
    command += ["--recipes", recipe, "--steps", str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{recipe} failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=HERE / "results" / "train.json")
    parser.add_argument("--worker", choices=("cpu", "cuda"), help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return

    import numpy as np
    import torch

    from mien.measuring.data import load
    from mien.measuring.npy import save_npy
    from mien.recipes import RECIPES as ALL
    from mien.storage import write_whole

    found, results = ways(options.cores), []
    with TemporaryDirectory() as folder:
        faces = load(options.data)
        rows = (WARM + options.steps) * max(ALL[name].batch for name in options.recipes) + 2
        save_npy(faces.take(np.flatnonzero(faces.labels >= 0)[:rows]), folder)
        for name in options.recipes:
            rates: dict[str, list[float]] = {way: [] for way in found}
            for _ in range(options.rounds):
                for way, how in found.items():
                    rates[way].append(measure(Path(folder), name, how, options.steps))
            first = statistics.median(rates[next(iter(found))])
            ratios = {way: round(statistics.median(rates[way]) / first, 2) for way in found}
            results.append({"recipe": name, "batch": ALL[name].batch, "images_a_second": rates, "ratio": ratios})
            print(f"{name}, batch {ALL[name].batch}", flush=True)
            for way, ratio in ratios.items():
                print(f"  {way:28} {statistics.median(rates[way]):9.1f} images/s  {ratio:5.2f}", flush=True)
    record = {
        "command": " ".join(["python benchmarks/train.py fer2013.csv", *sys.argv[2:]]),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "cores": options.cores,
        "torch": torch.__version__,
        "steps": options.steps,
        "results": results,
    }
    write_whole(options.out, lambda file: file.write(json.dumps(record, indent=1)))


if __name__ == "__main__":
    main()
