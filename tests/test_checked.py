from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pytest

from mien.checked import Checked, Count, NotNegative, Share
from mien.errors import InputError


@dataclass(frozen=True)
class Some(Checked):
    count: Count = 1
    seconds: NotNegative = 0.5
    share: Share | None = None
    word: Literal["auto"] | Annotated[int, "[1, 8)"] = "auto"
    names: tuple[str, ...] = ()


def test_what_fits_is_taken() -> None:
    Some(count=0, seconds=3, share=1.0, word=7, names=("a", "b"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("count", -1, r"Some.count takes int in \[0, inf\), but got -1"),
        ("count", True, "count"),
        ("count", 1 << 63, "count"),
        ("seconds", float("nan"), "seconds"),
        ("seconds", float("inf"), "seconds"),
        ("seconds", 1e39, "seconds"),
        ("seconds", "1", "seconds"),
        ("share", 1.01, r"float in \[0, 1\] or null"),
        ("word", 8, r"one of auto or int in \[1, 8\)"),
        ("names", ["a"], "a list of str"),
        ("names", ("a", 1), "names"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused_however_it_is_made(field: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Some(**{field: value})
    with pytest.raises(InputError, match=message):
        replace(Some(), **{field: value})
