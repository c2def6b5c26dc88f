"""Hostile model files: .onnx graphs and checkpoints. Some would run code, read files or fill the memory."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from bad_images import File, flipped
from onnx import TensorProto, helper, numpy_helper

CARD = {
    "format": "mien-2",
    "name": "stranger",
    "labels": json.dumps(["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]),
    "temperatures": "[1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5]",
    "biases": "[0, 0, 0, 0, 0, 0, 0]",
    "threshold": "0.5",
    "recipe": "{}",
    "scores": "{}",
    "licence": "none",
    "data_sha256": "",
    "probe": "[0, 0, 0, 0, 0, 0, 0]",
    "precision": "float32",
}
FACES = helper.make_tensor_value_info("faces", TensorProto.UINT8, ["batch", 48, 48])
LOGITS = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 7])
Node = onnx.NodeProto


class Code:
    """What leaves a file behind where it is unpickled: the proof that code ran."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.canary}'",)


def node(kind: str, *names: str, **options: Any) -> Node:
    """A node whose last name is its output."""
    return helper.make_node(kind, names[:-1], names[-1:], **options)


def number(name: str, *values: int) -> TensorProto:
    """Whole numbers as an initializer."""
    return numpy_helper.from_array(np.array(values, np.int64), name)


HEAD = [node("Cast", "faces", "float", to=TensorProto.FLOAT), node("Flatten", "float", "rows")]
TAIL = [node("MatMul", "rows", "weights", "logits")]
WEIGHTS = numpy_helper.from_array(np.zeros((2304, 7), np.float32), "weights")


def model(
    nodes: list[Node] | None = None,
    tensors: list[TensorProto] | None = None,
    *,
    card: dict[str, str] | None = None,
    inputs: list[Any] | None = None,
    outputs: list[Any] | None = None,
    **options: Any,
) -> onnx.ModelProto:
    """A model with a card; a sound linear one where nothing else is said."""
    graph = helper.make_graph(
        nodes or HEAD + TAIL,
        "graph",
        [FACES] if inputs is None else inputs,
        [LOGITS] if outputs is None else outputs,
        tensors or [WEIGHTS],
    )
    opsets = [helper.make_opsetid("", 18), *options.pop("opsets", [])]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10, **options)
    helper.set_model_props(made, CARD if card is None else card)
    return made


def onnx_files(random: Random, secret: Path) -> Iterator[File]:
    """Name and content of each hostile .onnx file; `secret` is a file that no model may read."""
    sound = model().SerializeToString()
    yield "sound", sound
    yield "refused-empty", b""
    yield "refused-text", b"hello\n"
    yield "refused-zeros", bytes(1_000_000)
    yield "refused-ones", b"\xff" * 1_000_000
    yield "refused-other-format", b"ORTM" + bytes(1000)
    yield "refused-nested-messages", b"\x3a\x80\x80\x80\x04" * 20_000
    for share in (0.01, 0.5, 0.9, 0.995):
        yield f"cut-{share:.1%}", sound[: int(len(sound) * share)]
    tail = len(sound) - 900
    for turn in range(12):
        yield f"flipped-{turn}", sound[:tail] + flipped(sound[tail:], random, 1 + turn)
        yield f"flipped-head-{turn}", flipped(sound[:300], random, 1 + turn) + sound[300:]
    for name, made in {**_interfaces(), **_outside(secret), **_giants(), **_odd()}.items():
        yield name, made.SerializeToString()
    for name, changes in _cards().items():
        yield name, model(card={k: v for k, v in (CARD | changes).items() if v != "-"}).SerializeToString()


def _cards() -> dict[str, dict[str, str]]:
    deep, wide = "[" * 100_000, "9" * 5000
    return {
        "refused-no-card": dict.fromkeys(CARD, "-"),
        "refused-other-format-name": {"format": "keras"},
        **{f"refused-card-lacks-{key}": {key: "-"} for key in CARD if key != "precision"},
        "refused-labels-missing": {"labels": '["happy"]'},
        "refused-labels-twice": {"labels": json.dumps(["happy"] * 7)},
        "refused-labels-nested": {"labels": deep},
        "refused-labels-number": {"labels": "7"},
        "refused-labels-object": {"labels": '{"happy": 1}'},
        "refused-temperature-nan": {"temperatures": "[1, 1, 1, 1, 1, 1, NaN]"},
        "refused-temperature-infinite": {"temperatures": "[1, 1, 1, 1, 1, 1, Infinity]"},
        "refused-temperature-zero": {"temperatures": "[0, 0, 0, 0, 0, 0, 0]"},
        "refused-temperature-denormal": {"temperatures": "[1, 1, 1, 1, 1, 1, 5e-324]"},
        "refused-temperature-1e300": {"temperatures": "[1, 1, 1, 1, 1, 1, 1e300]"},
        "refused-temperature-text": {"temperatures": "__import__('os')"},
        "refused-temperatures-few": {"temperatures": "[1]"},
        "refused-biases-huge": {"biases": "[0, 0, 0, 0, 0, 0, 1e300]"},
        "refused-biases-nan": {"biases": "[0, 0, 0, 0, 0, 0, NaN]"},
        "refused-threshold-nan": {"threshold": "nan"},
        "refused-threshold-minus-1": {"threshold": "-1"},
        "refused-threshold-2": {"threshold": "2"},
        "refused-probe-empty": {"probe": "[]"},
        "refused-probe-long": {"probe": json.dumps([0] * 1000)},
        "refused-probe-nan": {"probe": "[NaN, 0, 0, 0, 0, 0, 0]"},
        "refused-probe-nested": {"probe": deep},
        "refused-probe-wide": {"probe": f"[{wide}, 0, 0, 0, 0, 0, 0]"},
        "refused-probe-huge": {"probe": f"[{'9' * 400}, 0, 0, 0, 0, 0, 0]"},
        "refused-scores-list": {"scores": "[]"},
        "refused-scores-text": {"scores": '"x"'},
        "refused-scores-nested": {"scores": '{"a":' * 100_000},
        "refused-scores-cut": {"scores": '{"PublicTest"'},
        "refused-scores-nan": {"scores": '{"PublicTest": NaN}'},
        "refused-precision": {"precision": "int1"},
        "name-of-a-megabyte": {"name": "x" * 1_000_000},
        "name-with-escapes": {"name": "\x1b]0;owned\x07[red]x[/red]"},
        "name-is-a-path": {"name": "../../../../etc/passwd"},
        "licence-is-code": {"licence": "<script>alert(1)</script>"},
    }


def _value(name: str, kind: int, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _interfaces() -> dict[str, onnx.ModelProto]:
    """Sound graphs whose inputs and outputs are not those of a mien model."""
    first, byte, half = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.FLOAT16
    eight = numpy_helper.from_array(np.zeros((2304, 8), np.float32), "weights")
    constant = numpy_helper.from_array(np.zeros((1, 7), np.float32), "logits")
    return {
        "refused-float-faces": model([HEAD[1], TAIL[0]], inputs=[_value("float", first, "batch", 48, 48)]),
        "refused-64-pixels": model(inputs=[_value("faces", byte, "batch", 64, 64)]),
        "refused-colour": model(inputs=[_value("faces", byte, "batch", 48, 48, 3)]),
        "refused-one-axis": model(inputs=[_value("faces", byte, "batch")]),
        "refused-free-sides": model(inputs=[_value("faces", byte, "batch", "height", "width")]),
        "refused-no-shape": model(inputs=[helper.make_tensor_value_info("faces", byte, None)]),
        "refused-eight-faces": model(inputs=[_value("faces", byte, 8, 48, 48)]),
        "refused-two-inputs": model(inputs=[FACES, _value("more", first, 1)]),
        "refused-no-input": model([node("Identity", "weights", "logits")], [constant], inputs=[]),
        "refused-two-outputs": model(outputs=[LOGITS, _value("rows", first, "batch", 2304)]),
        "refused-no-output": model(outputs=[]),
        "refused-eight-logits": model(tensors=[eight], outputs=[_value("logits", first, "batch", 8)]),
        "refused-eight-logits-called-seven": model(tensors=[eight]),
        "refused-logits-transposed": model(
            [*HEAD, node("MatMul", "rows", "weights", "out"), node("Transpose", "out", "logits", perm=[1, 0])],
            outputs=[_value("logits", first, 7, "batch")],
        ),
        "refused-one-row-for-all": model(
            [*HEAD, node("MatMul", "rows", "weights", "out"), node("ReduceMean", "out", "logits", keepdims=1)]
        ),
        "refused-half-logits": model(
            [*HEAD, node("MatMul", "rows", "weights", "out"), node("Cast", "out", "logits", to=half)],
            outputs=[_value("logits", half, "batch", 7)],
        ),
        "refused-text-logits": model(
            [*HEAD, node("MatMul", "rows", "weights", "out"), node("Cast", "out", "logits", to=TensorProto.STRING)],
            outputs=[_value("logits", TensorProto.STRING, "batch", 7)],
        ),
    }


def _outside(secret: Path) -> dict[str, onnx.ModelProto]:
    """Weights that lie in other files."""
    places = {
        "absolute": str(secret),
        "beside": secret.name,
        "above": f"../{secret.parent.name}/{secret.name}",
        "far-above": "../" * 20 + str(secret)[1:],
        "device": "/dev/zero",
        "address": f"file://{secret}",
        "nothing": "",
        "in-memory": "*/_ORT_MEM_ADDR_/*",
    }
    made = {}
    for name, place in places.items():
        weights = TensorProto(name="weights", data_type=1, dims=[2304, 7], data_location=TensorProto.EXTERNAL)
        for key, value in (("location", place), ("offset", "0"), ("length", str(2304 * 7 * 4))):
            weights.external_data.add(key=key, value=value)
        made[f"refused-external-{name}"] = model(tensors=[weights])
        constant = node("Constant", "weights", value=weights)
        made[f"refused-external-{name}-in-a-node"] = model([*HEAD, constant, *TAIL], [number("unused", 1)])
    return made


def _giants() -> dict[str, onnx.ModelProto]:
    """A few bytes that ask for gigabytes or hours."""
    made = {}

    def giant(name: str, nodes: list[Node], *tensors: TensorProto, result: str = "big") -> None:
        """Whose `result` is added to the logits, so that nothing can be left out."""
        end = [
            node("ReduceMean", result, "mean", keepdims=0),
            node("MatMul", "rows", "weights", "out"),
            node("Add", "out", "mean", "logits"),
        ]
        made[f"refused-{name}"] = model([*HEAD, *nodes, *end], [WEIGHTS, *tensors])

    giant("tile", [node("Tile", "rows", "times", "big")], number("times", 1, 1_000_000))
    giant("expand", [node("Expand", "rows", "shape", "big")], number("shape", 1_000_000, 2304))
    giant("constant", [node("ConstantOfShape", "shape", "big")], number("shape", 50_000, 50_000))
    giant("constant-beyond", [node("ConstantOfShape", "shape", "big")], number("shape", 2**40, 2**40))
    giant("constant-negative", [node("ConstantOfShape", "shape", "big")], number("shape", -5))
    giant("pad", [node("Pad", "rows", "pads", "big")], number("pads", 0, 10**9, 0, 10**9))
    giant(
        "resize",
        [node("Resize", "float", "", "scales", "big", mode="nearest")],
        numpy_helper.from_array(np.array([1, 1000, 1000], np.float32), "scales"),
    )
    giant(
        "range",
        [node("Range", "zero", "end", "one", "steps"), node("Cast", "steps", "big", to=1)],
        *(numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("zero", 0), ("end", 10**10), ("one", 1))),
    )
    giant(
        "range-of-brightness",
        [
            node("ReduceSum", "float", "sum", keepdims=0),
            node("Mul", "sum", "much", "end"),
            node("Range", "zero", "end", "one", "big"),
        ],
        *(numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("zero", 0), ("much", 1e4), ("one", 1))),
    )
    counted = [node("Shape", "faces", "shape", start=0, end=1), node("Squeeze", "shape", "end")]
    for name, start, step in (("below", -(10**10), 1), ("above", 10**10, -1)):
        giant(
            f"range-from-far-{name}",
            [*counted, node("Range", "start", "end", "step", "steps"), node("Cast", "steps", "big", to=1)],
            *(numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("start", start), ("step", step))),
        )
    giant(
        "response-normalization",
        [node("Unsqueeze", "float", "axis", "image"), node("LRN", "image", "big", size=2**28 + 1)],
        number("axis", 1),
    )
    giant(
        "outer-product",
        [
            node("Transpose", "rows", "column", perm=[1, 0]),
            node("MatMul", "column", "rows", "square"),
            node("Unsqueeze", "square", "axis", "deep"),
            node("Mul", "deep", "square", "cube"),
            node("Mul", "cube", "long", "big"),
        ],
        number("axis", 2),
        numpy_helper.from_array(np.zeros((2304, 1, 1, 1), np.float32), "long"),
    )
    doubling = [node("Concat", f"x{k}", f"x{k}", f"x{k + 1}", axis=1) for k in range(40)]
    giant("doubling", [node("Identity", "rows", "x0"), *doubling], result="x40")
    numbers = [node("Concat", f"n{k}", f"n{k}", f"n{k + 1}", axis=0) for k in range(40)]
    giant("doubling-numbers", [*numbers, node("ConstantOfShape", "n40", "big")], number("n0", 1))
    giant(
        "one-hot",
        [node("Cast", "rows", "whole", to=7), node("OneHot", "whole", "depth", "values", "big")],
        number("depth", 10**7),
        numpy_helper.from_array(np.array([0, 1], np.float32), "values"),
    )
    giant("reshape", [node("Reshape", "rows", "shape", "big")], number("shape", 10**9, 10**9))
    giant(
        "convolution",
        [
            node("Unsqueeze", "float", "axis", "image"),
            node("ConstantOfShape", "shape", "kernel"),
            node("Conv", "image", "kernel", "many", pads=[24] * 4),
            node("ConstantOfShape", "second", "kernels"),
            node("Conv", "many", "kernels", "big", pads=[24] * 4),
        ],
        number("axis", 1),
        number("shape", 2000, 1, 49, 49),
        number("second", 2000, 2000, 9, 9),
    )
    giant(
        "hours",
        [
            node("Cast", "rows", "a0", to=1),
            node("ConstantOfShape", "square", "matrix"),
            *[node("MatMul", f"a{k}", "matrix", f"a{k + 1}") for k in range(10_000)],
        ],
        number("square", 2304, 2304),
        result="a10000",
    )
    long = [node("Sigmoid", f"x{k}", f"x{k + 1}") for k in range(60_000)]
    giant("sixty-thousand-nodes", [node("Identity", "rows", "x0"), *long], result="x60000")
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Add", "held", "held", "next")],
        "body",
        [_value("k", 7), _value("go", 9), _value("held", 1, "batch", 2304)],
        [_value("on", 9), _value("next", 1, "batch", 2304)],
    )
    giant(
        "loop",
        [node("Loop", "count", "go", "rows", "big", body=body)],
        number("count", 2**62),
        numpy_helper.from_array(np.array(True), "go"),
    )
    for name, dims in (("terabyte", [2**20, 2**20]), ("beyond", [2**40, 2**40]), ("negative", [-1, 7])):
        empty = TensorProto(name="weights", data_type=1, dims=dims)
        made[f"refused-initializer-{name}"] = model(tensors=[empty])
        made[f"refused-initializer-{name}-short"] = model(
            tensors=[TensorProto(name="weights", data_type=1, dims=dims, raw_data=bytes(64))]
        )
    values = numpy_helper.from_array(np.ones(1, np.float32), "weights")
    sparse = helper.make_sparse_tensor(values, number("places", 5), [100_000, 100_000])
    made["refused-sparse"] = model()
    made["refused-sparse"].graph.sparse_initializer.append(sparse)
    giant("sparse-constant", [node("Constant", "big", sparse_value=sparse)])
    return made


def _odd() -> dict[str, onnx.ModelProto]:
    """Graphs that are no graphs, and operators that are none of ONNX."""
    other = [
        helper.make_opsetid("com.microsoft", 1),
        helper.make_opsetid("evil", 1),
        helper.make_opsetid("ai.onnx.ml", 3),
    ]
    out = node("MatMul", "rows", "weights", "out")
    function = helper.make_function("evil", "Own", ["x"], ["y"], [node("Own", "x", "y", domain="evil")], other[1:2])
    branch = helper.make_graph([node("Identity", "out", "logits")], "branch", [], [LOGITS])
    made = {
        "refused-custom-operator": model([*HEAD, out, node("Evil", "out", "logits", domain="evil")], opsets=other),
        "refused-unknown-operator": model([*HEAD, out, node("Evil", "out", "logits")]),
        "refused-context": model(
            [
                *HEAD,
                out,
                node(
                    "EPContext", "out", "logits", domain="com.microsoft", embed_mode=0, ep_cache_context="/etc/passwd"
                ),
            ],
            opsets=other,
        ),
        "refused-function-of-itself": model(
            [*HEAD, out, node("Own", "out", "logits", domain="evil")], opsets=other, functions=[function]
        ),
        "refused-branch": model(
            [*HEAD, out, node("If", "yes", "logits", then_branch=branch, else_branch=branch)],
            [WEIGHTS, numpy_helper.from_array(np.array(True), "yes")],
        ),
        "refused-cycle": model(
            [
                *HEAD,
                node("Add", "rows", "second", "first"),
                node("Add", "first", "rows", "second"),
                node("MatMul", "second", "weights", "logits"),
            ]
        ),
        "refused-name-twice": model([*HEAD, node("Cast", "faces", "float", to=1), *TAIL]),
        "refused-unknown-input": model([*HEAD, node("MatMul", "nothing", "weights", "logits")]),
        "refused-wrong-attribute": model([node("Cast", "faces", "float", to=10**9), *HEAD[1:], *TAIL]),
        "refused-text": model([*HEAD, out, node("StringNormalizer", "out", "logits")]),
        "refused-random": model([*HEAD, out, node("RandomNormalLike", "out", "logits")]),
        "refused-opset-999": model(opsets=[helper.make_opsetid("", 999)]),
        "refused-nan": model(tensors=[numpy_helper.from_array(np.full((2304, 7), np.nan, np.float32), "weights")]),
        "doc-of-20-megabytes": model(doc_string="x" * 20_000_000),
        "million-unused-numbers": model(tensors=[WEIGHTS, number("unused", *range(1_000_000))]),
    }
    made["refused-training"] = model()
    made["refused-training"].training_info.add()
    made["shared-names"] = model(tensors=[WEIGHTS, WEIGHTS])
    made["refused-no-graph"] = model()
    made["refused-no-graph"].ClearField("graph")
    return made


def checkpoints(sound: bytes, code: Code, random: Random) -> Iterator[File]:
    """Files in the place of best.ckpt, made from the content of a sound one."""
    import torch

    state = torch.load(io.BytesIO(sound), weights_only=True)
    weights = state["state_dict"]
    first = next(iter(weights))
    recipe = json.loads(state["recipe"])

    def changed(**changes: Any) -> bytes:
        small = state | {"state_dict": {first: weights[first]}}  # refused before or because of it
        return _packed(torch, {k: v for k, v in (small | changes).items() if v is not None})

    yield "sound", sound
    yield "refused-empty", b""
    yield "refused-text", b"hello\n"
    yield "refused-plain-pickle", pickle.dumps(code)
    for protocol in (0, 2, 5):
        yield f"refused-plain-pickle-{protocol}", pickle.dumps({"recipe": code, "state_dict": code}, protocol)
    yield "refused-code", changed(extra=code)
    yield "refused-code-as-recipe", changed(recipe=code)
    yield "refused-code-as-weights", changed(state_dict={first: code})
    yield "refused-code-in-callbacks", changed(callbacks={"History": {"rows": [code]}})
    yield "refused-whole-module", changed(state_dict=torch.nn.Linear(2, 2))
    yield "refused-class", changed(extra=Code)
    yield "refused-legacy", _legacy(torch, state)
    yield "refused-legacy-code", _legacy(torch, {"recipe": code})
    yield "refused-script", _script(torch)
    yield "refused-no-recipe", changed(recipe=None)
    yield "refused-no-weights", changed(state_dict=None)
    yield "refused-list", _packed(torch, [1, 2])
    yield "refused-number", _packed(torch, 1)
    yield "refused-tensor", _packed(torch, torch.zeros(3))
    for name, text in {
        "number": 5,
        "empty": "",
        "list": "[]",
        "nested": "[" * 100_000,
        "huge": json.dumps(recipe | {"epochs": 10**400}),
        "network": json.dumps(recipe | {"network": "../../evil"}),
        "class": json.dumps(recipe | {"": "Popen"}),
    }.items():
        yield f"refused-recipe-{name}", changed(recipe=text)
    for name, wrong in {
        "text": "x",
        "none": {first: None},
        "empty": {},
        "shape": weights | {first: torch.zeros(3)},
        "extra": weights | {"extra": torch.zeros(3)},
        "list": [1],
        "expanded": weights | {first: torch.zeros(1).expand(10**12)},
        "sparse": weights | {first: torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1), (10**9,))},
        "meta": weights | {first: torch.zeros(10**6, 10**6, device="meta")},
        "numbers": {5: torch.zeros(3)},
    }.items():
        yield f"refused-weights-{name}", changed(state_dict=wrong)
    yield (
        "refused-bytearray",
        _archived(b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + struct.pack("<q", 10**11)[:5] + b"\x85R."),
    )
    yield "refused-long-text", _archived(b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.")
    yield "refused-stack", _archived(b"\x80\x02" + b"(" * 3_000_000 + b".")
    yield "refused-nested", _archived(b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".")
    yield "refused-opcode", _archived(b"\x80\x02\xff.")
    yield "refused-unfinished", _archived(b"\x80\x02}")
    yield "refused-memo", _archived(b"\x80\x02h\x05.")
    yield "refused-bomb", _bomb(sound)
    for share in (0.01, 0.5, 0.99):
        yield f"refused-cut-{share:.0%}", sound[: int(len(sound) * share)]
    for turn in range(8):
        yield f"flipped-{turn}", flipped(sound, random, 10 + turn)


def _packed(torch: Any, value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def _legacy(torch: Any, value: Any) -> bytes:
    return _packed(torch, value, _use_new_zipfile_serialization=False)


def _script(torch: Any) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


def _archived(program: bytes) -> bytes:
    """A checkpoint whose pickle is this program."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (("data.pkl", program), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return buffer.getvalue()


def _bomb(sound: bytes) -> bytes:
    """The sound checkpoint with its first array 900 megabytes of zeros, compressed."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(sound)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for name in old.namelist():
            with new.open(name, "w", force_zip64=True) as file:
                for block in [bytes(1 << 20)] * 900 if name.endswith("/data/0") else [old.read(name)]:
                    file.write(block)
    return buffer.getvalue()
