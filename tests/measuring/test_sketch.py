import numpy as np
import pytest

from mien.measuring.sketch import KEPT, joined, share_known, sketch, without

IMAGES = np.random.default_rng(0).integers(0, 256, (4 * KEPT, 6, 6), np.uint8)


def test_few_images_are_known_exactly() -> None:
    known = sketch(IMAGES[:10])
    assert share_known(IMAGES[:40], known) == 0.25
    assert share_known(IMAGES[9::-1], known) == 1
    assert share_known(IMAGES[20:30], known) == 0
    assert share_known(IMAGES[:9], "") is None


def test_of_many_a_sample_tells() -> None:
    known = sketch(IMAGES[: 3 * KEPT])
    assert len(known) == 8 * KEPT
    assert known == sketch(np.concatenate([IMAGES[3 * KEPT - 1 :: -1], IMAGES[:5]]))  # neither order nor twins matter
    assert share_known(IMAGES[2 * KEPT :], known) == pytest.approx(0.5, abs=0.06)
    assert share_known(IMAGES[3 * KEPT :], known) == 0
    assert share_known(IMAGES[: 3 * KEPT], known) == 1
    assert share_known(IMAGES[:1], known) is None  # too few to say


def test_a_small_set_is_not_lost_in_a_large_one() -> None:
    large, small = sketch(IMAGES[: 3 * KEPT]), sketch(IMAGES[3 * KEPT : 3 * KEPT + 20])
    both = joined(small, joined(large, small))
    assert both.count("\n") == 1
    assert without(both, small) == large
    assert joined(small, "") == ""  # of which a part is not known
    assert share_known(IMAGES[3 * KEPT : 3 * KEPT + 40], both) == 0.5
    assert share_known(IMAGES[: 3 * KEPT], both) == 1
