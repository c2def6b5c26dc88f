import pytest

from mien.errors import (
    Damaged,
    FileError,
    InputError,
    MienError,
    MissingExtra,
    NotAnImage,
    NotFound,
    TooManyPixels,
    TrainingDiverged,
)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (InputError, ValueError),
        (NotFound, LookupError),
        (FileError, OSError),
        (TooManyPixels, InputError),
        (NotAnImage, Damaged),
        (Damaged, ValueError),
        (MissingExtra, ImportError),
        (TrainingDiverged, ArithmeticError),
    ],
)
def test_every_error_is_ours_and_a_builtin(kind: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(kind, MienError)
    assert issubclass(kind, builtin)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("alexnt", "did you mean 'alexnet'?"),  # a slip
        ("zzz", "known: alexnet, paul"),  # nothing near: the list alone
    ],
)
def test_unknown_names_suggest(name: str, hint: str) -> None:
    assert hint in str(NotFound.named("recipe", name, ["alexnet", "paul"]))


def test_missing_extra_says_how_to_install() -> None:
    assert "pip install 'mien[lab]'" in str(MissingExtra.of("lab", "training"))
