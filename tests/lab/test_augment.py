import dataclasses

import pytest

torch = pytest.importorskip("torch")

from mien.lab.augment import Noise, augmentation, degradation, mix
from mien.recipes import RECIPES, Augment


def test_nothing_asked_is_nothing_done() -> None:
    batch = torch.rand(4, 1, 48, 48)
    assert torch.equal(augmentation(Augment())(batch), batch)


def test_a_sure_flip_is_a_mirror_image() -> None:
    batch = torch.rand(4, 1, 48, 48)
    assert torch.allclose(augmentation(Augment(flip=1.0))(batch), batch.flip(3))


def test_images_stay_images_and_differ() -> None:
    torch.manual_seed(0)
    batch = torch.full((64, 1, 48, 48), 0.4)
    batch[:, :, 10:20, 10:20] = 0.9
    changed = augmentation(RECIPES["mien-small"].augment)(batch)
    assert changed.shape == batch.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert len({tuple(image.flatten().tolist()) for image in changed}) == 64


def test_an_erased_rectangle_is_mid_grey() -> None:
    torch.manual_seed(0)
    changed = augmentation(Augment(erase=1.0))(torch.zeros(16, 1, 48, 48))
    assert set(changed.unique().tolist()) == {0.0, 0.5}
    share = (changed == 0.5).float().mean((1, 2, 3))
    assert 0.01 < share.min() < share.max() < 0.25


@pytest.mark.parametrize(
    ("spec", "low", "high"), [(Augment(brightness=0.2), 0.3, 0.7), (Augment(contrast=0.2), 0.4, 0.6)]
)
def test_brightness_adds_and_contrast_multiplies(spec: Augment, low: float, high: float) -> None:
    torch.manual_seed(0)
    changed = augmentation(spec)(torch.full((256, 1, 4, 4), 0.5))
    assert low - 1e-6 <= changed.min() < low + 0.05
    assert high - 0.05 < changed.max() <= high + 1e-6


def test_around_a_moved_face_another_one_goes_on() -> None:
    levels = torch.tensor([0.2, 0.4, 0.8])
    faces = levels[:, None, None, None].expand(3, 1, 48, 48)
    torch.manual_seed(0)
    moved = augmentation(Augment(translate=0.5, uncovered="other"))(faces)
    torch.manual_seed(0)
    repeated = augmentation(Augment(translate=0.5))(faces)
    assert torch.allclose(repeated, faces)
    for image, own, neighbour in zip(moved, levels, levels.roll(1), strict=True):
        seen = image.flatten()
        assert torch.isclose(seen, own).any()
        assert torch.isclose(seen, neighbour).any()
        low, high = sorted((float(own), float(neighbour)))
        assert low - 1e-5 <= seen.min()  # a blend where they meet, and nothing else
        assert seen.max() <= high + 1e-5


def test_a_worse_camera_adds_noise_to_some_and_blurs_some() -> None:
    torch.manual_seed(0)
    grey = torch.full((400, 1, 48, 48), 0.5)
    noisy = degradation(Augment(noise=0.05))(grey)
    changed = noisy.std((1, 2, 3)) > 0
    assert 0.15 < changed.float().mean() < 0.35
    assert noisy[changed].std() == pytest.approx(0.05, rel=0.05)
    assert degradation(Augment(noise=0.5))(grey).min() == 0  # a camera's picture ends at black and white

    edge = torch.zeros(400, 1, 48, 48)
    edge[..., 24:] = 1.0
    slopes = degradation(Augment(blur=2.0))(edge).diff(dim=3).amax((1, 2, 3))
    assert 0.15 < (slopes < 1).float().mean() < 0.35
    assert slopes.min() > 0.15  # the steepest of a Gaussian of 2 pixels is 0.2
    assert torch.equal(degradation(Augment())(edge), edge)


def test_noise_is_drawn_where_the_images_are() -> None:
    """On a device that cannot take a number from another one, as a GPU could but should not."""
    assert Noise(0.05)(torch.empty(4, 1, 48, 48, device="meta")).is_meta


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_blends_two_images_by_the_told_share(kind: str) -> None:
    torch.manual_seed(0)
    recipe = dataclasses.replace(RECIPES["mien-small"], **{kind: 1.0})
    levels = torch.arange(8.0) / 8
    images = levels[:, None, None, None].expand(8, 1, 48, 48)
    for _ in range(20):
        mixed, partner, own = mix(images, recipe)
        expected = own * levels + (1 - own) * levels[partner]
        assert torch.allclose(mixed.mean((1, 2, 3)), expected, atol=1e-5)
        assert sorted(partner.tolist()) == list(range(8))
        if kind == "cutmix":  # every pixel is one image's or the other's
            assert torch.isin(mixed, levels).all()


def test_both_kinds_of_mixing_take_turns() -> None:
    torch.manual_seed(0)
    recipe = dataclasses.replace(RECIPES["mien-small"], mixup=1.0, cutmix=1.0)
    images = torch.rand(2, 1, 8, 8)
    pasted = {bool(torch.isin(mix(images, recipe)[0], images).all()) for _ in range(30)}
    assert pasted == {True, False}
