#!/usr/bin/env python3
"""A table of what networks that did not learn a Training row, and its FER+ votes, say of its label.

    python benchmarks/unseen.py fer2013.csv --out unseen.csv [--runs runs/unseen] [--epochs 20] [--precision bf16-mixed]
    mien train RECIPE --teacher unseen.csv --set distil=0.9 ...

fer2013new.csv (FER+) lies beside the csv. Training is divided into four folds, exact and near twins in one of them; for
each a network by the recipe `mien-small-quick` learns the three others (seeds 100 to 103). What it answers for its own
fold, as it is and mirrored, and the row's votes are what a logistic regression, fitted on the other folds, makes a
distribution of the label from: no row's own label is in its line. Prints how good that is, beside the networks and the
votes alone, on Training rows. A run that was stopped goes on, what is finished stays.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from mien.expressions import EXPRESSIONS
from mien.lab.runs import Run
from mien.lab.starting import TrainOptions
from mien.lab.training import train
from mien.measuring import metrics
from mien.measuring.data import load
from mien.measuring.evaluation import predict
from mien.measuring.faceset import FaceSet
from mien.measuring.findings import near
from mien.measuring.predictions import write_predictions
from mien.reading.recognizer import DEFAULT_MODEL, model_files
from mien.recipes import get_recipe, override

FOLDS = 4


def divided(rows: FaceSet) -> np.ndarray:
    """A fold for each row, one for all versions of a picture."""
    first = rows.twin_numbers()
    for group in near(rows, model_files()[DEFAULT_MODEL]).groups:  # their exact twins are in them
        first[list(group)] = min(group)
    pictures, picture = np.unique(first, return_inverse=True)
    return np.random.default_rng(0).integers(0, FOLDS, len(pictures))[picture]


def answers(faces: FaceSet, rows: FaceSet, fold: np.ndarray, arguments: argparse.Namespace) -> np.ndarray:
    """Probabilities (N, 7) of every row by the network that did not learn its fold."""
    found = np.zeros((len(rows), len(EXPRESSIONS)))
    for k in range(FOLDS):
        out, held = arguments.runs / f"fold{k}", rows.rows[fold == k]
        recipe = override(get_recipe("mien-small-quick"), {"epochs": str(arguments.epochs), "seed": str(100 + k)})
        resume = (out / "recipe.json").exists()
        options = TrainOptions(precision=arguments.precision)
        train(recipe, faces.take(~np.isin(faces.rows, held)), out, options=options, resume=resume, report=print)
        found[fold == k] = predict(Run(out, "last"), rows.take(fold == k), views="mirror")
    return found


def shares(votes: np.ndarray) -> np.ndarray:
    """Shares of the ten votes, their roots, and the products of two."""
    part = votes / np.maximum(votes.sum(1, keepdims=True), 1)
    return np.concatenate([part, np.sqrt(part), (part[:, :, None] * part[:, None, :]).reshape(len(part), -1)], 1)


def cross_fitted(seen: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """What a logistic regression that was fitted on the other folds says of each row's label."""
    said = np.zeros((len(seen), len(EXPRESSIONS)))
    for k in range(FOLDS):
        fit = LogisticRegression(solver="newton-cholesky").fit(seen[fold != k], labels[fold != k])
        said[fold == k] = fit.predict_proba(seen[fold == k])
    return said


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/unseen"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--precision", default="32")
    given = parser.parse_args(arguments)
    faces = load(given.data, ferplus=given.data.with_name("fer2013new.csv"))
    rows = faces.split("Training")
    assert rows.votes is not None
    fold = divided(rows)
    found = np.clip(answers(faces, rows, fold, given), 1e-9, 1)
    network, votes = np.concatenate([np.log(found), found], 1), shares(rows.votes.astype(np.float64))
    seen = {"networks": network, "votes": votes, "both": np.concatenate([network, votes], 1)}
    for name, values in seen.items():
        said = cross_fitted(values, rows.labels, fold)
        right, nll = metrics.accuracy(said, rows.labels), metrics.negative_log_likelihood(said, rows.labels)
        print(f"{name}: right in {right:.1%} of {len(rows):,} rows, NLL {nll:.3f}", flush=True)
    write_predictions(given.out, rows, said)


if __name__ == "__main__":
    main()
