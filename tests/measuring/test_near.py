import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import EXAMPLES
from mien.errors import Damaged
from mien.measuring import near
from mien.measuring.faceset import FaceSet
from mien.measuring.near import correlation, detail, features, list_key, listed, near_in_training, near_twins
from mien.measuring.sketch import checksum
from mien.reading.recognizer import model_files

MODEL = model_files()["mien-small"]


def picture(name: str, x: int, y: int, side: int) -> np.ndarray:
    """A square of an example photo, 48 x 48."""
    image = cv2.imread(str(EXAMPLES / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return cv2.resize(image[y : y + side, x : x + side], (48, 48), interpolation=cv2.INTER_AREA)


def faces(*images: np.ndarray) -> FaceSet:
    count = len(images)
    splits = np.array(["Training"] * count)
    return FaceSet(np.stack(images), np.zeros(count, np.int8), splits, np.arange(count), None, "0" * 64, "made up")


@pytest.fixture(scope="module")
def strangers() -> list[np.ndarray]:
    """Forty pictures that have nothing to do with each other or with the photos, of the same smoothness."""
    noise = np.random.default_rng(0).normal(0, 1, (40, 48, 48))
    smooth = [cv2.GaussianBlur(each, (0, 0), 2) for each in noise]
    return [cv2.normalize(each, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8) for each in smooth]


def test_versions_of_a_picture_are_found_and_others_are_not(strangers: list[np.ndarray]) -> None:
    face = picture("eileen-collins", 170, 60, 120)
    versions = [
        face,
        np.ascontiguousarray(face[:, ::-1]),  # mirrored
        (face * 0.6 + 70).astype(np.uint8),  # lighter, with less contrast
        picture("eileen-collins", 176, 63, 112),  # another crop
        picture("grace-hopper", 150, 60, 160),  # somebody else
    ]
    pairs = near_twins(faces(*versions, *strangers), MODEL)
    assert {(pair.first, pair.second) for pair in pairs} == {(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)}
    assert {(pair.first, pair.second) for pair in pairs if pair.mirrored} == {(0, 1), (1, 2), (1, 3)}
    assert all(0.9 <= pair.similarity <= 1 for pair in pairs)


def test_exact_twins_and_flat_images_are_left_to_other_checks(strangers: list[np.ndarray]) -> None:
    grey = [np.full((48, 48), level, np.uint8) for level in (100, 101)]
    assert near_twins(faces(strangers[0], strangers[0], *grey), MODEL) == []


def test_light_does_not_count_detail_does() -> None:
    face = picture("grace-hopper", 150, 60, 160)
    assert correlation(detail(face), detail((face // 2 + 90).astype(np.uint8))) > 0.97
    shade = np.clip(face * np.linspace(0.5, 1, 48), 0, 255).astype(np.uint8)
    assert correlation(detail(face), detail(shade)) > 0.9
    assert correlation(detail(face), detail(picture("eileen-collins", 170, 60, 120))) < 0.8


def test_a_model_without_a_dense_layer_is_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    shape = ["batch", 48, 48]
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("faces", "out")]
    graph = helper.make_graph([helper.make_node("Identity", ["faces"], ["out"])], "none", ends[:1], ends[1:])
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(Damaged, match="no dense layer"):
        features(np.zeros((1, 48, 48), np.uint8), path)


def test_a_listed_set_is_not_searched_in_whatever_order_and_form(
    small_faces: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = tmp_path / "lists.json"
    lists.write_text(json.dumps({list_key(small_faces, "PublicTest"): [checksum(small_faces.images[110])]}))
    monkeypatch.setattr(near, "LISTS", lists)
    monkeypatch.setattr(near, "near_twins", lambda *_: pytest.fail("the search began"))
    assert near_in_training(small_faces, "PublicTest").tolist() == [110]
    turned = small_faces.take(np.arange(139, -1, -1))
    turned = replace(turned, rows=np.arange(140), checksum="1" * 64, votes=None)
    assert near_in_training(turned, "PublicTest").tolist() == [139 - 110]
    brighter = small_faces.images.copy()
    brighter[3, 0, 0] += 1
    for other in (replace(small_faces, images=brighter), small_faces.take(np.arange(1, 140))):
        assert listed(other, "PublicTest") is None
    assert listed(small_faces, "PrivateTest") is None
