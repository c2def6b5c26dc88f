"""Model files from strangers: what is refused before anything of it is run."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien.errors import Damaged
from mien.reading.graphs import check_graph
from mien.reading.recognizer import Recognizer, load_model, model_files

FACES = helper.make_tensor_value_info("faces", TensorProto.UINT8, ["batch", 48, 48])
LOGITS = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 7])
WEIGHTS = numpy_helper.from_array(np.zeros((2304, 7), np.float32), "weights")
HEAD = [helper.make_node("Cast", ["faces"], ["float"], to=1), helper.make_node("Flatten", ["float"], ["rows"])]
LAST = helper.make_node("MatMul", ["rows", "weights"], ["logits"])
SUM = [
    helper.make_node("ReduceMean", ["big"], ["mean"], keepdims=0),
    helper.make_node("MatMul", ["rows", "weights"], ["out"]),
    helper.make_node("Add", ["out", "mean"], ["logits"]),
]
BODY = helper.make_graph([helper.make_node("Identity", ["rows"], ["big"])], "body", [], [LOGITS])


def model(nodes: list[Any], *tensors: TensorProto, inputs: Any = FACES, outputs: Any = LOGITS) -> bytes:
    """A model with a card."""
    graph = helper.make_graph(nodes, "graph", [inputs], [outputs], tensors or [WEIGHTS])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(made, load_model().card.to_metadata())
    return made.SerializeToString()


def giant(*nodes: Any, **numbers: list[int]) -> bytes:
    """A model that adds the mean of a tensor named `big` to its logits."""
    tensors = [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in numbers.items()]
    return model([*HEAD, *nodes, *SUM], WEIGHTS, *tensors)


def laborious(count: int) -> bytes:
    """A model of so many products with 2304 x 2304 numbers."""
    products = [helper.make_node("MatMul", [f"y{k}", "square"], [f"y{k + 1}"]) for k in range(count)]
    first = helper.make_node("ConstantOfShape", ["n"], ["square"]), helper.make_node("Identity", ["rows"], ["y0"])
    return giant(*first, *products, helper.make_node("Identity", [f"y{count}"], ["big"]), n=[2304, 2304])


@pytest.mark.parametrize("path", model_files().values(), ids=str)
def test_our_models_may_be_run(path: Path) -> None:
    check_graph(path.read_bytes(), path.name, 48, (7, 8))


@pytest.mark.parametrize("place", ["secret.bin", "../{folder}/secret.bin", "/dev/zero", "{path}"])
def test_weights_in_other_files_are_not_read(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime takes the place of such weights from the working folder on."""
    monkeypatch.chdir(tmp_path)
    Path("secret.bin").write_bytes(os.urandom(2304 * 7 * 4))
    weights = TensorProto(name="weights", data_type=1, dims=[2304, 7], data_location=TensorProto.EXTERNAL)
    place = place.format(folder=tmp_path.name, path=tmp_path / "secret.bin")
    weights.external_data.add(key="location", value=place)
    Path("m.onnx").write_bytes(model([*HEAD, LAST], weights))
    with pytest.raises(Damaged, match="its weights lie in other files"):
        Recognizer("m.onnx")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be taken apart|expected one tensor"),
        (b"hello", "cannot be taken apart"),
        (giant(helper.make_node("Tile", ["rows", "n"], ["big"]), n=[1, 10**6]), "makes over 128,000,000"),
        (giant(helper.make_node("ConstantOfShape", ["n"], ["big"]), n=[2**20, 2**20]), "makes over 128,000,000"),
        (giant(helper.make_node("Range", ["a", "b", "c"], ["big"]), a=[0], b=[10**10], c=[1]), "cannot be told|apart"),
        (giant(helper.make_node("Reshape", ["rows", "n"], ["big"]), n=[10**9, 10**9]), "makes over 128,000,000"),
        (giant(*[helper.make_node("Concat", [f"x{k}", f"x{k}"], [f"x{k + 1}"], axis=0) for k in range(40)],
               helper.make_node("Identity", ["x40"], ["big"]), x0=[1]), "makes over 128,000,000"),
        (laborious(8000), "takes over 40,000,000,000"),
        (giant(helper.make_node("If", ["go"], ["big"], then_branch=BODY, else_branch=BODY), go=[1]), "operator :If is"),
        (giant(helper.make_node("Unsqueeze", ["float", "n"], ["image"]),
               helper.make_node("LRN", ["image"], ["big"], size=2**28 + 1), n=[1]), "operator :LRN is"),
        (giant(helper.make_node("Evil", ["rows"], ["big"], domain="evil")), "operator evil:Evil is none"),
        (model([HEAD[1], LAST], inputs=helper.make_tensor_value_info("float", 1, ["batch", 48, 48])), "of uint8 faces"),
        (model([*HEAD, LAST], inputs=helper.make_tensor_value_info("faces", 2, ["batch", 64, 64])), "batch, 48, 48"),
        (model([*HEAD, LAST], inputs=helper.make_tensor_value_info("faces", 2, [8, 48, 48])), "batch, 48, 48"),
        (model([*HEAD, LAST], inputs=helper.make_tensor_value_info("faces", 2, None)), "batch, 48, 48"),
        (model([*HEAD, LAST], outputs=helper.make_tensor_value_info("logits", 1, ["batch", 9])), "of float32 logits"),
        (model([*HEAD, LAST], TensorProto(name="weights", data_type=1, dims=[2304, 8])), "cannot be taken apart"),
    ],
    ids=["empty", "text", "tile", "constant", "range", "reshape", "doubling", "hours", "branch", "window", "custom",
         "float faces", "64 pixels", "eight faces", "no shape", "nine logits", "eight weights"],
)  # fmt: skip
def test_what_no_network_for_faces_needs_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(Damaged, match=f"m.onnx is not an ONNX model that may be run here: .*({says})"):
        check_graph(content, "m.onnx", 48, (7, 8))


SHAPE = {"start": 0, "end": 1}


@pytest.mark.parametrize(
    ("start", "step", "shape", "sound"),
    [
        (0, 1, SHAPE, True),
        (-(10**10), 1, SHAPE, False),
        (10**10, -1, SHAPE, False),
        (0, 0, SHAPE, False),
        (0, 1, {"start": 1, "end": 2}, False),
    ],
)
def test_only_a_range_of_the_faces_has_a_length(start: int, step: int, shape: dict[str, int], sound: bool) -> None:
    numbers = [numpy_helper.from_array(np.int64(value), name) for name, value in (("start", start), ("step", step))]
    nodes = [
        helper.make_node("Shape", ["faces"], ["shape"], **shape),
        helper.make_node("Squeeze", ["shape"], ["end"]),
        helper.make_node("Range", ["start", "end", "step"], ["numbers"]),
        helper.make_node("Cast", ["numbers"], ["big"], to=1),
    ]
    content = model([*HEAD, *nodes, *SUM], WEIGHTS, *numbers)
    with nullcontext() if sound else pytest.raises(Damaged, match="of 'numbers', which Range makes, cannot be told"):
        check_graph(content, "m.onnx", 48, (7, 8))


def test_an_ensemble_of_eight_large_networks_may_be_run() -> None:
    check_graph(laborious(1900), "m.onnx", 48, (7, 8))  # 10.1 thousand million multiply-adds, eight times ResNet-18


def test_a_model_that_works_for_one_face_alone_says_so(tmp_path: Path) -> None:
    one = numpy_helper.from_array(np.array([1, 2304], np.int64), "one")
    nodes = [HEAD[0], helper.make_node("Reshape", ["float", "one"], ["rows"]), LAST]
    (tmp_path / "m.onnx").write_bytes(model(nodes, WEIGHTS, one))
    recognizer = Recognizer(tmp_path / "m.onnx")
    with pytest.raises(Damaged, match="cannot be run on 3 faces"):
        recognizer.logits(np.zeros((3, 48, 48), np.uint8))


def test_logits_that_are_no_numbers_are_no_answer(tmp_path: Path) -> None:
    nothing = numpy_helper.from_array(np.full((2304, 7), np.nan, np.float32), "weights")
    (tmp_path / "m.onnx").write_bytes(model([*HEAD, LAST], nothing))
    with pytest.raises(Damaged, match="should give 7 finite logits"):
        Recognizer(tmp_path / "m.onnx").logits(np.ones((1, 48, 48), np.uint8))
