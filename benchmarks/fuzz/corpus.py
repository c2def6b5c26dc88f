#!/usr/bin/env python3
"""Make a corpus of hostile files: every kind that mien reads, damaged in every way we know.

    python benchmarks/fuzz/corpus.py FOLDER

The same files every time: the only chance in it is seeded. A name that begins with `refused-` is of a file that must
be refused; of any other, a result is as good as a refusal. Pickles in it touch FOLDER.ran, the proof that code ran.
"""

import json
import os
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from random import Random

import bad_bodies
import bad_images
import bad_models
import bad_tables
import numpy as np
from bad_images import File

SEED = 2013
EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def canary(folder: Path) -> Path:
    """The file that appears when code of the corpus in a folder is run."""
    return Path(f"{folder.absolute()}.ran")


def make(folder: Path) -> Path:
    """Fill a new folder with the corpus: a folder a kind.

    Returns:
        The file that appears when code of the corpus is run.
    """
    code = bad_models.Code(canary(folder))
    folder.mkdir(parents=True)
    secret = folder / "secret.bin"
    secret.write_bytes(np.ones((2304, 7), np.float32).tobytes())
    kinds = {
        "images": bad_images.images(Random(SEED)),
        "videos": bad_images.videos(Random(SEED), folder),
        "faces": bad_tables.faces(Random(SEED)),
        "votes": bad_tables.votes(Random(SEED)),
        "predictions": bad_tables.predictions(Random(SEED)),
        "arrays": bad_tables.image_arrays(code, Random(SEED)),
        "onnx": ((f"{name}.onnx", content) for name, content in bad_models.onnx_files(Random(SEED), secret)),
        "recipes": _texts(_recipe()),
        "notes": _texts(json.dumps({"settings": {"video": "a.mp4"}, "bytes": 0, "state": None})),
        "environments": _texts(json.dumps({"options": {"limit": 1.0}, "data_sha256": "0"})),
        "bodies": _requests(),
    }
    for kind, files in kinds.items():
        _fill(folder / kind, files)
    for kind in ("images", "faces", "predictions", "arrays", "onnx", "recipes", "videos"):
        _odd_files(folder / kind)
    _lab(folder, code)
    return canary(folder)


def _fill(folder: Path, files: Iterator[File]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files:
        (folder / name).write_bytes(content)


def _texts(sound: str) -> Iterator[File]:
    return ((f"{name}.json", content) for name, content in bad_tables.json_texts(sound, Random(SEED)))


def _odd_files(folder: Path) -> None:
    """What has a file's name and is none."""
    suffix = next(path.suffix for path in sorted(folder.iterdir()) if path.stem.startswith("sound"))
    os.mkfifo(folder / f"refused-pipe{suffix}")
    (folder / f"refused-device{suffix}").symlink_to("/dev/zero")
    (folder / f"refused-nothing{suffix}").symlink_to("nowhere")
    (folder / f"refused-circle{suffix}").symlink_to(f"refused-circle{suffix}")
    (folder / f"refused-folder{suffix}").mkdir()


def _requests() -> Iterator[File]:
    """Bodies behind a line with their type."""
    picture = (EXAMPLES / "grace-hopper.jpg").read_bytes()
    bomb = bad_images.png_of(7000, 7000)
    for name, kind, body in bad_bodies.bodies(picture, bomb, Random(SEED)):
        yield name, kind.encode("latin-1") + b"\n" + body


def _recipe() -> str:
    from mien.recipes import RECIPES

    return RECIPES["mien-small"].to_json()


def _lab(folder: Path, code: bad_models.Code) -> None:
    """Checkpoints and saved pairs, around an untrained network."""
    import torch

    from mien.lab.module import Classifier
    from mien.lab.saved import save
    from mien.recipes import Recipe

    run = folder / "run"
    (run / "checkpoints").mkdir(parents=True)
    classifier = Classifier(Recipe.from_json(_recipe()))
    buffer = BytesIO()
    torch.save({"recipe": _recipe(), "state_dict": classifier.state_dict()}, buffer)
    (run / "checkpoints" / "best.ckpt").write_bytes(buffer.getvalue())
    (run / "environment.json").write_text(json.dumps({"options": {"limit": 1.0}, "data_sha256": "0"}))
    (run / "recipe.json").write_text(_recipe())
    sound = bad_models.checkpoints(buffer.getvalue(), code, Random(SEED))
    _fill(folder / "checkpoints", ((f"{name}.ckpt", content) for name, content in sound))
    _odd_files(folder / "checkpoints")
    architecture, weights = save(run, folder / "pair.json")
    _fill(folder / "architectures", _texts(architecture.read_text()))
    files = bad_tables.weight_files(code, weights.read_bytes())
    _fill(folder / "weights", ((f"{name}.npz", content) for name, content in files))


if __name__ == "__main__":
    proof = make(Path(sys.argv[1]))
    files = sum(len(names) for _, _, names in os.walk(sys.argv[1]))
    print(f"{files:,} files in {sys.argv[1]}; code that they hold would make {proof}")
