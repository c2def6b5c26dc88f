"""What strangers send ends in a result or in an error of ours: the corpus through its driver, and made-up input."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mien.errors import MienError
from mien.expressions import EXPRESSIONS
from mien.measuring.fer_csv import read_faces, read_votes
from mien.reading.graphs import check_graph
from mien.reading.images import FORMATS, encode, open_image
from mien.reading.recognizer import Card, load_model
from mien.recipes import Recipe, get_recipe

CARD = load_model().card.to_metadata()
FUZZ = Path(__file__).parent.parent / "benchmarks" / "fuzz"
QUICK = ("onnx", "recipes", "votes", "arrays", "notes", "videos")  # kinds that take a second or two each

bounded = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.skipif(sys.platform != "linux", reason="limits and sizes of a process are read from Linux's /proc")
def test_the_corpus_ends_as_it_should(tmp_path: Path) -> None:
    """A part of `python benchmarks/fuzz/drive.py`: 700 files; the whole takes minutes."""
    pytest.importorskip("av")
    command = [sys.executable, str(FUZZ / "drive.py"), "--json", str(tmp_path / "out.json")]
    command += [word for kind in QUICK for word in ("--kind", kind)]
    done = subprocess.run(
        command, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    results = json.loads((tmp_path / "out.json").read_text())
    assert {result["kind"] for result in results} == set(QUICK)
    assert len({(result["kind"], result["file"]) for result in results}) >= 600


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@bounded
@given(st.dictionaries(st.sampled_from(sorted(json.loads(get_recipe("paul").to_json()))), values, max_size=3))
def test_a_recipe_is_read_or_refused(changes: dict[str, Any]) -> None:
    text = json.dumps(json.loads(get_recipe("paul").to_json()) | changes)
    try:
        recipe = Recipe.from_json(text)
    except MienError:
        return
    assert Recipe.from_json(recipe.to_json()) == recipe


@bounded
@given(st.dictionaries(st.sampled_from(sorted(CARD)), st.text(max_size=40) | values.map(json.dumps), max_size=3))
def test_a_card_is_read_or_refused(changes: dict[str, str]) -> None:
    try:
        card = Card.from_metadata(CARD | changes, "a.onnx")
    except MienError:
        return
    assert sorted(card.labels) == sorted(EXPRESSIONS)
    assert Card.from_metadata(card.to_metadata(), "a.onnx") == card


pixels = st.lists(st.integers(-1, 300).map(str) | st.text(max_size=3), max_size=6).map(" ".join)
whole = st.just(" ".join(["7"] * 2304))
rows = st.lists(st.tuples(st.text(max_size=3), pixels | whole, st.sampled_from(["Training", "", "x"])).map(",".join))


@bounded
@given(
    head=st.sampled_from(["emotion,pixels,Usage\n", "pixels\n", "Usage,NF\n", ""]),
    body=rows | st.binary(),
    windows=st.booleans(),
)
def test_a_table_is_read_or_refused(head: str, body: list[str] | bytes, windows: bool, tmp_path: Path) -> None:
    end = "\r\n" if windows else "\n"
    text = body if isinstance(body, bytes) else end.join(body).encode("utf-8", "surrogatepass")
    (tmp_path / "a.csv").write_bytes(head.encode() + text)
    for reader in (read_faces, read_votes):
        try:
            table = reader(tmp_path / "a.csv")
        except MienError:
            continue
        assert all("a.csv, line " in reason for reason in table.faults.values())


@bounded
@given(st.data())
def test_damaged_bytes_are_read_or_refused(data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(sorted(FORMATS)))
    image = encode(np.arange(32 * 32 * 3).astype(np.uint8).reshape(32, 32, 3), suffix)
    model = load_model().path.read_bytes()
    for sound, use in ((image, open_image), (model, lambda content: check_graph(content, "a.onnx", 48, (7, 8)))):
        place = data.draw(st.integers(0, len(sound) - 1))
        put = data.draw(st.binary(max_size=8))
        with suppress(MienError):
            use(sound[:place] + put + sound[place + len(put) :])
