"""Checkpoints from strangers: weights are loaded, code in them is not run."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from mien.errors import Damaged, FileError
from mien.lab.module import Classifier
from mien.lab.runs import Run, load_checkpoint
from mien.recipes import RECIPES


class Code:
    """What makes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.proof}'",)


def sound() -> dict[str, Any]:
    classifier = Classifier(RECIPES["mien-small"])
    return {"recipe": classifier.recipe.to_json(), "state_dict": classifier.state_dict()}


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path, proof = tmp_path / "best.ckpt", tmp_path / "ran"
    code = Code(proof)
    for value, options in (
        (sound() | {"extra": code}, {}),
        ({"recipe": code, "state_dict": {}}, {}),
        (sound() | {"extra": code}, {"_use_new_zipfile_serialization": False}),
    ):
        torch.save(value, path, **options)
        with pytest.raises(Damaged, match="is no checkpoint of this package"):
            load_checkpoint(path)
    path.write_bytes(pickle.dumps(code))
    with pytest.raises(Damaged, match="is no checkpoint of this package"):
        load_checkpoint(path)
    assert not proof.exists()
    pickle.loads(path.read_bytes())  # it would have
    assert proof.exists()


def test_a_checkpoint_that_grows_in_memory_is_refused(tmp_path: Path) -> None:
    plain = io.BytesIO()
    torch.save(sound() | {"zeros": torch.zeros(1_000_000)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(tmp_path / "best.ckpt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(Damaged, match="its content has .* bytes, expected at most"):
        load_checkpoint(tmp_path / "best.ckpt")
    (tmp_path / "best.ckpt").write_bytes(plain.getvalue())
    load_checkpoint(tmp_path / "best.ckpt")  # as torch packs it, all is well


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": "[" * 100_000},
        {"recipe": 5},
        {"recipe": RECIPES["mien-small"].to_json().replace('"mien-small"', '"../evil"')},
        {"state_dict": {}},
        {"state_dict": [1]},
        {"state_dict": {"network.0.weight": torch.zeros(1).expand(10**12)}},
    ],
    ids=["nested", "number", "network", "no weights", "list", "a trillion numbers"],
)
def test_other_contents_are_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    torch.save(sound() | changes, tmp_path / "best.ckpt")
    with pytest.raises(Damaged, match="is no checkpoint of this package"):
        load_checkpoint(tmp_path / "best.ckpt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "best.ckpt")
    with pytest.raises(FileError, match="expected a file"):
        load_checkpoint(tmp_path / "best.ckpt")


def test_records_nested_too_deeply_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save(sound(), tmp_path / "checkpoints" / "best.ckpt")
    (tmp_path / "environment.json").write_text("[" * 100_000)
    with pytest.raises(Damaged, match=r"environment.json is damaged .*nested too deeply"):
        Run(tmp_path)
    (tmp_path / "environment.json").write_text(json.dumps({"options": {"limit": 1.0}}))
    assert Run(tmp_path).name == "mien-small"
