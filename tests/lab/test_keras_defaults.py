"""Keras' defaults in torch, held to what real Keras does (tests/golden/optimizers.json)."""

import json
from math import sqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import golden_inputs
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from mien.errors import InputError
from mien.lab import keras_defaults
from mien.measuring.metrics import binary_accuracy

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "optimizers.json").read_text())
SCORES = torch.from_numpy(golden_inputs.scores())
SCORE_LABELS = torch.tensor(golden_inputs.SCORE_LABELS)


def walk(
    optimizer: torch.optim.Optimizer, vector: Tensor, gradients: Any, scheduler: Any = None
) -> list[Any]:
    """Where each gradient leads."""
    places = []
    for gradient in gradients:
        vector.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        places.append(vector.detach().numpy().copy())
    return places


def begin() -> Tensor:
    return torch.from_numpy(golden_inputs.start()).requires_grad_()


def test_adam_takes_keras_steps() -> None:
    vector = begin()
    places = walk(keras_defaults.Adam([vector]), vector, golden_inputs.gradients())
    np.testing.assert_allclose(places, GOLDEN["adam"]["parameters"], rtol=0, atol=2e-8)


def test_torchs_own_adam_does_not() -> None:
    """The golden gradients are small enough to tell the two places of epsilon apart."""
    vector = begin()
    places = walk(torch.optim.Adam([vector], eps=1e-7), vector, golden_inputs.gradients())
    assert np.abs(np.subtract(places, GOLDEN["adam"]["parameters"])).max() > 1e-4


def test_adam_continues_from_a_checkpoint() -> None:
    gradients = golden_inputs.gradients()
    vector = begin()
    first = keras_defaults.Adam([vector])
    walk(first, vector, gradients[:2])
    second = keras_defaults.Adam([vector])
    second.load_state_dict(first.state_dict())
    places = walk(second, vector, gradients[2:])
    np.testing.assert_allclose(places, GOLDEN["adam"]["parameters"][2:], rtol=0, atol=2e-8)


def test_time_decay() -> None:
    vector = begin()
    optimizer = keras_defaults.Adam([vector])
    scheduler = LambdaLR(optimizer, keras_defaults.time_decay(golden_inputs.DECAY))
    places = walk(optimizer, vector, golden_inputs.gradients(), scheduler)
    np.testing.assert_allclose(places, GOLDEN["adam_decay"]["parameters"], rtol=0, atol=2e-8)
    rates = [1e-3 * keras_defaults.time_decay(golden_inputs.DECAY)(step) for step in range(5)]
    np.testing.assert_allclose(rates, GOLDEN["adam_decay"]["rates"], rtol=1e-6)


@pytest.mark.parametrize("case", golden_inputs.PLATEAUS)
def test_plateau_lowers_the_rate_when_keras_does(case: str) -> None:
    values, factor, patience = golden_inputs.PLATEAUS[case]
    optimizer = keras_defaults.Adam([begin()])
    rule = keras_defaults.plateau(optimizer, factor, patience)
    rates = []
    for value in values:
        rule.step(value)
        rates.append(optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, GOLDEN["plateau"][case], rtol=1e-5)


@pytest.mark.parametrize("case", golden_inputs.STOPPINGS)
def test_lightnings_early_stopping_stops_when_keras_does(case: str) -> None:
    """`mien.lab.training` uses Lightning's callback as it is; this is why it may."""
    values, patience = golden_inputs.STOPPINGS[case]
    callback = EarlyStopping("val_accuracy", mode="max", patience=patience)
    trainer: Any = SimpleNamespace(
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, **_: decision),
        sanity_checking=False,
        fast_dev_run=False,
        should_stop=False,
    )
    stopped = 0
    for epoch, value in enumerate(values, start=1):
        trainer.current_epoch = epoch
        trainer.callback_metrics = {"val_accuracy": torch.tensor(value)}
        callback.on_validation_end(trainer, None)  # type: ignore[arg-type]
        if trainer.should_stop:
            stopped = epoch
            break
    assert stopped == GOLDEN["stopping"][case]


@pytest.mark.parametrize(
    ("shape", "limit"), list(zip(golden_inputs.GLOROT_SHAPES, GOLDEN["glorot"], strict=True))
)
def test_initialise_draws_within_keras_limits(shape: tuple[int, ...], limit: float) -> None:
    torch.manual_seed(0)
    *window, rows, columns = shape
    layer = nn.Conv2d(rows, columns, tuple(window)) if window else nn.Linear(rows, columns)
    weight = keras_defaults.initialise(nn.Sequential(layer))[0].weight
    assert 0.95 * limit < weight.abs().max() <= limit * (1 + 1e-6)
    assert weight.std().item() == pytest.approx(limit / sqrt(3), rel=0.05)  # uniform, not normal
    assert not layer.bias.any()


@pytest.mark.parametrize(("dims", "kind"), [(1, nn.BatchNorm1d), (2, nn.BatchNorm2d)])
def test_batch_norm(dims: int, kind: type[nn.Module]) -> None:
    layer = keras_defaults.batch_norm(5, dims)
    assert type(layer) is kind
    assert (layer.num_features, layer.eps, layer.momentum) == (5, 1e-3, 0.01)


def test_flatten_puts_channels_last() -> None:
    image = torch.arange(2 * 3 * 4).reshape(1, 2, 3, 4)  # channel, row, column
    flat = keras_defaults.Flatten()(image)
    assert flat.tolist() == [np.moveaxis(image[0].numpy(), 0, -1).ravel().tolist()]


def test_l2_counts_marked_kernels_alone() -> None:
    plain, marked = nn.Linear(3, 2), keras_defaults.with_l2(nn.Linear(2, 2), 0.25)
    nn.init.constant_(plain.weight, 9.0)
    nn.init.constant_(marked.weight, 2.0)
    nn.init.constant_(marked.bias, 9.0)
    penalty = keras_defaults.l2_penalty(nn.Sequential(plain, marked))
    assert penalty.item() == 0.25 * 4 * 2.0**2
    penalty.backward()
    assert marked.weight.grad is not None
    assert marked.weight.grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]  # 2 * l2 * w
    assert keras_defaults.l2_penalty(plain).item() == 0.0


def test_binary_cross_entropy() -> None:
    ours = keras_defaults.binary_cross_entropy(SCORES, SCORE_LABELS)
    assert ours.item() == pytest.approx(GOLDEN["binary_crossentropy"], abs=1e-4)
    rows = [
        keras_defaults.binary_cross_entropy(scores[None], label[None])
        for scores, label in zip(SCORES, SCORE_LABELS, strict=True)
    ]
    np.testing.assert_allclose(rows, GOLDEN["binary_crossentropy_rows"], rtol=0, atol=1e-4)


def test_binary_cross_entropy_of_certain_rows_has_a_finite_gradient() -> None:
    scores = SCORES.clone().requires_grad_()
    keras_defaults.binary_cross_entropy(scores, SCORE_LABELS).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_binary_accuracy_is_the_one_keras_reports() -> None:
    accuracy = binary_accuracy(SCORES.softmax(1).numpy(), SCORE_LABELS.numpy())
    assert accuracy == pytest.approx(GOLDEN["binary_accuracy"], abs=1e-6)


def test_load_weights_refuses_another_networks_weights() -> None:
    layer = nn.Linear(3, 2)
    before = layer.weight.clone()
    with pytest.raises(InputError, match=r"\(3, 2\).*but got \[\(2, 3\), \(2,\)\]"):
        keras_defaults.load_weights(layer, [np.zeros((2, 3), np.float32), np.zeros(2, np.float32)])
    assert layer.weight.equal(before)


def test_dumped_weights_are_copies() -> None:
    layer = nn.Linear(3, 2)
    kernel, bias = keras_defaults.dump_weights(layer)
    np.testing.assert_array_equal(kernel, layer.weight.detach().numpy().T)
    bias += 1
    assert not np.array_equal(bias, layer.bias.detach().numpy())
