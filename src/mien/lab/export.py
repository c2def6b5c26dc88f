"""Run folder -> one ONNX file that holds everything its use needs.

The graph takes uint8 faces and gives logits: preprocessing cannot be done wrong by whoever runs it.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from mien.errors import InputError, ParityError
from mien.expressions import answers
from mien.lab.batches import divide
from mien.lab.module import Classifier
from mien.lab.runs import Run
from mien.lab.saved import Saved
from mien.lab.unread import drop_unread
from mien.measuring import metrics
from mien.measuring.evaluation import SELECTION_SPLIT, evaluate, new_pictures
from mien.measuring.faceset import FaceSet
from mien.measuring.ferplus import relabelled
from mien.measuring.near import near_in_training
from mien.measuring.robustness import KEPT_ACCURACY
from mien.measuring.sketch import KNOWN, share_known
from mien.reading.recognizer import SIDE, VIEWS, Card, Recognizer, probe_image
from mien.recipes import HELD_OUT, Recipe
from mien.storage import suffix_of, write_whole

PARITY = 1e-4  # largest difference of a logit between torch and ONNX Runtime
FEWEST = 10  # new pictures to fit on: two in each fifth, by which calibration is fitted on the others
LICENCE = "research use: learned from FER2013 (and FER+ votes where the recipe says so); holds no image"


class _Deployed(nn.Module):
    """The graph of an exported file: uint8 (B, 48, 48) -> logits (B, C), the second head cut off."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        # Channels last is for training; in the graph it would leave its traces as gathers.
        network = copy.deepcopy(classifier.network).to(memory_format=torch.contiguous_format)
        last = network[-1]
        last.weight, last.bias = (nn.Parameter(p[: classifier.classes].clone()) for p in (last.weight, last.bias))
        self.network = network
        self.scale = 1 / (255 * classifier.recipe.std)
        self.shift = classifier.recipe.mean / classifier.recipe.std

    def forward(self, faces: Tensor) -> Tensor:
        logits: Tensor = self.network(faces.unsqueeze(1).float() * self.scale - self.shift)
        return logits


def export(
    run: str | PathLike[str],
    out: str | PathLike[str],
    *,
    faces: FaceSet | None = None,
    checkpoint: str = "best",
    name: str | None = None,
    new: bool = False,
) -> Path:
    """Write a run as one ONNX file with labels, preprocessing, calibration and scores inside.

    Args:
        run: A run folder, or the .json of a saved pair.
        out: The .onnx file; written whole or not at all.
        faces: Where given, scaling and threshold are fitted on its PublicTest rows, or on those that chose the epoch
            where it has none, and the scores measured there; otherwise the logits stay as they are and no answer is
            called uncertain.
        checkpoint: "best" or "last", of a run folder.
        name: The model's name; the recipe's where none is given. A trial's ends in -trial in any case.
        new: Fit scaling and threshold only on rows whose pictures do not stand in Training, in whatever version: a
            network may remember the others, and is surer of them than it should be of new ones.

    Raises:
        FileError: No such checkpoint, or the file cannot be written.
        NotFound, InputError, MissingExtra: As `calibration_rows`.
        ParityError: ONNX Runtime's logits differ from torch's by more than 1e-4.
    """
    trained = Saved(run) if suffix_of(run) == ".json" else Run(run, checkpoint)
    model = graph_of(trained.classifier)
    probe = probe_image()[None]
    card = Card(
        name=marked(name or trained.name, trained.name),
        labels=answers(trained.recipe.labels),
        temperatures=(1.0,) * trained.classifier.classes,
        biases=(0.0,) * trained.classifier.classes,
        threshold=0.0,
        recipe=trained.recipe.to_json(),
        scores={},
        probe=tuple(float(v) for v in trained.logits(probe)[0]),
        licence=LICENCE,
        data_sha256=trained.data_sha256,
        learned=trained.learned,
        trainings=tuple(trained.trainings),
    )
    gap = float(np.abs(opened(model, card).logits(probe) - trained.logits(probe)).max())
    if not gap <= PARITY:
        raise ParityError(f"the exported logits should differ by at most {PARITY}, but differ by {gap:.2g}")
    if faces is not None:
        card = calibrated(model, card, calibration_rows(card, faces, new=new))
    return save(model, card, Path(out))


def marked(name: str, *origins: str) -> str:
    """The name of a model, which says so where what it is made of is a trial (--limit)."""
    trial = any(origin.endswith("-trial") for origin in origins)
    return f"{name}-trial" if trial and not name.endswith("-trial") else name


@dataclass(frozen=True, slots=True)
class CalibrationRows:
    """What a model is calibrated and scored on.

    Attributes:
        faces: The data set.
        chosen: Of these the rows that calibrate and score, with labels of the model's kind.
        split: Their split.
        near: Row numbers whose pictures stand in Training in another version; None where that was not asked for.
        new: Which of `chosen` scaling and threshold are fitted on: all, or those whose pictures are not in Training.
    """

    faces: FaceSet
    chosen: FaceSet
    split: str
    near: Int64[np.ndarray, "K"] | None
    new: Bool[np.ndarray, "N"]


def calibrated(model: onnx.ModelProto, card: Card, rows: CalibrationRows, members: Sequence[Recognizer] = ()) -> Card:
    """The card with scaling and threshold fitted on some rows, and the scores measured there.

    Args:
        model: The graph, as it will be used: ONNX Runtime computes what is fitted and measured.
        card: Its scaling, threshold and scores are replaced.
        rows: What `calibration_rows` gives.
        members: Of an ensemble, the models in it. Their own scaling was fitted on the same rows, so that
            cross-fitting has to fit it anew.
    """
    recipe = Recipe.from_json(card.recipe)
    chosen, split, new = rows.chosen, rows.split, rows.new
    logits = opened(model, card).logits(chosen.images)
    scaling = metrics.fit_scaling(logits[new], chosen.labels[new])
    probabilities = scaling(logits)
    threshold = metrics.threshold_for(probabilities[new], chosen.labels[new], KEPT_ACCURACY)
    temperatures, biases = (tuple(values.tolist()) for values in (scaling.temperatures, scaling.biases))
    card = replace(card, temperatures=temperatures, biases=biases, threshold=threshold)
    own = opened(model, card)
    how: dict[str, Any] = {"binary": recipe.claims_binary, "labels": recipe.labels, "views": VIEWS[-1]}
    report = evaluate(own, rows.faces, split, near=rows.near, **how)
    coverage = metrics.risk_coverage(probabilities[new], chosen.labels[new])
    answered = coverage[coverage[:, 2] >= threshold]
    some = len(answered) > 0 and threshold < 1
    raw = np.stack([member.logits(chosen.images) for member in members], 1) if members else logits
    fit = metrics.fit_ensemble if members else metrics.fit_scaling
    crossed = metrics.cross_fitted(raw, chosen.labels, fit=fit, where=new)
    unscaled = metrics.softmax(raw).mean(1) if members else logits
    calibration = {
        "split": split,
        "n": int(new.sum()),  # rows that scaling and threshold were fitted on
        "ece_cross_fitted": metrics.calibration_error(crossed, chosen.labels),
        "ece_floor": metrics.calibration_floor(crossed),
        "ece_cross_fitted_new": metrics.calibration_error(crossed[new], chosen.labels[new]),
        "ece_floor_new": metrics.calibration_floor(crossed[new]),
        # Biases change answers, so the scores above are of labels that they were fitted on.
        "accuracy_cross_fitted": metrics.accuracy(crossed, chosen.labels),
        "accuracy_unscaled": metrics.accuracy(unscaled, chosen.labels),
        "coverage": float(answered[-1, 0]) if some else 0.0,
        "accuracy_kept": float(answered[-1, 1]) if some else None,
        "notes": list(rows.faces.notes),  # which rows a list left out, and what that does to the scores
        # The surest tenth, two tenths ... of the rows fitted on: their share, accuracy and lowest confidence.
        "risk_coverage": [coverage[max(0, round(len(coverage) * k / 10) - 1)].tolist() for k in range(1, 11)],
    }
    return replace(card, scores={split: report.to_dict()["scores"], "calibration": calibration})


def calibration_rows(card: Card, faces: FaceSet, *, new: bool = False) -> CalibrationRows:
    """PublicTest, or where there is none or the recipe trains on it the rows that chose the epoch.

    The network did not learn from either.

    Args:
        card: Of the model.
        faces: The data set, with votes where the recipe learned FER+'s.
        new: Scaling and threshold are fitted only where the picture does not stand in Training.

    Raises:
        NotFound: There is neither; or new ones are asked for, and there are no Training rows to tell them from.
        InputError: The rows that chose are a share of other data than this, or it learned from those of PublicTest; or
            nearly all of them stand in Training.
        MissingExtra: New ones are asked for of other data than FER2013, and scikit-learn is not installed.
    """
    recipe = Recipe.from_json(card.recipe)
    faces, split = _calibrating(card, recipe, faces)
    chosen = relabelled(faces.split(split), recipe.labels)
    if not new:
        return CalibrationRows(faces, chosen, split, None, np.ones(len(chosen), bool))
    faces.where("Training")
    near = near_in_training(faces, split)
    where = new_pictures(chosen, faces, near)
    if not where.any():
        raise InputError(f"all {len(where):,} faces of {split} stand in Training: none is left to calibrate on")
    if (left := int(where.sum())) < FEWEST:
        raise InputError(f"{left} of {len(where):,} faces of {split} do not stand in Training, but {FEWEST} are needed")
    return CalibrationRows(faces, chosen, split, near, where)


def check_alike(cards: Sequence[Card], faces: FaceSet) -> None:
    """Refuse models that are not to become one, or that this data cannot calibrate together.

    Raises:
        InputError: Their labels differ, or one of them trained on PublicTest.
        NotFound: The data has no PublicTest: of rows that one of them held out, another may have learned.
    """
    faces.where(SELECTION_SPLIT)
    if odd := [card.name for card in cards if card.labels != cards[0].labels]:
        raise InputError(f"all members should give the labels {', '.join(cards[0].labels)}, but not so: {odd}")
    if learned := [card.name for card in cards if SELECTION_SPLIT in Recipe.from_json(card.recipe).protocol.train]:
        raise InputError(f"{SELECTION_SPLIT} is to calibrate the whole, but some of it trained on that: {learned}")


def _calibrating(card: Card, recipe: Recipe, faces: FaceSet) -> tuple[FaceSet, str]:
    """The data set, and the name of the split that calibrates."""
    apart = SELECTION_SPLIT in faces.splits and SELECTION_SPLIT not in recipe.protocol.train
    split = SELECTION_SPLIT if apart else recipe.protocol.chooser
    if split != HELD_OUT:
        known = share_known(faces.images[faces.splits == split], card.learned)
        if known is not None and known > KNOWN:  # by a teacher, or in a training that came before
            raise InputError(
                f"about {known:.0%} of the faces of {split} are among those that {card.name} or what it began with "
                "learned from, and would make it too sure of itself; calibrate on faces that it has not seen"
            )
        return faces, split
    if faces.checksum != card.data_sha256:
        raise InputError(
            f"expected a data set with a {SELECTION_SPLIT} that the network did not train on, or the one that it did "
            f"(sha-256 {card.data_sha256[:12]}...), of which a share was held out, but got {faces.source} (sha-256 "
            f"{faces.checksum[:12]}...); name the same --data, --ferplus and --exclude as in training"
        )
    return divide(faces, recipe), split


def graph_of(classifier: Classifier) -> onnx.ModelProto:
    """The network as an ONNX graph with a free batch."""
    example = torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's remarks on its own internals
        program = torch.onnx.export(
            _Deployed(classifier).eval(),
            (example,),
            input_names=["faces"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:  # the exporter's notes on where in our code a node comes from
        del node.metadata_props[:]
        node.doc_string = ""
    drop_unread(model)
    return model


def opened(model: onnx.ModelProto, card: Card) -> Recognizer:
    """A graph with its card as whoever uses its file would have it."""
    with TemporaryDirectory() as folder:
        return Recognizer(save(model, card, Path(folder) / "model.onnx"))


def probed(model: onnx.ModelProto, card: Card) -> Card:
    """The card with the logits that the graph gives for the probe."""
    return replace(card, probe=tuple(opened(model, card).logits(probe_image()[None])[0].tolist()))


def save(model: onnx.ModelProto, card: Card, path: Path) -> Path:
    """Write a graph with a card inside, whole or not at all."""
    onnx.helper.set_model_props(model, card.to_metadata())
    return write_whole(path, lambda file: file.write(model.SerializeToString()), binary=True)
