"""Exported ONNX files -> one file whose answer is the mean of theirs; and one of them back from it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper, shape_inference
from onnx.utils import Extractor

from mien.errors import InputError
from mien.lab.export import calibrated, calibration_rows, check_alike, marked, probed, save
from mien.measuring.evaluation import SELECTION_SPLIT
from mien.measuring.faceset import FaceSet
from mien.measuring.sketch import joined
from mien.reading.recognizer import SIDE, Card, Recognizer, load_model


def combine(
    models: Sequence[str | PathLike[str]],
    out: str | PathLike[str],
    faces: FaceSet,
    *,
    name: str = "ensemble",
    new: bool = False,
) -> Path:
    """Write several exported models as one, calibrated and measured together.

    The probabilities are averaged, each member's as it is calibrated, and their logarithm is the file's logits:
    to whoever uses it, an ensemble is a model as any other.

    Args:
        models: .onnx files that `export` or `quantize` wrote, of the same labels; two or more.
        out: The new .onnx file; written whole or not at all.
        faces: Its PublicTest rows give calibration, threshold and scores.
        name: The model's name.
        new: As in `export`, for the mean; each member stays calibrated as it is.

    Returns:
        The path. The card's scores name the members and what each reached under "members"; its recipe is the first
        one's.

    Raises:
        InputError: Fewer than two models, or one that is an ensemble; or their labels differ, or one of them trained
            on PublicTest.
        NotFound: The data has no PublicTest.
        MissingExtra: As `calibration_rows`.
    """
    if len(models) < 2:
        raise InputError(f"an ensemble has two members or more, but got {len(models)}")
    parts = [Recognizer(model) for model in models]
    cards = [part.card for part in parts]
    if nested := [str(part.path) for part in parts if "members" in part.card.scores]:
        raise InputError(f"{nested[0]} is an ensemble; take its members first: mien export {nested[0]} --member 1 ...")
    check_alike(cards, faces)
    graph = _graph([onnx.load(fspath(model)) for model in models], cards)
    card = replace(
        cards[0],
        name=marked(name, *(card.name for card in cards)),
        trainings=(),
        learned=joined(*(card.learned for card in cards)),
        precision="int8" if any(card.precision == "int8" for card in cards) else "float32",
        licence=" + ".join(dict.fromkeys(card.licence for card in cards)),
    )
    card = calibrated(graph, probed(graph, card), calibration_rows(card, faces, new=new), parts)
    members = [_member(each) for each in cards]
    return save(graph, replace(card, scores=card.scores | {"members": members}), Path(out))


def take_member(
    model: str | PathLike[str],
    number: int,
    out: str | PathLike[str],
    *,
    faces: FaceSet | None = None,
    name: str | None = None,
    new: bool = False,
) -> Path:
    """Write one network of an ensemble as a model of its own: to be used, to teach, or to be trained further.

    Args:
        model: An .onnx file that `combine` wrote, or the name of such a model in the package.
        number: Which one, from 1 on, in the order of its card.
        out: The new .onnx file; written whole or not at all.
        faces: Where given, it is calibrated and scored on these, as `export` does; otherwise it stays calibrated as in
            the ensemble, calls no answer uncertain, and holds no scores: those were the ensemble's.
        name: The model's name; the member's where none is given.
        new: As in `export`.

    Raises:
        InputError: There is no such member, or the data has no rows to calibrate on.
        NotFound, FileError, Damaged: As `load_model`.
        MissingExtra: As `calibration_rows`.
    """
    whole = load_model(model)
    members = whole.card.scores.get("members", [])
    if not 1 <= number <= len(members):
        found = "; ".join(f"{place} {each['name']}" for place, each in enumerate(members, 1)) or "one network alone"
        raise InputError(f"expected an ensemble with a member {number}, but {whole.path} holds: {found}")
    taken, prefix = members[number - 1], f"member{number - 1}."
    graph = shape_inference.infer_shapes(onnx.load(whole.path))
    constants = {each.name: numpy_helper.to_array(each) for each in graph.graph.initializer}
    part = Extractor(graph).extract_model(["faces"], [prefix + "logits"])
    _without_prefix(part.graph, prefix)
    card = replace(
        whole.card,
        name=marked(name or taken["name"], taken["name"]),
        temperatures=tuple(constants[prefix + "temperatures"].tolist()),
        biases=tuple(constants[prefix + "biases"].tolist()),
        threshold=0.0,
        recipe=json.dumps(taken["recipe"], indent=1),
        scores={},
        data_sha256=taken["data_sha256"],
        learned=taken.get("learned", ""),
        precision=taken["precision"],
        trainings=tuple(taken["trainings"]),
    )
    card = probed(part, card)
    if faces is not None:
        card = calibrated(part, card, calibration_rows(card, faces, new=new))
    return save(part, card, Path(out))


def _without_prefix(graph: onnx.GraphProto, prefix: str) -> None:
    """Undo what `compose.add_prefix` did: weights are found by their names."""
    del graph.value_info[:]  # the extractor lists the input there too, which would be renamed in the next ensemble
    for named in (*graph.node, *graph.initializer, *graph.output):
        named.name = named.name.removeprefix(prefix)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [each.removeprefix(prefix) for each in names]


def _member(card: Card) -> dict[str, Any]:
    score = card.scores.get(SELECTION_SPLIT, {}).get("single view, all", {})
    return {
        "name": card.name,
        "precision": card.precision,
        "accuracy": score.get("accuracy"),
        "recipe": json.loads(card.recipe),
        "trainings": card.trainings,
        "data_sha256": card.data_sha256,
        "learned": card.learned,
    }


def _graph(models: list[onnx.ModelProto], cards: list[Card]) -> onnx.ModelProto:
    """One graph: the same faces into every member, the mean of the probabilities, and its logarithm out."""
    nodes, initializers, means = [], [], []
    for number, (model, card) in enumerate(zip(models, cards, strict=True)):
        name = f"member{number}."
        part = compose.add_prefix(model, name, rename_inputs=False).graph  # all take "faces"
        (answer,) = part.output
        nodes += part.node
        initializers += [
            *part.initializer,
            _constant(name + "temperatures", card.temperatures),
            _constant(name + "biases", card.biases),
        ]
        nodes += [
            helper.make_node("Div", [answer.name, name + "temperatures"], [name + "scaled"]),
            helper.make_node("Add", [name + "scaled", name + "biases"], [name + "calibrated"]),
            helper.make_node("Softmax", [name + "calibrated"], [name + "probabilities"], axis=1),
        ]
        means.append(name + "probabilities")
    nodes += [helper.make_node("Mean", means, ["mean"]), helper.make_node("Log", ["mean"], ["logits"])]
    graph = helper.make_graph(
        nodes,
        "ensemble",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["batch", SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(cards[0].labels)])],
        initializers,
    )
    versions = {(each.domain, each.version) for model in models for each in model.opset_import}
    if len(versions) != len({domain for domain, _ in versions}):
        raise InputError(f"all members should be of one ONNX opset, but they are of {sorted(versions)}; export anew")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*each) for each in sorted(versions)])
    model.ir_version = max(each.ir_version for each in models)
    onnx.checker.check_model(model)
    return model


def _constant(name: str, values: tuple[float, ...]) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), name)
