from contextlib import ExitStack

import pytest

from mien.errors import Damaged, InputError, MienError, NotAnImage, TooManyPixels
from mien.web.limits import Allowance, Limits, Refusal, of_image, too_large


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotAnImage("is no image"), 415, "not_an_image"),
        (TooManyPixels("has 9 x 9 pixels"), 422, "too_many_pixels"),
        (Damaged("breaks off"), 422, "damaged_image"),
        (InputError("floating point"), 422, "unreadable_image"),
    ],
)
def test_what_an_image_is_refused_for(error: MienError, status: int, code: str) -> None:
    refusal = of_image(error)
    assert (refusal.status, refusal.code, refusal.message) == (status, code, str(error))
    assert refusal.hint


def test_an_allowance_is_taken_before_it_is_used() -> None:
    """So that images that are decoded at the same time cannot have more together than one after the other."""
    allowance = Allowance(Limits(pixels=100))
    with ExitStack() as at_once:
        assert [at_once.enter_context(allowance.taken(100)) for _ in range(4)] == [100] * 4
        with pytest.raises(Refusal, match="400 pixels together"), allowance.taken(100):
            raise TooManyPixels("as decoding does for more than it may have")
    allowance = Allowance(Limits(pixels=100))
    for _ in range(9):
        with pytest.raises(Damaged), allowance.taken(100):
            raise Damaged("breaks off")
    with allowance.taken(100) as most:
        assert most == 100


def test_a_refusal_is_one_of_our_errors_and_an_answer() -> None:
    refusal = too_large(1_000)
    assert isinstance(refusal, MienError)
    assert isinstance(refusal, Refusal)
    assert "1,000" in str(refusal)
    assert refusal.to_object() == {
        "error": {"code": "body_too_large", "message": refusal.message, "hint": refusal.hint}
    }
