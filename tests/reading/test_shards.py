from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import ImageFile

from mien.errors import Damaged, InputError
from mien.reading.images import open_image
from mien.reading.recognizer import load_model
from mien.reading.shards import BATCH, Labeller, Stopped, Unreachable, read_counts
from photos import encoded, folder_of, plan_of, read_one_by_one, rows_of, tar_of


def test_a_shard_has_the_rows_of_mien_read(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", 12)
    plan = plan_of(source, tmp_path / "out")
    counts = Labeller(plan).label(0)
    expected = read_one_by_one(sorted(source.iterdir()))
    assert rows_of(tmp_path / "out") == expected
    assert [row["expression"] for row in expected[:5]] == ["happy", "neutral"] * 2 + [None]
    assert (counts.images, counts.faces, counts.without_face) == (10, 8, 2)
    assert (counts.expressions["happy"], counts.expressions["neutral"]) == (4, 4)
    assert counts.uncertain == sum(bool(row["uncertain"]) for row in expected) == 2
    assert [failure.source for failure in counts.failures] == [str(source / "005.jpg"), str(source / "011.jpg")]
    assert all("is a damaged image" in failure.reason for failure in counts.failures)
    assert read_counts(plan.part(0)) == counts


def test_more_faces_than_one_batch(tmp_path: Path) -> None:
    count = BATCH + 40
    source = tar_of(tmp_path / "a.tar", {f"{k:03}.jpg": encoded(k % 2) for k in range(count)})
    Labeller(plan_of(source, tmp_path / "out", shard_size=count)).label(0)
    rows = rows_of(tmp_path / "out")
    assert [row["source"] for row in rows] == [f"{source}/{k:03}.jpg" for k in range(count)]
    assert [row["expression"] for row in rows] == ["happy", "neutral"] * (count // 2)


def test_a_file_does_not_depend_on_who_reads_it(tmp_path: Path) -> None:
    plan = plan_of(folder_of(tmp_path / "in", 8), tmp_path / "out", shard_size=4)
    labeller = Labeller(plan)
    labeller.label(1)
    alone = plan.part(1).read_bytes()
    labeller.label(0)
    Labeller(plan).label(1)
    assert plan.part(1).read_bytes() == alone


def test_a_corrupt_image_in_the_middle_of_a_tar(tmp_path: Path) -> None:
    source = tar_of(tmp_path / "a.tar", {"0.jpg": encoded(0), "1.jpg": b"no image", "2.jpg": encoded(1)})
    counts = Labeller(plan_of(source, tmp_path / "out")).label(0)
    assert [row["source"] for row in rows_of(tmp_path / "out")] == [f"{source}/0.jpg", f"{source}/2.jpg"]
    (failure,) = counts.failures
    assert failure.source == f"{source}/1.jpg"
    assert "is no image of a known format" in failure.reason


def test_nothing_but_failures_is_a_shard_too(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("missing.jpg\n")
    plan = plan_of(tmp_path / "list.txt", tmp_path / "out")
    (failure,) = Labeller(plan).label(0).failures
    assert str(failure) == "cannot read missing.jpg: No such file or directory"
    assert rows_of(tmp_path / "out") == []


def test_storage_that_is_gone_costs_no_image(tmp_path: Path) -> None:
    """Whether it goes before a shard, in the middle, or comes back before its end."""
    source = folder_of(tmp_path / "in", 12)
    plan, away = plan_of(source, tmp_path / "out"), tmp_path / "away"
    labeller = Labeller(plan)
    source.rename(away)
    with pytest.raises(Unreachable, match=r"12 of its images could not be reached, .*000.jpg: No such file"):
        labeller.label(0)
    for back in (11, 99):
        away.rename(source)
        moves = iter(range(1, 13))

        def move(moves: Iterator[int] = moves, back: int = back) -> bool:
            number = next(moves)
            if number == 2:
                source.rename(away)
            if number == back:
                away.rename(source)
            return False

        with pytest.raises(Unreachable, match="of its images could not be reached"):
            labeller.label(0, stop=move)
        if back == 11:
            source.rename(away)
    assert plan.missing() == [0]
    away.rename(source)
    assert labeller.label(0).images == 10


def test_one_lost_image_is_a_failure(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", 4)
    plan = plan_of(source, tmp_path / "out")
    (source / "001.jpg").unlink()
    counts = Labeller(plan).label(0)
    assert (counts.images, [failure.source for failure in counts.failures]) == (3, [str(source / "001.jpg")])


def test_a_lack_of_memory_costs_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one image, too: it is the machine that fails, not the image."""
    source = folder_of(tmp_path / "in", 4)
    plan = plan_of(source, tmp_path / "out")
    labeller, load = Labeller(plan), ImageFile.ImageFile.load
    large = open_image(source / "001.jpg").shape[1::-1]

    def short(image: ImageFile.ImageFile) -> object:
        if image.size == large:
            raise MemoryError
        return load(image)

    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", short)
        with pytest.raises(Unreachable, match=r"cannot read .*001\.jpg: there is not enough memory"):
            labeller.label(0)
    assert plan.missing() == [0]
    assert labeller.label(0).images == 4


def test_what_no_reader_should_raise_costs_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder_of(tmp_path / "in", 4)

    def odd(content: str | bytes) -> np.ndarray:
        if str(content).endswith("001.jpg"):
            raise ZeroDivisionError("by a reader")
        return open_image(content)

    monkeypatch.setattr("mien.reading.shards.open_image", odd)
    counts = Labeller(plan_of(source, tmp_path / "out")).label(0)
    assert counts.images == 3
    (failure,) = counts.failures
    assert str(failure) == f"{source / '001.jpg'} cannot be read: ZeroDivisionError: by a reader"


def test_the_file_names_its_model(tmp_path: Path) -> None:
    plan = plan_of(folder_of(tmp_path / "in", 1), tmp_path / "out")
    Labeller(plan).label(0)
    notes = pq.read_schema(plan.part(0)).metadata
    assert notes[b"mien.model"] == load_model().name.encode()
    assert notes[b"mien.model_sha256"] == plan.manifest.model_sha256.encode()


def test_another_model_on_the_worker_is_refused(tmp_path: Path) -> None:
    plan = plan_of(folder_of(tmp_path / "in", 1), tmp_path / "out")
    with pytest.raises(InputError, match="every machine needs the same"):
        Labeller(replace(plan, manifest=replace(plan.manifest, model_sha256="0" * 64)))


def test_a_stop_leaves_nothing(tmp_path: Path) -> None:
    plan = plan_of(folder_of(tmp_path / "in", 4), tmp_path / "out")
    answers = iter([False, True])
    with pytest.raises(Stopped):
        Labeller(plan).label(0, stop=lambda: next(answers))
    assert plan.missing() == [0]


def test_counts_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "part.parquet").write_text("hello")
    with pytest.raises(Damaged, match=r"part.parquet is no whole file of a shard"):
        read_counts(tmp_path / "part.parquet")
