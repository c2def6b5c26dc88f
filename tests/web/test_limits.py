import pytest

from mien.errors import Damaged, InputError, MienError, NotAnImage, TooManyPixels
from mien.web.limits import Refusal, of_image, too_large


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


def test_a_refusal_is_one_of_our_errors_and_an_answer() -> None:
    refusal = too_large(1_000)
    assert isinstance(refusal, MienError)
    assert isinstance(refusal, Refusal)
    assert "1,000" in str(refusal)
    assert refusal.to_object() == {
        "error": {"code": "body_too_large", "message": refusal.message, "hint": refusal.hint}
    }
