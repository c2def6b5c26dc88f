#!/usr/bin/env python3
"""Strong networks and small ones that learn from their mean, on one GPU, by the clock.

    python benchmarks/flagship.py fer2013.csv --out flagship --seconds 100 --members vgg:0 vgg-wide:1 resnet18-inner:2
    python benchmarks/flagship.py fer2013.csv --out flagship --seconds 400 --teachers flagship/vgg-seed0.json ... \\
      --students vgg-slim-standard:30:mien-small vgg-small-standard:31

fer2013new.csv (FER+) lies beside the csv. Members, RECIPE:SEED[:START], learn one after the other, --seconds each;
students then all at once, from the mean of members and --teachers, in --seconds together: what the teachers say to a
view of a face is asked once for all of them. START is a model or a pair to begin with.

A rented minute is what is scarce, so nothing waits here: the rows lie on the device and are augmented thousands at
once, the learning rate follows the clock (half a cosine that ends with the seconds), and only the last state of the
moving average is kept, so that PublicTest chooses no epoch. Networks, losses and augmentation are those of `mien
train`, which takes the same recipes, several times slower.

NAME-seedN.json and .npz are a pair in half precision: `mien export` makes a model of it, `--teacher` and
`--start-from` take it, and it is written as soon as the network is through. A member whose pair lies under --out is
taken from there, so that the same line goes on where it was stopped.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mien.lab.batches import divide
from mien.lab.callbacks import moving_average
from mien.lab.exported import open_trained, sample
from mien.lab.module import Classifier, cosine, decay_groups
from mien.lab.augment import mix
from mien.lab.runs import Predicting, training
from mien.lab.saved import Saved, save_trained
from mien.lab.training import begin_with
from mien.measuring import metrics
from mien.measuring.data import load
from mien.measuring.evaluation import SELECTION_SPLIT
from mien.measuring.faceset import FaceSet
from mien.measuring.sketch import joined, sketch
from mien.recipes import Recipe, get_recipe, override

AT_ONCE = 4096  # faces that are augmented together
STEPS = 10_000  # of the clock, as the schedule counts
LOOK_EVERY = 10  # epochs between looks at PublicTest, for the log alone
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, slots=True)
class Batch:
    """Views of one step, and what they are labelled with.

    Attributes:
        clean: As teachers see them, (B, 1, 48, 48) in [0, 1].
        seen: The same, some of them with noise or blur.
        truths: Labels and votes, and of a mixed batch those of the other image of each.
        share: Of the first image in the mixture.
    """

    clean: Tensor
    seen: Tensor
    truths: list[tuple[Tensor, Tensor]]
    share: float


class Faces:
    """The rows that train and those that are looked at, on the device.

    Args:
        faces: FER2013 with FER+ votes.
        recipe: Whose protocol divides it.
        limit: Share of the rows, for trials.
    """

    def __init__(self, faces: FaceSet, recipe: Recipe, limit: float) -> None:
        self.divided = divide(faces, recipe, limit)
        assert faces.votes is not None
        self.parts = []
        for role in ("Training", SELECTION_SPLIT):
            rows = np.flatnonzero(self.divided.splits == role)
            arrays = faces.images[rows], faces.labels[rows].astype(np.int64), faces.votes[rows].astype(np.float32)
            self.parts.append([torch.from_numpy(array).to(DEVICE) for array in arrays])

    def epoch(self, classifier: Classifier) -> Iterator[Batch]:
        """All training rows in an order of their own, augmented and mixed as the recipe asks, in whole batches."""
        images, labels, votes = self.parts[0]
        batch = classifier.recipe.batch
        order = torch.randperm(len(images), device=DEVICE)
        order = order[: max(batch, len(order) // batch * batch)]
        clean = torch.cat([classifier.augment(classifier.unit(images[part])) for part in order.split(AT_ONCE)])
        truths, shares = [], []
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            mixed, partner, share = mix(clean[start : start + batch], classifier.recipe)
            clean[start : start + batch] = mixed
            truths.append([(labels[some], votes[some]) for some in (rows, rows[partner])])
            shares.append(share)
        seen = torch.cat([classifier.degrade(part) for part in clean.split(AT_ONCE)])
        for clean_part, seen_part, truth, share in zip(clean.split(batch), seen.split(batch), truths, shares, strict=True):
            yield Batch(clean_part, seen_part, truth, share)


class Learner:
    """A network, its optimizer, and the moving average of its weights that is kept.

    Args:
        recipe: What to train.
        start: A network to begin with.
    """

    def __init__(self, recipe: Recipe, start: Predicting | None) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.trainings = start.trainings if start else []
        self.classifier = Classifier(recipe)
        if start:
            begin_with(self.classifier, start)
        self.classifier.to(DEVICE).train()
        self.average = copy.deepcopy(self.classifier).eval().requires_grad_(False)
        decay = getattr(recipe.optimizer, "weight_decay")
        self.optimizer = torch.optim.SGD(
            decay_groups(self.classifier.network, decay), lr=recipe.optimizer.lr,
            momentum=getattr(recipe.optimizer, "momentum"), nesterov=True, fused=DEVICE.type == "cuda",
        )  # fmt: skip
        self.move = moving_average(recipe.ema)
        both = zip(self.average.network.state_dict().values(), self.classifier.network.state_dict().values(), strict=True)
        self.kept, self.new = map(list, zip(*[(a, b) for a, b in both if a.is_floating_point()], strict=True))
        self.updates = torch.zeros((), device=DEVICE)
        self.history: list[dict[str, float]] = []

    def step(self, batch: Batch, softened: Tensor | None, factor: float) -> Tensor:
        """One step; the loss is not waited for."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.optimizer.lr * factor
        outputs = self._outputs(self.classifier, batch.seen)
        one, other = (self.classifier.loss(outputs, *truth) for truth in batch.truths)
        loss = batch.share * one + (1 - batch.share) * other
        if softened is not None:
            loss = torch.lerp(loss, self.classifier.distance(outputs, softened), self.recipe.distil)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.move(self.kept, self.new, self.updates)
            self.updates += 1
        return loss.detach()

    @staticmethod
    def _outputs(classifier: Classifier, unit: Tensor) -> Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16):
            return classifier.outputs(unit).float()

    def look(self, faces: Faces, loss: Tensor, epoch: int, seconds: float, rate: float) -> None:
        """Note how the average does on PublicTest."""
        if not math.isfinite(value := loss.item()):
            raise SystemExit(f"{self.name}: the loss is {value} in epoch {epoch}; lower --set optimizer.lr")
        scores = score(answers(self.average, faces.parts[1][0]), faces)
        row = {"epoch": epoch, "seconds": round(seconds, 1), "images_s": round(rate), "loss": round(value, 4), **scores}
        self.history.append(row)
        print(f"{self.name}: {row}", flush=True)

    @property
    def name(self) -> str:
        """Recipe and seed."""
        return f"{self.recipe.name}-seed{self.recipe.seed}"

    def keep(self, out: Path, faces: Faces, data: FaceSet, teachers: Sequence[Predicting], epochs: int) -> Predicting:
        """Write the average as a pair, with its history, and give it as a predictor."""
        network = copy.deepcopy(self.average).cpu()
        network.recipe = replace(self.recipe, epochs=epochs)
        rows = np.flatnonzero(faces.divided.splits == "Training")
        known = joined(sketch(data.images[row] for row in rows), *(teacher.learned for teacher in teachers))
        done = Predicting(network, out, (), [*self.trainings, training(network.recipe, teachers)], data.checksum, known)
        save_trained(done, out / f"{self.name}.json", half=True)
        (out / f"{self.name}-history.json").write_text(json.dumps(self.history, indent=1), encoding="utf-8")
        return done


@torch.inference_mode()
def answers(classifier: Classifier, images: Tensor) -> np.ndarray:
    """Probabilities (B, 7), the mean of a face and its mirror image; single view as [0] and both as [1]."""
    found = []
    for part in classifier.unit(images).split(512):
        with torch.autocast(DEVICE.type, torch.bfloat16):
            views = [classifier.outputs(view)[:, : classifier.classes].float().softmax(1) for view in (part, part.flip(3))]
        found.append(torch.stack([views[0], (views[0] + views[1]) / 2]))
    return torch.cat(found, 1).double().cpu().numpy()


def score(found: np.ndarray, faces: Faces) -> dict[str, float]:
    """Accuracies and NLL on PublicTest."""
    labels = faces.parts[1][1].cpu().numpy()
    single, mirror = (metrics.accuracy(one, labels) for one in found)
    nll = metrics.negative_log_likelihood(found[0], labels)
    return {"accuracy": round(single, 4), "mirror": round(mirror, 4), "nll": round(nll, 4)}


def learn(learners: list[Learner], teachers: Sequence[Classifier], faces: Faces, seconds: float) -> int:
    """Train several networks on the same views until the seconds are over.

    Returns:
        Epochs that were begun.
    """
    factor, began = cosine(STEPS // 30, STEPS), time.perf_counter()
    epoch, seen, last = 0, 0, 0.0
    lead = learners[0].classifier
    lead.teachers = tuple(teachers)
    loss = torch.zeros(())
    while (passed := time.perf_counter() - began) < seconds:
        epoch += 1
        for batch in faces.epoch(lead):
            if (passed := time.perf_counter() - began) >= seconds:
                break
            softened = None
            if teachers:
                with torch.autocast(DEVICE.type, torch.bfloat16):
                    softened = lead.softened(batch.clean)
            for learner in learners:
                loss = learner.step(batch, softened, factor(int(STEPS * passed / seconds)))
            seen += len(batch.seen)
        if epoch % LOOK_EVERY == 0 or passed >= seconds or epoch == 1:
            for learner in learners:
                learner.look(faces, loss, epoch, passed, seen / (passed - last))
            seen, last = 0, time.perf_counter() - began
    lead.teachers = ()
    return epoch


def begin(text: str, changes: dict[str, str], faces: FaceSet, limit: float) -> Learner:
    """A learner by RECIPE:SEED[:START]."""
    name, seed, start = (*text.split(":", 2), "0", "")[:3] if ":" not in text else (*text.split(":", 2), "")[:3]
    recipe = override(get_recipe(name), changes | {"seed": seed})
    elder = open_trained(start, sample(divide(faces, recipe, limit))) if start else None
    return Learner(recipe, elder)


def settings(texts: Sequence[str]) -> dict[str, str]:
    return dict(text.split("=", 1) for text in texts)


def main(argv: Sequence[str] | None = None, data: FaceSet | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--members", nargs="+", default=[])
    parser.add_argument("--teachers", nargs="+", default=[], help="pairs that were made before")
    parser.add_argument("--students", nargs="+", default=[])
    parser.add_argument("--seconds", type=float, required=True, help="of each member, or of all students together")
    parser.add_argument("--set", nargs="+", default=[], action="extend", dest="settings")
    parser.add_argument("--limit", type=float, default=1.0)
    args = parser.parse_args(argv)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True  # every batch has the same shape
    args.out.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = load(args.data, ferplus=args.data.with_name("fer2013new.csv"))
    changes = settings(args.settings)
    teachers: list[Predicting] = [Saved(path) for path in args.teachers]
    for text in args.members:
        learner = begin(text, changes, data, args.limit)
        if (pair := args.out / f"{learner.name}.json").exists():
            teachers.append(Saved(pair))
            continue
        faces = Faces(data, learner.recipe, args.limit)
        epochs = learn([learner], (), faces, args.seconds)
        teachers.append(learner.keep(args.out, faces, data, (), epochs))
    for teacher in teachers:
        teacher.classifier.to(DEVICE).eval()
    if not teachers:
        raise SystemExit("name --members or --teachers")
    faces = Faces(data, teachers[0].recipe, args.limit)
    found = [answers(teacher.classifier, faces.parts[1][0]) for teacher in teachers]
    for name, one in [*zip([t.name for t in teachers], found, strict=True), ("their mean", np.mean(found, 0))]:
        print(f"{name}: {score(one, faces)}", flush=True)
    if args.students:
        learners = [begin(text, changes, data, args.limit) for text in args.students]
        epochs = learn(learners, [teacher.classifier for teacher in teachers], faces, args.seconds)
        students = [learner.keep(args.out, faces, data, teachers, epochs) for learner in learners]
        found = [answers(student.classifier.to(DEVICE), faces.parts[1][0]) for student in students]
        print(f"mean of the students: {score(np.mean(found, 0), faces)}")


if __name__ == "__main__":
    main()
