"""Every entry point of mien that takes bytes from strangers: a function of a file, by the kind of corpus that it reads.

A function returns, or raises a MienError. All they make goes into the current folder.
"""

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import bad_bodies
import numpy as np

from mien.errors import MienError

Entry = Callable[[Path], object]
SOUND_FACES = "faces.csv"  # three faces, in the current folder


def _images() -> dict[str, Entry]:
    from mien.measuring.data import load
    from mien.reading.images import open_image
    from mien.reading.recognizer import load_model

    recognizer = load_model()

    def as_data(path: Path) -> object:
        folder = Path("folder", "happy")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / path.name).with_suffix(".png").symlink_to(path)
        return load("folder", skip_bad=True)

    def posted(path: Path) -> object:
        if path.is_fifo() or path.is_dir() or path.is_symlink():
            raise MienError("no file to send")
        return _post("/v1/read", "application/octet-stream", path.read_bytes())

    return {"open_image": open_image, "read": recognizer.read, "data set": as_data, "POST": posted}


def _videos() -> dict[str, Entry]:
    from mien.reading.video import open_video

    def watched(path: Path) -> object:
        video = open_video(path)
        try:
            return [picture.rgb().shape for picture in video.frames()]
        finally:
            video.close()

    return {"video": watched}


def _tables() -> dict[str, Entry]:
    from mien.measuring.data import load

    return {
        "load": lambda path: load(path, cache=False),
        "load skipping": lambda path: load(path, cache=False, skip_bad=True),
        "load through the cache": lambda path: (load(path), load(path)),
    }


def _votes() -> dict[str, Entry]:
    from mien.measuring.data import load

    return {"votes": lambda path: load(SOUND_FACES, ferplus=path, cache=False, skip_bad=True)}


def _predictions() -> dict[str, Entry]:
    from mien.measuring.data import load
    from mien.measuring.evaluation import evaluate_predictions

    faces = load(SOUND_FACES)
    return {"predictions": lambda path: evaluate_predictions(path, faces, "Training").to_json()}


def _arrays() -> dict[str, Entry]:
    from mien.measuring.data import load

    def beside(name: str) -> Entry:
        def read(path: Path) -> object:
            if not path.exists():
                raise MienError("no file")
            shutil.rmtree("arrays", ignore_errors=True)
            Path("arrays").mkdir()
            np.save("arrays/images.npy", np.zeros((3, 48, 48), np.uint8))
            np.save("arrays/labels.npy", np.zeros(3, np.int8))
            Path("arrays", f"{name}.npy").unlink(missing_ok=True)
            Path("arrays", f"{name}.npy").symlink_to(path)
            return load("arrays")

        return read

    return {name: beside(name) for name in ("images", "labels", "splits", "votes", "rows")}


def _onnx() -> dict[str, Entry]:
    from mien.reading.recognizer import load_model, probe_image

    def used(path: Path) -> object:
        recognizer = load_model(path, views="mirror")
        rows = recognizer.probabilities(probe_image()[None].repeat(3, 0))
        if rows.shape != (3, 7) or not np.allclose(rows.sum(1), 1):
            raise AssertionError(f"no probabilities, but {rows}")
        if recognizer.self_test() < 0:
            raise AssertionError("a difference below zero")
        return recognizer.name

    return {"load_model": used}


def _recipes() -> dict[str, Entry]:
    from mien.recipes import Recipe

    return {"recipe": lambda path: Recipe.from_json(_text(path)).to_json()}


def _text(path: Path) -> str:
    if not path.is_file():
        raise MienError("no file to read text from")
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _checkpoints() -> dict[str, Entry]:
    from mien.lab.runs import Run, load_checkpoint
    from mien.lab.starting import check_start
    from mien.recipes import RECIPES

    def as_run(name: str) -> Callable[[Path], Path]:
        def placed(path: Path) -> Path:
            run = _run(path.parent.parent / "run")
            (run / "checkpoints" / f"{name}.ckpt").unlink(missing_ok=True)
            (run / "checkpoints" / f"{name}.ckpt").symlink_to(path)
            return run

        return placed

    def resumed(path: Path) -> None:
        if not path.exists():
            raise MienError("no file: nothing to resume")
        check_start(RECIPES["mien-small"], as_run("last")(path), resume=True)

    return {
        "checkpoint": load_checkpoint,
        "run": lambda path: Run(as_run("best")(path)).probabilities(np.zeros((2, 48, 48), np.uint8)),
        "resume": resumed,
    }


def _run(sound: Path) -> Path:
    shutil.rmtree("run", ignore_errors=True)
    shutil.copytree(sound, "run")
    return Path("run")


def _environments() -> dict[str, Entry]:
    from mien.lab.runs import Run

    def placed(path: Path) -> object:
        run = _run(path.parent.parent / "run")
        shutil.copy(path, run / "environment.json")
        opened = Run(run)
        return opened.name, opened.data_sha256

    return {"environment": placed}


def _architectures() -> dict[str, Entry]:
    from mien.lab.saved import Saved

    def placed(path: Path) -> object:
        shutil.copy(path, "pair.json")
        shutil.copy(path.parent.parent / "pair.npz", "pair.npz")
        return Saved("pair.json")

    return {"saved": placed}


def _weights() -> dict[str, Entry]:
    from mien.lab.saved import Saved

    def placed(path: Path) -> object:
        shutil.copy(path.parent.parent / "pair.json", "pair.json")
        shutil.copy(path, "pair.npz")
        return Saved("pair.json")

    return {"weights": placed}


def _notes() -> dict[str, Entry]:
    from mien.reading.rows import RowLog

    def resumed(path: Path) -> object:
        Path("rows.csv").write_text("")
        shutil.copy(path, "rows.csv.resume")
        log = RowLog("rows.csv", {"video": "a.mp4"}, resume=True)
        log.close()
        return log.state

    return {"notes": resumed}


@cache
def _client() -> Any:
    from starlette.testclient import TestClient

    from mien.reading.recognizer import load_model
    from mien.web.app import create_app

    return TestClient(create_app(load_model()), base_url="http://127.0.0.1")


def _post(path: str, kind: str, body: bytes) -> object:
    answer = _client().post(path, content=body, headers={"Content-Type": kind.encode("latin-1")})
    if answer.status_code >= 500:
        raise AssertionError(f"answered {answer.status_code}")
    if answer.status_code >= 400:
        raise MienError(answer.json()["error"]["message"])
    return answer.json()


def _bodies() -> dict[str, Entry]:
    def sent(path: str) -> Entry:
        def post(file: Path) -> object:
            kind, _, body = file.read_bytes().partition(b"\n")
            return _post(path, kind.decode("latin-1"), body)

        return post

    return {"POST /v1/read": sent("/v1/read"), "POST /v1/faces": sent("/v1/faces")} | {
        address: sent(address) for address in bad_bodies.addresses()
    }


ENTRIES: dict[str, Callable[[], dict[str, Entry]]] = {
    "images": _images,
    "videos": _videos,
    "faces": _tables,
    "votes": _votes,
    "predictions": _predictions,
    "arrays": _arrays,
    "onnx": _onnx,
    "recipes": _recipes,
    "checkpoints": _checkpoints,
    "environments": _environments,
    "architectures": _architectures,
    "weights": _weights,
    "notes": _notes,
    "bodies": _bodies,
}
"""By kind of corpus, what makes the entry points; called in the process that uses them."""


def place(folder: Path) -> None:
    """Make a folder the current one and put there what the entries lean on."""
    from bad_tables import HEAD, ROW

    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    Path(SOUND_FACES).write_bytes(HEAD + ROW * 3)
