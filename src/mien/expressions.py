"""The seven expressions, and the label order of every source.

Label orders differ silently between data sets and packages; this module is the one place that knows them.
"""

from enum import StrEnum

from mien.errors import NotFound


class Expression(StrEnum):
    """One of the seven expressions, in FER2013's order: `list(Expression)[label]`."""

    ANGRY = "angry"
    DISGUST = "disgust"
    FEAR = "fear"
    HAPPY = "happy"
    SAD = "sad"
    SURPRISE = "surprise"
    NEUTRAL = "neutral"


EXPRESSIONS: tuple[Expression, ...] = tuple(Expression)

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
        return Expression(_ALIASES.get(word, word))
    except ValueError:
        raise NotFound.named("expression", name, [*EXPRESSIONS, *_ALIASES]) from None


FERPLUS_TO_LABEL: tuple[int, ...] = (6, 3, 5, 4, 0, 1, 2, -1, -1, -1)
"""FER2013 label of each FER+ column; -1 where FER2013 has none (contempt, unknown, NF)."""
