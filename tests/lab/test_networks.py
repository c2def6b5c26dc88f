"""The seed networks against real Keras (tests/golden, written by tools/golden_keras.py), the others by shape.

The tolerance is 1e-4: Keras and torch add up the same numbers in other orders.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import golden_inputs
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mien.lab import keras_defaults
from mien.lab.networks import (
    NETWORKS,
    Lift,
    count_parameters,
    inherit,
    paul,
    residual_net,
    vgg_net,
)

GOLDEN = Path(__file__).parent.parent / "golden"
TOTALS = {"workshop": 2_787_015, "alexnet": 41_462_727, "paul": 9_014_727}
LOSSES = {
    "workshop": nn.functional.cross_entropy,
    "alexnet": keras_defaults.binary_cross_entropy,
    "paul": nn.functional.cross_entropy,
}
KERAS_NAMES: dict[type[nn.Module], str] = {
    nn.Conv2d: "Conv2D",
    nn.Linear: "Dense",
    nn.BatchNorm1d: "BatchNormalization",
    nn.BatchNorm2d: "BatchNormalization",
    nn.MaxPool2d: "MaxPooling2D",
    nn.Dropout: "Dropout",
    keras_defaults.Flatten: "Flatten",
}
IMAGES = torch.from_numpy(golden_inputs.images()).permute(0, 3, 1, 2)
LABELS = torch.tensor(golden_inputs.LABELS)


class Seed(NamedTuple):
    """One seed network with the golden weights, and what Keras makes of them."""

    name: str
    network: nn.Module
    golden: dict[str, Any]

    def loss(self, logits: Tensor) -> Tensor:
        """As its author trains it, the penalty on the kernel included."""
        return LOSSES[self.name](logits, LABELS) + keras_defaults.l2_penalty(self.network)


@pytest.fixture(scope="module", params=TOTALS)
def seed(request: pytest.FixtureRequest) -> Seed:
    network = NETWORKS[request.param]().eval()
    shapes = [array.shape for array in keras_defaults.dump_weights(network)]
    keras_defaults.load_weights(network, golden_inputs.weights(shapes))
    return Seed(request.param, network, json.loads((GOLDEN / f"{request.param}.json").read_text()))


def close(ours: Tensor, golden: Any, *, relative: float = 0.0) -> None:
    """Hold a tensor to golden values."""
    np.testing.assert_allclose(ours.detach().numpy(), golden, rtol=relative, atol=1e-4)


def test_layer_by_layer(seed: Seed) -> None:
    rows: list[dict[str, Any]] = []

    def write(layer: nn.Module, _: Any, output: Tensor) -> None:
        row = {
            "class": KERAS_NAMES[type(layer)],
            "shape": list(output[0].movedim(0, -1).shape),  # channels last
            "parameters": count_parameters(layer),
        }
        rows.append(row | ({"rate": layer.p} if isinstance(layer, nn.Dropout) else {}))

    # Activations are layers in some sources and arguments in others; the outputs prove that they are there.
    hooks = [layer.register_forward_hook(write) for layer in seed.network if not isinstance(layer, nn.ReLU)]
    with torch.no_grad():
        seed.network(IMAGES[:1])
    for hook in hooks:
        hook.remove()
    expected = [row for row in seed.golden["layers"] if row["class"] != "Activation"]
    assert rows == [{key: value for key, value in row.items() if key != "name"} for row in expected]


def test_parameter_count_is_the_one_its_source_states(seed: Seed) -> None:
    assert count_parameters(seed.network) == seed.golden["parameters"] == TOTALS[seed.name]


def test_outputs_in_evaluation(seed: Seed) -> None:
    with torch.no_grad():
        logits = seed.network(IMAGES)
    close(logits, seed.golden["logits"])
    close(logits.softmax(1), seed.golden["probabilities"])


def test_loss(seed: Seed) -> None:
    with torch.no_grad():
        close(keras_defaults.l2_penalty(seed.network), seed.golden["l2"])
        close(seed.loss(seed.network(IMAGES)), seed.golden["loss"])


def test_the_loss_that_keras_3_compiles(seed: Seed) -> None:
    """The same, but for `alexnet`: there Keras 3 puts sigmoids in place of the softmax, as 2.1.6 did not."""
    logits = torch.tensor(seed.golden["logits"])
    if seed.name == "alexnet":
        truth = nn.functional.one_hot(LABELS, 7).float()
        close(nn.functional.binary_cross_entropy_with_logits(logits, truth), seed.golden["compiled_loss"])
    else:
        close(seed.loss(logits), seed.golden["compiled_loss"])


def test_one_training_pass(seed: Seed) -> None:
    """Outputs by batch statistics, the loss, the norm of every gradient, and the moving statistics after it.

    In float64 on both sides: rounding adds up over many batch norms of few values.
    """
    golden = seed.golden["training"]
    network = copy.deepcopy(seed.network).double().train()
    before = {}
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # as in Keras' pass: no two libraries draw the same
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            before[layer] = layer.running_var[:3].clone()
    values = {}  # that a channel of a batch norm has
    for norm in before:
        norm.register_forward_hook(lambda n, x, _: values.update({n: x[0].numel() // n.num_features}))

    logits = network(IMAGES.double())
    loss = seed._replace(network=network).loss(logits)
    loss.backward()

    close(logits, golden["logits"])
    close(loss, golden["loss"])
    close(torch.stack([p.grad.norm() for p in network.parameters()]), golden["gradient_norms"], relative=1e-5)
    for norm, mean in zip(before, golden["moving_means"], strict=True):
        close(norm.running_mean[:3], mean)
    for (norm, old), variance in zip(before.items(), golden["moving_variances"], strict=True):
        # torch averages the unbiased variance, Keras the biased one; with that undone, both have the same.
        gain = norm.running_var[:3] - 0.99 * old
        close(0.99 * old + gain * (values[norm] - 1) / values[norm], variance)


def test_weights_survive_the_round_trip(seed: Seed) -> None:
    arrays = keras_defaults.dump_weights(seed.network)
    for ours, formula in zip(arrays, golden_inputs.weights([a.shape for a in arrays]), strict=True):
        np.testing.assert_array_equal(ours, formula)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_seven_logits(name: str) -> None:
    network = NETWORKS[name]().eval()
    with torch.no_grad():
        logits = network(torch.rand(2, 1, 48, 48))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


def deeper() -> nn.Sequential:
    """`mien_small` with two blocks a stage."""
    return residual_net((32, 64, 128, 256), (2, 2, 2, 2), stem_stride=2)


def warmed(network: nn.Sequential) -> nn.Sequential:
    """With moving statistics of its own, as after training."""
    with torch.no_grad():
        network.train()(torch.rand(16, 1, 48, 48))
    return network.eval()


@pytest.mark.parametrize(
    ("build", "elder"),
    [
        (NETWORKS["mien-small"], NETWORKS["mien-small"]),
        (deeper, NETWORKS["mien-small"]),
        (NETWORKS["vgg"], NETWORKS["vgg"]),
    ],
)
def test_a_network_that_inherits_answers_as_its_elder(
    build: Callable[[], nn.Sequential], elder: Callable[[], nn.Sequential]
) -> None:
    given, network = warmed(elder()), build().eval()
    inherit(network, given, 7)
    with torch.no_grad():
        torch.testing.assert_close(network(IMAGES), given(IMAGES), rtol=1e-5, atol=1e-5)


def test_squeezing_blocks_that_are_new_begin_as_identities() -> None:
    given = warmed(residual_net((16, 32), (1, 1), stem_stride=2, squeeze=True))
    network = residual_net((16, 32), (3, 2), stem_stride=2, squeeze=True).eval()
    inherit(network, given, 7)
    with torch.no_grad():
        torch.testing.assert_close(network(IMAGES), given(IMAGES), rtol=1e-5, atol=1e-5)


def test_a_narrower_network_inherits_the_channels_that_matter() -> None:
    given, network = warmed(vgg_net(((8, 1), (16, 2)))), vgg_net(((4, 1), (8, 2))).eval()
    for norm, alive in zip((layer for layer in given if isinstance(layer, nn.BatchNorm2d)), (4, 8, 8), strict=True):
        silent = torch.randperm(norm.num_features)[alive:]
        norm.weight.data[silent] = norm.bias.data[silent] = 0
    before = copy.deepcopy(given.state_dict())
    inherit(network, given, 7)
    with torch.no_grad():
        torch.testing.assert_close(network(IMAGES), given(IMAGES), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())


def test_a_trimmed_network_does_not_look_at_the_edge() -> None:
    network, whole = warmed(vgg_net(((8, 1), (16, 2)), trim=4)), vgg_net(((8, 1), (16, 2))).eval()
    framed = torch.rand_like(IMAGES)
    framed[..., 4:-4, 4:-4] = IMAGES[..., 4:-4, 4:-4]
    inherit(whole, network, 7)
    with torch.no_grad():
        torch.testing.assert_close(network(framed), network(IMAGES))
        torch.testing.assert_close(whole(IMAGES[..., 4:-4, 4:-4]), network(IMAGES))
        assert not torch.allclose(whole(framed), whole(IMAGES))


def test_a_standardising_network_does_not_see_darkness_and_contrast() -> None:
    network, plain = (warmed(vgg_net(((8, 1), (16, 2)), trim=4, standardize=each)) for each in (True, False))
    with torch.no_grad():
        for factor, shift in ((0.2, 0.0), (0.3, -1.5), (1.0, 2.0)):
            torch.testing.assert_close(network(factor * IMAGES + shift), network(IMAGES), rtol=1e-2, atol=1e-2)
            assert not torch.allclose(plain(factor * IMAGES + shift), plain(IMAGES), rtol=1e-2, atol=1e-2)
        assert torch.isfinite(network(torch.zeros_like(IMAGES))).all()


def test_dark_and_flat_faces_are_lifted_and_others_left_alone() -> None:
    usual = torch.randn(2, 1, 48, 48).clamp(-2, 2) * torch.tensor([0.7, 1.0]).view(2, 1, 1, 1) + 0.3
    dark, flat, black = (usual + 2) * 0.1 - 2, usual * 0.1, torch.full((1, 1, 48, 48), -2.0)
    lift = Lift()
    torch.testing.assert_close(lift(usual), usual)
    for worse in (dark, flat):
        mended = lift(worse)
        torch.testing.assert_close(mended.std((2, 3), correction=0), torch.full((2, 1), lift.deviation))
        assert (mended.mean((2, 3)) >= lift.mean - 1e-4).all()
        relation = torch.stack([mended.flatten(), usual.flatten()])[:, : 48 * 48]
        assert torch.corrcoef(relation)[0, 1] > 0.9999
    assert torch.equal(lift(black), torch.full_like(black, lift.mean))


@pytest.mark.parametrize("shared", [0, 7])
def test_the_body_and_the_shared_outputs_are_inherited(shared: int) -> None:
    given, network = warmed(NETWORKS["mien-small"]()), NETWORKS["mien-small"](outputs=17).eval()
    anew = copy.deepcopy(network[-1])
    inherit(network, given, shared)
    with torch.no_grad():
        features = given[:-1](IMAGES)
        expected = torch.cat([given[-1](features)[:, :shared], anew(features)[:, shared:]], 1)
        torch.testing.assert_close(network(IMAGES), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("build", "elder"),
    [
        (NETWORKS["mien-small"], deeper),
        (NETWORKS["resnet18"], NETWORKS["mien-small"]),
        (paul, NETWORKS["vgg"]),
        (NETWORKS["vgg-small"], NETWORKS["vgg-slim"]),
    ],
)
def test_networks_that_do_not_fit_inherit_nothing(
    build: Callable[[], nn.Sequential], elder: Callable[[], nn.Sequential]
) -> None:
    with pytest.raises(ValueError, match="no (place for the )?weights"):
        inherit(build(), elder(), 7)
