#!/usr/bin/env python3
"""Train the three seed systems by their own protocols, and set their claims beside what is measured.

    python benchmarks/reproduce_seeds.py fer2013.csv [--seeds 0 1 2] [--recipes workshop alexnet paul paul-as-printed]
        [--epochs N] [--precision 32] [--runs runs/seeds]

Writes benchmarks/results/seeds.json, puts its table into README.md and docs/seeds.md, and for each full run writes
benchmarks/predictions/NAME-seedK-CHECKPOINT.csv. The script may be stopped and started: a run that was begun is
continued, and one that stands in the json is left alone. `--epochs` shortens every run to prove the line: such runs are
marked, write seeds-trial.json instead (in the place of trials of another length) and no predictions, and stand in the
pages only until their recipe has a full run.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mien.lab.batches import divide
from mien.lab.runs import Run
from mien.lab.starting import TrainOptions
from mien.lab.training import train
from mien.measuring.data import load
from mien.measuring.evaluation import Report, evaluate, markdown_table, predict
from mien.measuring.faceset import FaceSet
from mien.measuring.predictions import write_predictions
from mien.recipes import HELD_OUT, RECIPES
from mien.storage import write_whole

HERE = Path(__file__).parent
FULL, TRIAL = HERE / "results" / "seeds.json", HERE / "results" / "seeds-trial.json"
PAGES = (HERE.parent / "README.md", HERE.parent / "docs" / "seeds.md")
BEGIN, END = "<!-- seeds: written by benchmarks/reproduce_seeds.py -->", "<!-- end of seeds -->"
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
    best_epoch = int(
        min(history, key=lambda r: r["val_loss"])["epoch"]
        if recipe.keep == "loss"
        else max(history, key=lambda r: r["val_accuracy"])["epoch"]
    )
    best = measure(folder, faces, "best")
    rows = len(divide(faces, recipe).split("Training"))
    result = {
        "recipe": name,
        "seed": seed,
        "claim": recipe.claim,
        "full": full,
        "asked": recipe.epochs,
        "epochs": len(history),
        "best_epoch": best_epoch,
        "history": history,
        "best": best,
        "last": best if best_epoch == len(history) else measure(folder, faces, "last"),
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


def spread(values: Iterable[float | None], digits: int = 2) -> str:
    """Mean and standard deviation of what there is."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    deviation = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.{digits}f}{deviation}"


def table(results: list[dict[str, Any]]) -> str:
    """Claim beside measurement: mean and standard deviation over seeds."""

    def percent(runs: list[dict[str, Any]], checkpoint: str, rows: str, part: str, measure: str = "accuracy") -> str:
        scored = [r[checkpoint].get(rows, {}).get(part, {}) for r in runs]
        text = spread(None if (value := s.get(measure)) is None else 100 * value for s in scored)
        counts = " / ".join(f"{n:,}" for n in sorted({s["n"] for s in scored if s.get(measure) is not None}))
        return f"{text} of {counts}" if counts else text

    head = [
        "recipe", "claim", "checkpoint", "PublicTest, %", "own held-out rows, %", "these without twins, %",
        "binary accuracy on PublicTest, %", "seeds", "minutes a run",
    ]  # fmt: skip
    lines, hardware = [], set()
    for name in dict.fromkeys(r["recipe"] for r in results):
        runs = [r for r in results if r["recipe"] == name]
        hardware |= {f"{r['hardware']}, threads: {r['threads']}, precision {r['precision']}" for r in runs}
        trial = "" if all(r["full"] for r in runs) else " (TRIAL)"
        same = all(r["best_epoch"] == r["epochs"] for r in runs)
        kinds = [("last", "epochs")] if same else [("best", "best_epoch"), ("last", "epochs")]
        for checkpoint, epoch in kinds:
            lines.append([
                f"`{name}`{trial}",
                runs[0]["claim"] or "none",
                f"{'best and last' if same else checkpoint}, epoch {', '.join(str(r[epoch]) for r in runs)}",
                percent(runs, checkpoint, "PublicTest", "all"),
                percent(runs, checkpoint, HELD_OUT, "all"),
                percent(runs, checkpoint, HELD_OUT, "without twins"),
                percent(runs, checkpoint, "PublicTest", "all", "binary_accuracy"),
                str(len(runs)),
                spread((r["minutes"] for r in runs), 1),
            ])
    rates = {
        name: spread((r["images_per_s"] for r in results if r["recipe"] == name), 0)
        for name in dict.fromkeys(r["recipe"] for r in results)
    }
    notes = f"Hardware: {'; '.join(sorted(hardware))}. Training images/s: " + ", ".join(
        f"{name} {rate}" for name, rate in rates.items()
    )
    if not all(r["full"] for r in results):
        notes += ". TRIAL: shortened runs; they prove the line from csv to table and say nothing of the claims"
    return f"{markdown_table(head, lines)}\n\n{notes}.\n"


def stored(file: Path) -> list[dict[str, Any]]:
    """The results that a file holds, none where there is none."""
    results: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return results


def place(result: dict[str, Any]) -> tuple[int, int]:
    """Where a result stands among others."""
    return SEED_RECIPES.index(result["recipe"]), result["seed"]


def shown() -> list[dict[str, Any]]:
    """The results that the pages show: full runs, and trials of recipes that have none."""
    full = stored(FULL)
    trials = [r for r in stored(TRIAL) if r["recipe"] not in {f["recipe"] for f in full}]
    return sorted(full + trials, key=place)


def put_into(page: Path, text: str) -> None:
    """Replace what stands between the page's two marks."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    write_whole(page, lambda file: file.write(f"{before}{BEGIN}\n{text}{END}{after}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipes", nargs="+", default=list(SEED_RECIPES), choices=SEED_RECIPES)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--precision", default="32")
    parser.add_argument("--runs", default="runs/seeds")
    parser.add_argument("--pages", action="store_true", help="only write the pages again, from the json")
    options = parser.parse_args()
    file = FULL if options.epochs is None else TRIAL
    if not options.pages:
        faces = load(options.data)
        # Trials of one length; those of before `asked` was kept had all their epochs.
        results = [r for r in stored(file) if r["full"] or r.get("asked", r["epochs"]) == options.epochs]
        done = {(r["recipe"], r["seed"]) for r in results}
        for name in options.recipes:
            for seed in options.seeds:
                if (name, seed) in done:
                    continue
                results.append(one(name, seed, faces, options))
                results.sort(key=place)
                # After every run, so that nothing is lost when the next one is stopped.
                text = json.dumps(results, indent=1)
                write_whole(file, lambda opened, text=text: opened.write(text))
    measured = table(shown())
    for page in PAGES:
        put_into(page, measured)
    print(measured)


if __name__ == "__main__":
    main()
