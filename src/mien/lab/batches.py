"""Which rows of a data set a run uses for what, and how they come to the device, batch by batch.

The whole data set is one tensor on each device, or stays in its file where it is larger than `IN_MEMORY`; there are no
worker processes that fetch it.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import lightning as L
import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from mien.errors import InputError, NotFound
from mien.expressions import EXPRESSIONS, FERPLUS
from mien.measuring.faceset import IN_MEMORY, FaceSet
from mien.measuring.ferplus import non_faces, relabelled, targets
from mien.recipes import HELD_OUT, Recipe

VALIDATION_BATCH = 512
_SHARE = "a random tenth of the training rows: --set protocol.select=0.1 --set protocol.held_out=random"


def divide(faces: FaceSet, recipe: Recipe, limit: float = 1.0) -> FaceSet:
    """The data set with each row's role in a run as its split.

    Args:
        faces: The data set.
        recipe: Whose protocol and seed divide it.
        limit: Share of each part that is kept, in (0, 1]; the same rows for the same seed.

    Returns:
        All rows, not copied; their split is "Training" (they train), `recipe.protocol.chooser` (they choose) or ""
        (the run does not use them).

    Raises:
        NotFound: The data lacks a split that the protocol needs.
        InputError: A part has too few rows or unlabelled ones; rows that train would choose too, or the last ones are
            to choose and lack an expression; or the recipe needs votes and there are none.
    """
    protocol, chosen = recipe.protocol, recipe.protocol.chooser
    if chosen in protocol.train:
        raise InputError(
            f"recipe {recipe.name!r} trains on {chosen}, which is to choose the epoch too; name another split, or hold "
            f"out {_SHARE}"
        )
    for name in protocol.train:
        faces.where(name)  # names the missing split and those that exist
    if chosen != HELD_OUT:
        try:
            faces.where(chosen)
        except NotFound as error:
            another = "to choose the epoch, name another (--set protocol.select=NAME)"
            raise NotFound(f"{error}; {another}, or hold out {_SHARE}") from error
    if recipe.votes and faces.votes is None:
        raise InputError(
            f"recipe {recipe.name!r} learns FER+ votes, but the data has none; name the FER+ file "
            "(--ferplus fer2013new.csv), set their weight to 0 (--set votes=0), or use a recipe without them"
        )
    faces = relabelled(faces, recipe.labels)
    generator = np.random.default_rng(recipe.seed)
    train = np.flatnonzero(np.isin(faces.splits, protocol.train))
    if isinstance(protocol.select, str):
        held = np.flatnonzero(faces.splits == chosen)
    elif protocol.held_out == "random":
        order = generator.permutation(train)
        held, train = np.split(order, [math.ceil(len(train) * protocol.select)])
    else:
        train, held = np.split(train, [math.floor(len(train) * (1 - protocol.select))])
        _need_all_labels(faces, train, held)
    if recipe.drop_non_faces and faces.votes is not None:
        train = train[~non_faces(faces.votes[train])]
    roles = np.zeros(len(faces), f"<U{max(len(chosen), 8)}")
    for part, role in ((train, "Training"), (held, chosen)):
        kept = part if limit == 1 else generator.permutation(part)[: round(len(part) * limit)]
        if len(kept) < 2:
            raise InputError(f"{len(kept)} {role} rows are left for recipe {recipe.name!r}; at least 2 are needed")
        if unlabelled := int((faces.labels[kept] < 0).sum()):
            raise InputError(
                f"{unlabelled:,} of {len(kept):,} {role} rows have no label, expected one in each; label them, or take "
                "them out of the data"
            )
        roles[kept] = role
    return replace(faces, splits=roles)


def _need_all_labels(faces: FaceSet, train: np.ndarray, held: np.ndarray) -> None:
    """Rows that stand in the order of their labels, as those of a folder do, have no representative end."""
    if lacking := set(faces.labels[train].tolist()) - set(faces.labels[held].tolist()):
        raise InputError(
            f"the last {len(held):,} of {len(train) + len(held):,} training rows are to choose the epoch, but "
            f"{len(lacking)} of the labels do not occur among them; hold out {_SHARE}"
        )


def softened_labels(
    divided: FaceSet, answers: Mapping[int, Sequence[float]], weight: float
) -> Float32[np.ndarray, "N 7"]:
    """The share of each expression in what a row's answer is compared with: its label, and what a teacher says of it.

    Args:
        divided: What `divide` gives, with FER2013's labels.
        answers: Probabilities by row number, as `read_predictions` gives them.
        weight: Of the answer against the label, in [0, 1], where a row trains and there is one. It is warned of rows
            that train without.

    Raises:
        InputError: There are answers for none of the rows that train, or they know contempt.
    """
    shares = np.eye(len(EXPRESSIONS), dtype=np.float32)[np.maximum(divided.labels, 0)]  # rows without one are not used
    train = np.flatnonzero(divided.splits == "Training")
    known = [row for row in train if int(divided.rows[row]) in answers]
    if not known:
        raise InputError(f"the teacher's table has {len(answers):,} rows, but none of the {len(train):,} that train")
    said = np.array([answers[int(divided.rows[row])] for row in known], np.float32)
    if said.shape[1] != len(EXPRESSIONS):
        raise InputError(f"expected a teacher of {len(EXPRESSIONS)} expressions (p0 .. p6), but got {said.shape[1]}")
    if len(known) < len(train):
        untold = f"{len(train) - len(known):,} of the {len(train):,} rows that train"
        warnings.warn(f"the teacher's table tells nothing of {untold}: these have their labels alone", stacklevel=3)
    shares[known] += np.float32(weight) * (said - shares[known])
    mixed: Float32[np.ndarray, "N 7"] = shares
    return mixed


class Fetched:
    """Rows of images that stay where they are, in a file as a rule; a batch is brought to the device when asked for."""

    def __init__(self, images: np.ndarray, rows: np.ndarray, device: torch.device) -> None:
        self.images, self.rows, self.device = images, rows, device

    def __getitem__(self, part: Tensor) -> Tensor:
        return torch.from_numpy(self.images[self.rows[part.cpu().numpy()]]).to(self.device)


class Batches:
    """Batches of one tensor set: (images uint8, targets int64 or float32, votes float32), each of a part's rows."""

    def __init__(self, tensors: tuple[Tensor | Fetched, Tensor, Tensor], parts: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return (tuple(tensor[part] for tensor in self.tensors) for part in self.parts)


class FaceData(L.LightningDataModule):
    """A divided FaceSet as batches on the device; the training order is drawn anew each epoch from the seed.

    Where several processes share a run, all draw the same order, and each takes its share of every batch.

    Args:
        divided: What `divide` gives.
        recipe: Whose batch, seed and protocol to follow.
        shares: What to learn in the place of the labels, as `softened_labels` gives it.
        resident: Bytes of images, of all the rows used, that may lie on the device; those of a larger set are fetched
            batch by batch from where they are.
    """

    def __init__(
        self,
        divided: FaceSet,
        recipe: Recipe,
        *,
        shares: Float32[np.ndarray, "N 7"] | None = None,
        resident: int = IN_MEMORY,
    ) -> None:
        super().__init__()
        self.faces, self.recipe, self.shares, self.resident = divided, recipe, shares, resident
        self.rows = [np.flatnonzero(divided.splits == role) for role in ("Training", recipe.protocol.chooser)]
        self.tensors: list[tuple[Tensor | Fetched, Tensor, Tensor]] = []

    def setup(self, stage: str) -> None:
        """Copy both sets to the device, once."""
        assert self.trainer is not None
        device, faces = self.trainer.strategy.root_device, self.faces
        stays = sum(map(len, self.rows)) * faces.images[:1].nbytes > self.resident
        truth = targets(faces, self.recipe.labels) if self.shares is None else self.shares
        self.tensors = [
            (
                Fetched(faces.images, rows, device) if stays else torch.from_numpy(faces.images[rows]).to(device),
                torch.from_numpy(truth[rows]).to(device),
                torch.from_numpy(
                    np.zeros((len(rows), len(FERPLUS)), np.float32)
                    if faces.votes is None
                    else faces.votes[rows].astype(np.float32)
                ).to(device),
            )
            for rows in self.rows
        ]

    def _batches(self, which: int, parts: Sequence[Tensor]) -> Batches:
        """This process's share of each part; a part too small for all to have some of it is left out."""
        assert self.trainer is not None
        world, rank, device = self.trainer.world_size, self.trainer.global_rank, self.trainer.strategy.root_device
        return Batches(self.tensors[which], [part[rank::world].to(device) for part in parts if len(part) >= world])

    def train_dataloader(self) -> Batches:
        """This epoch's shuffled batches."""
        assert self.trainer is not None
        seed = self.recipe.seed * 100_000 + self.trainer.current_epoch
        order = torch.randperm(len(self.rows[0]), generator=torch.Generator().manual_seed(seed))
        if len(order) % self.recipe.batch == 1:  # a batch norm cannot learn from a batch of one
            order = order[:-1]
        return self._batches(0, torch.split(order, self.recipe.batch))

    def val_dataloader(self) -> Batches:
        """The validation rows in their order, in parts of nearly the same size: each process has some of every one."""
        order = torch.arange(len(self.rows[1]))
        return self._batches(1, torch.tensor_split(order, math.ceil(len(order) / VALIDATION_BATCH)))
