import numpy as np
import pytest

from mien.measuring.sketch import KEPT, share_known, sketch

IMAGES = np.random.default_rng(0).integers(0, 256, (4 * KEPT, 6, 6), np.uint8)


def test_few_images_are_known_exactly() -> None:
    known = sketch(IMAGES[:10])
    assert share_known(IMAGES[:40], known) == 0.25
    assert share_known(IMAGES[9::-1], known) == 1
    assert share_known(IMAGES[:0], known) == share_known(IMAGES[:9], "") == 0


def test_of_many_a_sample_tells() -> None:
    known = sketch(IMAGES[: 3 * KEPT])
    assert len(known) == 8 * KEPT
    assert known == sketch(np.concatenate([IMAGES[3 * KEPT - 1 :: -1], IMAGES[:5]]))  # neither order nor twins matter
    assert share_known(IMAGES[2 * KEPT :], known) == pytest.approx(0.5, abs=0.06)
    assert share_known(IMAGES[3 * KEPT :], known) == 0
    assert share_known(IMAGES[: 3 * KEPT], known) == 1


def test_sketches_of_parts_make_that_of_the_whole() -> None:
    parts = [sketch(IMAGES[:2000]), sketch(IMAGES[2000:2100])]
    assert sketch(IMAGES[2100:], *parts) == sketch(IMAGES)
