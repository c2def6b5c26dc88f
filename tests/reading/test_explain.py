from pathlib import Path

import numpy as np
import pytest

from conftest import linear_model
from mien.errors import InputError, NotFound
from mien.expressions import EXPRESSIONS, Expression
from mien.reading.explain import draw_map, occlusion_map
from mien.reading.faces import Face, crop
from mien.reading.images import open_image
from mien.reading.recognizer import Card, Reading, Recognizer, load_model


class Patch:
    """Happy as far as one patch is bright, angry as far as another one is."""

    def probabilities(self, faces: np.ndarray) -> np.ndarray:
        level = np.full((len(faces), 7), -1.0)
        level[:, EXPRESSIONS.index(Expression.HAPPY)] = faces[:, 30:38, 8:16].mean((1, 2)) / 50
        level[:, EXPRESSIONS.index(Expression.ANGRY)] = faces[:, 6:14, 32:40].mean((1, 2)) / 50
        powers = np.exp(level)
        return powers / powers.sum(1, keepdims=True)


@pytest.fixture
def face() -> np.ndarray:
    """Grey noise, with both patches bright, the happy one most."""
    face = np.random.default_rng(3).integers(60, 120, (48, 48)).astype(np.uint8)
    face[30:38, 8:16], face[6:14, 32:40] = 220, 180
    return face


def test_the_map_peaks_where_the_answer_comes_from(face: np.ndarray) -> None:
    weights = occlusion_map(Patch(), face)
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    assert 28 <= row < 40
    assert 6 <= column < 18
    row, column = np.unravel_index(weights.argmin(), weights.shape)  # what speaks for another answer
    assert 4 <= row < 16
    assert 30 <= column < 42
    elsewhere = weights[20:28, 20:28]
    assert np.abs(elsewhere).max() < weights.max() / 4


def test_another_expression_can_be_asked_about(face: np.ndarray) -> None:
    weights = occlusion_map(Patch(), face, Expression.ANGRY)
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    assert 4 <= row < 16
    assert 30 <= column < 42


def test_contempt_is_explained_by_a_network_that_knows_it(face: np.ndarray, tmp_path: Path) -> None:
    weights = np.zeros((48, 48, 8))
    weights[30:38, 8:16, 7] = 1e-3
    card = Card("eight", tuple(Expression), (1.0,) * 8, (0.0,) * 8, 0.0, "{}", {}, "none", "", (0.0,) * 8)
    recognizer = Recognizer(linear_model(tmp_path / "eight.onnx", weights.reshape(-1, 8), **card.to_metadata()))
    assert recognizer.labels[int(recognizer.probabilities(face[None])[0].argmax())] == Expression.CONTEMPT
    found = occlusion_map(recognizer, face, Expression.CONTEMPT)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert 28 <= row < 40
    assert 6 <= column < 18
    with pytest.raises(InputError, match=r"does not know contempt; name one of angry, .* neutral$"):
        occlusion_map(Patch(), face, Expression.CONTEMPT)


def test_the_same_seed_gives_the_same_map_and_another_one_nearly(face: np.ndarray) -> None:
    weights = occlusion_map(Patch(), face)
    assert np.array_equal(weights, occlusion_map(Patch(), face))
    other = occlusion_map(Patch(), face, seed=1)
    assert not np.array_equal(weights, other)
    assert np.corrcoef(weights.ravel(), other.ravel())[0, 1] > 0.95


def test_a_smile_is_in_the_mouth_and_the_cheeks(collins: Path) -> None:
    image = open_image(collins)
    recognizer = load_model()
    (reading,) = recognizer.read_image(image)
    weights = occlusion_map(recognizer, crop(image, reading.face))
    mouth, top = weights[30:42, 10:38], weights[:10]
    assert mouth.mean() > 4 * abs(top.mean())
    assert 26 <= np.unravel_index(weights.argmax(), weights.shape)[0] < 46


def test_masks_come_in_pairs(face: np.ndarray) -> None:
    with pytest.raises(InputError, match="even number from 2 on, but is 7"):
        occlusion_map(Patch(), face, masks=7)


def test_what_is_no_face_or_expression_is_told(face: np.ndarray) -> None:
    with pytest.raises(NotFound, match=r"hapy.* did you mean 'happy'"):
        occlusion_map(Patch(), face, "hapy")


def test_the_picture_shows_face_and_map_side_by_side(face: np.ndarray) -> None:
    weights = np.zeros((48, 48), np.float32)
    weights[10:20, 10:20], weights[30:40, 30:40] = 1, -1
    share = dict.fromkeys(EXPRESSIONS, 1 / 7)
    reading = Reading(Face((0, 0, 9, 9), 0.9, ()), Expression.SAD, 0.5, True, share, ("dark",))
    picture = draw_map(face, weights, reading)
    assert picture.dtype == np.uint8
    left, right = picture[40:328, 20:308].astype(int), picture[40:328, 328:616].astype(int)
    assert np.array_equal(left[..., 0], left[..., 2])  # grey
    for row, column, warm in ((15, 15, 1), (35, 35, -1), (5, 40, 0)):
        red, _, blue = right[6 * row + 3, 6 * column + 3]
        assert np.sign(red - blue) == warm
    plain = draw_map(face, weights, Reading(reading.face, Expression.SAD, 0.5, False, share))
    assert not np.array_equal(picture[:40], plain[:40])  # the caption says what is wrong
