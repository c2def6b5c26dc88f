#!/usr/bin/env python3
"""Several networks at once on one GPU, by the clock: strong ones, then small ones that learn from their mean.

    python benchmarks/flagship.py fer2013.csv vgg:0 vgg-wide:1 --seconds 300 --out flagship --set distil=0
    python benchmarks/flagship.py fer2013.csv vgg-slim-standard:2:mien-small vgg-small-standard:3 --seconds 300 \
      --out flagship --teachers flagship/vgg-seed0.json flagship/vgg-wide-seed1.json --set distil=0.6 optimizer=Muon

fer2013new.csv (FER+) lies beside the csv. Networks are named RECIPE:SEED[:START]; START is a model or a pair to begin
with. All see the same views of the same faces, augmented and mixed as the first one's recipe asks, and what the
teachers say to a view is asked once for all.

A rented minute is what is scarce here, so nothing waits: the rows lie on the device and are augmented all at once, a
step of all networks is one CUDA graph, the learning rate follows the clock (half a cosine that ends with the seconds),
and what is kept is the last state of the moving average, so that PublicTest chooses no epoch. Networks, losses and
augmentation are those of `mien train`. A run that is stopped is lost; PublicTest scores (selection) are printed on the
way.

In the end each network lies under --out as RECIPE-seedSEED.json and .npz, a pair in half precision that `mien export`
makes a model of and `--teacher` and `--start-from` take, with its history beside it.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Beta

from mien.lab.batches import divide
from mien.lab.callbacks import moving_average
from mien.lab.exported import open_trained, sample
from mien.lab.module import Classifier, cosine
from mien.lab.optimizers import nesterov
from mien.lab.runs import Predicting, training, trial_notes
from mien.lab.saved import Saved, save_trained
from mien.lab.training import begin_with
from mien.measuring import metrics
from mien.measuring.data import load
from mien.measuring.evaluation import SELECTION_SPLIT
from mien.measuring.faceset import FaceSet
from mien.measuring.sketch import joined, sketch
from mien.recipes import Adam, Recipe, get_recipe, override

STEPS = 10_000  # of the clock, as the schedule counts
LOOK_EVERY = 20  # epochs between looks at PublicTest, for the log alone
WARM = 3  # steps before a graph is captured, in which cuDNN chooses its kernels
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, slots=True)
class Batch:
    """Views of one step, and what they are labelled with.

    Attributes:
        clean: As teachers see them, (B, 1, 48, 48) in [0, 1], each of two faces mixed.
        seen: The same, some of them with noise or blur.
        labels, votes: Of the first face, (B,) and (B, 10).
        other_labels, other_votes: Of the second.
        share: Of the first in the mixture, a scalar.
    """

    clean: Tensor
    seen: Tensor
    labels: Tensor
    votes: Tensor
    other_labels: Tensor
    other_votes: Tensor
    share: Tensor


class Faces:
    """The rows that train and those that are looked at, on the device.

    Args:
        faces: FER2013 with FER+ votes.
        recipe: Whose protocol divides it.
        limit: Share of the rows, for trials.
    """

    def __init__(self, faces: FaceSet, recipe: Recipe, limit: float) -> None:
        self.divided, self.limit = divide(faces, recipe, limit), limit
        assert faces.votes is not None
        self.parts = []
        for role in ("Training", SELECTION_SPLIT):
            rows = np.flatnonzero(self.divided.splits == role)
            arrays = faces.images[rows], faces.labels[rows].astype(np.int64), faces.votes[rows].astype(np.float32)
            self.parts.append([torch.from_numpy(array).to(DEVICE) for array in arrays])

    @torch.no_grad()
    @torch.backends.cudnn.flags(enabled=True, benchmark=False)  # how many faces are blurred differs from time to time
    def epoch(self, classifier: Classifier) -> Iterator[Batch]:
        """All training rows in an order of their own, augmented and mixed as the recipe asks, in whole batches."""
        images, labels, votes = self.parts[0]
        size = min(classifier.recipe.batch, len(images))
        steps = len(images) // size
        order = torch.randperm(len(images), device=DEVICE)[: steps * size]
        views = classifier.augment(classifier.unit(images[order]))
        partner = torch.rand(steps, size, device=DEVICE).argsort(1) + size * torch.arange(steps, device=DEVICE)[:, None]
        alpha = torch.full((steps,), classifier.recipe.mixup)
        share = (Beta(alpha, alpha).sample() if classifier.recipe.mixup else torch.ones(steps)).to(DEVICE)
        own = share.repeat_interleave(size).view(-1, 1, 1, 1)
        clean = own * views + (1 - own) * views[partner.flatten()]
        other = order[partner.flatten()]
        tensors = clean, classifier.degrade(clean), labels[order], votes[order], labels[other], votes[other]
        return (Batch(*parts) for parts in zip(*(tensor.split(size) for tensor in tensors), share, strict=True))


class Learner:
    """A network, its optimizer, and the moving average of its weights that is kept.

    Args:
        recipe: What to train, by SGD or Muon.
        start: A network to begin with.
    """

    def __init__(self, recipe: Recipe, start: Predicting | None) -> None:
        assert not isinstance(recipe.optimizer, Adam)
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.elders = [start] if start else []
        self.classifier = Classifier(recipe)
        if start:
            begin_with(self.classifier, start)
        self.classifier.to(DEVICE).train()
        self.average = copy.deepcopy(self.classifier).eval().requires_grad_(False)
        self.optimizer = nesterov(recipe.optimizer, self.classifier.network)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"] = torch.zeros((), device=DEVICE)  # so that a graph reads it anew at each step
        self.move = moving_average(recipe.ema)
        states = [module.network.state_dict().values() for module in (self.average, self.classifier)]
        floats = [(kept, new) for kept, new in zip(*states, strict=True) if kept.is_floating_point()]
        self.kept, self.new = map(list, zip(*floats, strict=True))
        self.updates = torch.zeros((), device=DEVICE)
        self.history: list[dict[str, float]] = []

    def step(self, batch: Batch, softened: Tensor | None, factor: Tensor) -> Tensor:
        """One step at `factor` times the recipe's learning rates; the loss is not waited for."""
        outputs = outputs_of(self.classifier, batch.seen)
        one = self.classifier.loss(outputs, batch.labels, batch.votes)
        loss = torch.lerp(self.classifier.loss(outputs, batch.other_labels, batch.other_votes), one, batch.share)
        if softened is not None:
            loss = torch.lerp(loss, self.classifier.distance(outputs, softened), self.recipe.distil)
        self.optimizer.zero_grad()
        loss.backward()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"].copy_(rate * factor)
        self.optimizer.step()
        with torch.no_grad():
            self.move(self.kept, self.new, self.updates)
            self.updates += 1
        return loss.detach()

    def look(self, faces: Faces, loss: float, epoch: int, seconds: float, rate: float) -> None:
        """Note how the average does on PublicTest."""
        scores = score(answers(self.average, faces.parts[1][0]), faces)
        row = {"epoch": epoch, "seconds": round(seconds, 1), "images_s": round(rate), "loss": round(loss, 4), **scores}
        self.history.append(row)
        print(f"{self.name}: {row}", flush=True)

    @property
    def name(self) -> str:
        """Recipe and seed."""
        return f"{self.recipe.name}-seed{self.recipe.seed}"

    def keep(self, out: Path, faces: Faces, lead: Recipe, teachers: Sequence[Predicting], epochs: int) -> None:
        """Write the average as a pair, with its history; its recipe says what the first one's decided for all."""
        network = copy.deepcopy(self.average).cpu()
        shared = {name: getattr(lead, name) for name in ("augment", "mixup", "batch", "soften")}
        network.recipe = replace(self.recipe, epochs=epochs, **shared)
        rows = np.flatnonzero(faces.divided.splits == "Training")
        seen = sketch(faces.divided.images[row] for row in rows)
        known = joined(seen, *(trained.learned for trained in [*teachers, *self.elders]))
        trainings = [*(text for elder in self.elders for text in elder.trainings),
                     training(network.recipe, teachers, faces.limit)]  # fmt: skip
        done = Predicting(network, out, trial_notes(faces.limit), trainings, faces.divided.checksum, known)
        save_trained(done, out / f"{self.name}.json", half=True)
        (out / f"{self.name}-history.json").write_text(json.dumps(self.history, indent=1), encoding="utf-8")


class Step:
    """A step of several learners on the same views, with what their teachers say to these.

    On a GPU it is captured once as a graph, so that no processor has to launch its thousands of small kernels one by
    one, step after step.

    Args:
        learners: Whose weights it moves.
        teachers: Whose mean answer they learn too; there may be none.
        batch: Of the form that all others have.
    """

    def __init__(self, learners: Sequence[Learner], teachers: Sequence[Classifier], batch: Batch) -> None:
        self.learners, self.lead = learners, learners[0].classifier
        self.lead.teachers = tuple(teachers)
        self.batch = Batch(*(getattr(batch, field.name).clone() for field in fields(Batch)))
        self.factor = torch.zeros((), device=DEVICE)  # steps that warm up leave what weights say as it is
        self.graph = torch.cuda.CUDAGraph() if DEVICE.type == "cuda" else None
        if self.graph:
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for _ in range(WARM):
                    self._run()
            torch.cuda.current_stream().wait_stream(beside)
            with torch.cuda.graph(self.graph):
                self._run()

    def __call__(self, batch: Batch, factor: float) -> Tensor:
        """Take it; gives the mean loss, which is not waited for."""
        for field in fields(Batch):
            getattr(self.batch, field.name).copy_(getattr(batch, field.name))
        self.factor.fill_(factor)
        if self.graph:
            self.graph.replay()
        else:
            self._run()
        return self.loss

    def _run(self) -> None:
        softened = None
        if self.lead.teachers:
            with torch.autocast(DEVICE.type, torch.bfloat16, cache_enabled=False):
                softened = self.lead.softened(self.batch.clean)
        losses = [learner.step(self.batch, softened, self.factor) for learner in self.learners]
        self.loss = torch.stack(losses).mean()


def outputs_of(classifier: Classifier, unit: Tensor) -> Tensor:
    """A classifier's outputs in float32, computed in half precision."""
    with torch.autocast(DEVICE.type, torch.bfloat16, cache_enabled=False):  # a graph would keep what is cached
        return classifier.outputs(unit).float()


@torch.no_grad()
@torch.backends.cudnn.flags(enabled=True, benchmark=False)  # the last part is smaller
def answers(classifier: Classifier, images: Tensor) -> np.ndarray:
    """Probabilities (2, B, 7): of each face as it is, and of the mean with its mirror image."""
    found = []
    for part in classifier.unit(images).split(512):
        views = [outputs_of(classifier, view)[:, : classifier.classes].softmax(1) for view in (part, part.flip(3))]
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
    lead = learners[0].classifier
    factor, step = cosine(STEPS // 30, STEPS), Step(learners, teachers, next(iter(faces.epoch(lead))))
    began, loss = time.perf_counter(), torch.zeros(())
    epoch, seen, last, passed = 0, 0, 0.0, 0.0
    while passed < seconds:
        epoch += 1
        for batch in faces.epoch(lead):
            if (passed := time.perf_counter() - began) >= seconds:
                break
            loss = step(batch, factor(int(STEPS * passed / seconds)))
            seen += len(batch.seen)
        if epoch % LOOK_EVERY == 0 or passed >= seconds or epoch == 2:
            if not math.isfinite(reached := float(loss)):  # waits for the device
                raise SystemExit(f"the loss is {reached} in epoch {epoch}; lower --set optimizer.lr")
            rate = seen / (time.perf_counter() - began - last)
            for learner in learners:
                learner.look(faces, reached, epoch, passed, rate)
            seen, last = 0, time.perf_counter() - began
    return epoch


def begin(text: str, changes: dict[str, str], faces: FaceSet, limit: float) -> Learner:
    """A learner by RECIPE:SEED[:START]."""
    name, seed, start = (*text.split(":", 2), "", "")[:3]
    recipe = override(get_recipe(name), changes | ({"seed": seed} if seed else {}))
    plain = recipe.labels == "fer2013" and not recipe.cutmix and not isinstance(recipe.optimizer, Adam)
    if not plain or recipe.protocol.chooser != SELECTION_SPLIT:
        raise SystemExit(
            f"{text}: only FER2013's labels without cutmix, by SGD or Muon, chosen by {SELECTION_SPLIT}, are done here"
        )
    return Learner(recipe, open_trained(start, sample(divide(faces, recipe, limit))) if start else None)


def main(arguments: Sequence[str] | None = None, data: FaceSet | None = None) -> None:
    """Run the command line, on rows that are there already where they are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--teachers", nargs="+", default=[], help="pairs")
    parser.add_argument("--set", nargs="+", default=[], action="extend", dest="settings")
    parser.add_argument("--limit", type=float, default=1.0, help="share of the rows, for trials")
    args = parser.parse_args(arguments)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True  # every batch has the same shape
    args.out.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = load(args.data, ferplus=args.data.with_name("fer2013new.csv"))
    changes = dict(setting.split("=", 1) for setting in args.settings)
    learners = [begin(text, changes, data, args.limit) for text in args.networks]
    if len({learner.name for learner in learners}) < len(learners):
        raise SystemExit("two networks have the same recipe and seed, and would be written to the same file")
    if odd := [learner.name for learner in learners if bool(learner.recipe.distil) != bool(args.teachers)]:
        raise SystemExit(f"--set distil=... and --teachers go together, but not so for {', '.join(odd)}")
    lead = learners[0].recipe
    faces = Faces(data, lead, args.limit)
    teachers = [Saved(path) for path in args.teachers]
    tell([(teacher.name, teacher.classifier.to(DEVICE).eval()) for teacher in teachers], faces)
    epochs = learn(learners, [teacher.classifier for teacher in teachers], faces, args.seconds)
    for learner in learners:
        learner.keep(args.out, faces, lead, teachers, epochs)
    tell([(learner.name, learner.average) for learner in learners], faces)


def tell(networks: Sequence[tuple[str, Classifier]], faces: Faces) -> None:
    """Print how each does on PublicTest, and their mean."""
    found = [answers(classifier, faces.parts[1][0]) for _, classifier in networks]
    for (name, _), one in zip(networks, found, strict=True):
        print(f"{name}: {score(one, faces)}")
    if found:
        print(f"mean: {score(np.mean(found, 0), faces)}", flush=True)


if __name__ == "__main__":
    main()
