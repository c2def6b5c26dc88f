from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.errors import Damaged, FileError, InputError
from mien.measuring.evaluation import evaluate
from mien.measuring.exclusion import exclude, write_exclusions
from mien.measuring.faceset import FaceSet
from mien.measuring.robustness import evaluate_corrupted


class Even:
    """Holds each of the seven for as probable as the others."""

    name = "even"

    def probabilities(self, faces: np.ndarray) -> np.ndarray:
        return np.full((len(faces), 7), 1 / 7)


@pytest.fixture
def clean(small_faces: FaceSet, tmp_path: Path) -> Path:
    return write_exclusions(tmp_path / "clean.csv", small_faces, {100: ["twin"], 3: ["flat", "no-face"]})


def test_listed_rows_are_left_out_and_the_rest_keep_their_numbers(small_faces: FaceSet, clean: Path) -> None:
    assert clean.read_text().splitlines()[1:] == ["row,reason", "3,flat no-face", "100,twin"]
    left = exclude(small_faces, clean)
    assert set(range(140)) - set(left.rows.tolist()) == {3, 100}
    assert left.source == "small.csv without clean.csv"
    assert left.checksum != small_faces.checksum


def test_one_split_alone(small_faces: FaceSet, clean: Path) -> None:
    left = exclude(small_faces, clean, split="PublicTest")
    assert left.sizes == {"Training": 98, "PublicTest": 27, "PrivateTest": 14}


def test_reports_tell_what_was_left_out_and_why(small_faces: FaceSet, clean: Path, tmp_path: Path) -> None:
    assert exclude(small_faces, clean).notes == (
        "2 of 140 rows are left out by clean.csv (flat 1, no-face 1, twin 1).",
    )
    left = exclude(small_faces, clean, split="PublicTest")
    assert left.notes == ("1 of 28 rows of PublicTest are left out by clean.csv (twin 1).",)
    report = evaluate(Even(), left, "PublicTest")
    assert left.notes[0] in report.to_markdown()
    assert left.notes[0] in evaluate_corrupted(Even(), left, "PublicTest").notes
    doubted = {3: ["vote"], 100: ["label"], 101: ["twin", "vote", "label"], 102: ["twin"]}
    path = write_exclusions(tmp_path / "doubted.csv", small_faces, doubted)
    counts, warning = exclude(small_faces, path, split="PublicTest").notes
    assert counts == "3 of 28 rows of PublicTest are left out by doubted.csv (label 2, twin 2, vote 1)."
    assert "Not comparable with scores of all rows:** 2 of those left out" in warning
    assert "that voters or a network doubted" in warning


def test_votes_do_not_matter_other_faces_do(small_faces: FaceSet, clean: Path) -> None:
    assert len(exclude(replace(small_faces, votes=None, checksum="1" * 64), clean)) == 138
    other = replace(small_faces, images=255 - small_faces.images)
    with pytest.raises(InputError, match="made for other faces"):
        exclude(other, clean)
    with pytest.raises(InputError, match="of 140 rows, but small.csv has 139"):
        exclude(small_faces.take(np.arange(139)), clean)


def test_lists_that_are_none_are_refused(small_faces: FaceSet, clean: Path) -> None:
    lines = clean.read_text().splitlines()
    for text, message in (
        (["row,reason", "3,flat"], "is no list of rows to leave out"),
        ([], "is no list"),
        (lines[:-1], "not whole: it lists 1 rows, expected 2"),
        ([*lines[:-1], "x,flat"], "line 4: expected a row number, but got 'x'"),
        ([*lines[:-1], "9" * 5000 + ",flat"], "line 4: expected a row number, but got '999"),
        ([*lines[:-1], "140,flat"], "names row 140"),
    ):
        clean.write_text("\n".join(text))
        with pytest.raises(Damaged, match=message):
            exclude(small_faces, clean)
    with pytest.raises(FileError, match="cannot read"):
        exclude(small_faces, clean.with_name("none.csv"))


def test_a_list_of_everything_is_refused(small_faces: FaceSet, tmp_path: Path) -> None:
    path = write_exclusions(tmp_path / "all.csv", small_faces, {k: ["flat"] for k in range(140)})
    with pytest.raises(InputError, match="leaves no row"):
        exclude(small_faces, path)


def test_a_list_that_excel_saved_is_read(small_faces: FaceSet, clean: Path) -> None:
    left = len(exclude(small_faces, clean))
    clean.write_text("\ufeff" + clean.read_text(), encoding="utf-8")
    assert len(exclude(small_faces, clean)) == left
