"""What several tests need: example photos, small made-up data, the real data set where it is named."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mien.measuring.faceset import FaceSet
from mien.recipes import RECIPES, Recipe, override

EXAMPLES = Path(__file__).parent.parent / "examples"
TINY = override(RECIPES["mien-small"], {"epochs": "3", "batch": "14", "optimizer.lr": "0.05"})


TINY_WIDTHS = (16, 32, 64, 128)


def quick(**changes: object) -> Recipe:
    """A recipe of three epochs for few rows, with other settings."""
    return replace(TINY, **changes)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module", autouse=True)
def _undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """In the laboratory's tests runs have no pictures, which take half the time of a small one: `drawn` has them."""
    if request.path.parent.name != "lab" or find_spec("lightning") is None:
        yield
        return
    from mien.lab import training

    none = SimpleNamespace(save_report=lambda *_: None, curves=lambda *_: None, save=lambda *_: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "plots", none)
        yield


@pytest.fixture(scope="module")
def tiny() -> Iterator[None]:
    """Two networks of mien-small's kind: tiny can learn the bars, shallow is written as a graph in half the time."""
    from mien.lab.networks import NETWORKS, residual_net

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "tiny", partial(residual_net, TINY_WIDTHS, (1, 1, 1, 1), stem_stride=2))
        patch.setitem(NETWORKS, "shallow", partial(residual_net, TINY_WIDTHS[:2], (1, 1), stem_stride=2))
        yield


@contextmanager
def drawn() -> Iterator[None]:
    """Runs that are made in here have their pictures."""
    from mien.lab import training
    from mien.measuring import plots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "plots", plots)
        yield


@pytest.fixture(scope="session")
def collins() -> Path:
    return EXAMPLES / "eileen-collins.jpg"


@pytest.fixture(scope="session")
def hopper() -> Path:
    return EXAMPLES / "grace-hopper.jpg"


@pytest.fixture(scope="session")
def fer2013() -> Path:
    """The real csv."""
    path = os.environ.get("MIEN_FER2013")
    if not path:
        pytest.skip("MIEN_FER2013 does not name a fer2013.csv")
    return Path(path)


def bars(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images that a network can learn: a bright bar whose place tells the label, on noise."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % 7).astype(np.int8)
    images = generator.integers(0, 120, (count, 48, 48)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 + 6 * label : 8 + 6 * label] = 230
    return images, labels


def labelled(training: int, public: int) -> FaceSet:
    """So many bars as Training, and after them so many as PublicTest; no votes."""
    images, labels = bars(training + public)
    splits = np.array(["Training"] * training + ["PublicTest"] * public)
    return FaceSet(images, labels, splits, np.arange(len(images)), None, "0" * 64, "small.csv")


@pytest.fixture
def small_faces() -> FaceSet:
    """140 learnable rows: 98 Training, 28 PublicTest (7 of them twins of Training rows), 14 unlabelled PrivateTest."""
    images, labels = bars(140)
    images[98:105] = images[:7]
    labels[126:] = -1
    votes = np.zeros((140, 10), np.uint8)
    votes[:, 0] = 10
    return FaceSet(
        images=images,
        labels=labels,
        splits=np.array(["Training"] * 98 + ["PublicTest"] * 28 + ["PrivateTest"] * 14),
        rows=np.arange(140),
        votes=votes,
        checksum="0" * 64,
        source="small.csv",
    )


@pytest.fixture
def small_csv(tmp_path: Path, small_faces: FaceSet) -> Path:
    """`small_faces` as a fer2013.csv, its votes as fer2013new.csv beside it."""
    path = tmp_path / "fer2013.csv"
    with open(path, "w") as file:
        file.write("emotion,pixels,Usage\n")
        for image, label, split in zip(small_faces.images, small_faces.labels, small_faces.splits, strict=True):
            file.write(f"{label if label >= 0 else ''},{' '.join(map(str, image.ravel()))},{split}\n")
    with open(tmp_path / "fer2013new.csv", "w") as file:
        file.write("Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n")
        for row, split in enumerate(small_faces.splits):
            file.write(f"{split},fer{row:07}.png,10,0,0,0,0,0,0,0,0,0\n")
    return path


def linear_model(path: Path, weights: np.ndarray | None = None, **metadata: str) -> Path:
    """An ONNX file with one matrix (2304, 7 or 8) between faces and logits, and whatever metadata a test wants."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((48 * 48, 7), np.float32) if weights is None else weights.astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["faces"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["float"], ["rows"]),
            helper.make_node("MatMul", ["rows", "weights"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["batch", 48, 48])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", weights.shape[1]])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch off the type checks that only tests have, to see what a user of the wrong types would see."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def refuse(error: Exception) -> Callable[..., object]:
    """A function that raises this, whatever it is called with."""
    def always(*_: object, **__: object) -> object:
        raise error

    return always
