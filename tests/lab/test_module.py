"""What a step of training computes: losses, and what teachers are asked."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mien.errors import InputError
from mien.lab.module import Classifier
from mien.recipes import RECIPES, Augment

SMALL = RECIPES["mien-small"]


def test_soft_labels_leave_what_the_votes_say() -> None:
    module = Classifier(dataclasses.replace(SMALL, labels="ferplus-votes", votes=0.0, label_smoothing=0.0))
    answers = torch.tensor([[0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.3]])
    shares = torch.tensor([[0.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.0, 0.75]])
    expected = -(0.25 * np.log(0.1) + 0.75 * np.log(0.3))
    assert float(module.loss(answers.log(), shares, torch.zeros(1, 10))) == pytest.approx(expected, rel=1e-5)


def test_networks_and_losses_of_seven_labels_refuse_eight() -> None:
    with pytest.raises(InputError, match="network 'paul' has seven outputs"):
        Classifier(dataclasses.replace(RECIPES["paul"], labels="ferplus"))
    with pytest.raises(InputError, match="network 'workshop' has seven outputs"):
        Classifier(dataclasses.replace(RECIPES["workshop"], votes=1.0))
    with pytest.raises(InputError, match="one label a face, not votes"):
        Classifier(dataclasses.replace(SMALL, labels="ferplus-votes", loss="binary_cross_entropy"))


def alone() -> SimpleNamespace:
    """A trainer of one process, as far as a training step asks it."""
    strategy = SimpleNamespace(reduce=lambda value, **_: value)
    return SimpleNamespace(num_training_batches=9, barebones=True, strategy=strategy)


def test_teachers_answer_for_the_picture_before_noise_and_blur() -> None:
    torch.manual_seed(0)  # one image in four gets noise, and of fourteen none may by chance
    shown: list[torch.Tensor] = []
    teacher = Classifier(SMALL).eval()
    module = Classifier(dataclasses.replace(SMALL, augment=Augment(noise=0.2), distil=0.5), [teacher])
    module.trainer = alone()
    for classifier in (teacher, module):
        classifier.network.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    images = torch.randint(0, 256, (14, 48, 48), dtype=torch.uint8)
    module.training_step((images, torch.zeros(14, dtype=torch.int64), torch.ones(14, 10)), 1)
    noisy, clean = shown
    expected = (images[:, None].float() / 255 - SMALL.mean) / SMALL.std
    torch.testing.assert_close(clean, expected)
    assert (noisy != clean).flatten(1).any(1).sum() in range(1, 14)


@pytest.mark.parametrize("own", [0.25, 0.75])
def test_of_mixed_images_the_larger_part_is_counted(own: float, monkeypatch: pytest.MonkeyPatch) -> None:
    partner = torch.arange(14).roll(1)
    monkeypatch.setattr("mien.lab.module.mix", lambda images, recipe: (images, partner, own))
    recipe = dataclasses.replace(SMALL, augment=Augment(), mixup=0.2)
    module = Classifier(recipe)
    module.trainer = alone()
    labels, votes = torch.arange(14) % 7, torch.rand(14, 10)
    larger = labels if own > 0.5 else labels[partner]
    outputs = torch.nn.functional.one_hot(larger, 17).float() * 5
    module.outputs = lambda unit: outputs
    loss = module.training_step((torch.zeros(14, 48, 48, dtype=torch.uint8), labels, votes), 1)
    parts = [module.loss(outputs, labels, votes), module.loss(outputs, labels[partner], votes[partner])]
    torch.testing.assert_close(loss, own * parts[0] + (1 - own) * parts[1])
    assert module.accuracy["train_"].compute() == 1
