import numpy as np
import pytest

from mien.errors import NotFound
from mien.measuring.corruptions import CORRUPTIONS, corrupt


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Six made-up pictures with soft shapes and fine ones, from dark to bright."""
    y, x = np.mgrid[:48, :48]
    shapes = np.stack([np.sin(x / (2 + k)) * np.cos(y / (3 + k)) for k in range(6)])
    return (128 + 20 * np.arange(-3, 3)[:, None, None] + 60 * shapes).clip(0, 255).astype(np.uint8)


def damage(images: np.ndarray, worse: np.ndarray) -> float:
    return float(np.abs(images.astype(float) - worse).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_stronger_is_worse_and_the_same_seed_is_the_same(name: str, images: np.ndarray) -> None:
    steps = [corrupt(images, name, strength) for strength in CORRUPTIONS[name].strengths]
    found = [damage(images, worse) for worse in steps]
    assert found[0] > 0
    assert found == sorted(found)
    assert all(worse.dtype == np.uint8 and worse.shape == images.shape for worse in steps)
    assert np.array_equal(corrupt(images, name, CORRUPTIONS[name].strengths[2]), steps[2])


@pytest.mark.parametrize("name", ["motion blur", "noise", "rotation", "shift", "occlusion"])
def test_another_seed_draws_otherwise(name: str, images: np.ndarray) -> None:
    strength = CORRUPTIONS[name].strengths[2]
    assert not np.array_equal(corrupt(images, name, strength, seed=1), corrupt(images, name, strength))


def test_light_is_cut_off_at_white_and_does_not_wrap_around(images: np.ndarray) -> None:
    assert np.array_equal(corrupt(images, "brighter", 2), np.minimum(255, images.astype(int) * 2))
    assert np.array_equal(corrupt(images, "darker", 0.5), np.rint(images * 0.5))


def test_strengths_mean_what_their_units_say() -> None:
    dot = np.zeros((1, 48, 48), np.uint8)
    dot[0, 24, 24] = 255
    assert np.sqrt(corrupt(dot, "gaussian blur", 2)[0].max() ** -1.0 * 255 / (2 * np.pi)) == pytest.approx(2, rel=0.05)
    line = corrupt(dot, "motion blur", 9)[0]
    reach = np.argwhere(line > 10)
    assert np.hypot(*(reach.max(0) - reach.min(0))) == pytest.approx(9, abs=1.5)
    grey = np.full((200, 48, 48), 128, np.uint8)
    assert corrupt(grey, "noise", 10).std() == pytest.approx(10, rel=0.02)
    assert ((corrupt(grey - 100, "occlusion", 12) == 128).sum((1, 2)) == 144).all()
    edge = np.zeros((1, 48, 48), np.uint8)
    edge[:, :, 24:] = 200
    moved = corrupt(np.repeat(edge, 50, 0), "shift", 6)
    assert np.abs((moved > 100)[:, 24].argmax(1) - 24).max() == 6


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(NotFound, match="did you mean 'noise'"):
        corrupt(np.zeros((1, 48, 48), np.uint8), "nose", 1)
