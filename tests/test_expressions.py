import pytest

from mien.errors import NotFound
from mien.expressions import EXPRESSIONS, FERPLUS, FERPLUS_TO_LABEL, Expression, answers, parse


def test_order_is_that_of_fer2013() -> None:
    assert EXPRESSIONS == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("Angry", Expression.ANGRY),  # the folder form's capitals
        ("anger", Expression.ANGRY),  # FER+
        (" happiness ", Expression.HAPPY),
        ("Surprised", Expression.SURPRISE),
    ],
)
def test_parse(name: str, expression: Expression) -> None:
    assert parse(name) is expression


def test_parse_refuses_what_is_none_of_the_seven() -> None:
    with pytest.raises(NotFound, match="contempt"):
        parse("contempt")


def test_ferplus_columns_mean_the_same_expression() -> None:
    for column, label in zip(FERPLUS, FERPLUS_TO_LABEL, strict=True):
        if label >= 0:
            assert parse(column) is EXPRESSIONS[label]
        else:
            assert column in {"contempt", "unknown", "NF"}


def test_contempt_comes_last_and_for_ferplus_alone() -> None:
    assert tuple(Expression) == (*EXPRESSIONS, "contempt")
    assert answers("fer2013") == EXPRESSIONS
    assert answers("ferplus") == answers("ferplus-votes") == tuple(Expression)
