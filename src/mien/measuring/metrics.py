"""Scores of predictions, in numpy alone.

Throughout, `probabilities` is float (N, C) with rows that sum to 1, `labels` is int (N,) in [0, C).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

Probabilities = Float[np.ndarray, "N C"]
Labels = Int[np.ndarray, "N"]
Calibration = Callable[[Float[np.ndarray, "N *M C"]], Probabilities]

BINS = 15
PENALTY = 1e-4  # of the scaling's squared parameters, beside the mean log-likelihood
FEW = 500
"""Rows below which a network gets one temperature: vector scaling fitted on fewer is worse for other rows
(benchmarks/LOG.md, 39)."""


def softmax(logits: Float[np.ndarray, "*N C"]) -> Float[np.ndarray, "*N C"]:
    """Probabilities of logits."""
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    shares: Float[np.ndarray, "*N C"] = powers / powers.sum(-1, keepdims=True)
    return shares


def correct(probabilities: Probabilities, labels: Labels) -> Bool[np.ndarray, "N"]:
    """Where the most probable label is the right one."""
    hits: Bool[np.ndarray, "N"] = probabilities.argmax(1) == labels
    return hits


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Share of rows whose most probable label is right, in [0, 1]."""
    return float(correct(probabilities, labels).mean())


def binary_accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Share of right answers among C yes-or-no questions a row, each probability cut at one half.

    Answering "no" to everything scores (C - 1) / C, 85.71 % for seven labels: always name that floor beside it.

    Source: Keras' `binary_accuracy`, which `metrics=["accuracy"]` picks beside a binary cross-entropy.
    """
    truth = np.eye(probabilities.shape[1], dtype=bool)[labels]
    return float(((probabilities > 0.5) == truth).mean())


def confusion_matrix(probabilities: Probabilities, labels: Labels) -> Int[np.ndarray, "C C"]:
    """Counts of rows by true label (row) and most probable label (column)."""
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def recalls(confusion: Int[np.ndarray, "C C"]) -> Float[np.ndarray, "C"]:
    """Share of each label's rows that are found; NaN for a label without rows."""
    total = confusion.sum(1)
    shares: Float[np.ndarray, "C"] = np.divide(
        confusion.diagonal(), total, out=np.full(len(total), np.nan), where=total > 0
    )
    return shares


def macro_f1(confusion: Int[np.ndarray, "C C"]) -> float:
    """Mean F1 over the labels that occur, as a truth or as an answer."""
    seen = confusion.sum(0) + confusion.sum(1)
    present = seen > 0
    return float((2 * confusion.diagonal()[present] / seen[present]).mean())


def negative_log_likelihood(probabilities: Probabilities, labels: Labels) -> float:
    """Mean of -log p(true label), in nats."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(chosen, 1e-12, 1)).mean())


def divergence(probabilities: Probabilities, shares: Float[np.ndarray, "N K"]) -> float:
    """Mean Kullback-Leibler distance of what was answered from what is true, in nats: sum of s log(s / p).

    Args:
        probabilities: One below 1e-12 counts as that.
        shares: The true distribution of each row over the first K labels; rows of zeros are left out.
    """
    true, answered = (rows[shares.any(1)] for rows in (shares, probabilities[:, : shares.shape[1]]))
    surprise = np.log(np.where(true > 0, true, 1)) - np.log(np.clip(answered, 1e-12, 1))
    return float((true * surprise).sum(1).mean())


def reliability(probabilities: Probabilities, labels: Labels, bins: int = BINS) -> Float[np.ndarray, "bins 3"]:
    """Count, mean confidence and accuracy in `bins` equal ranges of confidence; zeros where a range is empty."""
    return _binned(probabilities.max(1), correct(probabilities, labels), bins)


def _binned(confidence: Float[np.ndarray, "N"], hits: Bool[np.ndarray, "N"], bins: int) -> Float[np.ndarray, "bins 3"]:
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    sums = [np.bincount(index, values, bins) for values in (confidence, hits)]
    return np.stack([count, *(s / np.maximum(count, 1) for s in sums)], 1)


def calibration_error(probabilities: Probabilities, labels: Labels, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of confidence to accuracy over equal-width bins, in [0, 1].

    Source: https://arxiv.org/abs/1706.04599.
    """
    return _gap(reliability(probabilities, labels, bins))


def calibration_floor(probabilities: Probabilities, bins: int = BINS, *, samples: int = 200, seed: int = 0) -> float:
    """What `calibration_error` shows on as many rows when every confidence is exactly right: chance alone.

    The mean over `samples` draws of right-or-wrong answers from the confidences themselves.
    """
    confidence = probabilities.max(1)
    draw = np.random.default_rng(seed).random
    return float(np.mean([_gap(_binned(confidence, draw(len(confidence)) < confidence, bins)) for _ in range(samples)]))


def _gap(binned: Float[np.ndarray, "bins 3"]) -> float:
    count, confidence, hits = binned.T
    return float((count * np.abs(confidence - hits)).sum() / count.sum())


def bootstrap_interval(
    hits: Bool[np.ndarray, "N"], *, level: float = 0.95, samples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of right-or-wrong answers.

    Resampling N yes-or-no rows with replacement makes their sum binomial, so the sums are drawn directly. Where all are
    right, or all wrong, no sample differs, and the exact bound stands in (Clopper and Pearson).
    """
    if len(set(hits.tolist())) == 1:
        rest = 1 - ((1 - level) / 2) ** (1 / len(hits))
        return (1 - rest, 1.0) if hits[0] else (0.0, rest)
    draws = np.random.default_rng(seed).binomial(len(hits), hits.mean(), samples) / len(hits)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def risk_coverage(probabilities: Probabilities, labels: Labels) -> Float[np.ndarray, "N 3"]:
    """When only the surest rows are answered: their share, their accuracy, and the confidence of the last of them.

    Row k answers the k + 1 surest rows.
    """
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(order) + 1)
    hits = np.cumsum(correct(probabilities, labels)[order])
    return np.stack([answered / len(order), hits / answered, confidence[order]], 1)


def threshold_for(probabilities: Probabilities, labels: Labels, target: float) -> float:
    """The lowest confidence at which all surer rows together reach an accuracy of `target`; 1.0 if none does."""
    curve = risk_coverage(probabilities, labels)
    last = np.append(curve[1:, 2] != curve[:-1, 2], True)  # of those equally sure: one threshold answers all of them
    reached = np.flatnonzero((curve[:, 1] >= target) & last)
    return float(curve[reached[-1], 2]) if len(reached) else 1.0


@dataclass(frozen=True)
class Scaling:
    """Vector scaling: logits -> calibrated probabilities.

    Attributes:
        temperatures: What each label's logit is divided by, (C,); above 0.
        biases: What is added then, (C,).

    Source: https://arxiv.org/abs/1706.04599.
    """

    temperatures: Float[np.ndarray, "C"]
    biases: Float[np.ndarray, "C"]

    def __call__(self, logits: Float[np.ndarray, "N C"]) -> Probabilities:
        """Calibrated probabilities."""
        return softmax(logits / self.temperatures + self.biases)


def fit_scaling(logits: Float[np.ndarray, "N C"], labels: Labels, *, few: bool | None = None) -> Scaling:
    """The vector scaling under which the labels are most likely, or one temperature for all.

    Args:
        logits: As the network gives them.
        labels: The right ones.
        few: Whether there are too few rows for more than one temperature; None: as their number, by `FEW`.

    A small penalty, 1e-4 of the squared distance from temperature 1 (in its logarithm) and bias 0, keeps it finite for
    labels that are rare or always right; that of one temperature is 2 a row.
    """
    from scipy.optimize import minimize, minimize_scalar

    logits = np.asarray(logits, np.float64)
    rows, count = logits.shape
    if rows < FEW if few is None else few:
        one = minimize_scalar(
            lambda x: negative_log_likelihood(softmax(logits * np.exp(x)), labels) + 2 / rows * x**2,
            bounds=(-4, 4),
            method="bounded",
        )
        return Scaling(np.full(count, np.exp(-one.x)), np.zeros(count))
    truth = np.eye(count)[labels]

    def cost(point: Float[np.ndarray, "P"]) -> tuple[float, Float[np.ndarray, "P"]]:
        slopes, biases = np.exp(point[:count]), point[count:]
        probabilities = softmax(logits * slopes + biases)
        error = (probabilities - truth) / rows
        gradient = np.concatenate([(error * logits).sum(0) * slopes, error.sum(0)]) + 2 * PENALTY * point
        return negative_log_likelihood(probabilities, labels) + PENALTY * float(point @ point), gradient

    bounds = [(-4, 4)] * count + [(-9, 9)] * count  # far beyond what any network needs
    found = minimize(cost, np.zeros(2 * count), jac=True, method="L-BFGS-B", bounds=bounds)
    return Scaling(np.exp(-found.x[:count]), found.x[count:])


def fit_ensemble(logits: Float[np.ndarray, "N M C"], labels: Labels, *, few: bool | None = None) -> Calibration:
    """The calibration of M networks' mean: each one's scaling, and that of the logarithm of their mean."""
    scalings = [fit_scaling(member, labels, few=few) for member in logits.swapaxes(0, 1)]

    def mean(logits: Float[np.ndarray, "N M C"]) -> Float[np.ndarray, "N C"]:
        answers = [scaling(member) for scaling, member in zip(scalings, logits.swapaxes(0, 1), strict=True)]
        logarithm: Float[np.ndarray, "N C"] = np.log(np.mean(answers, 0))
        return logarithm

    outer = fit_scaling(mean(logits), labels, few=few)
    return lambda logits: outer(mean(logits))


def cross_fitted(
    logits: Float[np.ndarray, "N *M C"],
    labels: Labels,
    *,
    fit: Callable[..., Calibration] = fit_scaling,
    where: Bool[np.ndarray, "N"] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Probabilities:
    """Probabilities whose calibration was fitted on the other folds: an honest calibration error of fitted rows.

    The folds get the kind of scaling that all the rows do. With `where`, only these rows are fitted on.
    """
    fold = np.random.default_rng(seed).permutation(len(labels)) % folds
    where = np.ones(len(labels), bool) if where is None else where
    few = int(where.sum()) < FEW
    out = np.empty((len(labels), np.shape(logits)[-1]), np.float64)
    for k in range(folds):
        held = fold == k
        out[held] = fit(logits[~held & where], labels[~held & where], few=few)(logits[held])
    return out
