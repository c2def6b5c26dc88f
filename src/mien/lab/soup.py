"""Runs that began with the same weights -> one network: the mean of theirs."""

import json
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.optim.swa_utils import update_bn

from mien.errors import InputError
from mien.lab.runs import Predicting, Run

FACES = 2048  # that tell the batch norms their statistics
BATCH = 256


class Soup(Predicting):
    """The network whose weights are the mean of several runs', as a predictor, not calibrated.

    Runs that began with the same trained weights (`mien train --start-from`) and went apart by their seeds stay in one
    valley of the loss. In its middle lies a network that can be better than each of them, and costs what one does.
    Between networks that began apart there is no such middle.

    Args:
        folders: Run folders of one network that began with the same weights; two or more.
        faces: Grey faces of the kind that they learned from. The batch norms are measured anew on them: the mean of
            their statistics is not what they would see in the mean network.
        checkpoint: "best" or "last", of each run.

    Attributes:
        parts: Recipe and checksum of each run, for the card of what is made of it.

    Raises:
        FileError, Damaged: As `Run` does.
        InputError: Fewer than two runs; or they differ in network, labels, standardisation or data, or did not begin
            with the same weights.

    Source: https://arxiv.org/abs/2203.05482 (the uniform soup).
    """

    def __init__(
        self,
        folders: Sequence[str | PathLike[str]],
        faces: UInt8[np.ndarray, "N 48 48"],
        checkpoint: str = "best",
    ) -> None:
        if len(folders) < 2:
            raise InputError(f"weights are averaged of two run folders or more, but got {len(folders)}")
        first, *others = runs = [Run(folder, checkpoint) for folder in folders]
        if first.started_from is None:
            raise InputError(
                f"weights are averaged of runs that began with the same ones, but {first.folder} began with random "
                "ones; train further from one run: mien train ... --start-from RUN"
            )
        expected = _kind(first)
        for run in others:
            for what, found in _kind(run).items():
                if found != expected[what]:
                    raise InputError(
                        f"weights are averaged of runs with the same {what}, but it is {expected[what]} in "
                        f"{first.folder} and {found} in {run.folder}"
                    )
        states = [run.classifier.state_dict() for run in runs]
        first.classifier.load_state_dict({name: _mean([state[name] for state in states]) for name in states[0]})
        with torch.no_grad():
            update_bn(torch.split(torch.from_numpy(faces[:FACES]), BATCH), first.classifier)
        super().__init__(first.classifier, first.file)
        self.parts = [{"recipe": json.loads(run.recipe.to_json()), "sha256": run.checksum} for run in runs]
        self.name = first.name
        self.data_sha256 = first.data_sha256


def _kind(run: Run) -> dict[str, Any]:
    """What has to be the same."""
    recipe = run.recipe
    return {
        "network": recipe.network,
        "labels": recipe.labels,
        "votes' head": bool(recipe.votes),
        "standardisation": (recipe.mean, recipe.std),
        "data": run.data_sha256,
        "weights to begin with": run.started_from,
    }


def _mean(tensors: list[Tensor]) -> Tensor:
    """Of whole numbers, which only count batches, the first."""
    return torch.stack(tensors).mean(0) if tensors[0].is_floating_point() else tensors[0]
