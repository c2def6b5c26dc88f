from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.errors import InputError
from mien.expressions import EXPRESSIONS, Expression
from mien.reading.draw import COLOURS
from mien.reading.images import open_image
from mien.reading.timeline import draw_timeline, summarise


def row(
    time_s: float, track: int | None = None, expression: str = "happy", uncertain: bool = False
) -> dict[str, Any]:
    share = {f"p_{each}": 1.0 if each == expression else 0.0 for each in EXPRESSIONS}
    shown = {"expression": expression, "uncertain": uncertain} if track else {"expression": None, "uncertain": None}
    return {"time_s": time_s, "track": track, **shown, **share}


def script() -> list[dict[str, Any]]:
    """10 s: track 1 happy for 6 s and sad for 2, then away; track 2 neutral in the last 5. Uneven frame rate."""
    rows = []
    for time_s in [*np.arange(0, 6, 0.1), *np.arange(6, 10, 0.5)]:
        seen = []
        if time_s < 8:
            seen.append(row(time_s, 1, "happy" if time_s < 6 else "sad", uncertain=time_s >= 4))
        if time_s >= 5:
            seen.append(row(time_s, 2, "neutral"))
        rows += seen
    return rows


def test_seconds_and_shares_go_by_time_not_by_frames() -> None:
    one, two = summarise(script())
    assert (one.track, two.track) == (1, 2)
    assert (one.first_s, one.last_s) == pytest.approx((0, 7.5))
    assert one.seen_s == pytest.approx(8)
    assert one.shares[Expression.HAPPY] == pytest.approx(0.75)
    assert one.shares[Expression.SAD] == pytest.approx(0.25)
    assert two.seen_s == pytest.approx(5)
    assert sum(two.shares.values()) == pytest.approx(1)
    assert (one.uncertain, two.uncertain) == pytest.approx((0.5, 0))


def test_text_from_a_csv_file_is_the_same() -> None:
    text = [{name: "" if value is None else str(value) for name, value in each.items()} for each in script()]
    assert summarise(text) == summarise(script())


def test_no_row_and_no_face() -> None:
    assert summarise([]) == []
    assert summarise([row(0.0), row(0.1)]) == []


def test_a_long_hole_in_the_video_is_not_counted_as_seen() -> None:
    (one,) = summarise([row(0.0, 1), row(0.1, 1), row(60.0, 1)])
    assert one.seen_s == pytest.approx(0.1 + 1 + 1)


def test_frames_that_were_left_out_on_purpose_are_no_hole(tmp_path: Path) -> None:
    rows = [row(float(time_s), 1) for time_s in range(0, 65, 5)]
    (one,) = summarise(rows, every_s=5.0)
    assert one.seen_s == pytest.approx(65)
    image = open_image(draw_timeline(tmp_path / "t.png", lambda: rows, [one], "slow.mp4", every_s=5.0))
    strip = image[image.shape[0] // 2, 40:-60]
    assert (strip != 255).any(1).all(), "blank where the face was there"


def test_the_picture_shows_who_felt_what_when(tmp_path: Path) -> None:
    rows = script()
    image = open_image(draw_timeline(tmp_path / "t.png", lambda: rows, summarise(rows), "party.mp4"))

    def at(time_s: float, track: int) -> tuple[int, ...]:
        x = 28 + time_s / 9.5 * (image.shape[1] - 56)
        y = 56 + 34 + (track - 1) * (110 + 34) + 55
        return tuple(image[int(y), int(x)].tolist())

    assert at(3.0, 1) == COLOURS[Expression.HAPPY]
    assert at(7.0, 1) == COLOURS[Expression.SAD]
    assert at(7.0, 2) == COLOURS[Expression.NEUTRAL]
    away = at(9.0, 1)
    assert away == at(2.0, 2)
    assert away not in COLOURS.values()


def test_a_picture_without_faces_is_one_too(tmp_path: Path) -> None:
    assert draw_timeline(tmp_path / "t.png", lambda: [row(0.0)], [], "empty.mp4").exists()


def test_a_hole_of_centuries_is_drawn_in_no_time(tmp_path: Path) -> None:
    """A file of some kilobytes can claim it; marks every two hours would take hours to draw."""
    assert draw_timeline(tmp_path / "t.png", lambda: [row(0.0), row(1e12)], [], "hole.mkv").exists()


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="txt"):
        draw_timeline(tmp_path / "t.txt", lambda: script(), summarise(script()), "x")
