import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mien.errors import InputError, MissingExtra
from mien.expressions import EXPRESSIONS, Expression
from mien.reading.faces import Face
from mien.reading.recognizer import Reading
from mien.reading.tables import COLUMNS, Photo, check_form, columns_for, to_object, to_rows, write_table

LANDMARKS = ((1.0, 1.0), (2.0, 1.0), (1.5, 1.5), (1.0, 2.0), (2.0, 2.0))


def photo(faces: int) -> Photo:
    share = dict.fromkeys(EXPRESSIONS, 0.05) | {Expression.HAPPY: 0.7}
    reading = Reading(
        Face((10.04, 20.0, 30.0, 40.06), 0.98765, LANDMARKS), Expression.HAPPY, 0.7, False, share, ("small", "cut")
    )
    return Photo("a b,'ü'.jpg", 640, 480, "mien-small", [reading] * faces)


def test_object_is_plain_json() -> None:
    value = json.loads(json.dumps(to_object(photo(2))))
    assert value["width"] == 640
    face = value["faces"][1]
    assert face["box"] == [10.0, 20.0, 30.0, 40.1]
    assert list(face["probabilities"]) == list(EXPRESSIONS)
    assert face["flags"] == ["small", "cut"]


def test_a_photo_without_faces_keeps_a_row() -> None:
    (row,) = to_rows(photo(0))
    assert list(row) == list(COLUMNS)
    assert row["source"] == "a b,'ü'.jpg"
    assert {value for name, value in row.items() if name != "source"} == {None}


def test_csv_reads_back(tmp_path: Path) -> None:
    path = write_table(tmp_path / "faces.csv", [*to_rows(photo(2)), *to_rows(photo(0))])
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["expression"] for row in rows] == ["happy", "happy", ""]
    assert float(rows[0]["p_happy"]) == 0.7
    assert rows[0]["flags"] == "small cut"


def test_contempt_has_a_column_where_the_network_answers_it(tmp_path: Path) -> None:
    assert columns_for(EXPRESSIONS) == COLUMNS
    (answer,) = photo(1).readings
    share = answer.probabilities | {Expression.CONTEMPT: 0.6}
    other = replace(photo(1), readings=[replace(answer, probabilities=share)])
    path = write_table(tmp_path / "f.csv", [*to_rows(other), *to_rows(photo(0))], columns_for(tuple(Expression)))
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["p_contempt"] for row in rows] == ["0.6", ""]
    assert list(rows[0])[-3:] == ["p_neutral", "p_contempt", "flags"]


def test_parquet_reads_back_with_types(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(write_table(tmp_path / "faces.parquet", [*to_rows(photo(1)), *to_rows(photo(0))]))
    assert table.column_names == list(COLUMNS)
    assert table.column("p_happy").to_pylist() == [0.7, None]
    assert table.column("uncertain").to_pylist() == [False, None]


def test_parquet_without_pyarrow_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"mien\[parquet\]"):
        check_form("faces.parquet")


def test_names_that_are_not_utf8_become_escapes() -> None:
    odd = Photo("caf\udce9.jpg", 640, 480, "mien-small", [])
    assert to_object(odd)["source"] == next(to_rows(odd))["source"] == "caf\\udce9.jpg"


def test_other_forms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.csv or \.parquet.*faces\.xlsx"):
        write_table(tmp_path / "faces.xlsx", [])
