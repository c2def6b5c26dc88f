import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mien
from conftest import linear_model
from mien.errors import Damaged, FileError, InputError, NotFound
from mien.expressions import EXPRESSIONS, Expression
from mien.reading.faces import Face
from mien.reading.recognizer import Card, Recognizer, load_model, model_files, probe_image, read

ALPHABETICAL = tuple(sorted(EXPRESSIONS))
CARD = Card(
    name="linear",
    labels=ALPHABETICAL,
    temperature=2.0,
    threshold=0.5,
    recipe="{}",
    scores={},
    licence="none",
    data_sha256="",
    probe=(0.0,) * 7,
)


def bright(path: Path, card: Card = CARD) -> Path:
    """A network whose output k grows with the brightness of columns 6k to 6k + 5; labels in alphabetical order."""
    weights = np.zeros((48, 48, 7))
    for k in range(7):
        weights[:, 6 * k : 6 * k + 6, k] = 1 / (48 * 6 * 25)
    return linear_model(path, weights.reshape(-1, 7), **card.to_metadata())


def stripe(k: int) -> np.ndarray:
    face = np.zeros((1, 48, 48), np.uint8)
    face[:, :, 6 * k : 6 * k + 6] = 100
    return face


def test_outputs_come_in_the_one_order_whatever_the_file_has(tmp_path: Path) -> None:
    recognizer = Recognizer(bright(tmp_path / "m.onnx"))
    for k, expression in enumerate(ALPHABETICAL):
        row = recognizer.probabilities(stripe(k))[0]
        assert EXPRESSIONS[row.argmax()] == expression
        assert row.sum() == pytest.approx(1)


def test_temperature_divides_the_logits(tmp_path: Path) -> None:
    recognizer = Recognizer(bright(tmp_path / "m.onnx"))
    assert recognizer.logits(stripe(0)).max() == pytest.approx(4)
    assert recognizer.probabilities(stripe(0)).max() == pytest.approx(np.exp(2) / (np.exp(2) + 6), rel=1e-5)


def test_mirror_averages_two_views(tmp_path: Path) -> None:
    path = bright(tmp_path / "m.onnx")
    single, both = Recognizer(path), Recognizer(path, views="mirror")
    face = stripe(0)
    expected = (single.probabilities(face) + single.probabilities(face[:, :, ::-1].copy())) / 2
    assert both.probabilities(face) == pytest.approx(expected)


def test_no_faces_give_no_rows(tmp_path: Path) -> None:
    assert Recognizer(bright(tmp_path / "m.onnx")).probabilities(np.empty((0, 48, 48), np.uint8)).shape == (0, 7)


@pytest.mark.parametrize(
    "faces",
    [
        np.zeros((1, 48, 48), np.float32),  # another type
        np.zeros((48, 48), np.uint8),  # no batch
        np.zeros((1, 64, 64), np.uint8),  # another size
        [[0]],  # no array
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_other_arrays_are_refused(tmp_path: Path, faces: object) -> None:
    with pytest.raises(InputError, match=r"expected grey faces as uint8 \(B, 48, 48\), but got"):
        Recognizer(bright(tmp_path / "m.onnx")).probabilities(faces)  # type: ignore[arg-type]


class OneFace:
    """A detector that sees one face where a test says."""

    def __init__(self, box: tuple[float, float, float, float]) -> None:
        x, y, w, h = box
        points = ((0.31, 0.40), (0.69, 0.40), (0.50, 0.60), (0.36, 0.76), (0.66, 0.75))
        self.face = Face(box, 0.9, tuple((x + w * px, y + h * py) for px, py in points))

    def find(self, image: np.ndarray) -> list[Face]:
        return [self.face]


@pytest.mark.parametrize(
    ("box", "flags"),
    [
        ((50, 50, 80, 96), ()),
        ((50, 50, 20, 24), ("small",)),  # fewer pixels than the network takes
        ((-10, 50, 80, 96), ("cut",)),  # over the left border
        ((180, 180, 30, 36), ("small", "cut")),
    ],
)
def test_flags(tmp_path: Path, box: tuple[float, float, float, float], flags: tuple[str, ...]) -> None:
    recognizer = Recognizer(bright(tmp_path / "m.onnx"))
    recognizer.detector = OneFace(box)
    (reading,) = recognizer.read(np.full((200, 200, 3), 90, np.uint8))
    assert reading.flags == flags


def test_uncertain_is_below_the_threshold(tmp_path: Path) -> None:
    for threshold, uncertain in ((0.1, False), (0.99, True)):
        recognizer = Recognizer(bright(tmp_path / "m.onnx", replace(CARD, threshold=threshold)))
        recognizer.detector = OneFace((50, 50, 80, 96))
        (reading,) = recognizer.read(np.full((200, 200, 3), 90, np.uint8))
        assert reading.uncertain is uncertain
        assert reading.confidence == max(reading.probabilities.values())


def test_card_survives_the_file(tmp_path: Path) -> None:
    assert Recognizer(bright(tmp_path / "m.onnx")).card == CARD


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "is no model of this package"),  # another program's model
        ({"temperature": "warm"}, "metadata .* are damaged"),
        ({"temperature": "-1"}, "temperature above 0"),
        ({"temperature": "inf"}, "temperature above 0"),
        ({"temperature": "1e-300"}, "temperature above 0"),
        ({"threshold": "nan"}, r"threshold in \[0, 1\]"),
        ({"probe": "[]"}, "probe of seven"),
        ({"probe": "[NaN, 0, 0, 0, 0, 0, 0]"}, "probe of seven"),
        ({"probe": f"[{'9' * 400}, 0, 0, 0, 0, 0, 0]"}, "metadata .* are damaged"),
        ({"probe": "[" * 100_000}, "nested too deeply"),
        ({"scores": "[]"}, "scores"),
        ({"scores": '{"PublicTest": NaN}'}, "metadata .* are damaged"),
        ({"precision": "int1"}, "precision of float32 or int8"),
        ({"labels": json.dumps(ALPHABETICAL[:6])}, "seven expressions"),
        ({"labels": '["grin"]'}, "metadata .* are damaged"),
        ({"scores": "{"}, "metadata .* are damaged"),
    ],
)
def test_models_with_wrong_metadata_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    path = linear_model(tmp_path / "m.onnx", **CARD.to_metadata() | changes)
    with pytest.raises(Damaged, match=message):
        Recognizer(path)


def test_files_that_are_no_models_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(Damaged, match="not an ONNX model"):
        load_model(tmp_path / "text.onnx")
    with pytest.raises(FileError, match="cannot read .*missing.onnx"):
        load_model(tmp_path / "missing.onnx")
    with pytest.raises(NotFound, match="did you mean 'mien-small'"):
        load_model("mien-smal")
    assert capfd.readouterr().err == ""


def test_unknown_views_and_providers_are_refused(tmp_path: Path) -> None:
    path = bright(tmp_path / "m.onnx")
    with pytest.raises(InputError, match="single, mirror, but is 'ten'"):
        Recognizer(path, views="ten")
    with pytest.raises(InputError, match="ONNX Runtime has no TPU"):
        Recognizer(path, providers=["TPU"])


@pytest.mark.parametrize("name", model_files())
def test_shipped_models_compute_their_known_answer(name: str) -> None:
    recognizer = load_model(name)
    assert recognizer.name == name
    assert recognizer.self_test() < 1e-3
    assert recognizer.card.labels == EXPRESSIONS
    assert 0 < recognizer.card.threshold < 1
    assert recognizer.probabilities(probe_image()[None].repeat(3, 0)).shape == (3, 7)


def test_the_two_lines_of_the_readme(collins: Path) -> None:
    (reading,) = mien.read(collins)
    assert reading.expression is Expression.HAPPY
    assert reading.confidence > 0.7
    assert not reading.uncertain
    assert sum(reading.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_a_picture_without_a_face_is_an_empty_list() -> None:
    assert read(np.full((300, 400, 3), 128, np.uint8)) == []


def test_a_data_set_image_through_the_app_gets_the_offline_answer(fer2013: Path) -> None:
    """Rows pasted into larger pictures, found and cropped again, are read as the direct path reads them."""
    from mien.measuring.data import load

    faces = load(fer2013).split("PublicTest")
    recognizer = load_model()
    chosen = faces.images[:150]
    direct = recognizer.probabilities(chosen).argmax(1)
    same, found = 0, 0
    for image, answer in zip(chosen, direct, strict=True):
        canvas = np.full((240, 320, 3), 128, np.uint8)
        canvas[60:180, 100:220] = np.kron(image, np.ones((5, 5), np.uint8))[::2, ::2, None]
        readings = recognizer.read(canvas)
        if readings:
            found += 1
            same += EXPRESSIONS.index(readings[0].expression) == answer
    assert found > 0.85 * len(chosen)
    assert same > 0.75 * found
