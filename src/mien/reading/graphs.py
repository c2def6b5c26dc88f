"""Model files from strangers: what their graph may be. It is looked at, before anything of it is run.

A graph of a few bytes can ask for gigabytes, go on for hours or name other files. What a network for faces needs is
known, so all else is refused: its operators are on a list, and its tensors have sizes that can be told beforehand.
"""

import math
from collections.abc import Collection

import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from mien.errors import Damaged

MAX_BYTES = 512_000_000
"""Of a model file; the largest of this package's networks has 166 million."""

MAX_NODES = 20_000
MAX_ELEMENTS = 128_000_000
"""Of all tensors that one face makes; those of ResNet-18 have 3.2 million together, of an ensemble of eight 26."""

MAX_MULTIPLY_ADDS = 40_000_000_000
"""For one face; ResNet-18 has 1.3 thousand million, an ensemble of eight ten."""

OPERATORS = frozenset(
    """
    Abs Add And AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv DepthToSpace
    DequantizeLinear Div Dropout Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm
    GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity
    InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization MatMul Max
    MaxPool Mean Min Mish Mod Mul Neg Not Or PRelu Pad Pow QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round Selu Shape Shrink Sigmoid Sign
    Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh ThresholdedRelu Tile Transpose
    Unsqueeze Where Xor
    """.split()  # noqa: SIM905
)
"""ONNX operators whose results are as large, and take as long, as their shapes say."""

_SMALL = 4096  # bytes of a tensor that may be a shape; larger ones are not needed to tell sizes


def check_graph(content: bytes, source: str, side: int, outputs: Collection[int]) -> None:
    """Refuse a model that is no plain network from faces to logits.

    Args:
        content: The bytes of an .onnx file.
        source: Its name, for messages.
        side: Pixels of a face's side: the input is uint8 (batch, side, side).
        outputs: Logits: the output is float32 (batch, one of these).

    Raises:
        Damaged: It is no ONNX model, or it is another kind of one; the message says what.
    """
    try:
        model = onnx.load_model_from_string(content)
        graph = model.graph
        reason = _foreign(model) or _misfit(graph, side, outputs)
        if not reason:
            _fix_batch(graph)
            whole = onnx.shape_inference.infer_shapes(model, strict_mode=True)
            reason = _too_much(whole.graph)
    except (DecodeError, onnx.shape_inference.InferenceError, ValueError, LookupError, RuntimeError) as error:
        reason = f"it cannot be taken apart: {str(error)[:300]}"
    if reason:
        raise Damaged(f"{source} is not an ONNX model that may be run here: {reason}")


def _foreign(model: onnx.ModelProto) -> str:
    """What in a model no network needs; nothing where all is plain."""
    graph = model.graph
    constants = [t for node in graph.node for a in node.attribute for t in (a.t, *a.tensors)]
    if any(t.external_data or t.data_location for t in (*graph.initializer, *constants)):
        return "its weights lie in other files; expected one file that holds them all"
    if model.functions or model.training_info or graph.sparse_initializer:
        return "it has functions, training graphs or sparse weights"
    if len(graph.node) > MAX_NODES:
        return f"it has {len(graph.node):,} nodes, at most {MAX_NODES:,} are run"
    for node in graph.node:
        if node.domain not in {"", "ai.onnx"} or node.op_type not in OPERATORS:
            return f"the operator {node.domain}:{node.op_type} is none of those that networks for faces need"
        if any(a.HasField("g") or a.graphs or a.HasField("sparse_tensor") for a in node.attribute):
            return f"its node {node.op_type} holds a graph or a sparse tensor"
    return ""


def _misfit(graph: onnx.GraphProto, side: int, outputs: Collection[int]) -> str:
    """How a graph's inputs and outputs differ from faces and logits; nothing where they do not."""
    weights = {tensor.name for tensor in graph.initializer}
    fed = [value for value in graph.input if value.name not in weights]
    for values, kind, known, what in (
        (fed, onnx.TensorProto.UINT8, [[side, side]], "uint8 faces"),
        (graph.output, onnx.TensorProto.FLOAT, [[count] for count in outputs], "float32 logits"),
    ):
        tensors = [value.type.tensor_type for value in values]
        shapes = [[d.dim_value if d.HasField("dim_value") else d.dim_param for d in t.shape.dim] for t in tensors]
        fits = len(tensors) == 1 and tensors[0].elem_type == kind and shapes[0][1:] in known
        if not fits or isinstance(shapes[0][0], int):
            kinds = [onnx.TensorProto.DataType.Name(t.elem_type) for t in tensors]
            came = ", ".join(f"{name} {dims}" for name, dims in zip(kinds, shapes, strict=True))
            want = " or ".join(f"(batch, {', '.join(map(str, shape))})" for shape in known)
            return f"expected one tensor {want} of {what}, but got {came or 'none'}"
    return ""


def _fix_batch(graph: onnx.GraphProto) -> None:
    """Make it a graph for one face, so that all its sizes are numbers, and let go of what tells none."""
    del graph.value_info[:]  # what the file says of its sizes is not asked
    weights = {tensor.name for tensor in graph.initializer}
    (fed,) = (value for value in graph.input if value.name not in weights)
    fed.type.tensor_type.shape.dim[0].dim_value = 1
    graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    for tensor in graph.initializer:
        if len(tensor.raw_data) > _SMALL:
            tensor.ClearField("raw_data")
    # No inference tells the length of a Range; of one that numbers the faces of a batch it is 1.
    for node in graph.node:
        if node.op_type == "Range" and _numbers_faces(node, graph, fed.name):
            name = node.output[0]
            node.CopyFrom(onnx.helper.make_node("Constant", [], [name], value_ints=[0]))


def _numbers_faces(node: onnx.NodeProto, graph: onnx.GraphProto, fed: str) -> bool:
    """Whether a Range goes from 0 to the number of faces by 1, as the exporter writes it."""
    maker = {name: maker for maker in graph.node for name in maker.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    start, end, step = node.input
    for name, value in ((start, 0), (step, 1)):
        if name not in weights or weights[name].dims or numpy_helper.to_array(weights[name]) != value:
            return False
    squeeze = maker.get(end)
    shape = maker.get(squeeze.input[0]) if squeeze is not None and squeeze.op_type == "Squeeze" else None
    if shape is None or shape.op_type != "Shape" or shape.input[0] != fed:
        return False
    part = {a.name: a.i for a in shape.attribute}
    return part.get("start", 0) == 0 and part.get("end") == 1


def _too_much(graph: onnx.GraphProto) -> str:
    """What of a graph for one face is too large, or not told; nothing where all is within limits."""
    shapes = {t.name: list(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = [d.dim_value for d in dims]
    elements = work = 0
    for node in graph.node:
        for name in filter(None, node.output):
            if name not in shapes or min(shapes[name], default=0) < 0:
                return f"the size of {name!r}, which {node.op_type} makes, cannot be told before it is run"
            elements += math.prod(shapes[name])
        work += _multiply_adds(node, shapes)
        if elements > MAX_ELEMENTS or work > MAX_MULTIPLY_ADDS:
            return (
                f"it makes over {MAX_ELEMENTS:,} numbers or takes over {MAX_MULTIPLY_ADDS:,} multiply-adds for a face, "
                f"{elements:,} and {work:,} up to {node.output[0]!r}"
            )
    return ""


def _multiply_adds(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """Of one node; where it multiplies nothing, the numbers that it reads."""
    made = math.prod(shapes[node.output[0]])
    read = [shapes.get(name, []) for name in node.input if name]
    if node.op_type == "Conv":
        return made * math.prod(read[1][1:])
    if node.op_type in {"Gemm", "MatMul"}:
        return made * max(read[0], default=1)  # the side that is summed over, or a longer one
    kernel = next((math.prod(a.ints) for a in node.attribute if a.name == "kernel_shape"), 1)
    return made * kernel + sum(map(math.prod, read))
