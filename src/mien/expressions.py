"""The seven expressions and an eighth, and the label order of every source.

Label orders differ silently between data sets and packages; this module is the one place that knows them.
"""

from enum import StrEnum
from typing import Literal

from mien.errors import NotFound


class Expression(StrEnum):
    """An expression: the seven in FER2013's order, then contempt, which only FER+ knows.

    A network of seven labels answers the first seven, one of eight all of them: `list(Expression)[label]`.
    """

    ANGRY = "angry"
    DISGUST = "disgust"
    FEAR = "fear"
    HAPPY = "happy"
    SAD = "sad"
    SURPRISE = "surprise"
    NEUTRAL = "neutral"
    CONTEMPT = "contempt"


EXPRESSIONS: tuple[Expression, ...] = tuple(Expression)[:7]
"""The seven of FER2013 and of every network that learned its labels."""

FERPLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
"""The vote columns of FER+ in their order; `unknown` and `NF` (no face) are answers too.

Source: https://github.com/microsoft/FERPlus (fer2013new.csv).
"""

_ALIASES = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}


def parse(name: str) -> Expression:
    """The expression that a label, folder or column name means, whatever its case.

    Raises:
        NotFound: The name means none of the seven.
    """
    word = name.strip().lower()
    try:
        return EXPRESSIONS[EXPRESSIONS.index(_ALIASES.get(word, word))]
    except ValueError:
        raise NotFound.named("expression", name, [*EXPRESSIONS, *_ALIASES]) from None


FERPLUS_TO_LABEL: tuple[int, ...] = (6, 3, 5, 4, 0, 1, 2, -1, -1, -1)
"""FER2013 label of each FER+ column; -1 where FER2013 has none (contempt, unknown, NF)."""

Labels = Literal["fer2013", "ferplus", "ferplus-votes"]
"""Whose labels: FER2013's own, the majority of the FER+ votes, or their distribution (`mien.measuring.ferplus`)."""


def answers(labels: Labels) -> tuple[Expression, ...]:
    """The expressions that a network answers which learned such labels."""
    return EXPRESSIONS if labels == "fer2013" else tuple(Expression)
