import csv
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from mien.errors import Damaged, FileError, InputError
from mien.expressions import EXPRESSIONS, Expression
from mien.reading.faces import Face
from mien.reading.rows import RowLog
from mien.reading.tables import COLUMNS, RAW, SHIFT, frame_rows
from mien.reading.tracks import TrackedReading

SETTINGS = {"video": "köln.mp4", "every_s": 0.0}


def tracked(track: int, shift: bool = False) -> TrackedReading:
    share = dict.fromkeys(EXPRESSIONS, 0.05) | {Expression.HAPPY: 0.7}
    raw = dict.fromkeys(EXPRESSIONS, 0.1) | {Expression.SAD: 0.4}
    moved = dict.fromkeys(EXPRESSIONS, 0.0) | {Expression.HAPPY: 0.25} if shift else None
    face = Face((10.04, 20.0, 30.0, 40.0), 0.9, ((0.0, 0.0),) * 5)
    return TrackedReading(face, Expression.HAPPY, 0.7, False, share, (), track, raw, moved)


def rows_of(log: RowLog, number: int) -> Any:
    readings = [tracked(1), tracked(2, shift=SHIFT[0] in log.columns)] if number % 2 else []
    return frame_rows("köln.mp4", number, number / 25, readings, log.columns)


def fill(log: RowLog, numbers: range) -> None:
    for number in numbers:
        log.add(rows_of(log, number))
        if number % 4 == 3:
            log.note({"number": number})


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_have_the_documented_columns(suffix: str, tmp_path: Path) -> None:
    log = RowLog(tmp_path / f"rows{suffix}", SETTINGS, shift=True)
    fill(log, range(4))
    grown = list(log.rows())
    log.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"rows{suffix}"]
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        found = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    elif suffix == ".csv":
        with open(tmp_path / "rows.csv", newline="") as file:
            found = list(csv.DictReader(file))
    else:
        text = (tmp_path / "rows.jsonl").read_text()
        assert text.isascii()
        found = [json.loads(line) for line in text.splitlines()]
    assert {row["source"] for row in found} == {"köln.mp4"}
    assert len(found) == len(grown) == 6
    assert list(found[0]) == [*COLUMNS, *RAW, *SHIFT]
    assert [int(row["frame"]) for row in found] == [0, 1, 1, 2, 3, 3]
    assert found[0]["expression"] in ("", None)
    assert found[2]["expression"] == "happy"
    values = {name: float(found[2][name]) for name in ("track", "time_s", "x", "p_happy", "raw_sad", "shift_happy")}
    assert values == {"track": 2, "time_s": 0.04, "x": 10.0, "p_happy": 0.7, "raw_sad": 0.4, "shift_happy": 0.25}
    assert found[1]["shift_happy"] in ("", None)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_of_a_video_that_broke_off_are_not_all_there_is(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows{suffix}"
    for settings in (SETTINGS, None):  # None: a camera's
        fill(log := RowLog(path, SETTINGS), range(6))
        log.finish("it breaks off")
        assert sorted(each.name for each in tmp_path.iterdir()) == [path.name, f"{path.name}.resume"]
        with pytest.raises(InputError, match="ends where its video did: it breaks off"):
            RowLog(path, SETTINGS, resume=True)
        fill(again := RowLog(path, settings), range(4))
        again.finish()
        assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_note_without_its_rows_says_nothing(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "rows.csv", SETTINGS)
    fill(log, range(6))
    log.finish("it breaks off")
    (tmp_path / "rows.csv").unlink()
    assert not RowLog(tmp_path / "rows.csv", SETTINGS, resume=True).finished


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(InputError, match="is a pipe or device; name a file"):
        RowLog(tmp_path / "rows.csv", SETTINGS)


def test_rows_that_a_camera_left_are_not_written_over(tmp_path: Path) -> None:
    """A camera's run cannot be gone on with, and leaves no notes; of a Parquet table it leaves the rows beside it."""
    log = RowLog(tmp_path / "rows.parquet", None)
    fill(log, range(4))
    log.close()
    left = (tmp_path / "rows.parquet.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"rows\.parquet\.jsonl holds rows of a run that did not come to its end"):
        RowLog(tmp_path / "rows.parquet", None)
    assert (tmp_path / "rows.parquet.jsonl").read_bytes() == left


def test_rows_are_there_while_they_grow(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "rows.csv", SETTINGS)
    for number in range(5):
        log.add(rows_of(log, number))
        with open(tmp_path / "rows.csv", newline="") as file:
            assert [int(row["frame"]) for row in csv.DictReader(file)][-1] == number
    log.close()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_an_interrupted_run_goes_on(suffix: str, stop: int, tmp_path: Path) -> None:
    whole, broken = (RowLog(tmp_path / name / f"rows{suffix}", SETTINGS) for name in _folders(tmp_path))
    fill(whole, range(12))
    whole.finish()
    fill(broken, range(stop))
    broken.close()  # as a kill would
    with open(broken.growing, "ab") as file:
        file.write(b"b.mp4,99,torn")
    again = RowLog(broken.path, SETTINGS, resume=True)
    assert again.state == ({"number": stop // 4 * 4 - 1} if stop >= 4 else None)
    assert not again.finished
    fill(again, range(stop // 4 * 4, 12))
    again.finish()
    assert broken.path.read_bytes() == whole.path.read_bytes()


def _folders(tmp_path: Path) -> tuple[str, str]:
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    return "whole", "broken"


def test_what_was_begun_is_not_lost_by_mistake(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "rows.csv", SETTINGS)
    fill(log, range(5))
    log.close()
    content = log.path.read_bytes()
    with pytest.raises(InputError, match="--resume"):
        RowLog(log.path, SETTINGS)
    with pytest.raises(InputError, match=r"every_s was 0\.0"):
        RowLog(log.path, SETTINGS | {"every_s": 0.2}, resume=True)
    assert log.path.read_bytes() == content


def test_a_finished_run_is_not_resumed_but_may_be_replaced(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "rows.csv", SETTINGS)
    fill(log, range(5))
    log.finish()
    content = log.path.read_bytes()
    again = RowLog(log.path, SETTINGS, resume=True)
    assert again.finished
    again.close()
    assert log.path.read_bytes() == content
    log = RowLog(log.path, SETTINGS)
    fill(log, range(1))
    log.close()
    assert len(log.path.read_bytes().splitlines()) == 2


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_without_a_row_nothing_is_written(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"keep{suffix}"
    for end in (RowLog.close, RowLog.finish):
        log = RowLog(path, SETTINGS)
        assert list(log.rows()) == []
        end(log)
        assert list(tmp_path.iterdir()) == []
    path.write_text("hello")
    for end in (RowLog.close, RowLog.finish):
        end(RowLog(path, SETTINGS))
        assert [each.name for each in tmp_path.iterdir()] == [path.name]
        assert path.read_text() == "hello"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_complete_rows_can_be_read_but_only_of_the_same_video(suffix: str, tmp_path: Path) -> None:
    log = RowLog(tmp_path / f"rows{suffix}", SETTINGS)
    fill(log, range(4))
    grown = list(log.rows())
    log.finish()
    assert list(log.rows()) == grown
    again = RowLog(log.path, SETTINGS, resume=True)
    assert again.finished
    assert list(again.rows()) == grown
    again.finish()
    with pytest.raises(InputError, match=r"rows of 'köln\.mp4', and not of 'b\.mp4'"):
        RowLog(log.path, SETTINGS | {"video": "b.mp4"}, resume=True)
    with pytest.raises(InputError, match="other columns"):
        RowLog(log.path, SETTINGS, resume=True, shift=True)
    log.path.write_bytes(b"\xff\xfe no table")
    with pytest.raises(Damaged, match="no table"):
        RowLog(log.path, SETTINGS, resume=True)


def test_rows_that_are_nested_without_end_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("[" * 100_000 + "\n")
    with pytest.raises(Damaged, match=r"rows\.jsonl is no table that can be read: it is nested too deeply"):
        RowLog(tmp_path / "rows.jsonl", SETTINGS, resume=True)


def test_resuming_nothing_begins(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "rows.csv", SETTINGS, resume=True)
    assert log.state is None
    assert not log.finished
    log.close()


def test_a_camera_leaves_no_notes(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "rows.csv", None)
    fill(log, range(5))
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    RowLog(tmp_path / "rows.csv", None).close()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_camera_does_not_replace_the_rows_of_an_interrupted_run(suffix: str, tmp_path: Path) -> None:
    log = RowLog(tmp_path / f"rows{suffix}", SETTINGS)
    fill(log, range(5))
    log.close()
    content = log.growing.read_bytes()
    with pytest.raises(InputError, match=f"name another file.*rows{suffix}.resume") as refused:
        RowLog(log.path, None)
    assert "--resume" not in str(refused.value)
    assert log.growing.read_bytes() == content
    assert RowLog(log.path, SETTINGS, resume=True).state == {"number": 3}


def test_damaged_notes_are_told(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "rows.csv", SETTINGS)
    fill(log, range(5))
    log.close()
    log.path.write_bytes(b"")
    with pytest.raises(Damaged, match="shorter"):
        RowLog(log.path, SETTINGS, resume=True)
    (tmp_path / "rows.csv.resume").write_text("{")
    with pytest.raises(Damaged, match="delete it"):
        RowLog(log.path, SETTINGS, resume=True)


def test_names_and_places_are_refused_early(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="jsonl"):
        RowLog(tmp_path / "rows.xlsx", SETTINGS)
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(FileError, match=r"rows\.csv"):
        RowLog(tmp_path / "rows.csv", SETTINGS)
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write"):
        RowLog(tmp_path / "file" / "rows.csv", SETTINGS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "rows.csv"]


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_when_no_more_can_be_written_whole_rows_stay(suffix: str, tmp_path: Path) -> None:
    """The largest size of a file stands for a full disk: a write comes through in part, the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = RowLog(tmp_path / f"rows{suffix}", SETTINGS)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(FileError, match="rows"):
            fill(log, range(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    numbers = [int(row["frame"]) for row in log.rows()]
    assert sorted(set(numbers)) == list(range(numbers[-1] + 1))
    assert numbers[-1] > 5
    log.close()
    again = RowLog(log.path, SETTINGS, resume=True)
    fill(again, range(again.state["number"] + 1 if again.state else 0, 40))
    assert sorted({int(row["frame"]) for row in again.rows()}) == list(range(40))
    again.close()


@pytest.mark.parametrize("wrong", [{"settings": None}, {"settings": []}, {"bytes": -1}, {"bytes": 0.5}, {"state": 1}])
def test_a_note_of_other_things_is_damaged(wrong: dict[str, object], tmp_path: Path) -> None:
    sound = {"settings": {"video": "köln.mp4"}, "bytes": 0, "state": None}
    (tmp_path / "rows.csv").write_text("")
    for note in (json.dumps(sound | wrong), json.dumps({"bytes": 0}), "[" * 100_000):
        (tmp_path / "rows.csv.resume").write_text(note)
        with pytest.raises(Damaged, match="delete it to begin anew"):
            RowLog(tmp_path / "rows.csv", {"video": "köln.mp4"}, resume=True)
