"""The exceptions mien raises on purpose.

MienError
 ├── InputError (ValueError)          an argument is not what the function takes
 │    └── TooManyPixels               an image is larger than its reader allows
 ├── NotFound (LookupError)           no recipe, model, split ... of that name
 ├── FileError (OSError)              a file is missing or may not be read or written
 ├── Damaged (ValueError)             a file was read, but its content is not what it should be
 │    ├── BreaksOff                  it ends before its end
 │    └── NotAnImage                  it is of no image format that is known
 ├── MissingExtra (ImportError)       an optional dependency is not installed
 ├── ParityError (ArithmeticError)    an exported file does not compute what the network computes
 └── TrainingDiverged (ArithmeticError)

What never leaves its module stands there.

A message says what was expected, what came, and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec


class MienError(Exception):
    """Base of all errors of this package."""


class InputError(MienError, ValueError):
    """An argument is not what the function takes."""


class TooManyPixels(InputError):
    """An image is larger than its reader allows."""


class NotFound(MienError, LookupError):
    """A name that stands for nothing here."""

    @classmethod
    def named(cls, kind: str, name: str, known: Iterable[str]) -> "NotFound":
        """The error for an unknown `name`, with the closest known one suggested."""
        names = [str(each) for each in known]
        close = get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return cls(f"there is no {kind} {name!r}; {hint}known: {', '.join(names) or 'none'}")


class FileError(MienError, OSError):
    """A file is missing, or may not be read or written."""


class Damaged(MienError, ValueError):
    """A file was read, but its content is not what it should be."""


class BreaksOff(Damaged):
    """It ends before its end; what came before was read."""


class NotAnImage(Damaged):
    """The content is of no image format that is known."""


class MissingExtra(MienError, ImportError):
    """An optional dependency is not installed."""


class ParityError(MienError, ArithmeticError):
    """An exported file does not compute what the network computes."""


class TrainingDiverged(MienError, ArithmeticError):
    """The loss is no longer a finite number."""


def need_extra(extra: str, purpose: str, *modules: str) -> None:
    """Refuse, before long work, what optional dependencies are missing for.

    Args:
        extra: Of this package, whose installation brings them.
        purpose: What they are for: the subject of the message.
        modules: Names to import them by.

    Raises:
        MissingExtra: One of them is not installed.
    """
    if missing := [name for name in modules if find_spec(name) is None]:
        raise MissingExtra(
            f"{purpose} needs the {extra!r} extra ({', '.join(missing)} not found); install it with: "
            f"pip install 'mien[{extra}]'"
        )
