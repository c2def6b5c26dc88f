"""An exported graph -> the same without what its max pooling never reads: the same answers in less time.

Pooling in twos leaves out the last row and column where their number is odd: of 5 x 5 places the convolution before it
computes 9 in vain.
"""

from collections import Counter
from typing import Any

import onnx
from onnx.helper import get_attribute_value

_PLACE_BY_PLACE = frozenset({"Relu", "BatchNormalization", "QuantizeLinear", "DequantizeLinear"})


def drop_unread(model: onnx.ModelProto) -> None:
    """Let convolutions end where the max pooling after them does, in place: their padding at the end becomes less.

    What is read is computed as before, bit for bit.

    Args:
        model: As torch's exporter writes it, or in 8 bits. Left alone is a convolution that something else reads too,
            that takes steps of more than one, or that has less padding than there is to drop.
    """
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    sizes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim[2:]] for value in inferred}
    makers = {name: node for node in graph.node for name in node.output}
    readers = Counter([name for node in graph.node for name in node.input] + [value.name for value in graph.output])
    for pool in (node for node in graph.node if node.op_type == "MaxPool"):
        chain = [pool.input[0]]  # names from the pooling back to the convolution
        while (maker := makers.get(chain[-1])) is not None and maker.op_type in _PLACE_BY_PLACE:
            chain.append(maker.input[0])
        if maker is None or maker.op_type != "Conv" or any(readers[name] > 1 for name in chain):
            continue
        conv, unread = _settings(maker), _unread(_settings(pool), sizes[chain[0]])
        ends = [pad - spare for pad, spare in zip(conv["pads"][2:], unread, strict=True)]
        if max(unread) == 0 or min(ends) < 0 or max(conv["strides"]) > 1:
            continue
        next(a for a in maker.attribute if a.name == "pads").ints[2:] = ends
        for value in [value for value in graph.value_info if value.name in chain]:
            graph.value_info.remove(value)  # its size is no longer so


def _settings(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}


def _unread(pool: dict[str, Any], sizes: list[int]) -> list[int]:
    """How many of the last rows and columns a max pooling leaves out; none where it pads."""
    if any(pool["pads"]) or pool["ceil_mode"]:
        return [0, 0]
    steps = zip(sizes, pool["kernel_shape"], pool["strides"], strict=True)
    return [(size - kernel) % stride for size, kernel, stride in steps]
