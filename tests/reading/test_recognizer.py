import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import mien
from conftest import linear_model
from mien.errors import Damaged, FileError, InputError, NotFound
from mien.expressions import EXPRESSIONS, Expression
from mien.reading.faces import CenterFace, Face
from mien.reading.recognizer import VIEWS, Card, Recognizer, load_model, model_files, need_seven, probe_image, read
from mien.reading.runtime import MAX_THREADS

MEMBER = {"name": "a", "precision": "int8", "recipe": {}, "trainings": [], "data_sha256": ""}
CARD = Card(
    name="linear",
    labels=EXPRESSIONS,
    temperatures=(2.0,) * 7,
    biases=(0.0,) * 7,
    threshold=0.5,
    recipe="{}",
    scores={},
    licence="none",
    data_sha256="",
    probe=(0.0,) * 7,
)


def bright(path: Path, card: Card = CARD) -> Path:
    """A network whose output k grows with the brightness of columns 6k to 6k + 5."""
    weights = np.zeros((48, 48, 7))
    for k in range(7):
        weights[:, 6 * k : 6 * k + 6, k] = 1 / (48 * 6 * 25)
    return linear_model(path, weights.reshape(-1, 7), **card.to_metadata())


def stripe(k: int) -> np.ndarray:
    face = np.zeros((1, 48, 48), np.uint8)
    face[:, :, 6 * k : 6 * k + 6] = 100
    return face


def test_each_output_is_one_expressions(tmp_path: Path) -> None:
    recognizer = Recognizer(bright(tmp_path / "m.onnx"))
    for k in range(len(EXPRESSIONS)):
        row = recognizer.probabilities(stripe(k))[0]
        assert row.argmax() == k
        assert row.sum() == pytest.approx(1)


def test_temperatures_divide_the_logits_and_biases_are_added(tmp_path: Path) -> None:
    recognizer = Recognizer(bright(tmp_path / "m.onnx"))
    assert recognizer.logits(stripe(0)).max() == pytest.approx(4)
    assert recognizer.probabilities(stripe(0)).max() == pytest.approx(np.exp(2) / (np.exp(2) + 6), rel=1e-5)
    card = replace(CARD, temperatures=(4.0, *CARD.temperatures[1:]), biases=(0.5, *CARD.biases[1:]))
    own = Recognizer(bright(tmp_path / "own.onnx", card))
    row = own.probabilities(stripe(0))[0]
    assert row[0] == pytest.approx(np.exp(1.5) / (np.exp(1.5) + 6), rel=1e-5)
    assert row[1] == pytest.approx(1 / (np.exp(1.5) + 6), rel=1e-5)


def test_mirror_averages_two_views(tmp_path: Path) -> None:
    path = bright(tmp_path / "m.onnx")
    single, both = Recognizer(path), Recognizer(path, views="mirror")
    face = stripe(0)
    expected = (single.probabilities(face) + single.probabilities(face[:, :, ::-1].copy())) / 2
    assert both.probabilities(face) == pytest.approx(expected)


def test_ten_views_average_five_places_and_their_mirror_images(tmp_path: Path) -> None:
    path = bright(tmp_path / "m.onnx")
    single, ten = Recognizer(path), Recognizer(path, views="ten")
    faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48)).astype(np.uint8)
    padded = np.pad(faces, ((0, 0), (3, 3), (3, 3)), "edge")
    places = [padded[:, top : top + 48, left : left + 48] for top, left in ((3, 3), (0, 3), (6, 3), (3, 0), (3, 6))]
    views = [view for place in places for view in (place, place[:, :, ::-1])]
    expected = np.mean([single.probabilities(np.ascontiguousarray(view)) for view in views], 0)
    assert ten.probabilities(faces) == pytest.approx(expected, abs=1e-6)
    many = np.repeat(faces, 100, 0)  # more than go through the network at once
    assert ten.probabilities(many)[::100] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("views", VIEWS)
def test_many_faces_go_through_the_network_in_batches(views: str, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (7, 48, 48), np.uint8)
    model, sizes = load_model(views=views), []
    expected, run = model.probabilities(faces), model._session.run

    def note(names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        sizes.append(len(feed["faces"]))
        return run(names, feed)

    monkeypatch.setattr("mien.reading.recognizer._BATCH", 3)
    model._session = SimpleNamespace(run=note)
    np.testing.assert_allclose(model.probabilities(faces), expected, atol=1e-5)
    assert max(sizes) == 3


def test_threads_are_those_of_the_detector_too() -> None:
    for threads in (1, 3):
        options = load_model(threads=threads).detector._session.get_session_options()
        assert options.intra_op_num_threads == threads


@pytest.mark.parametrize("threads", [-1, MAX_THREADS + 1])
def test_threads_out_of_range_are_refused_at_once(threads: int) -> None:
    said = rf"threads should be a whole number from 0 \(one a core\) to 1024, but is {threads}"
    with pytest.raises(InputError, match=said):
        load_model(threads=threads)


def test_it_can_be_pickled_and_copied(collins: Path) -> None:
    """Pools of processes pass it on."""
    recognizer = load_model(views="mirror", threads=1)
    recognizer.detector = CenterFace(side=480, min_score=0.6, threads=1)
    for other in (pickle.loads(pickle.dumps(recognizer)), copy.deepcopy(recognizer)):
        assert (other.views, other.detector.side, other.detector.min_score) == ("mirror", 480, 0.6)
        assert other.read(collins) == recognizer.read(collins)


class Upper(CenterFace):
    """Another detector than its parent."""


def test_a_copy_is_of_the_same_kind() -> None:
    assert type(copy.deepcopy(Upper(threads=1))) is Upper


def test_no_faces_give_no_rows(tmp_path: Path) -> None:
    for views in VIEWS:
        recognizer = Recognizer(bright(tmp_path / "m.onnx"), views=views)
        assert recognizer.probabilities(np.empty((0, 48, 48), np.uint8)).shape == (0, 7)


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
    for views in VIEWS:
        recognizer = Recognizer(bright(tmp_path / "m.onnx"), views=views)
        with pytest.raises(InputError, match=r"expected grey faces as uint8 \(B, 48, 48\), but got"):
            recognizer.probabilities(faces)  # type: ignore[arg-type]


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_model_is_told() -> None:
    with pytest.raises(InputError, match="expected a model by name or the path of an .onnx file, but got int"):
        load_model(3)  # type: ignore[arg-type]


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
        ((50, 50, 16, 20), ("small",)),
        ((-10, 50, 80, 96), ()),  # a little over the left border
        ((-50, 50, 80, 96), ("cut",)),
        ((192, 192, 16, 20), ("small", "cut")),
    ],
)
def test_flags(tmp_path: Path, box: tuple[float, float, float, float], flags: tuple[str, ...]) -> None:
    recognizer = Recognizer(bright(tmp_path / "m.onnx"))
    recognizer.detector = OneFace(box)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 1), np.uint8)
    (reading,) = recognizer.read(noise.repeat(3, 2))
    assert tuple(flag for flag in reading.flags if flag in {"small", "cut"}) == flags


def test_flags_ask_for_more_confidence(tmp_path: Path) -> None:
    """Just enough for a face that nothing is wrong with is too little for the same face in flat white."""
    path = bright(tmp_path / "m.onnx")
    row = Recognizer(path).probabilities(stripe(0)[:1])[0]
    recognizer = Recognizer(bright(path, replace(CARD, threshold=float(row.max()) - 0.001)))
    sharp, white = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8), np.full((48, 48), 255, np.uint8)
    face = OneFace((50, 50, 80, 96)).face
    readings = [recognizer.reading(face, crop, row, 200, 200) for crop in (sharp, white)]
    assert [reading.flags for reading in readings] == [(), ("blurred", "bright")]
    assert [reading.uncertain for reading in readings] == [False, True]


def test_uncertain_is_below_the_threshold(tmp_path: Path) -> None:
    for threshold, uncertain in ((0.1, False), (0.99, True)):
        recognizer = Recognizer(bright(tmp_path / "m.onnx", replace(CARD, threshold=threshold)))
        recognizer.detector = OneFace((50, 50, 80, 96))
        (reading,) = recognizer.read(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
        assert reading.uncertain is uncertain
        assert reading.confidence == max(reading.probabilities.values())


def test_card_survives_the_file(tmp_path: Path) -> None:
    assert Recognizer(bright(tmp_path / "m.onnx")).card == CARD


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "is no model of this package"),  # another program's model
        ({"temperatures": "warm"}, "metadata .* are damaged"),
        ({"temperatures": "[1, 1, 1, 1, 1, 1, -1]"}, "temperatures above 0"),
        ({"temperatures": "[1, 1, 1, 1, 1, 1, Infinity]"}, "temperatures above 0|are damaged"),
        ({"temperatures": "[1, 1, 1, 1, 1, 1, 1e-300]"}, "temperatures above 0"),
        ({"biases": "[0]"}, "a bias and a logit of the probe for each label"),
        ({"biases": "[0, 0, 0, 0, 0, 0, 1e300]"}, "finite biases"),
        ({"threshold": "nan"}, r"threshold in \[0, 1\]"),
        ({"probe": "[]"}, "logit of the probe for each label"),
        ({"probe": "[NaN, 0, 0, 0, 0, 0, 0]"}, "finite probe|are damaged"),
        ({"probe": f"[{'9' * 400}, 0, 0, 0, 0, 0, 0]"}, "metadata .* are damaged"),
        ({"probe": "[" * 100_000}, "nested too deeply"),
        ({"scores": "[]"}, "scores"),
        ({"scores": '{"PublicTest": NaN}'}, "metadata .* are damaged"),
        ({"scores": '{"PublicTest": 5}'}, "expected scores by split"),
        ({"scores": '{"members": {}}'}, "a list of members"),
        ({"scores": '{"members": [5]}'}, "expected members that each have name, precision, recipe"),
        ({"scores": json.dumps({"members": [MEMBER | {"learned": 5}]})}, "expected members that each have"),
        ({"scores": '{"members": [{"name": "x"}]}'}, "expected members that each have name, precision, recipe"),
        ({"precision": "int1"}, "precision of float32 or int8"),
        ({"labels": json.dumps(EXPRESSIONS[:6])}, "labels angry, .* neutral, contempt in this order, with or without"),
        ({"labels": json.dumps(EXPRESSIONS[::-1])}, "in this order"),
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
    with pytest.raises(InputError, match="single, mirror, ten, but is 'five'"):
        Recognizer(path, views="five")
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


def eight(path: Path) -> Recognizer:
    """A network that always answers contempt."""
    labels = tuple(Expression)
    card = replace(CARD, labels=labels, temperatures=(1.0,) * 8, biases=(0.0,) * 8, probe=(0.0,) * 8)
    weights = np.zeros((48 * 48, 8))
    weights[:, 7] = 3 / (48 * 48 * 128)
    return Recognizer(linear_model(path, weights, **card.to_metadata()))


def test_contempt_is_the_eighth_answer(tmp_path: Path, collins: Path) -> None:
    recognizer = eight(tmp_path / "m.onnx")
    assert recognizer.labels == (*EXPRESSIONS, Expression.CONTEMPT)
    assert recognizer.probabilities(probe_image()[None]).argmax(1).tolist() == [7]
    assert recognizer.logits(np.zeros((0, 48, 48), np.uint8)).shape == (0, 8)
    (reading,) = recognizer.read(collins)
    assert reading.expression == "contempt"
    assert list(reading.probabilities) == list(Expression)


def test_networks_of_eight_are_refused_where_seven_are_expected(tmp_path: Path) -> None:
    recognizer = eight(tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"watching takes networks of the seven .* 'linear' answers contempt too"):
        need_seven(recognizer, "watching")
    need_seven(load_model(), "watching")
