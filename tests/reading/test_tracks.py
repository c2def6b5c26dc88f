import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest

from mien.errors import InputError
from mien.expressions import EXPRESSIONS, Expression
from mien.reading.faces import Face
from mien.reading.quality import needed
from mien.reading.recognizer import Reading
from mien.reading.tracks import Tracker, TrackOptions

MARKS = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.75), (0.65, 0.75))


def face(x: float, y: float = 100.0, height: float = 100.0) -> Face:
    """A face around (x, y)."""
    width = 0.8 * height
    left, top = x - width / 2, y - height / 2
    return Face((left, top, width, height), 0.9, tuple((left + a * width, top + b * height) for a, b in MARKS))


def reading(x: float, happy: float = 0.7, y: float = 100.0) -> Reading:
    """Happy to some degree, sad otherwise."""
    share = dict.fromkeys(EXPRESSIONS, 0.0) | {Expression.HAPPY: happy, Expression.SAD: 1 - happy}
    best = Expression.HAPPY if happy >= 0.5 else Expression.SAD
    return Reading(face(x, y), best, share[best], False, share)


def test_a_moving_face_keeps_its_number() -> None:
    tracker = Tracker()
    numbers = {tracker.update(k / 25, [reading(100 + 15 * k)])[0].track for k in range(40)}
    assert numbers == {1}


@pytest.mark.parametrize("hidden", [0, 3, 6, 9])
@pytest.mark.parametrize("apart", [0.0, 20.0])
def test_two_faces_that_pass_each_other_keep_theirs(hidden: int, apart: float) -> None:
    """The one behind is not found for some frames around the meeting at frame 30."""
    tracker = Tracker()
    for k in range(61):
        readings = [reading(100 + 10 * k)]
        if abs(k - 30) > hidden:
            readings.insert(k % 2, reading(700 - 10 * k, y=100 + apart))  # in any order
        tracked = {round(each.face.box[0] + 40): each.track for each in tracker.update(k / 25, readings)}
        if k == 0:
            first, second = tracked[100], tracked[700]
        if abs(k - 30) > 4:  # next to one another nobody could tell
            assert tracked[100 + 10 * k] == first
            if abs(k - 30) > hidden:
                assert tracked[700 - 10 * k] == second


@pytest.mark.parametrize(("away", "number"), [(0.9, 1), (1.1, 2)])
def test_a_gap_is_measured_in_seconds(away: float, number: int) -> None:
    for rate in (5, 50):
        tracker = Tracker(TrackOptions(max_gap_s=1.0))
        for k in range(rate):
            last = k / rate
            tracker.update(last, [reading(300)])
        for k in range(1, int(away * rate)):
            assert tracker.update(last + k / rate, []) == []
        assert tracker.update(last + away, [reading(310)])[0].track == number


def test_in_slow_videos_a_face_keeps_its_number_from_frame_to_frame() -> None:
    """Two seconds between frames are no absence of two seconds, and what it expressed is not forgotten either."""
    tracker = Tracker(TrackOptions(max_gap_s=1.0, baseline_s=3.0))
    seen = [tracker.update(2.0 * k, [reading(300)])[0] for k in range(4)]
    assert [each.track for each in seen] == [1] * 4
    assert seen[-1].shift is not None
    again = Tracker(tracker.options)
    again.restore(json.loads(json.dumps(tracker.state())))
    assert again.update(8.0, [reading(300)])[0].track == 1
    assert tracker.update(8.0, []) == []
    assert tracker.update(10.0, [reading(300)])[0].track == 2


def test_far_away_is_somebody_else_and_numbers_are_not_given_twice() -> None:
    tracker = Tracker()
    assert tracker.identify(0.0, [face(100), face(500)]) == [1, 2]
    assert tracker.identify(0.1, [face(500), face(900)]) == [2, 3]
    tracker.cut()
    assert tracker.identify(0.2, [face(500)]) == [4]


def test_smoothing_goes_by_time_not_by_frames() -> None:
    """After a time constant, 1 - 1/e of a step has come through, at any frame rate."""
    for times in ([0.3], [k / 100 for k in range(1, 31)], [0.01, 0.05, 0.21, 0.3]):
        tracker = Tracker(TrackOptions(smoothing_s=0.3))
        tracker.update(0.0, [reading(100, happy=0.0)])
        for time_s in times:
            (last,) = tracker.update(time_s, [reading(100, happy=1.0)])
        assert last.probabilities[Expression.HAPPY] == pytest.approx(1 - 1 / math.e)
        assert last.raw[Expression.HAPPY] == 1.0


def test_without_smoothing_both_are_the_same() -> None:
    tracker = Tracker(TrackOptions(smoothing_s=0))
    for k, happy in enumerate((0.2, 0.9)):
        (last,) = tracker.update(k / 25, [reading(100, happy)])
        assert last.probabilities == pytest.approx(last.raw)


def test_the_label_does_not_flicker() -> None:
    tracker = Tracker(TrackOptions(smoothing_s=0.3, margin=0.1))
    labels = [tracker.update(k / 25, [reading(100, 0.52 if k % 2 else 0.46)])[0].expression for k in range(50)]
    assert len(set(labels)) == 1
    turned = [tracker.update(2 + k / 25, [reading(100, 0.9 if labels[0] == "sad" else 0.1)])[0] for k in range(50)]
    changes = sum(one.expression != other.expression for one, other in pairwise(turned))
    assert changes == 1
    assert turned[-1].expression != labels[0]
    assert all(each.confidence == each.probabilities[each.expression] for each in turned)


def test_a_weak_answer_is_uncertain() -> None:
    tracker = Tracker(threshold=0.6)
    assert tracker.update(0.0, [reading(100, 0.55)])[0].uncertain
    assert not tracker.update(9.0, [reading(100, 0.65)])[0].uncertain


def test_a_flagged_answer_needs_more_confidence() -> None:
    tracker = Tracker(threshold=0.6)
    enough = needed(0.6, ["blurred"])
    for confidence, uncertain in ((0.62, True), (enough + 0.01, False)):
        (tracked,) = tracker.update(0.0, [replace(reading(100, confidence), flags=("blurred",))])
        assert tracked.uncertain is uncertain
        assert tracked.flags == ("blurred",)
        tracker = Tracker(threshold=0.6)


def test_the_baseline_is_the_face_of_the_first_seconds_by_time() -> None:
    """0.2 happy for most of the time, although most of the frames say otherwise."""
    tracker = Tracker(TrackOptions(baseline_s=1.0, smoothing_s=0.0))
    early = [tracker.update(k / 10, [reading(100, 0.2)])[0] for k in range(10)]
    for k in range(1, 50):
        early += tracker.update(0.9 + k / 1000, [reading(100, 0.8)])
    assert all(each.shift is None for each in early)
    (late,) = tracker.update(1.5, [reading(100, 0.7)])
    assert late.shift is not None
    resting = (0.9 * 0.2 + 0.049 * 0.8) / 0.949
    assert late.shift[Expression.HAPPY] == pytest.approx(0.7 - resting, abs=1e-3)
    assert late.raw[Expression.HAPPY] == 0.7


def test_it_goes_on_from_its_state_as_if_nothing_had_happened() -> None:
    options = TrackOptions(baseline_s=0.5)
    whole, first = Tracker(options), Tracker(options)
    script = [[reading(100 + 5 * k, 0.3 + 0.01 * k)] + ([reading(600, 0.4)] if 10 < k < 20 else []) for k in range(50)]
    expected = [whole.update(k / 25, each) for k, each in enumerate(script)]
    for k, each in enumerate(script[:15]):
        first.update(k / 25, each)
    second = Tracker(options)
    second.restore(json.loads(json.dumps(first.state())))
    assert [second.update(k / 25, each) for k, each in enumerate(script[15:], 15)] == expected[15:]


def test_halves_of_an_update_may_be_frames_apart() -> None:
    whole, batched = Tracker(), Tracker()
    script = [[reading(100 + 5 * k, 0.3 + 0.01 * k)] for k in range(60)]
    expected = [whole.update(k / 25, each) for k, each in enumerate(script)]
    numbers = [batched.identify(k / 25, [r.face for r in each]) for k, each in enumerate(script)]
    batched.cut()
    assert [batched.smooth(k / 25, numbers[k], each) for k, each in enumerate(script)] == expected


def test_time_does_not_run_backwards() -> None:
    tracker = Tracker()
    tracker.update(1.0, [])
    tracker.update(1.0, [])
    with pytest.raises(InputError, match="backwards"):
        tracker.update(0.9, [])


@pytest.mark.parametrize("options", [{"max_gap_s": -1.0}, {"margin": 1.5}, {"smoothing_s": math.nan}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        TrackOptions(**options)
