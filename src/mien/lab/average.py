"""Exported ONNX files of one network, trained several times -> one file with the mean of their weights.

It costs what one of them costs. It works where the trainings began with the same weights and did not leave them far
behind; networks that were trained apart have nothing to do with one another, weight by weight.
Source: https://arxiv.org/abs/2203.05482.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from mien.errors import InputError
from mien.lab.export import calibrated, calibration_rows, check_alike, graph_of, marked, probed, save
from mien.lab.exported import Exported, sample
from mien.lab.module import Classifier
from mien.measuring import metrics
from mien.measuring.faceset import FaceSet
from mien.measuring.sketch import joined
from mien.reading.recognizer import Recognizer

MAX_LOSS = 0.03  # of accuracy to the worst of them, on the rows that calibrate; means worth having lose less


def average(
    models: Sequence[str | PathLike[str]],
    out: str | PathLike[str],
    faces: FaceSet,
    *,
    name: str | None = None,
    new: bool = False,
) -> Path:
    """Write one network with the mean of the weights of several.

    The mean of weights sees other activations than any of them did: the norms measure theirs anew on Training faces.

    Args:
        models: .onnx files that `export` or `quantize` wrote, two or more, of networks that are alike layer by layer.
        out: The new .onnx file, in float32; written whole or not at all.
        faces: Its Training rows tell the norms their statistics, its PublicTest rows scaling, threshold and scores.
        name: The model's name; the first one's where none is given.
        new: As in `export`.

    Returns:
        The path. The card's recipe is the first one's; its trainings name all.

    Raises:
        InputError: Fewer than two models, networks or labels that differ, an ensemble among them, or one that trained
            on PublicTest; or the mean is right three points less often than the worst of them: they did not begin with
            the same weights.
        NotFound: The data has no PublicTest, or no Training.
        MissingExtra: As `calibration_rows`.
    """
    if len(models) < 2:
        raise InputError(f"a mean is of two models or more, but got {len(models)}")
    members = [Recognizer(model) for model in models]
    cards = [member.card for member in members]
    check_alike(cards, faces)
    faces.where("Training")
    some = sample(faces)
    classifier, *others = (Exported(model, some).classifier for model in models)
    # By place, not by name: what has no weights may stand between the layers of one and not of another.
    states = [list(each.network.state_dict().values()) for each in (classifier, *others)]
    for model, state in zip(models, states, strict=True):
        if [value.shape for value in state] != [value.shape for value in states[0]]:
            raise InputError(f"the layers of {model} are not those of {models[0]}: weights have no mean then")
    with torch.no_grad():
        for own, *values in zip(states[0], *states, strict=True):
            own.copy_(torch.stack([value.float() for value in values]).mean(0))
    _measure_norms(classifier, some)
    graph = graph_of(classifier)
    card = replace(
        cards[0],
        name=marked(name or cards[0].name, *(card.name for card in cards)),
        trainings=_trainings([card.trainings for card in cards]),
        learned=joined(*(card.learned for card in cards)),
        precision="float32",
        scores={},
    )
    rows = calibration_rows(card, faces, new=new)
    card = calibrated(graph, probed(graph, card), rows)
    right = [metrics.accuracy(metrics.softmax(each.logits(rows.chosen.images)), rows.chosen.labels) for each in members]
    mean = card.scores["calibration"]["accuracy_unscaled"]
    if mean < min(right) - MAX_LOSS:
        raise InputError(
            f"the mean of their weights is right in {mean:.1%} of {rows.split}, and they are in "
            f"{', '.join(f'{each:.1%}' for each in right)}: they were not trained on from the same weights; take the "
            "mean of their answers (--mean answers)"
        )
    return save(graph, card, Path(out))


def _measure_norms(classifier: Classifier, faces: UInt8[np.ndarray, "N 48 48"]) -> None:
    """Give each norm the mean and variance of its place, with the norms before it set already."""
    norms = [module for module in classifier.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train().momentum = 1.0  # this one batch is all that counts
    with torch.no_grad():
        classifier(torch.from_numpy(faces))
    classifier.eval()


def _trainings(each: list[tuple[str, ...]]) -> tuple[str, ...]:
    """What they have in common, and then what each had beyond, in one line."""
    shared = [steps[0] for steps in takewhile(lambda steps: len(set(steps)) == 1, zip(*each, strict=False))]
    own = ("; then ".join(trainings[len(shared) :]) or "as they are" for trainings in each)
    return (*shared, f"the mean of the weights of {len(each)}: {', '.join(f'({trained})' for trained in own)}")
