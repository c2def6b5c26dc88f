"""Frozen values that keep to their annotations, however they are made.

    @dataclass(frozen=True)
    class Options(Checked):
        epochs: Count = 20
        rate: Annotated[float, "(0, 1]"] = 0.1
"""

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from mien.errors import InputError

_LARGEST = 3.4e38  # what a float of 32 bits holds

# A number's interval stands in its annotation, a round bracket where the end is left out.
Count = Annotated[int, "[0, inf)"]
Positive = Annotated[float, "(0, inf)"]
NotNegative = Annotated[float, "[0, inf)"]
Share = Annotated[float, "[0, 1]"]
Inside = Annotated[float, "(0, 1)"]
Below = Annotated[float, "[0, 1)"]


class Checked:
    """Values that keep to their annotations however they are made: by hand, by `replace`, from text or JSON."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            if not _fits(value := getattr(self, name), hint):
                raise InputError(f"{type(self).__name__}.{name} takes {_words(hint)}, but got {value!r}")


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(value, inner[0]) and _within(value, inner[1])
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(one, inner[0]) for one in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
    return isinstance(value, hint)


def _within(value: float, interval: str) -> bool:
    low, high = map(float, interval[1:-1].split(","))
    above = low <= value if interval[0] == "[" else low < value
    return above and (value <= high if interval[-1] == "]" else value < high)


def _words(hint: Any) -> str:
    """A field's annotation as a message says it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{_words(inner[0])} in {inner[1]}"
    if origin in (Union, UnionType):
        return " or ".join(map(_words, inner))
    if origin is Literal:
        return "one of " + ", ".join(inner)
    if origin is tuple:
        return f"a list of {_words(inner[0])}, as [\"a\", \"b\"]"
    return "null" if hint is type(None) else str(hint.__name__)
