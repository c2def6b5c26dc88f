"""The mean of several runs' weights: sound only between runs that began with the same ones."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import bars
from mien.errors import InputError
from mien.lab.export import export
from mien.lab.runs import Run
from mien.lab.soup import Soup
from mien.lab.training import train
from mien.measuring.faceset import FaceSet
from mien.reading.recognizer import Recognizer
from mien.recipes import RECIPES, Recipe, override

FACES = bars(70)[0]
PLAIN = {"epochs": "1", "batch": "35", "votes": "0", "drop_non_faces": "false", "ema": "0"}


def recipe(**changes: str) -> Recipe:
    return override(RECIPES["mien-small"], PLAIN | {key.replace("__", "."): value for key, value in changes.items()})


@pytest.fixture(scope="module")
def data() -> FaceSet:
    images, labels = bars(140)
    splits = np.array(["Training"] * 105 + ["PublicTest"] * 35)
    return FaceSet(images, labels, splits, np.arange(140), None, "0" * 64, "small.csv")


@pytest.fixture(scope="module")
def runs(data: FaceSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A start, two runs that went on from it, and a third that went on from one of these."""
    folder = tmp_path_factory.mktemp("runs")
    start = train(recipe(), data, folder / "start")
    made = {seed: train(recipe(seed=seed), data, folder / seed, start_from=start) for seed in ("1", "2")}
    return {"start": start, **made, "later": train(recipe(), data, folder / "later", start_from=made["1"])}


def test_its_weights_are_the_mean_and_its_norms_are_measured_anew(runs: dict[str, Path]) -> None:
    soup = Soup([runs["1"], runs["2"]], FACES)
    one, other, mean = (dict(source.classifier.named_parameters()) for source in (Run(runs["1"]), Run(runs["2"]), soup))
    for name, value in mean.items():
        torch.testing.assert_close(value, (one[name] + other[name]) / 2)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    stem, norm = soup.classifier.network[0], soup.classifier.network[1]
    with torch.no_grad():
        seen = stem((torch.from_numpy(FACES).unsqueeze(1) / 255 - 0.5) / 0.25)
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert not soup.classifier.training


def test_the_mean_of_a_run_with_itself_answers_as_the_run(runs: dict[str, Path]) -> None:
    with torch.no_grad():
        learning = Run(runs["1"]).classifier.train()(torch.from_numpy(FACES)).numpy()  # norms that see these faces
    np.testing.assert_allclose(Soup([runs["1"]] * 2, FACES).logits(FACES), learning, atol=0.02)


def test_it_is_exported_as_a_run_is_and_its_card_names_the_runs(
    runs: dict[str, Path], data: FaceSet, tmp_path: Path
) -> None:
    soup = Soup([runs["1"], runs["2"]], FACES)
    model = Recognizer(export(soup, tmp_path / "soup.onnx", faces=data, name="soup"))
    np.testing.assert_allclose(model.logits(FACES), soup.logits(FACES), atol=1e-4)
    assert [part["recipe"]["seed"] for part in model.card.scores["averaged"]] == [1, 2]
    assert [part["sha256"] for part in model.card.scores["averaged"]] == [Run(runs[n]).checksum for n in ("1", "2")]
    assert model.card.scores["PublicTest"]["single view, all"]["n"] == 35


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1"], "two run folders or more, but got 1"),
        (["start", "start"], "began with random ones; train further.*--start-from"),
        (["1", "later"], "same weights to begin with"),
    ],
)
def test_means_that_would_mean_nothing_are_refused(runs: dict[str, Path], names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Soup([runs[name] for name in names], FACES)


def test_runs_of_another_network_are_refused(runs: dict[str, Path], data: FaceSet, tmp_path: Path) -> None:
    deeper = train(recipe(network="mien-small-deep"), data, tmp_path / "deeper", start_from=runs["start"])
    with pytest.raises(InputError, match="same network, but it is mien-small in .* and mien-small-deep in"):
        Soup([runs["1"], deeper], FACES)


def test_the_command_line_writes_the_mean_in_eight_bits(
    runs: dict[str, Path], small_csv: Path, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from mien.cli import app

    sources, out = [str(runs["1"]), str(runs["2"])], tmp_path / "soup.onnx"
    done = CliRunner().invoke(app, ["export", *sources, "--data", str(small_csv), "--form", "int8", "--out", str(out)])
    assert done.exit_code == 0, done.output
    card = Recognizer(out).card
    assert card.precision == "int8"
    assert len(card.scores["averaged"]) == 2
    assert "before" in card.scores
