import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from mien.errors import Damaged, FileError, InputError, NotFound, ParityError
from mien.expressions import EXPRESSIONS, Expression
from mien.lab import export as exporting
from mien.lab import saved
from mien.lab.batches import divide
from mien.lab.ensemble import combine
from mien.lab.export import export
from mien.lab.runs import Run
from mien.lab.training import train
from mien.measuring import metrics
from mien.measuring.exclusion import exclude, write_exclusions
from mien.measuring.faceset import FaceSet
from mien.reading.recognizer import Recognizer
from mien.recipes import RECIPES, Recipe, override

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import bars

    images, labels = bars(84)
    splits = np.array(["Training"] * 56 + ["PublicTest"] * 28)
    faces = FaceSet(images, labels, splits, np.arange(84), np.full((84, 10), 1, np.uint8), "0" * 64, "small.csv")
    recipe = override(RECIPES["mien-small"], {"network": "shallow", "epochs": "2", "batch": "14"})
    return train(recipe, faces, tmp_path_factory.mktemp("runs") / "run")


def test_the_file_computes_what_the_run_computes(run: Path, small_faces: FaceSet, tmp_path: Path) -> None:
    recognizer = Recognizer(export(run, tmp_path / "model.onnx"))
    for batch in (1, 3, 64):
        faces = np.ascontiguousarray(small_faces.images[:batch])
        assert np.abs(recognizer.logits(faces) - Run(run).logits(faces)).max() < 1e-4
    assert recognizer.card.labels == EXPRESSIONS
    assert recognizer.card.temperatures == (1.0,) * 7
    assert Recipe.from_json(recognizer.card.recipe) == Run(run).recipe
    assert recognizer.self_test() < 1e-4


def test_a_saved_pair_is_exported_as_its_run_is(run: Path, small_faces: FaceSet, tmp_path: Path) -> None:
    pair, _ = saved.save(run, tmp_path / "pair.json")
    of_pair, of_run = (Recognizer(export(source, tmp_path / "model.onnx")) for source in (pair, run))
    assert np.array_equal(of_pair.logits(small_faces.images), of_run.logits(small_faces.images))
    assert replace(of_pair.card, probe=()) == replace(of_run.card, probe=())


def test_calibration_is_fitted_and_recorded(run: Path, small_faces: FaceSet, tmp_path: Path) -> None:
    recognizer = Recognizer(export(run, tmp_path / "model.onnx", faces=small_faces, name="other"))
    card, chosen = recognizer.card, small_faces.split("PublicTest")
    assert card.name == "other"
    logits = recognizer.logits(chosen.images)
    scaling = metrics.fit_scaling(logits, chosen.labels)
    assert card.temperatures == pytest.approx(scaling.temperatures.tolist())
    assert card.biases == pytest.approx(scaling.biases.tolist())
    assert card.scores["PublicTest"]["single view, all"]["n"] == 28
    calibration = card.scores["calibration"]
    assert set(calibration) == {
        "split",
        "n",
        "ece_cross_fitted",
        "ece_floor",
        "ece_cross_fitted_new",
        "ece_floor_new",
        "accuracy_cross_fitted",
        "accuracy_unscaled",
        "coverage",
        "accuracy_kept",
        "risk_coverage",
        "notes",
    }
    assert calibration["notes"] == []
    assert calibration["n"] == 28
    assert calibration["ece_cross_fitted_new"] == calibration["ece_cross_fitted"]
    assert calibration["accuracy_unscaled"] == pytest.approx((logits.argmax(1) == chosen.labels).mean())
    crossed = metrics.cross_fitted(logits, chosen.labels)
    assert calibration["accuracy_cross_fitted"] == pytest.approx((crossed.argmax(1) == chosen.labels).mean())
    assert calibration["risk_coverage"][-1][:2] == pytest.approx(
        [1.0, card.scores["PublicTest"]["single view, all"]["accuracy"]]
    )
    assert card.data_sha256 == small_faces.checksum
    assert card.learned == Run(run).learned != ""


def test_confidence_may_be_fitted_on_new_pictures_alone(
    run: Path, small_faces: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of PublicTest's 28 rows seven stand in Training, and two more are said to, in another version."""
    near = small_faces.rows[[110, 111]]
    monkeypatch.setattr(exporting, "near_in_training", lambda faces, split: near)
    chosen = small_faces.split("PublicTest")
    new = ~chosen.twins_in(small_faces, "Training") & ~np.isin(chosen.rows, near)
    assert new.sum() == 19
    for name, made in {
        "one": export(run, tmp_path / "one.onnx", faces=small_faces, new=True),
        "two": combine([run_file := export(run, tmp_path / "a.onnx"), run_file], tmp_path / "b.onnx", small_faces,
                       new=True),
    }.items():  # fmt: skip
        recognizer = Recognizer(made)
        card, scores = recognizer.card, recognizer.card.scores
        logits = recognizer.logits(chosen.images)
        scaling = metrics.fit_scaling(logits[new], chosen.labels[new])
        assert card.temperatures == pytest.approx(scaling.temperatures.tolist()), name
        assert card.temperatures != pytest.approx(metrics.fit_scaling(logits, chosen.labels).temperatures.tolist())
        kept = metrics.threshold_for(scaling(logits)[new], chosen.labels[new], 0.85)
        assert card.threshold == pytest.approx(kept)
        assert scores["calibration"]["n"] == 19
        answered = (scaling(logits).max(1) >= kept)[new].mean() if kept < 1 else 0
        assert scores["calibration"]["coverage"] == pytest.approx(answered)
        assert scores["PublicTest"]["single view, without near twins"]["n"] == 19
    everything = small_faces.rows[small_faces.splits == "PublicTest"]
    monkeypatch.setattr(exporting, "near_in_training", lambda faces, split: everything)
    with pytest.raises(InputError, match="all 28 faces of PublicTest stand in Training"):
        export(run, tmp_path / "none.onnx", faces=small_faces, new=True)
    monkeypatch.setattr(exporting, "near_in_training", lambda faces, split: everything[:19])
    with pytest.raises(InputError, match="9 of 28 faces of PublicTest do not stand in Training, but 10 are needed"):
        export(run, tmp_path / "none.onnx", faces=small_faces, new=True)
    with pytest.raises(NotFound, match="no split 'Training'"):  # nobody can tell what is new
        export(run, tmp_path / "none.onnx", faces=chosen, new=True)
    assert not (tmp_path / "none.onnx").exists()


def test_a_model_tells_which_rows_its_scores_leave_out(small_faces: FaceSet, tmp_path: Path) -> None:
    recipe = override(RECIPES["mien-small"], {"network": "shallow", "epochs": "1", "batch": "14"})
    run = train(recipe, small_faces, tmp_path / "run")
    chosen = small_faces.split("PublicTest").rows
    write_exclusions(tmp_path / "list.csv", small_faces, {int(row): ["label"] for row in chosen[:7]})
    card = Recognizer(export(run, tmp_path / "m.onnx", faces=exclude(small_faces, tmp_path / "list.csv"))).card
    assert card.scores["PublicTest"]["single view, all"]["n"] == len(chosen) - 7
    counted, warned = card.scores["calibration"]["notes"]
    assert counted.startswith("7 of ")
    assert "Not comparable" in warned


def test_without_a_publictest_the_rows_that_were_held_out_calibrate(tmp_path: Path) -> None:
    from conftest import bars

    images, labels = bars(84)
    everything = np.array(["Training"] * 84)
    faces = FaceSet(images, labels, everything, np.arange(84), None, "1" * 64, "my_faces")
    changes = {"network": "shallow", "epochs": "1", "batch": "14", "protocol.select": "0.25",
               "protocol.held_out": "random"}  # fmt: skip
    recipe = override(RECIPES["mien-small-plain"], changes)
    run = train(recipe, faces, tmp_path / "run")
    card = Recognizer(export(run, tmp_path / "mine.onnx", faces=faces)).card
    held = divide(faces, recipe).split("held-out")
    assert len(held) == card.scores["held-out"]["single view, all"]["n"] == 21
    assert card.scores["calibration"]["split"] == "held-out"
    scaling = metrics.fit_scaling(Recognizer(tmp_path / "mine.onnx").logits(held.images), held.labels)
    assert card.temperatures == pytest.approx(scaling.temperatures.tolist())
    other = replace(faces, checksum="2" * 64)  # of which nobody knows what was held out
    with pytest.raises(InputError, match="a PublicTest that the network did not train on, or the one that it did"):
        export(run, tmp_path / "other.onnx", faces=other)
    assert not (tmp_path / "other.onnx").exists()


def test_a_publictest_that_was_learned_from_does_not_calibrate(small_faces: FaceSet, tmp_path: Path) -> None:
    changes = {"network": "shallow", "epochs": "1", "batch": "14", "protocol.select": "0.25",
               "protocol.held_out": "random", "protocol.train": '["Training", "PublicTest"]'}  # fmt: skip
    run = train(override(RECIPES["mien-small-plain"], changes), small_faces, tmp_path / "run")
    card = Recognizer(export(run, tmp_path / "both.onnx", faces=small_faces)).card
    assert card.scores["calibration"]["split"] == "held-out"
    assert "PublicTest" not in card.scores


def test_faces_that_were_learned_in_an_earlier_training_do_not_calibrate(run: Path, tmp_path: Path) -> None:
    """The recipe alone does not tell: its Training may have been called otherwise."""
    from conftest import bars

    images, labels = bars(84)
    splits = np.array(["PublicTest"] * 56 + ["Training"] * 28)
    faces = FaceSet(images, labels, splits, np.arange(84), None, "1" * 64, "other.csv")
    with pytest.raises(InputError, match="about 100% of the faces of PublicTest are among those that mien-small"):
        export(run, tmp_path / "model.onnx", faces=faces)
    assert list(tmp_path.iterdir()) == []


def test_the_second_head_stays_behind(run: Path, tmp_path: Path) -> None:
    graph = onnx.load(export(run, tmp_path / "model.onnx")).graph
    assert not any(17 in tensor.dims for tensor in graph.initializer)
    assert not {"Slice", "Gather"} & {node.op_type for node in graph.node}
    assert [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim][1] == 7
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in graph.initializer)


def test_a_file_that_computes_something_else_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PARITY", -1.0)
    with pytest.raises(ParityError, match="should differ by at most"):
        export(run, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_missing_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no checkpoint .*mien train"):
        Run(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "best.ckpt"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(Damaged, match="is no checkpoint"):
        Run(tmp_path)
    torch.save({"state_dict": {}, "code": print}, path)  # a pickle that names a function
    with pytest.raises(Damaged, match="is no checkpoint"):
        Run(tmp_path)
    torch.save({"state_dict": {}, "recipe": RECIPES["paul"].to_json()}, path)  # another network's weights
    with pytest.raises(Damaged, match="is no checkpoint"):
        Run(tmp_path)


def test_a_network_of_eight_labels_is_calibrated_on_them_and_reads(
    small_faces: FaceSet, collins: Path, tmp_path: Path
) -> None:
    assert small_faces.votes is not None
    small_faces.votes[98:112] = [0, 0, 0, 0, 0, 0, 0, 10, 0, 0]
    small_faces.votes[112:115] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 10]
    recipe = override(RECIPES["mien-small"], {"network": "shallow", "epochs": "1", "batch": "14", "labels": "ferplus"})
    run = train(recipe, small_faces, tmp_path / "run")
    with pytest.raises(InputError, match="--ferplus"):
        export(run, tmp_path / "m.onnx", faces=replace(small_faces, votes=None))
    recognizer = Recognizer(export(run, tmp_path / "m.onnx", faces=small_faces))
    assert recognizer.labels == tuple(Expression)
    assert recognizer.name == "mien-small-ferplus"
    scores = recognizer.card.scores["PublicTest"]["single view, all"]
    assert scores["n"] == 25
    assert sum(scores["confusion"][7]) == 14
    assert recognizer.read(collins)[0].probabilities.keys() == set(Expression)
    architecture, _ = saved.save(run, tmp_path / "net.json")
    assert json.loads(architecture.read_text())["labels"][7] == "contempt"
    some = small_faces.images[:3]
    assert np.allclose(saved.Saved(architecture).logits(some), Run(run).logits(some))
