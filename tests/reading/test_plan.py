import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import linear_model
from mien.errors import Damaged, FileError, InputError, MienError
from mien.expressions import EXPRESSIONS
from mien.reading import plan as plans
from mien.reading.plan import LabelOptions, default_shard_size, open_plan
from mien.reading.recognizer import Card
from mien.reading.shards import Labeller
from photos import folder_of, plan_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "in", 10)


def test_every_image_is_in_one_shard(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_GROUP", 4)  # shards of three lie across the plan's row groups
    plan = plan_of(source, tmp_path / "out", shard_size=3)
    assert (plan.shards, [plan.size(shard) for shard in range(4)]) == (4, [3, 3, 3, 1])
    shards = [plan.items(shard) for shard in range(4)]
    assert [item.source for items in shards for item in items] == [str(path) for path in sorted(source.iterdir())]
    assert [len(items) for items in shards] == [3, 3, 3, 1]
    assert plan.missing() == [0, 1, 2, 3]


@pytest.mark.parametrize(("images", "size"), [(300, 100), (51_200, 200), (5_000_000, 10_000)])
def test_the_size_of_shards_follows_from_the_number_of_images(images: int, size: int) -> None:
    assert default_shard_size(images) == size


def test_a_second_start_finds_the_plan_of_the_first(source: Path, tmp_path: Path) -> None:
    first = plan_of(source, tmp_path / "out", shard_size=4)
    (tmp_path / "out" / "rows").mkdir()
    (tmp_path / "out" / "rows" / "part-000001.parquet").touch()
    second = plan_of(source, tmp_path / "out")
    assert second == first
    assert second.missing() == [0, 2]


def test_a_start_that_was_killed_while_listing_leaves_the_folder_free(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("plan.parquet", ".manifest.json.1a2b3c4d.part"):
        (tmp_path / "out" / name).write_text("half")
    assert plan_of(source, tmp_path / "out").manifest.images == 10


def test_settings_and_models_are_not_mixed(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan_of(source, out)
    card = Card("mien-small", EXPRESSIONS, (1.0,) * 7, (0.0,) * 7, 0.5, "{}", {}, "none", "", (0.0,) * 7)
    other = linear_model(tmp_path / "mien-small.onnx", np.ones((48 * 48, 7)), **card.to_metadata())
    for options, message in (
        ({"model": str(other)}, "was begun with model_sha256"),  # of the same name
        ({"views": "mirror"}, "was begun with views 'single', not 'mirror'"),
        ({"min_score": 0.7}, "min_score 0.5, not 0.7"),
        ({"shard_size": 7}, "shard_size 100, not 7"),
    ):
        with pytest.raises(InputError, match=message):
            plan_of(source, out, **options)
    with pytest.raises(InputError, match=f"was begun with source '{source}'"):
        plan_of(folder_of(tmp_path / "other", 10), out)


def test_names_mean_the_same_images_at_every_start(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative names in a list are looked for where the first start was, or not at all."""
    names = tmp_path / "names.txt"
    names.write_text("in/000.jpg\n")
    monkeypatch.chdir(tmp_path)
    begun = plan_of(names, tmp_path / "out")
    monkeypatch.chdir(source)
    with pytest.raises(InputError, match=f"was begun in {tmp_path}, where the names .* but this is {source}; start it"):
        plan_of(names, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    assert plan_of(names, tmp_path / "out") == begun
    names.write_text(f"{source}/000.jpg\n")
    anywhere = plan_of(names, tmp_path / "other")
    monkeypatch.chdir(source)
    assert plan_of(names, tmp_path / "other").manifest == anywhere.manifest


def test_a_source_under_another_name_has_not_changed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begun = plan_of("in", tmp_path / "out")
    with pytest.raises(InputError, match=f"was begun with in, but now it is called {source}.*call it as before"):
        plan_of(source, tmp_path / "out")
    assert plan_of("in/", tmp_path / "out") == begun


def test_a_changed_source_is_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan_of(source, out)
    (source / "0000.jpg").write_bytes((source / "000.jpg").read_bytes())
    with pytest.raises(InputError, match=r"in has changed since .*out was begun: it had 10 images then, and has 11"):
        plan_of(source, out)
    (source / "0000.jpg").unlink()
    (source / "003.jpg").write_bytes(b"another photo under the same name")
    with pytest.raises(InputError, match="others or of other sizes"):
        plan_of(source, out)


def test_another_folder_is_not_written_into(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds 000.jpg and no manifest"):
        plan_of(source, source)
    with pytest.raises(InputError, match=r"000.jpg is a file"):
        plan_of(source, source / "000.jpg")
    assert len(list(source.iterdir())) == 10


def test_no_folder_is_made_where_there_is_nothing_to_do(tmp_path: Path) -> None:
    photos = folder_of(tmp_path / "in", 1)
    for source, options in ((tmp_path / "none", {}), (photos, {"model": "none.onnx"}), (photos, {"side": 3})):
        with pytest.raises(MienError):
            plan_of(source, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"shard_size": -1}, {"min_score": 2.0}, {"views": "twelve"}])
def test_settings_out_of_range_are_not_fixed(options: dict[str, Any], source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        plan_of(source, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_damaged_manifest_is_named(source: Path, tmp_path: Path) -> None:
    plan_of(source, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({"source": "x"}))
    with pytest.raises(Damaged, match=r"manifest.json is no manifest of this version"):
        plan_of(source, tmp_path / "out")


@pytest.mark.parametrize("damage", ["text", "cut", "other"])
def test_a_damaged_plan_is_named(damage: str, source: Path, tmp_path: Path) -> None:
    plan = plan_of(source, tmp_path / "out")
    path = tmp_path / "out" / "plan.parquet"
    if damage == "other":
        pq.write_table(pa.table({"image": [b"1"] * 10}), path)
    else:
        path.write_bytes(b"hello" if damage == "text" else bytes(300) + path.read_bytes()[300:])
    with pytest.raises(Damaged, match=r"plan.parquet is damaged: .*; put it back, or label into a new folder"):
        plan.items(0)
    path.unlink()
    with pytest.raises(FileError, match=r"cannot read .*plan.parquet: .*No such file"):
        plan.items(0)


def test_what_a_killed_run_has_not_finished_is_cleared_away(source: Path, tmp_path: Path) -> None:
    plan_of(source, tmp_path / "out")
    (tmp_path / "out" / "rows").mkdir()
    for place in ("rows/.part-000000.parquet.1a2b3c4d.part", ".summary.json.1a2b3c4d.part"):
        (tmp_path / "out" / place).touch()
    plan_of(source, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.part"))


def test_a_file_system_without_locks_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(FileError, match=r"cannot lock .*out: No locks available; name a folder on a file system"):
        plan_of(source, tmp_path / "out")


def test_results_of_another_run_are_no_source(source: Path, tmp_path: Path) -> None:
    Labeller(plan_of(source, source / "labels")).label(0)
    plan = plan_of(source, tmp_path / "out")
    assert [item.source for item in plan.items(0)] == [str(path) for path in sorted(source.glob("*.jpg"))]


def test_two_runs_do_not_work_in_one_folder(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with open_plan(source, tmp_path / "out", LabelOptions()), pytest.raises(FileError, match="another run is at work"):
        plan_of(source, tmp_path / "out")
    plan_of(source, tmp_path / "out")


def test_the_results_may_lie_inside_the_source(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source)
    for _ in range(2):
        assert plan_of(".", Path("labels")).manifest.images == 10
