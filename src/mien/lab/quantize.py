"""An exported ONNX file -> the same network in 8 bits: a quarter of the size, and faster on a CPU."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from itertools import takewhile
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnxruntime import quantization

from mien.errors import InputError, ParityError
from mien.lab.export import calibrated, calibration_rows, marked, probed, save
from mien.measuring.faceset import FaceSet
from mien.reading.recognizer import Recognizer

CALIBRATION_FACES = 2048  # Training rows that tell the range of every activation
PERCENTILE = 99.999  # of the activations lie inside the range; what is beyond is clipped
MAX_LOSS = 0.005  # of accuracy on the rows that calibrate


class _Training(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Training faces, chosen once and for all, in batches of one size: the library stacks what it collects."""

    def __init__(self, faces: FaceSet) -> None:
        rows = np.flatnonzero(faces.where("Training"))
        chosen = np.random.default_rng(0).permutation(rows)[:CALIBRATION_FACES]
        batch = min(64, len(chosen))
        whole = len(chosen) - len(chosen) % batch
        self.batches = iter(faces.images[chosen[:whole]].reshape(-1, batch, *faces.images.shape[1:]))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch; None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {"faces": batch}


def quantize(
    model: str | PathLike[str], out: str | PathLike[str], faces: FaceSet, *, name: str | None = None, new: bool = False
) -> Path:
    """Write an exported model with weights and activations in 8 bits, calibrated and measured anew.

    Weights keep seven of the eight bits: on processors without VNNI, ONNX Runtime adds their products in 16 bits,
    which eight would overflow. What prepares the pixels, before the first convolution, stays in float32: it is small,
    and to convert it there and back takes longer than it does.

    Args:
        model: A float32 .onnx file that `export` wrote.
        out: The new .onnx file; written whole or not at all.
        faces: Its Training rows give the ranges of the activations, its PublicTest rows (or those that chose the
            epoch, where it has none) scaling, threshold and scores.
        name: The new model's name; the old one's where none is given.
        new: As in `export`.

    Returns:
        The path. The card's scores keep those of the float32 file under "before".

    Raises:
        InputError: The model is quantised already, or an ensemble; or it held out a share of other data than this.
        NotFound, MissingExtra: As `calibration_rows`.
        ParityError: It loses more than half a point of accuracy on these rows.

    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    before = Recognizer(model).card
    if before.precision != "float32":
        raise InputError(f"expected a float32 model, but {model} is {before.precision} already; take what it came from")
    if members := before.scores.get("members"):
        raise InputError(f"expected one network, but {model} holds {len(members)}; quantise each and combine these")
    rows = calibration_rows(before, faces, new=new)
    with TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "small.onnx"
        whole = onnx.shape_inference.infer_shapes(onnx.load(model))
        onnx.save(whole, plain)
        preparing = takewhile(lambda node: node.op_type != "Conv", whole.graph.node)
        with _quiet():
            quantization.quantize_static(
                plain,
                small,
                _Training(faces),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.Percentile,
                nodes_to_exclude=[node.name for node in preparing],
                extra_options={"CalibPercentile": PERCENTILE},
            )
        graph = onnx.load(small)
    card = replace(before, name=marked(name or before.name, before.name), precision="int8")
    card = calibrated(graph, probed(graph, card), rows)
    was = calibrated(onnx.load(model), before, rows)  # by the same rows, whatever the file was calibrated on
    lost = _accuracy(was.scores) - _accuracy(card.scores)
    if lost > MAX_LOSS:
        raise ParityError(
            f"8 bits should cost at most {MAX_LOSS:.1%} of accuracy on {card.scores['calibration']['split']}, but cost "
            f"{lost:.2%}; keep the float32 file"
        )
    return save(graph, replace(card, scores=card.scores | {"before": was.scores}), Path(out))


def _accuracy(scores: dict[str, Any]) -> float:
    return float(scores[scores["calibration"]["split"]]["single view, all"]["accuracy"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the library prints and logs on its way."""
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
