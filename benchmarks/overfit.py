#!/usr/bin/env python3
"""Can each seed network learn 64 faces by heart? A network, loss or gradient that is wired wrongly cannot.

    python benchmarks/overfit.py fer2013.csv [--recipes workshop alexnet paul] [--steps 400]

Takes the first Training rows of each label in turn, trains on them as one batch with the recipe's own loss and
optimizer, and asks the network in evaluation mode after every five steps. Dropout is off, as its purpose is to
prevent just this, and the running statistics of batch norms follow at once, as one batch is all there is. Adds to
benchmarks/results/overfit.json, and fails if a network does not reach 64 of 64.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mien.expressions import EXPRESSIONS
from mien.lab import keras_defaults
from mien.lab.module import Classifier
from mien.measuring.data import load
from mien.measuring.faceset import FaceSet
from mien.recipes import RECIPES, Adam
from mien.storage import write_whole

FACES = 64
RESULTS = Path(__file__).parent / "results" / "overfit.json"


def first_of_each(faces: FaceSet, count: int) -> FaceSet:
    """The first rows of each label in turn, `count` in all."""
    turns = np.zeros(len(faces), int)
    for label in range(len(EXPRESSIONS)):
        turns[faces.labels == label] = np.arange((faces.labels == label).sum())
    return faces.take(np.sort(np.argsort(turns, kind="stable")[:count]))


def memorise(name: str, faces: FaceSet, steps: int) -> dict[str, float | int | str | None]:
    """Train on all rows at once until all are right."""
    recipe = RECIPES[name]
    assert isinstance(recipe.optimizer, Adam)
    torch.manual_seed(recipe.seed)
    classifier = Classifier(recipe)
    for layer in classifier.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = 1.0
    optimizer = keras_defaults.Adam(classifier.network.parameters(), lr=recipe.optimizer.lr)
    images, labels = torch.from_numpy(faces.images), torch.from_numpy(faces.labels.astype(np.int64))
    votes = torch.zeros(len(labels), 10)
    start, right, needed = time.perf_counter(), 0, None
    for step in range(1, steps + 1):
        classifier.train()
        loss = classifier.loss(classifier.outputs(classifier.unit(images)), labels, votes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 0:
            with torch.inference_mode():
                right = int((classifier.eval()(images).argmax(1) == labels).sum())
            print(f"{name}: step {step}, loss {loss.item():.4f}, right {right} of {len(labels)}", flush=True)
            if right == len(labels):
                needed = step
                break
    return {
        "recipe": name,
        "faces": len(labels),
        "right": right,
        "steps": needed,
        "loss": round(loss.item(), 5),
        "seconds": round(time.perf_counter() - start),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--recipes", nargs="+", default=["workshop", "alexnet", "paul"])
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    faces = first_of_each(load(options.data).split("Training"), FACES)
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    results = [result for result in kept if result["recipe"] not in options.recipes]
    for name in options.recipes:
        results.append(memorise(name, faces, options.steps))
        text = json.dumps(results, indent=1)
        write_whole(RESULTS, lambda file, text=text: file.write(text))
    if missed := [result["recipe"] for result in results if result["steps"] is None]:
        raise SystemExit(f"not learned by heart: {', '.join(missed)}")


if __name__ == "__main__":
    main()
