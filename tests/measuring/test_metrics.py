"""Each score against a value worked out by hand or by another library."""

import numpy as np
import pytest

from mien.measuring import metrics

ROWS = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]])
TRUTH = np.array([0, 0, 2, 1])  # right, wrong, right, wrong


def test_accuracy_and_confusion() -> None:
    assert metrics.accuracy(ROWS, TRUTH) == 0.5
    assert metrics.confusion_matrix(ROWS, TRUTH).tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_recall_of_an_absent_label_is_unknown() -> None:
    recall = metrics.recalls(metrics.confusion_matrix(ROWS[:2], TRUTH[:2]))
    assert recall[0] == 0.5
    assert np.isnan(recall[1:]).all()


def test_macro_f1() -> None:
    # label 0: precision 1/2, recall 1/2; label 1: 0; label 2: 1
    assert metrics.macro_f1(metrics.confusion_matrix(ROWS, TRUTH)) == pytest.approx((0.5 + 0 + 1) / 3)


def test_likelihood() -> None:
    assert metrics.negative_log_likelihood(ROWS, TRUTH) == pytest.approx(-np.log([0.7, 0.4, 0.6, 0.05]).mean())


def test_binary_accuracy_of_saying_nothing_is_its_floor() -> None:
    nothing = np.full((10, 7), 1 / 7)
    assert metrics.binary_accuracy(nothing, np.arange(10) % 7) == pytest.approx(6 / 7)
    assert metrics.binary_accuracy(np.eye(7), np.arange(7)) == 1.0
    # a sure mistake costs two of the seven questions
    assert metrics.binary_accuracy(np.eye(7)[[1]], np.array([0])) == pytest.approx(5 / 7)


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    labels = np.array([0] * 9 + [1] + [0] * 3 + [1] * 7)  # 90 % sure: 9 of 10 right; 60 % sure: 3 of 10 right
    assert metrics.calibration_error(probabilities, labels) == pytest.approx(0.5 * 0 + 0.5 * 0.3)
    assert metrics.reliability(probabilities, labels)[:, 0].sum() == 20
    surer = np.array([[0.9, 0.1]] * 10 + [[0.97, 0.03]] * 10)  # of the last two bins, one is not sure enough
    assert metrics.calibration_error(surer, np.repeat([0, 1], [15, 5])) == pytest.approx(0.5 * 0.1 + 0.5 * 0.47)


def test_calibration_error_as_torchmetrics_has_it() -> None:
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    probabilities = metrics.softmax(generator.normal(size=(500, 7)) * 2)
    # too sure in some bins and not sure enough in others, so that it matters which bin a row is in
    labels = np.where(generator.random(500) < 0.6, probabilities.argmax(1), generator.integers(0, 7, 500))
    theirs = torchmetrics.multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), 7, n_bins=15
    )
    assert metrics.calibration_error(probabilities, labels) == pytest.approx(float(theirs), abs=1e-6)


def test_interval_covers_as_the_binomial_says() -> None:
    low, high = metrics.bootstrap_interval(np.arange(3589) < 0.73 * 3589)
    assert (high - low) / 2 == pytest.approx(0.0145, abs=0.0006)  # 1.96 * sqrt(0.73 * 0.27 / 3589)
    assert low < 0.73 < high
    low, high = metrics.bootstrap_interval(np.ones(20, bool))
    assert (low**20, high) == (pytest.approx(0.025), 1)
    assert metrics.bootstrap_interval(np.zeros(1, bool)) == (0, pytest.approx(0.975))


def test_risk_coverage_and_threshold() -> None:
    curve = metrics.risk_coverage(ROWS, TRUTH)
    assert curve[:, 0].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve[:, 1].tolist() == [0.0, 0.5, pytest.approx(2 / 3), 0.5]
    assert metrics.threshold_for(ROWS, TRUTH, 0.6) == 0.6  # the three surest rows
    assert metrics.threshold_for(ROWS, TRUTH, 0.99) == 1.0  # out of reach
    alike = np.tile([0.9, 0.1], (4, 1))
    assert metrics.threshold_for(alike, np.array([0, 1, 1, 1]), 0.85) == 1.0  # 0.9 would answer all four
    assert metrics.threshold_for(alike, np.array([0, 1, 0, 0]), 0.75) == 0.9


def test_scaling_is_found_again() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 7)) * 2
    draws = metrics.softmax(logits).cumsum(1) > generator.random((20_000, 1))
    labels = draws.argmax(1)
    assert metrics.fit_scaling(logits, labels).temperatures == pytest.approx(np.ones(7), abs=0.06)
    heat, shift = np.array([3, 1, 2, 1, 0.5, 1, 1]), np.array([1, 0, -1, 0, 0, 0.5, -0.5])  # shifts that sum to 0
    found = metrics.fit_scaling((logits - shift) * heat, labels)
    assert found.temperatures == pytest.approx(heat, rel=0.06)
    assert found.biases == pytest.approx(shift, abs=0.08)
    assert metrics.calibration_error(metrics.cross_fitted(logits * heat, labels), labels) < 0.015


def test_few_rows_change_no_answer() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(30, 7)) * 3
    labels = np.where(generator.random(30) < 0.7, logits.argmax(1), generator.integers(0, 7, 30))
    found = metrics.fit_scaling(logits, labels)
    assert len(set(found.temperatures)) == 1 < found.temperatures[0]
    assert not found.biases.any()
    right = metrics.fit_scaling(logits[:6], logits[:6].argmax(1))  # nothing wrong among six is no proof
    assert 0.3 < right.temperatures[0] < 1


def test_folds_are_scaled_as_all_rows_are() -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(520, 7)), generator.integers(0, 7, 520)
    few, more = (metrics.cross_fitted(logits[:n], labels[:n]) for n in (metrics.FEW - 1, 520))
    assert np.array_equal(few.argmax(1), logits[: metrics.FEW - 1].argmax(1))
    assert not np.array_equal(more.argmax(1), logits.argmax(1))


def test_scaling_stays_finite_where_every_answer_is_right() -> None:
    labels = np.arange(21) % 7
    found = metrics.fit_scaling(np.eye(7)[labels] * 5, labels)
    assert np.isfinite(found.temperatures).all()
    assert metrics.accuracy(found(np.eye(7)[labels] * 5), labels) == 1


@pytest.mark.parametrize("ensemble", [False, True])
def test_rows_take_no_part_in_their_own_calibration(ensemble: bool) -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(200, 2, 7) if ensemble else (200, 7)), generator.integers(0, 7, 200)
    fit = metrics.fit_ensemble if ensemble else metrics.fit_scaling
    expected = metrics.cross_fitted(logits, labels, fit=fit)
    row = 17
    labels[row] = (labels[row] + 1) % 7
    came = metrics.cross_fitted(logits, labels, fit=fit)
    assert np.array_equal(came[row], expected[row])
    assert not np.allclose(came, expected)
    assert not np.allclose(fit(logits, labels)(logits)[row], came[row])


def test_only_some_rows_are_fitted_on_where_that_is_asked() -> None:
    """The others are scored by what these say, and say nothing themselves."""
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(200, 7)), generator.integers(0, 7, 200)
    where = np.arange(200) % 2 == 0
    expected = metrics.cross_fitted(logits, labels, where=where)
    labels[~where] = (labels[~where] + 1) % 7
    assert np.array_equal(metrics.cross_fitted(logits, labels, where=where), expected)
    labels[where] = (labels[where] + 1) % 7
    assert not np.allclose(metrics.cross_fitted(logits, labels, where=where), expected)


def test_softmax_does_not_overflow() -> None:
    assert metrics.softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]


def test_the_floor_of_the_calibration_error_is_chance() -> None:
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.5, 1, 2000)
    rows = np.stack([confidence, 1 - confidence], 1)
    truth = (generator.random(2000) > confidence).astype(int)  # right as often as the confidence says
    floor = metrics.calibration_floor(rows)
    assert 0.005 < floor < 0.03
    assert metrics.calibration_error(rows, truth) == pytest.approx(floor, abs=0.012)
    # four times the rows, half the chance
    assert metrics.calibration_floor(np.tile(rows, (4, 1))) == pytest.approx(floor / 2, rel=0.1)


def test_distance_from_a_distribution() -> None:
    true = np.array([[0.5, 0.5, 0], [0, 0, 0], [0.2, 0.2, 0.6]])  # the second row has none
    expected = (0.5 * np.log(0.5 / 0.7) + 0.5 * np.log(0.5 / 0.2)) / 2
    assert metrics.divergence(ROWS[:3], true) == pytest.approx(expected)
    assert metrics.divergence(ROWS[:1], np.array([[0.75, 0.25]])) == pytest.approx(
        0.75 * np.log(0.75 / 0.7) + 0.25 * np.log(0.25 / 0.2)
    )
    assert metrics.divergence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])) == pytest.approx(np.log(1e12))
