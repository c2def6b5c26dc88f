#!/usr/bin/env python3
"""Strong networks, their ensemble, and a small student that learns from them, in the minutes that a lent GPU is there.

    python benchmarks/flagship.py fer2013.csv --minutes 8 --out flagship --members vgg:0 vgg:1 \\
      --set epochs=100 --set batch=512 --set optimizer.lr=0.15 --set ema=0.996 --student-set epochs=60

fer2013new.csv (FER+) lies beside the csv. Members, RECIPE:SEED, are trained one after the other with every `--set`;
then, if there is time, the student, from the network that ships, with all members as its teachers. After each of them
what is worth keeping is written whole under --out, so that a machine may be taken away at any time: NAME.json and
NAME.npz, a pair that `mien evaluate`, `--teacher` and `--start-from` take, its weights in half precision; and
flagship.zip with PublicTest scores (selection), histories, and PrivateTest probabilities of every network and of the
members' ensemble.
When the minutes are over, the network that is learning is measured as its last whole epoch left it. Nothing is begun
that would take longer than what is left, going by the network before. The same line goes on where it was stopped.
With --limit it is tried on a share of the rows; give such a trial --runs and --out of its own.
"""

import argparse
import json
import signal
import time
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import torch

from mien.lab.runs import Run
from mien.lab.saved import save
from mien.lab.training import TrainOptions, train
from mien.measuring import metrics
from mien.measuring.data import load
from mien.measuring.evaluation import markdown_table, write_predictions
from mien.measuring.faceset import FaceSet
from mien.reading.recognizer import views_of
from mien.recipes import Recipe, get_recipe, override
from mien.storage import write_whole

VIEWS = {"single": "single view", "mirror": "mirror", "ten": "ten views"}
ROBUST = {"mixup": "0.2", "augment.noise": "0.05", "augment.blur": "1.5"}  # as the networks that ship learned


class OnDevice:
    """A run's network on the device, for many views of many faces.

    Args:
        run: Whose best checkpoint to ask.
    """

    def __init__(self, run: Run) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.classifier = run.classifier.to(self.device)

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray, views: str) -> np.ndarray:
        """Mean probabilities over the views of a `Recognizer`."""
        total = torch.zeros(len(images), self.classifier.classes, dtype=torch.float64)
        for start in range(0, len(images), 512):
            seen = views_of(images[start : start + 512], views)
            answers = [self.classifier(torch.from_numpy(view).to(self.device)).double().softmax(1) for view in seen]
            total[start : start + 512] = torch.stack(answers).mean(0).cpu()
        return total.numpy()


class Flagship:
    """What was trained so far, measured and written under --out.

    Args:
        args: Those of the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.end = args, time.perf_counter() + 60 * args.minutes
        self.longest = 0.0  # seconds that a network took
        self.faces = load(args.data, ferplus=args.data.with_name("fer2013new.csv"))
        self.parts = {name: self._some(name) for name in ("PublicTest", "PrivateTest")}
        self.clean = ~self.parts["PublicTest"].twins_in(self.faces, "Training")
        self.answers: dict[str, dict[str, list[np.ndarray]]] = {}  # by network and views: PublicTest's, PrivateTest's
        self.members: list[str] = []

    def _some(self, name: str) -> FaceSet:
        part = self.faces.split(name)
        return part.take(np.arange(max(1, int(self.args.limit * len(part)))))

    @property
    def left(self) -> float:
        """Seconds until the minutes are over."""
        return self.end - time.perf_counter()

    def train(self, name: str, recipe: Recipe, **how: Any) -> bool:
        """Train a network, or go on with it, and keep what it is worth.

        Returns:
            Whether it is there; not so where the time would not do.
        """
        folder, began = self.args.runs / name, time.perf_counter()
        if not (done := (folder / "report.json").exists()) and self.left < self.longest:
            print(f"{name}: {self.left:.0f} s are left, and the one before took {self.longest:.0f}; not begun")
            return False
        if not done:
            try:
                signal.setitimer(signal.ITIMER_REAL, max(0.1, self.left))
                options = TrainOptions(precision=self.args.precision, limit=self.args.limit)
                resume = (folder / "recipe.json").exists()
                train(recipe, self.faces, folder, options=options, resume=resume, report=self._tell(name), **how)
            except KeyboardInterrupt:
                print(f"{name}: the minutes are over; measured as its last whole epoch left it")
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.longest = max(self.longest, time.perf_counter() - began)
        if there := (folder / "checkpoints" / "best.ckpt").exists():
            self.keep(name)
        return there

    def _tell(self, name: str) -> Any:
        ends: list[float] = []

        def report(row: dict[str, float]) -> None:
            ends.append(time.perf_counter())
            rows = self.args.limit * self.faces.where("Training").sum()
            rate = rows * (len(ends) - 1) / (ends[-1] - ends[0]) if len(ends) > 1 else 0.0
            print(f"{name}: {rate:,.0f} images/s {row}", flush=True)

        return report

    def keep(self, name: str) -> None:
        """Measure a network and write it, with all that was measured before."""
        out = self.args.out
        _, weights = save(self.args.runs / name, out / f"{name}.json")
        with np.load(weights) as arrays:
            half = {key: a.astype(np.float16) if a.dtype == np.float32 else a for key, a in arrays.items()}
        write_whole(weights, lambda file: np.savez(file, **half), binary=True)
        network = OnDevice(Run(self.args.runs / name))
        self.answers[name] = {
            views: [network.probabilities(part.images, views) for part in self.parts.values()] for views in VIEWS
        }
        found = dict(self.answers)
        if len(self.members) > 1:
            found["flagship-ensemble"] = {
                views: [np.mean([self.answers[member][views][k] for member in self.members], 0) for k in (0, 1)]
                for views in VIEWS
            }
        rows = [self._score(one, views, found[one][views][0]) for one in found for views in VIEWS]
        names = {one: self.args.runs / one / "history.csv" for one in self.answers}
        with ZipFile(out / "flagship.zip.part", "w", ZIP_DEFLATED) as archive:
            archive.writestr("results/flagship.json", json.dumps(rows, indent=1))
            for one, history in names.items():
                archive.write(history, f"results/{one}-history.csv")
            for one, answers in found.items():
                for views, suffix in (("single", ""), ("mirror", "-mirror")):
                    table = out / f"{one}{suffix}.csv"
                    write_predictions(table, self.parts["PrivateTest"], answers[views][1])
                    archive.write(table, f"predictions/{table.name}")
                    table.unlink()
        (out / "flagship.zip.part").replace(out / "flagship.zip")
        cells = [[r["name"], r["views"], *(f"{r[k]:.2%}" for k in ("accuracy", "without twins")), f"{r['nll']:.3f}"]
                 for r in rows]  # fmt: skip
        print(markdown_table(["network", "views", "PublicTest (selection)", "without twins", "NLL"], cells), flush=True)

    def _score(self, name: str, views: str, chosen: np.ndarray) -> dict[str, Any]:
        labels = self.parts["PublicTest"].labels
        return {
            "name": name, "views": VIEWS[views], "accuracy": metrics.accuracy(chosen, labels),
            "without twins": metrics.accuracy(chosen[self.clean], labels[self.clean]),
            "nll": metrics.negative_log_likelihood(chosen, labels), "ece": metrics.calibration_error(chosen, labels),
            "epochs": len(Run(self.args.runs / name).history()) if name in self.answers else None,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--members", nargs="+", default=["vgg:0", "vgg:1"])
    parser.add_argument("--student", default="vgg-slim-standard")
    parser.add_argument("--start-from", default="mien-small")
    parser.add_argument("--set", action="extend", nargs="+", default=[], dest="settings")
    parser.add_argument("--student-set", action="extend", nargs="+", default=[])
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--limit", type=float, default=1.0)
    parser.add_argument("--runs", type=Path, default=Path("runs/flagship"))
    parser.add_argument("--out", type=Path, default=Path("runs/flagship-out"))
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, signal.default_int_handler)  # the end of the minutes is as Ctrl-C
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True  # every batch but the last has the same shape
    args.out.mkdir(parents=True, exist_ok=True)
    flagship = Flagship(args)
    for member in args.members:
        recipe, _, seed = member.partition(":")
        name = f"{recipe}-seed{seed or 0}"
        changes = ROBUST | dict(setting.split("=", 1) for setting in args.settings) | {"seed": seed or "0"}
        flagship.members.append(name)
        if not flagship.train(name, override(get_recipe(recipe), changes)):
            flagship.members.pop()
            break
    recipe = override(get_recipe(args.student), dict(setting.split("=", 1) for setting in args.student_set))
    teachers = [args.runs / name for name in flagship.members]
    flagship.train(f"flagship-{recipe.name}", recipe, teachers=teachers, start_from=args.start_from)


if __name__ == "__main__":
    main()
