"""Labelling as its user meets it: what is in the folder, what is printed, what a kill costs."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mien
from conftest import linear_model
from mien.errors import InputError
from mien.expressions import EXPRESSIONS, Expression
from mien.reading.bulk import Failure
from mien.reading.label import label, read_failures
from mien.reading.recognizer import Card, load_model
from mien.reading.shards import Labeller
from photos import encoded, folder_of, plan_of, read_one_by_one, rows_of, tar_of


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mien", "label", "--workers", "1", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_a_source_of_everything(tmp_path: Path) -> None:
    """Each bad input is named, all that is good is kept, and a second start has nothing to do."""
    photos = folder_of(tmp_path / "in", 6)
    tar_of(photos / "t.tar", {"0.jpg": encoded(0), "1.jpg": b"no image", "2.jpg": encoded(4)})
    pq.write_table(pa.table({"image": [encoded(1)]}), photos / "u.parquet")
    pq.write_table(pa.table({"label": [3]}), photos / "v.parquet")
    done = run("in", "--out", "out", "--shard-size", 4, cwd=tmp_path)
    assert done.returncode == 1
    assert "happy 3, neutral 3" in done.stdout
    assert "no face in 25.0% of the images, 3 failures" in done.stdout
    bad = ["in/005.jpg", "in/t.tar/1.jpg", "in/v.parquet"]
    assert [line.split()[1].rstrip(":") for line in done.stderr.splitlines()] == bad
    assert "has no image column" in done.stderr
    assert [failure.source for failure in read_failures(tmp_path / "out")] == bad
    inside = ["t.tar/0.jpg", "t.tar/2.jpg", "u.parquet#0"]
    assert [row["source"] for row in rows_of(tmp_path / "out")] == [
        f"in/{name}" for name in [*(f"{k:03}.jpg" for k in range(5)), *inside]
    ]
    again = run("in", "--out", "out", "--json", cwd=tmp_path)
    assert again.returncode == 1
    first = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (first["labelled_now"], first["images"], first["failures"]) == (0, 8, 3)
    assert {name: first[name] for name in json.loads(again.stdout)} == json.loads(again.stdout)


def test_the_summary_counts(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    source = folder_of(tmp_path / "in", 12)
    summary = mien.label(
        source, tmp_path / "out", mien.LabelOptions(shard_size=5), workers=2, report=lambda *done: told.append(done)
    )
    assert (summary.images, summary.faces, summary.failures, summary.labelled_now) == (10, 8, 2, 12)
    assert summary.expressions == dict.fromkeys(EXPRESSIONS, 0) | {"happy": 4, "neutral": 4}
    assert (summary.no_face_share, summary.unfinished) == (0.2, [])
    assert summary.uncertain_share == sum(bool(row["uncertain"]) for row in rows_of(tmp_path / "out")) / 8 == 0.25
    assert (told[0], told[-1], len(told)) == ((0, 12), (12, 12), 4)
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    manifest = plan_of(source, tmp_path / "out").manifest
    assert (written["model"], written["model_sha256"]) == ("mien-small", manifest.model_sha256)
    assert written["shard_size"] == 5
    assert pq.read_table(tmp_path / "out" / "failures.parquet").column_names == ["source", "reason"]


def test_rows_are_those_of_mien_read(collins: Path, hopper: Path, tmp_path: Path) -> None:
    label(collins.parent, tmp_path / "out", workers=1)
    assert rows_of(tmp_path / "out") == read_one_by_one([collins, hopper])


def test_another_models_rows_are_not_mixed_in(tmp_path: Path) -> None:
    photos = folder_of(tmp_path / "in", 2)
    label(photos, tmp_path / "out", workers=1)
    before = rows_of(tmp_path / "out")
    card = Card("other", EXPRESSIONS, (1.0,) * 7, (0.0,) * 7, 0.5, "{}", {}, "none", "", (0.0,) * 7)
    model = linear_model(tmp_path / "other.onnx", np.ones((48 * 48, 7)), **card.to_metadata())
    done = run(photos, "--out", tmp_path / "out", "--model", model)
    assert done.returncode == 2
    assert "was begun with model 'mien-small', not 'other', model_sha256" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert rows_of(tmp_path / "out") == before
    assert run(photos, "--out", tmp_path / "new", "--model", model).returncode == 0


def test_a_network_of_eight_has_a_column_for_contempt(tmp_path: Path) -> None:
    labels = (*EXPRESSIONS, Expression.CONTEMPT)
    card = replace(load_model().card, name="eight", labels=labels, temperatures=(1.0,) * 8, biases=(0.0,) * 8)
    card = replace(card, probe=(0.0,) * 8)
    weights = np.zeros((48 * 48, 8))
    weights[:, 7] = 3 / (48 * 48 * 128)
    model = linear_model(tmp_path / "eight.onnx", weights, **card.to_metadata())
    summary = label(folder_of(tmp_path / "in", 1), tmp_path / "out", mien.LabelOptions(str(model)), workers=1)
    assert summary.expressions == dict.fromkeys(EXPRESSIONS, 0) | {"contempt": 1}
    (row,) = rows_of(tmp_path / "out")
    assert row["p_contempt"] == max(value for name, value in row.items() if name.startswith("p_"))


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")
@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["in", "--engine", "ray", "--address", "127.0.0.1:9"], "no Ray cluster answers at 127.0.0.1:9", 1),
        (["none"], "cannot read none", 1),
        ([""], "the argument after 'out' is empty", 2),
        (["t.parquet"], "has no image column", 2),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, code: int, tmp_path: Path) -> None:
    folder_of(tmp_path / "in", 1)
    pq.write_table(pa.table({"label": [3]}), tmp_path / "t.parquet")
    done = run("--out", "out", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs a privilege that is not there")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_what_is_whole(small_disk: Path, tmp_path: Path) -> None:
    photos = folder_of(tmp_path / "in", 20)
    out = small_disk / "out"
    (small_disk / "ballast").write_bytes(bytes(330_000))
    done = run(photos, "--out", out, "--shard-size", 1)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "No space left on device" in line
    whole = rows_of(out)
    assert whole
    assert not [name for name in os.listdir(out / "rows") if name.startswith(".")]
    (small_disk / "ballast").unlink()
    assert run(photos, "--out", out).returncode == 1  # three photos are damaged
    paths = sorted(photos.iterdir())
    assert rows_of(out) == read_one_by_one(paths)
    assert rows_of(out)[: len(whole)] == whole


def test_a_given_up_shard_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard whose process is killed again and again; played, as no image of ours does that."""
    from mien.reading import label as module
    from mien.reading.engines import Done, run_local

    def run_but_one(plan: Any, shards: list[int], workers: int) -> Iterator[Done]:
        yield Done(1, "its process was killed", final=False)
        yield Done(1, "its process was killed", final=True)
        yield from run_local(plan, [shard for shard in shards if shard != 1], workers)

    source, warnings = folder_of(tmp_path / "in", 6), list[str]()
    options = mien.LabelOptions(shard_size=2)
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_local", run_but_one)
        summary = label(source, tmp_path / "out", options, workers=1, warn=warnings.append)
    assert (summary.unfinished, summary.images) == ([1], 3)
    then = [warning.rpartition("; ")[2] for warning in warnings]
    assert then == ["it is begun again", "it is left for another start"]
    summary = label(source, tmp_path / "out", options, workers=1)
    assert (summary.unfinished, summary.images, summary.labelled_now) == ([], 5, 2)


def test_an_outage_of_the_storage_is_no_failure(tmp_path: Path) -> None:
    source, warnings = folder_of(tmp_path / "in", 4), list[str]()
    options = mien.LabelOptions(shard_size=2)

    def unplug(done: int, total: int) -> None:
        if not done:
            source.rename(tmp_path / "away")

    summary = label(source, tmp_path / "out", options, workers=1, report=unplug, warn=warnings.append)
    assert (summary.unfinished, summary.images, summary.failures, summary.labelled_now) == ([0, 1], 0, 0, 0)
    assert "shard 0 was not labelled: 2 of its images could not be reached" in warnings[0]
    assert warnings[0].endswith("it is left for another start")
    (tmp_path / "away").rename(source)
    summary = label(source, tmp_path / "out", options, workers=1)
    assert (summary.unfinished, summary.images, summary.failures) == ([], 4, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "spark"}, "engine should be one of local, ray"),
        ({"workers": -1}, "0 or more"),
        ({"gpus": 1}, "for the ray engine"),
        ({"address": "x:1"}, "for the ray engine"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        label(tmp_path, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX signals")
def test_ctrl_c_is_one_line_and_no_loss(tmp_path: Path) -> None:
    photos = folder_of(tmp_path / "in", 60)
    process = start(photos, tmp_path / "out")
    wait_for(process, tmp_path / "out", 1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    kept = f"mien: stopped; every whole shard is kept in {tmp_path / 'out'}"
    assert errors.splitlines() == [f"{kept}; to go on, give the same command again"]
    assert 0 < len(rows_of(tmp_path / "out")) < 50


@pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX signals")
@pytest.mark.parametrize("moment", [0.7, 1.1, 1.6])
def test_ctrl_c_while_processes_begin_is_one_line(moment: float, tmp_path: Path) -> None:
    process = start(folder_of(tmp_path / "in", 60), tmp_path / "out")
    while not (tmp_path / "out" / "plan.parquet").exists() and process.poll() is None:
        time.sleep(0.005)
    time.sleep(moment - 0.7)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert len(errors.splitlines()) == 1
    assert "to go on, give the same command again" in errors


@pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_storage_that_never_answers_is_not_waited_for(how: signal.Signals, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        (tmp_path / "list.txt").write_text(f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg\n")
        process = start(tmp_path / "list.txt", tmp_path / "out")
        asked, _ = silent.accept()
        process.send_signal(how)
        begun = time.monotonic()
        process.communicate(timeout=60)
        asked.close()
    assert process.returncode == 128 + how
    assert time.monotonic() - begun < 30  # 5 s, on a machine that is busy with nothing else


def start(photos: Path, out: Path) -> subprocess.Popen[str]:
    """A real run, in a process group of its own."""
    command = [sys.executable, "-m", "mien", "label", photos, "--out", out, "--workers", "1", "--shard-size", "1"]
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def parts(out: Path) -> int:
    return len(list(out.glob("rows/part-*.parquet")))


def wait_for(process: subprocess.Popen[str], out: Path, more: int) -> None:
    """Until it has written so many files more, or has ended."""
    begin = parts(out)
    while parts(out) < begin + more and process.poll() is None:
        time.sleep(0.005)


@pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX signals")
def test_killed_seven_times_each_image_comes_once(tmp_path: Path) -> None:
    """SIGKILL to all processes at random moments: while it starts, lists, plans, reads, writes."""
    photos, out = folder_of(tmp_path / "in", 120), tmp_path / "out"
    moment = random.Random(0)
    for _ in range(7):
        process = start(photos, out)
        whole = moment.choice((0, 0, 1, 2))
        wait_for(process, out, whole)
        time.sleep(moment.uniform(0, 0.05 if whole else 0.8))  # a shard takes a fast machine some 20 ms
        assert process.poll() is None, process.communicate()[1]
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert 0 < parts(out) < 120
    process = start(photos, out)
    process.communicate()
    assert process.returncode == 1  # each sixth photo is damaged
    paths = sorted(photos.iterdir())
    rows = rows_of(out)
    assert rows == read_one_by_one(paths)
    failures = [failure.source for failure in read_failures(out)]
    assert sorted([*(row["source"] for row in rows), *failures]) == [str(path) for path in paths]
    plan = plan_of(photos, tmp_path / "whole", shard_size=1)
    labeller = Labeller(plan)
    for shard in range(plan.shards):
        labeller.label(shard)
        assert (out / "rows" / plan.part(shard).name).read_bytes() == plan.part(shard).read_bytes()


def test_failures_are_values(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\n")
    label(tmp_path / "list.txt", tmp_path / "out", workers=1)
    (failure,) = read_failures(tmp_path / "out")
    assert failure == Failure("caf\\udce9.jpg", "cannot read caf\\udce9.jpg: No such file or directory")
