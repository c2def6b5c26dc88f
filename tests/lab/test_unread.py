from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest

from mien.lab.unread import drop_unread
from mien.reading.recognizer import model_files


def net(size: int, between: str = "y = Relu(c)", conv: str = "", pool: str = "", read: str = "y") -> onnx.ModelProto:
    """A convolution and a max pooling, as torch's exporter writes them, of (B, 3, size, size)."""
    conv = conv or "pads = [1, 1, 1, 1], strides = [1, 1]"
    pool = pool or "pads = [0, 0, 0, 0], strides = [2, 2], ceil_mode = 0"
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        net (float[B, 3, {size}, {size}] x, float[4, 3, 3, 3] w, float[4] b) => (float[B, 4, H, W] z)
        {{
            c = Conv <{conv}, kernel_shape = [3, 3]> (x, w, b)
            {between}
            p = MaxPool <{pool}, kernel_shape = [2, 2]> (y)
            m = ReduceMax <keepdims = 1> ({read})
            z = Add (p, m)
        }}"""
    )
    onnx.checker.check_model(model)
    return model


def pads_of(model: onnx.ModelProto) -> list[list[int]]:
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [list(a.ints) for node in convolutions for a in node.attribute if a.name == "pads"]


def computed(model: onnx.ModelProto) -> np.ndarray:
    rng = np.random.default_rng(0)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[2]
    shapes = {"x": (2, 3, size, size), "w": (4, 3, 3, 3), "b": (4,)}
    given = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    result: np.ndarray = session.run(None, given)[0]
    return result


NORM = "v = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]> () r = Relu(c) y = BatchNormalization (r, v, b, b, v)"
EIGHT = """
    s = Constant <value = float {0.125}> () o = Constant <value = uint8 {0}> ()
    q = QuantizeLinear (c, s, o) y = DequantizeLinear (q, s, o)
"""


@pytest.mark.parametrize("between", ["y = Relu(c)", NORM, EIGHT])
def test_what_pooling_leaves_out_is_not_computed_and_what_it_reads_stays_the_same(between: str) -> None:
    model = net(5, between, read="x")
    before = computed(model)
    model = onnx.shape_inference.infer_shapes(model)  # sizes that no longer hold would be warned of, or refused
    drop_unread(model)
    assert pads_of(model) == [[1, 1, 0, 0]]
    assert np.array_equal(before, computed(model))
    onnx.checker.check_model(model, full_check=True)
    once = model.SerializeToString()
    drop_unread(model)
    assert model.SerializeToString() == once


@pytest.mark.parametrize(
    "model",
    [
        net(6, read="x"),  # all is read
        net(5),  # something else reads the last row too
        net(5, read="c"),
        net(5, "y = Softmax <axis = 3> (c)", read="x"),  # looks beyond its place
        net(5, conv="pads = [0, 0, 0, 0], strides = [1, 1]", read="x"),  # 3 x 3: there is no padding to drop
        net(9, conv="pads = [1, 1, 1, 1], strides = [2, 2]", read="x"),
        net(5, pool="pads = [0, 0, 1, 1], strides = [2, 2], ceil_mode = 0", read="x"),
        net(5, pool="pads = [0, 0, 0, 0], strides = [2, 2], ceil_mode = 1", read="x"),
    ],
)
def test_any_other_convolution_is_left_alone(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    drop_unread(model)
    assert model.SerializeToString() == before


def test_exports_compute_no_more_than_they_read(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from mien.lab import networks
    from mien.lab.export import graph_of
    from mien.lab.module import Classifier
    from mien.recipes import RECIPES, override

    monkeypatch.setitem(networks.NETWORKS, "odd", partial(networks.vgg_net, ((2, 1), (4, 2)), trim=5))
    classifier = Classifier(override(RECIPES["mien-small"], {"network": "odd"})).eval()
    model = graph_of(classifier)
    faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = classifier(torch.from_numpy(faces))[:, :7].numpy()
    assert np.abs(session.run(None, {"faces": faces})[0] - expected).max() < 1e-4
    assert pads_of(model) == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]]


@pytest.mark.parametrize("name", sorted(model_files()))
def test_nor_do_the_models_of_the_package(name: str) -> None:
    model = onnx.load(model_files()[name])
    before = model.SerializeToString()
    drop_unread(model)
    assert model.SerializeToString() == before
