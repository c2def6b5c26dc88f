"""What README promises, held to what happens."""

import contextlib
import importlib.util
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from mien.reading.bulk import read_photos
from mien.reading.recognizer import load_model, model_files
from mien.reading.tables import Photo, to_object

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return [text for kind, text in re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL) if kind == language]


def test_the_first_python_block_reads_a_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks("python")[0], "README.md", "exec"), {})
    assert re.fullmatch(r"happy \d\d% \(.*\)\n", printed.getvalue())


def test_the_json_line_is_what_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (shown,) = map(json.loads, blocks("json"))
    (photo,) = read_photos([Path(shown["source"])], load_model())
    assert isinstance(photo, Photo)
    came = to_object(photo)
    (face,), (expected,) = came.pop("faces"), shown.pop("faces")
    assert came == shown
    assert face["box"] == pytest.approx(expected["box"], abs=0.5)
    assert face["probabilities"] == pytest.approx(expected["probabilities"], abs=0.01)
    assert {k: face[k] for k in ("expression", "uncertain", "flags")} == {
        k: expected[k] for k in ("expression", "uncertain", "flags")
    }


def test_files_it_points_to_are_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"^mien (\w+)", "\n".join(blocks("")), re.MULTILINE))))
def test_verbs_it_uses_exist(verb: str) -> None:
    from mien.cli import app, data_app

    known = {command.callback.__name__ for command in app.registered_commands if command.callback} | {"data"}
    assert verb in known
    assert data_app.registered_commands


def script(name: str, folder: str = "benchmarks") -> ModuleType:
    """A script of benchmarks/ or tools/, imported: it is in no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_the_seed_systems_is_what_was_measured() -> None:
    pytest.importorskip("torch")
    seeds = script("reproduce_seeds")
    table = seeds.table(seeds.shown())
    for page in seeds.PAGES:
        assert f"{seeds.BEGIN}\n{table}{seeds.END}" in page.read_text(encoding="utf-8"), page.name


def test_the_rates_of_labelling_are_what_was_measured() -> None:
    rates = script("label")
    measured = json.loads(rates.RESULTS.read_text(encoding="utf-8")) if rates.RESULTS.exists() else None
    assert f"{rates.BEGIN}\n{rates.page(measured)}{rates.END}" in rates.PAGE.read_text(encoding="utf-8")


def test_the_scoreboard_is_what_was_measured() -> None:
    board = script("scoreboard")
    assert board.PAGE.read_text(encoding="utf-8") == board.page()


def test_the_page_on_quality_is_what_was_measured() -> None:
    quality = script("quality")
    results = json.loads(quality.RESULTS.read_text(encoding="utf-8"))
    assert quality.PAGE.read_text(encoding="utf-8") == quality.page(results)


@pytest.mark.parametrize("path", model_files().values(), ids=lambda path: path.stem)
def test_the_cards_are_what_was_measured(path: Path) -> None:
    card = script("model_card", "tools")
    assert path.with_suffix(".md").read_text(encoding="utf-8") == card.text(card.Recognizer(path).card, path)


def test_a_card_tells_what_scaling_does_to_accuracy() -> None:
    card, path = script("model_card", "tools"), model_files()["mien-small"]
    own = card.Recognizer(path).card
    measured = {"accuracy_cross_fitted": 0.5125, "accuracy_unscaled": 0.25}
    calibration = own.scores["calibration"] | measured
    text = card.text(replace(own, scores=own.scores | {"calibration": calibration}), path)
    assert "is 51.25%,\n  and without any scaling 25.00%." in text


def test_a_card_tells_which_trainings_came_one_after_the_other() -> None:
    card, path = script("model_card", "tools"), model_files()["mien-small"]
    own = card.Recognizer(path).card
    text = card.text(replace(own, trainings=("first: 5 epochs, seed 1", "second: 6 epochs, seed 2")), path)
    assert "from the weights before: first: 5 epochs, seed 1; then second: 6 epochs, seed 2\n" in text
