from dataclasses import replace

import numpy as np
import pytest

from mien.expressions import EXPRESSIONS, Expression
from mien.reading.draw import COLOURS, draw
from mien.reading.faces import Face
from mien.reading.recognizer import Reading

LANDMARKS = ((0.0, 0.0),) * 5


def reading(box: tuple[float, float, float, float]) -> Reading:
    share = dict.fromkeys(EXPRESSIONS, 0.05) | {Expression.HAPPY: 0.7}
    return Reading(Face(box, 0.9, LANDMARKS), Expression.HAPPY, 0.7, True, share)


def test_the_picture_itself_is_left_alone() -> None:
    image = np.full((200, 300, 3), 50, np.uint8)
    annotated = draw(image, [reading((100, 50, 60, 80))])
    assert annotated.shape == image.shape
    assert (image == 50).all()
    assert (annotated != 50).any()


def test_the_box_has_the_colour_of_the_expression() -> None:
    annotated = draw(np.zeros((400, 600, 3), np.uint8), [reading((100, 100, 120, 160))])
    assert tuple(annotated[180, 100]) == COLOURS[Expression.HAPPY]  # the middle of the left edge


def test_no_face_changes_nothing() -> None:
    image = np.full((40, 30, 3), 50, np.uint8)
    assert np.array_equal(draw(image, []), image)


@pytest.mark.parametrize(
    "box",
    [
        (-20, -30, 60, 80),  # over the upper left corner
        (280, 180, 60, 80),  # over the lower right corner
        (0, 0, 300, 200),  # the whole picture
        (10, 10, 2, 2),  # a speck
    ],
)
def test_faces_at_the_border_are_drawn(box: tuple[float, float, float, float]) -> None:
    assert (draw(np.zeros((200, 300, 3), np.uint8), [reading(box)]) > 0).any()


def test_an_eighth_expression_has_a_bar_too() -> None:
    picture, face = np.zeros((200, 300, 3), np.uint8), reading((20.0, 20.0, 100.0, 150.0))
    share = face.probabilities | {Expression.CONTEMPT: 0.0}
    assert not np.array_equal(draw(picture, [face]), draw(picture, [replace(face, probabilities=share)]))


def test_every_expression_has_its_own_colour() -> None:
    assert len(set(COLOURS.values())) == len(Expression) == len(COLOURS)


def test_the_bars_leave_the_eyes_of_a_portrait_free() -> None:
    annotated = draw(np.zeros((400, 300, 3), np.uint8), [reading((20.0, 60.0, 260.0, 320.0))])
    assert (annotated[70:220, 30:270] == 0).all()
    assert (annotated[220:370, 30:270] > 0).any()
