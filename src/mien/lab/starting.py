"""Whether a run may begin, or go on: what would fail later is refused before any work."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import UInt8
from lightning.pytorch.utilities import rank_zero_only

from mien.checked import Checked
from mien.errors import Damaged, FileError, InputError
from mien.lab.batches import divide
from mien.lab.exported import check_trained
from mien.lab.module import check_recipe
from mien.lab.runs import Predicting, load_checkpoint
from mien.lab.spread import Spread, places
from mien.measuring.faceset import FaceSet
from mien.measuring.sketch import KNOWN, share_known, sketch, without
from mien.recipes import HELD_OUT, Recipe
from mien.storage import LOCK, need_file, parse_json, suffix_of

Source = str | os.PathLike[str]
"""A run folder, a saved pair, a model by file or name, or a table of answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(Checked):
    """What a run may choose without becoming another recipe.

    Attributes:
        devices: Of each node, a process for each; "auto" for all GPUs, else one CPU, or for what a launcher started.
        nodes: Number of machines; "auto" for those of the launcher, or else this one.
        precision: Lightning's name.
        limit: Share of the training and validation rows to use, for trials; reports name it.
    """

    devices: Annotated[int, "[1, inf)"] | Literal["auto"] = "auto"
    nodes: Annotated[int, "[1, inf)"] | Literal["auto"] = "auto"
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    limit: Annotated[float, "(0, 1]"] = 1.0


def check_start(
    recipe: Recipe,
    out: Path,
    teachers: Sequence[Source] = (),
    start_from: Source | None = None,
    *,
    options: TrainOptions | None = None,
    resume: bool = False,
) -> None:
    """Refuse, before any data is read, what would fail after that.

    Raises:
        InputError: Teachers without `distil`, or `distil` without teachers; a table beside other teachers, or for
            other labels than FER2013's or the binary loss; nothing to start from for a recipe that needs that; two
            rules for the learning rate; devices and nodes that nobody started or that cannot share the batch.
        NotFound: There is no such network, teacher or one to start from.
        FileError: The run folder cannot be made, holds something already, or holds no run to resume.
        Damaged: The checkpoint to go on from is damaged.
    """
    check_recipe(recipe)
    _check_known(recipe, teachers, start_from)
    devices, nodes = places(options.devices, options.nodes) if options else (1, 1)
    if devices != "auto":
        Spread.of(recipe, int(devices) * nodes)
    there = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise FileError(f"{out} cannot be a run folder: {there} is a file; choose another")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        raise FileError(f"{out} cannot be a run folder: {there} may not be read and written to; choose another")
    if not resume and is_first_process():
        need_empty(out)
    if resume and not (out / "recipe.json").exists():
        raise FileError(f"{out} holds no run to resume; start one without --resume")
    if resume and (kept := kept_checkpoint(out)):
        try:
            load_checkpoint(kept)
        except Damaged as error:
            raise Damaged(f"{error}; {instead_of(kept)}") from error


def by_kind(teachers: Sequence[Source]) -> tuple[list[Source], list[Source]]:
    """Those that are trained networks, and those that are tables of answers (.csv)."""
    tables = [teacher for teacher in teachers if suffix_of(teacher) == ".csv"]
    return [teacher for teacher in teachers if teacher not in tables], tables


def _check_known(recipe: Recipe, teachers: Sequence[Source], start_from: Source | None) -> None:
    if bool(teachers) != bool(recipe.distil):
        raise InputError(
            f"recipe {recipe.name!r} gives teachers a weight of {recipe.distil:g} (distil), and {len(teachers)} came; "
            "name teachers (--teacher RUN) for a recipe that learns from them, and only for such a one"
        )
    if recipe.elder and start_from is None:
        raise InputError(
            f"recipe {recipe.name!r} begins with a trained network and would learn little without; name one, as "
            "--start-from mien-small"
        )
    networks, tables = by_kind(teachers)
    if tables and len(teachers) > 1:
        raise InputError(f"{tables[0]} is a table of answers, which teaches alone, but {len(teachers)} teachers came")
    if tables and (recipe.labels, recipe.loss) != ("fer2013", "cross_entropy"):
        raise InputError(
            f"a table of answers is mixed into FER2013's labels, for the cross-entropy, but recipe {recipe.name!r} "
            f"learns {recipe.labels} labels by {recipe.loss}; name a network as its teacher"
        )
    for source in tables:
        need_file(source)
    for source in (*networks, *([] if start_from is None else [start_from])):
        check_trained(source)


def need_empty(out: Path) -> None:
    """Refuse a run folder that holds something already; that a run was at work there is nothing.

    Raises:
        FileError: It does.
    """
    if out.exists() and any(each.name != LOCK for each in out.iterdir()):
        advice = ", or continue the run in it with --resume" if (out / "recipe.json").exists() else ""
        raise FileError(f"{out} is not empty; choose a new folder{advice}")


def kept_checkpoint(out: Path) -> Path | None:
    """The checkpoint to go on from: the last, or the best where the run was stopped between the two."""
    both = (out / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    return next((file for file in both if file.exists()), None)


def instead_of(kept: Path) -> str:
    """What to do where that checkpoint is damaged, in words."""
    best = kept.with_name("best.ckpt")
    return ("" if kept == best else f"copy {best} over it to go on from the best epoch, or ") + "start a new run"


def is_first_process() -> bool:
    """False in the processes that Lightning starts for further devices, which run the same program again."""
    return getattr(rank_zero_only, "rank", 0) == 0


def check_unseen(trained: Sequence[Predicting], faces: FaceSet, divided: FaceSet, recipe: Recipe) -> None:
    """What a trained network learned from must not choose the epoch of one that it hands its knowledge to.

    Raises:
        InputError: One of them learned from such rows.
    """
    choosing = divided.rows[divided.where(recipe.protocol.chooser)]
    for known in trained:
        if seen := _seen(known, faces, divided, recipe.protocol.chooser):
            raise InputError(
                f"{known.file} learned from {seen} of the {len(choosing):,} rows that are to choose the epoch, and "
                "would hand on what they are; divide the rows alike in both, by the same protocol and seed "
                f"({known.name}: {known.recipe.protocol}; seed {known.recipe.seed}), and a held-out share by the same "
                "--data, --ferplus and --exclude"
            )


def _seen(known: Predicting, faces: FaceSet, divided: FaceSet, chooser: str) -> str:
    """How many of the rows that choose a trained network learned from, in words; nothing for none."""
    learned = known.learned
    if known.data_sha256 == faces.checksum:  # so that its own rows are known, and twins of them are no matter
        its = divide(faces, known.recipe)
        if count := len(np.intersect1d(divided.rows[divided.where(chooser)], its.rows[its.where("Training")])):
            return f"{count:,}"
        learned = without(learned, sketch(faces_of(its, "Training")))
    share = share_known(faces_of(divided, chooser), learned)
    if share is None and chooser == HELD_OUT:  # too few to tell; they are a part of what trains
        share = share_known(chain(faces_of(divided, chooser), faces_of(divided, "Training")), learned)
    return f"about {share:.0%}" if share is not None and share > KNOWN else ""


def faces_of(divided: FaceSet, role: str) -> Iterator[UInt8[np.ndarray, "48 48"]]:
    """One after the other: all of them may be more than memory holds."""
    return (divided.images[row] for row in np.flatnonzero(divided.where(role)))


def check_same_run(out: Path, record: dict[str, Any]) -> None:
    """A run may only be continued with the recipe, the data and the share of them that it began with.

    Raises:
        InputError: It began with others.
        FileError, Damaged: Its records cannot be read.
    """
    for file in ("recipe.json", "environment.json"):
        need_file(out / file)
    try:
        # Settings that came after the run was begun have the values that change nothing, which are the defaults.
        recipe = json.loads(Recipe.from_json((out / "recipe.json").read_text(encoding="utf-8")).to_json())
        before = parse_json((out / "environment.json").read_text(encoding="utf-8"))
        checksum, limit = before["data_sha256"], before["options"]["limit"]
        precision = before["options"].get("precision", record["environment"]["options"]["precision"])
        teachers, name, elder = before.get("teachers", []), recipe["name"], before.get("start_from")
        differing = [
            key if isinstance(value, dict) else f"{key} (then {recipe[key]}, now {value})"
            for key, value in record["recipe"].items()
            if recipe[key] != value and key != "summary"
        ]
    except OSError as error:
        raise FileError(f"cannot read the records of the run in {out}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"the records of the run in {out} are damaged: {error}; start a new run") from error
    now = record["environment"]
    if name != record["recipe"]["name"]:
        raise InputError(f"the run in {out} is of recipe {name!r}, not of {record['recipe']['name']!r}")
    if differing:
        settings = ", ".join(differing)
        raise InputError(f"the run in {out} was begun with other settings: {settings}; resume it with its own")
    if teachers != now["teachers"]:
        raise InputError(f"the run in {out} was begun with other teachers, {len(teachers)} of them; name the same")
    if elder != now["start_from"]:
        raise InputError(f"the run in {out} was begun with other weights (--start-from); name the same ones")
    if checksum != now["data_sha256"]:
        raise InputError(f"the run in {out} was begun with other data (sha-256 {checksum[:12]}...)")
    if precision != now["options"]["precision"]:
        raise InputError(f"the run in {out} was begun with --precision {precision}; resume it with that")
    if limit != now["options"]["limit"]:
        raise InputError(f"the run in {out} was begun with --limit {limit}; resume it with that")
