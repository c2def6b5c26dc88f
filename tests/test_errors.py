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
    need_extra,
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
    need_extra("lab", "training", "json", "numpy")
    with pytest.raises(MissingExtra, match=r"training needs .*\(nothere, nor_there not found\).* 'mien\[lab\]'"):
        need_extra("lab", "training", "json", "nothere", "nor_there")
