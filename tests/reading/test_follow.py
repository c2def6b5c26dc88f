import json

import numpy as np
import pytest

from clips import paste, scene
from mien.reading.faces import CenterFace, Face
from mien.reading.follow import SIDE, Follower
from mien.reading.images import grey, resize


class Counted:
    """A detector that counts its calls."""

    def __init__(self) -> None:
        self.detector, self.calls = CenterFace(side=320), 0

    def find(self, image: np.ndarray) -> list[Face]:
        self.calls += 1
        return self.detector.find(image)


def size_of(image: np.ndarray) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


def watch(frames: list[np.ndarray], rate: float = 25, every_s: float = 0.2) -> tuple[list[list[Face]], int, list[bool]]:
    detector = Counted()
    follower = Follower(detector, every_s=every_s)
    faces, cuts = [], []
    for k, image in enumerate(frames):
        small = grey(resize(image, SIDE, SIDE * 9 // 16))
        faces.append(follower.faces(k / rate, small, size_of(image), lambda image=image: image))
        cuts.append(follower.cut)
    return faces, detector.calls, cuts


@pytest.mark.parametrize(("side", "looks"), [(None, [None, 320, 320]), (640, [640, 640, 640])])
def test_a_detector_is_left_as_it_came(side: int | None, looks: list[int | None]) -> None:
    class Noting(CenterFace):
        def find(self, image: np.ndarray) -> list[Face]:
            sides.append(self.side)
            return super().find(image)

    image, detector, sides = paste(scene(), "collins", 200, 150, 90), Noting(side=side), []
    follower = Follower(detector, every_s=0)
    for k in range(3):
        follower.faces(k / 25, grey(resize(image, SIDE, SIDE * 9 // 16)), size_of(image), lambda: image)
    assert sides == looks
    assert detector.side == side


def test_a_detector_may_look_at_photos_meanwhile() -> None:
    class Meanwhile(CenterFace):
        def find(self, image: np.ndarray) -> list[Face]:
            seen.append(detector.side)  # as another thread would find it
            return super().find(image)

    image, detector, seen = paste(scene(), "collins", 200, 150, 90), Meanwhile(), []
    follower = Follower(detector, every_s=0)
    for k in range(3):
        follower.faces(k / 25, grey(resize(image, SIDE, SIDE * 9 // 16)), size_of(image), lambda: image)
    assert seen == [None] * 3


def test_a_face_is_found_now_and_then_and_followed_in_between() -> None:
    frames = [paste(scene(), "collins", 200 + 4 * k, 150 + k, 90 + k) for k in range(30)]
    faces, calls, cuts = watch(frames)
    assert calls == 6  # 1.2 s, every 0.2 s
    assert not any(cuts)
    for k, (face,) in enumerate(faces):
        x, y, width, height = face.box
        assert (x + width / 2, y + height / 2) == pytest.approx((200 + 4 * k, 150 + k), abs=6)
        assert height == pytest.approx(90 + k, rel=0.12)
        eyes = np.mean(face.landmarks[:2], 0)
        assert y < eyes[1] < y + height / 2


def test_following_agrees_with_finding() -> None:
    frames = [paste(scene(), "hopper", 220 + 5 * k, 180, 100) for k in range(12)]
    followed, found = watch(frames, every_s=1.0)[0], watch(frames, every_s=0)[0]
    for (one,), (other,) in zip(followed, found, strict=True):
        assert np.array(one.landmarks) == pytest.approx(np.array(other.landmarks), abs=5)


def test_a_cut_is_seen_at_once() -> None:
    frames = [paste(scene(1), "collins", 200, 180, 100)] * 7 + [paste(scene(2), "hopper", 440, 180, 100)] * 5
    faces, _, cuts = watch(frames, every_s=1.0)
    assert [k for k, cut in enumerate(cuts) if cut] == [7]
    assert faces[7][0].box[0] > 350


@pytest.mark.parametrize("level", [0, 255])
def test_a_blank_picture_is_no_cut(level: int) -> None:
    """A flash or dropout; and behind it the face is looked for at once."""
    shot = [paste(scene(1), "collins", 200, 180, 100)] * 7
    faces, calls, cuts = watch([*shot, *[np.full_like(scene(), level)] * 5, *shot], every_s=1.0)
    assert not any(cuts)
    assert [len(each) for each in faces] == [1] * 7 + [0] * 5 + [1] * 7
    assert calls == 3  # at the start, when it was lost, and when it was back


def test_a_cut_through_black_is_a_cut() -> None:
    other = [paste(scene(2), "hopper", 440, 180, 100)] * 3
    _, _, cuts = watch([*[paste(scene(1), "collins", 200, 180, 100)] * 3, *[np.zeros_like(scene())] * 4, *other])
    assert [k for k, cut in enumerate(cuts) if cut] == [7]


def test_brighter_is_no_cut() -> None:
    image = paste(scene(1), "collins", 200, 180, 100)
    _, _, cuts = watch([image, (image * 0.7).astype(np.uint8), image])
    assert not any(cuts)


def test_a_face_that_is_covered_is_looked_for_at_once() -> None:
    frames = [paste(scene(), "collins", 200, 180, 100)] * 4 + [scene()] * 6
    faces, calls, _ = watch(frames, every_s=1.0)
    assert [len(each) for each in faces] == [1] * 4 + [0] * 6
    assert calls == 2


def test_faces_that_touch_are_found_on_every_frame() -> None:
    frames = [paste(paste(scene(), "collins", 260, 180, 100), "hopper", 335, 180, 100)] * 5
    faces, calls, _ = watch(frames, every_s=1.0)
    if all(len(each) == 2 for each in faces):
        boxes = [each.box for each in faces[0]]
        left, right = sorted(boxes)
        assert (calls == 5) == (left[0] + left[2] > right[0])


def test_nothing_is_followed_over_long_gaps() -> None:
    _, calls, _ = watch([paste(scene(), "collins", 200, 180, 100)] * 4, rate=5, every_s=10)
    assert calls == 4


def test_small_faces_are_found_with_a_finer_look() -> None:
    frames = [paste(scene(3, (1280, 720)), "collins", 600 + k, 300, 60) for k in range(12)]
    follower = Follower(CenterFace(), every_s=0.2)
    counts = []
    for k, image in enumerate(frames):
        small = grey(resize(image, SIDE, SIDE * 9 // 16))
        counts.append(len(follower.faces(k / 25, small, size_of(image), lambda image=image: image)))
    assert counts == [1] * 12


def test_a_stream_that_changes_its_size_is_looked_at_anew() -> None:
    """The small pictures of both are alike; boxes are pixels of the large ones."""
    large = [paste(scene(0, (1280, 720)), "collins", 600 + k, 300, 200) for k in range(6)]
    frames = [*large, *(resize(image, 640, 360) for image in large), *large]
    faces, _, cuts = watch(frames, every_s=10)
    assert [k for k, cut in enumerate(cuts) if cut] == [6, 12]
    widths = [face.box[2] for (face,) in faces]
    assert widths[6] == pytest.approx(widths[5] / 2, rel=0.15)
    assert widths[12] == pytest.approx(widths[5], rel=0.15)
    assert {type(value) for (face,) in faces for value in (*face.box, *face.landmarks[0])} == {float}


def test_it_goes_on_from_its_state() -> None:
    frames = [paste(scene(), "collins", 200 + 4 * k, 150, 90) for k in range(20)]
    smalls = [grey(resize(image, SIDE, SIDE * 9 // 16)) for image in frames]
    whole, first, second = (Follower(CenterFace()) for _ in range(3))
    expected = [whole.faces(k / 25, smalls[k], size_of(frames[k]), lambda k=k: frames[k]) for k in range(20)]
    for k in range(8):
        first.faces(k / 25, smalls[k], size_of(frames[k]), lambda k=k: frames[k])
    second.restore(json.loads(json.dumps(first.state())), smalls[7])
    later = [second.faces(k / 25, smalls[k], size_of(frames[k]), lambda k=k: frames[k]) for k in range(8, 20)]
    assert later == expected[8:]


@pytest.mark.parametrize("other", [1, 2])
def test_it_goes_on_behind_a_blank_picture(other: int) -> None:
    """The scene before it is part of the state: whether there was a cut is known only then."""
    first, second = Follower(CenterFace()), Follower(CenterFace())
    blank = np.zeros((SIDE * 9 // 16, SIDE), np.uint8)
    images = [scene(1), scene(other)]
    one, two = (grey(resize(image, SIDE, SIDE * 9 // 16)) for image in images)
    first.faces(0.0, one, size_of(images[0]), lambda: images[0])
    first.faces(0.04, blank, size_of(images[0]), lambda: np.zeros_like(images[0]))
    second.restore(json.loads(json.dumps(first.state())), blank)
    second.faces(0.08, two, size_of(images[1]), lambda: images[1])
    assert second.cut == (other != 1)
