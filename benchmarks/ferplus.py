#!/usr/bin/env python3
"""Three equal networks that learn FER2013's labels, the FER+ majority and the FER+ votes, each scored by all three.

    python benchmarks/ferplus.py fer2013.csv [--runs runs/ferplus] [--no-train]

fer2013new.csv (FER+) lies beside the csv. The recipe is `mien-small-plain` with 12 epochs and seed 0; only its labels
differ. A run that was stopped goes on, what is finished stays; --no-train measures the finished runs only, and the
model that ships in any case. PublicTest scores, all views and rows, go into results/ferplus.json, the PrivateTest
probabilities of the seven expressions of each finished run into predictions/, both under --out, and the table between
the marks of docs/ferplus.md (--page). A trial of the whole line:
--limit 0.02 --epochs 1 --runs DIR --out DIR --page DIR/none.md
"""

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from mien.expressions import EXPRESSIONS, Expression, Labels
from mien.lab.runs import Run
from mien.lab.starting import TrainOptions
from mien.lab.training import train
from mien.measuring.data import load
from mien.measuring.evaluation import Predictor, evaluate, markdown_table, predict
from mien.measuring.faceset import FaceSet
from mien.measuring.predictions import write_predictions
from mien.reading.recognizer import load_model
from mien.recipes import RECIPES, Recipe
from mien.storage import write_whole

PAGE = Path(__file__).parent.parent / "docs" / "ferplus.md"
MARKS = re.compile(r"(<!-- table: [^\n]*-->\n).*?(<!-- end of table -->)", re.DOTALL)


class Seven:
    """A predictor whose contempt is left out, so that networks of seven and of eight labels answer alike."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.name = predictor, predictor.name

    def probabilities(self, faces: np.ndarray) -> np.ndarray:
        """Of the seven, scaled to 1."""
        kept = self.predictor.probabilities(faces)[:, : len(EXPRESSIONS)]
        return kept / kept.sum(1, keepdims=True)


def recipe_for(labels: Labels, epochs: int) -> Recipe:
    """The three differ in their labels alone."""
    return replace(RECIPES["mien-small-plain"], labels=labels, epochs=epochs, batch=128, seed=0)


def finished(folder: Path) -> bool:
    return (folder / "report.json").exists()


def learn(recipe: Recipe, faces: FaceSet, folder: Path, options: TrainOptions) -> None:
    """Train one network, or go on with it."""
    if not finished(folder):
        train(recipe, faces, folder, options=options, resume=(folder / "recipe.json").exists(),
              report=lambda row: print(f"{recipe.labels}: {row}", flush=True))  # fmt: skip


def measured(predictor: Predictor, faces: FaceSet) -> dict[str, Any]:
    """PublicTest by each kind of labels, and by the votes once more among the seven expressions."""
    reports = {kind: evaluate(predictor, faces, "PublicTest", labels=kind).to_dict() for kind in get_args(Labels)}
    reports["ferplus-votes, seven"] = evaluate(Seven(predictor), faces, "PublicTest", labels="ferplus-votes").to_dict()
    return {"answers": predictor.probabilities(faces.images[:1]).shape[1], "reports": reports}


def table(results: dict[str, Any]) -> str:
    """Single view, all rows of PublicTest."""
    rows = []
    for name, result in results.items():
        own, major, votes, seven = (report["scores"]["single view, all"] for report in result["reports"].values())
        low, high = major["interval"]
        rows.append([
            name,
            f"{own['accuracy']:.2%}",
            f"{major['accuracy']:.2%} ({low:.2%} to {high:.2%})",
            f"{major['macro_f1']:.3f}",
            f"{major['ece']:.2%}",
            f"{votes['accuracy']:.2%}",
            f"{votes['divergence']:.3f}" if result["answers"] == len(Expression) else "-",
            f"{seven['divergence']:.3f}",
        ])  # fmt: skip
    head = ["network", "FER2013 labels", "FER+ majority", "its macro-F1", "its ECE", "most frequent FER+ vote"]
    return markdown_table([*head, "KL to votes", "KL among the seven"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/ferplus"))
    parser.add_argument("--no-train", action="store_true")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=float, default=1.0, help="share of the rows, for a trial")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    faces = load(args.data, ferplus=args.data.with_name("fer2013new.csv"))
    file = args.out / "results" / "ferplus.json"
    results = json.loads(file.read_text(encoding="utf-8")) if args.no_train and file.exists() else {}
    results["mien-small, as it ships"] = measured(load_model(), faces)
    for labels in get_args(Labels):
        folder = args.runs / labels
        if not args.no_train:
            options = TrainOptions(precision=args.precision, limit=args.limit)
            learn(recipe_for(labels, args.epochs), faces, folder, options)
        if not finished(folder):
            continue
        run = Run(folder)
        results[f"trained on {labels}"] = measured(run, faces)
        blind = faces.split("PrivateTest")
        write_predictions(args.out / "predictions" / f"ferplus-{labels}.csv", blind, predict(Seven(run), blind))
    write_whole(file, lambda target: json.dump(results, target, indent=1))
    text = table(results)
    if args.page.exists():
        page = MARKS.sub(lambda found: f"{found[1]}{text}\n{found[2]}", args.page.read_text(encoding="utf-8"))
        write_whole(args.page, lambda file: file.write(page))
    print(text)


if __name__ == "__main__":
    main()
