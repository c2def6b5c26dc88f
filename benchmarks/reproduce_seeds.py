#!/usr/bin/env python3
"""Train the three seed systems by their own protocols, and set their claims beside what is measured.

    python benchmarks/reproduce_seeds.py fer2013.csv [--seeds 0 1 2] [--recipes workshop alexnet paul paul-as-printed]
        [--epochs N] [--precision 32] [--runs runs/seeds]

Writes benchmarks/results/seeds.json and seeds.md, and benchmarks/predictions/NAME-seedK.csv for each full run. A run
that is there already is continued or, if it is finished, only scored again; so the script may be stopped and started.
`--epochs` shortens every run to prove the line; such runs are marked and write no predictions.
"""

import argparse
import json
import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mien.lab.runs import Run
from mien.lab.training import HELD_OUT, TrainOptions, divide, train
from mien.measuring.data import load
from mien.measuring.evaluation import Report, evaluate, markdown_table, predict, write_predictions
from mien.measuring.faceset import FaceSet
from mien.recipes import RECIPES
from mien.storage import write_whole

HERE = Path(__file__).parent
SEED_RECIPES = ("workshop", "alexnet", "paul", "paul-as-printed")


def scores(report: Report) -> dict[str, Any]:
    """The single-view numbers of a report that the table needs."""
    kept = {name.removeprefix("single view, "): s for name, s in report.scores.items() if name.startswith("single")}
    return {
        name: {"n": s.n, "accuracy": s.accuracy, "binary_accuracy": s.binary_accuracy} for name, s in kept.items()
    }


def measure(folder: Path, faces: FaceSet, checkpoint: str) -> dict[str, Any]:
    """A checkpoint on PublicTest, and on the rows that its own protocol holds out."""
    run = Run(folder, checkpoint)
    binary = run.recipe.claims_binary
    result = {"PublicTest": scores(evaluate(run, faces, "PublicTest", binary=binary))}
    if not isinstance(run.recipe.protocol.select, str):
        result[HELD_OUT] = scores(evaluate(run, divide(faces, run.recipe), HELD_OUT, binary=binary))
    return result


def one(name: str, seed: int, faces: FaceSet, options: argparse.Namespace) -> dict[str, Any]:
    """Train (or continue, or take up) one run and score its best and last checkpoint."""
    recipe = replace(RECIPES[name], seed=seed)
    full = options.epochs is None
    if not full:
        recipe = replace(recipe, epochs=options.epochs)
    folder = Path(options.runs) / f"{name}-seed{seed}{'' if full else f'-{options.epochs}epochs'}"
    start = time.perf_counter()
    begun = (folder / "checkpoints" / "last.ckpt").exists()
    train(
        recipe,
        faces,
        folder,
        options=TrainOptions(precision=options.precision),
        resume=(folder / "recipe.json").exists(),
        report=lambda row: print(f"{name} seed {seed}: {row}", flush=True),
    )
    minutes = (time.perf_counter() - start) / 60
    history = Run(folder).history()
    rows = len(divide(faces, recipe).split("Training"))
    result = {
        "recipe": name,
        "seed": seed,
        "claim": recipe.claim,
        "full": full,
        "epochs": len(history),
        "best_epoch": int(
            min(history, key=lambda r: r["val_loss"])["epoch"]
            if recipe.keep == "loss"
            else max(history, key=lambda r: r["val_accuracy"])["epoch"]
        ),
        "history": history,
        "best": measure(folder, faces, "best"),
        "last": measure(folder, faces, "last"),
        "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),
        "precision": options.precision,
        # A run that was taken up again was not timed from its start.
        "minutes": None if begun else minutes,
        "images_per_s": None if begun else rows * len(history) / minutes / 60,
    }
    if full and "PrivateTest" in faces.sizes:
        blind = faces.split("PrivateTest")
        for checkpoint in ("best", "last"):
            file = HERE / "predictions" / f"{name}-seed{seed}-{checkpoint}.csv"
            write_predictions(file, blind, predict(Run(folder, checkpoint), blind))
    return result


def table(results: list[dict[str, Any]]) -> str:
    """Claim beside measurement: mean and standard deviation over seeds."""

    def spread(runs: list[dict[str, Any]], checkpoint: str, rows: str, part: str, measure: str = "accuracy") -> str:
        values = [
            100 * r[checkpoint][rows][part][measure] for r in runs if part in r[checkpoint].get(rows, {})
        ]
        if not values:
            return "-"
        deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.2f}{deviation}"

    head = [
        "recipe", "claim", "checkpoint", "PublicTest, %", "own held-out rows, %", "of these without twins, %",
        "binary accuracy on PublicTest, % (floor 85.71)", "seeds", "epochs", "images/s", "hardware",
    ]  # fmt: skip
    lines = []
    for name in dict.fromkeys(r["recipe"] for r in results):
        runs = [r for r in results if r["recipe"] == name]
        trial = "" if all(r["full"] for r in runs) else " (TRIAL: shortened)"
        for checkpoint in ("best", "last"):
            rates = [r["images_per_s"] for r in runs if r["images_per_s"]]
            lines.append([
                name + trial, runs[0]["claim"] or "none", checkpoint,
                spread(runs, checkpoint, "PublicTest", "all"),
                spread(runs, checkpoint, HELD_OUT, "all"),
                spread(runs, checkpoint, HELD_OUT, "without twins"),
                spread(runs, checkpoint, "PublicTest", "all", "binary_accuracy")
                if RECIPES[name].claims_binary else "-",
                str(len(runs)), ", ".join(str(r["epochs"]) for r in runs),
                f"{statistics.mean(rates):.0f}" if rates else "-", runs[0]["hardware"],
            ])  # fmt: skip
    return markdown_table(head, lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipes", nargs="+", default=list(SEED_RECIPES), choices=SEED_RECIPES)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--precision", default="32")
    parser.add_argument("--runs", default="runs/seeds")
    options = parser.parse_args()
    faces = load(options.data)
    results: list[dict[str, Any]] = []
    for name in options.recipes:
        for seed in options.seeds:
            results.append(one(name, seed, faces, options))
            # After every run, so that nothing is lost when the next one is stopped.
            text = json.dumps(results, indent=1)
            suffix = "" if options.epochs is None else "-trial"
            write_whole(HERE / "results" / f"seeds{suffix}.json", lambda file, text=text: file.write(text))
            write_whole(HERE / "results" / f"seeds{suffix}.md", lambda file: file.write(table(results)))
    print(table(results))


if __name__ == "__main__":
    main()
