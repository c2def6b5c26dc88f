#!/usr/bin/env python3
"""Strong networks, their ensemble, and the small student that learns from them: one stage a call, each in its minutes.

    python benchmarks/flagship.py fer2013.csv members --minutes 9 --members resnet18:0 resnet18-se:1 vgg:2
    python benchmarks/flagship.py fer2013.csv student --minutes 9 [--student mien-small]

fer2013new.csv (FER+) lies beside the csv. A member is RECIPE:SEED with any `--set NAME=VALUE` on all of them. Every
network gets an equal share of the minutes: its second epoch is timed, and the epochs that fit are what its cosine is
planned for. Stages go on where they were stopped. For each network and for the ensemble of all members that are there:
PublicTest scores (selection) into results/flagship.json, PrivateTest probabilities into predictions/NAME.csv, both
under --out, and the student as a float32 ONNX file to be quantised (`mien export STUDENT.onnx --form int8`). With
--limit the line is tried on a share of the rows; give such a trial an --out of its own.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from mien.lab.export import export
from mien.lab.runs import Run
from mien.lab.training import TrainOptions, train
from mien.measuring import metrics
from mien.measuring.data import load
from mien.measuring.evaluation import markdown_table, write_predictions
from mien.measuring.faceset import FaceSet
from mien.reading.recognizer import views_of
from mien.recipes import RECIPES, Recipe, override
from mien.storage import write_whole

LEAST = 10  # epochs: what fewer of them give is no member


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


def planned(
    recipe: Recipe, teachers: list[Path], faces: FaceSet, folder: Path, seconds: float, options: TrainOptions
) -> Recipe:
    """The recipe with as many epochs as fit: two epochs of a run that is thrown away tell how long one takes."""
    plan = folder.with_suffix(".epochs")
    if not plan.exists():
        ends: list[float] = []
        start = time.perf_counter()
        with TemporaryDirectory() as trial:
            train(replace(recipe, epochs=2), faces, trial, options=options, teachers=teachers,
                  report=lambda _: ends.append(time.perf_counter()))  # fmt: skip
        epoch, overhead = ends[1] - ends[0], time.perf_counter() - start - (ends[1] - ends[0])
        epochs = int((seconds - 2 * overhead) / (1.1 * epoch))  # a tenth is kept for what varies
        if epochs < LEAST:
            raise SystemExit(
                f"{folder.name}: an epoch takes {epoch:.1f} s, all around them {overhead:.1f} s, so that {epochs} fit "
                f"into {seconds:.0f} s, expected {LEAST} or more; give it more --minutes, or name fewer members"
            )
        write_whole(plan, lambda file: file.write(str(epochs)))
    return replace(recipe, epochs=int(plan.read_text()))


def one(name: str, recipe: Recipe, teachers: list[Path], faces: FaceSet, seconds: float, args: Any) -> Path:
    """Train one network in its share of the time, or go on with it."""
    options = TrainOptions(precision=args.precision, limit=args.limit)
    folder = args.runs / name
    recipe = planned(replace(recipe, name=name), teachers, faces, folder, seconds, options)
    ends: list[float] = []

    def report(row: dict[str, float]) -> None:
        ends.append(time.perf_counter())
        print(f"{name}: {row}", flush=True)

    resume = (folder / "recipe.json").exists()
    train(recipe, faces, folder, options=options, teachers=teachers, resume=resume, report=report)
    if len(ends) > 1:
        rate = len(faces.split("Training")) * args.limit * (len(ends) - 1) / (ends[-1] - ends[0])
        print(f"{name}: {recipe.epochs} epochs, {rate:,.0f} images/s", flush=True)
    return folder


def measure(runs: dict[str, Path], members: list[str], faces: FaceSet, out: Path, limit: float) -> None:
    """Every network and the members' ensemble: PublicTest scores, PrivateTest probabilities, a short table."""
    public, private = (
        part.take(np.arange(len(part)) < limit * len(part))
        for part in (faces.split("PublicTest"), faces.split("PrivateTest"))
    )
    clean = ~public.twins_in(faces.split("Training"))
    kinds = {"single view": "single", "mirror": "mirror", "ten views": "ten"}
    answers: dict[str, dict[str, list[np.ndarray]]] = {kind: {} for kind in kinds}
    for name, folder in runs.items():
        network = OnDevice(Run(folder))
        for kind, views in kinds.items():
            answers[kind][name] = [network.probabilities(part.images, views) for part in (public, private)]
    if len(members) > 1:
        for found in answers.values():
            found["flagship-ensemble"] = [np.mean([found[name][k] for name in members], 0) for k in (0, 1)]
    results, table = [], []
    for kind, found in answers.items():
        for name, (chosen, blind) in found.items():
            row = {
                "name": name, "views": kind, "accuracy": metrics.accuracy(chosen, public.labels),
                "without twins": metrics.accuracy(chosen[clean], public.labels[clean]),
                "nll": metrics.negative_log_likelihood(chosen, public.labels),
                "ece": metrics.calibration_error(chosen, public.labels),
                "epochs": len(Run(runs[name]).history()) if name in runs else None,
            }  # fmt: skip
            results.append(row)
            table.append([name, kind, f"{row['accuracy']:.2%}", f"{row['without twins']:.2%}", f"{row['nll']:.3f}"])
            suffix = "" if kind == "single view" else "-" + kind.replace(" ", "-")
            write_predictions(out / "predictions" / f"{name}{suffix}.csv", private, blind)
    write_whole(out / "results" / "flagship.json", lambda file: json.dump(results, file, indent=1))
    print(markdown_table(["network", "views", "PublicTest (selection)", "without twins", "NLL"], table))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("stage", choices=("members", "student"))
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--members", nargs="+", default=["resnet18:0", "resnet18-se:1", "vgg:2"])
    parser.add_argument("--student", default="mien-small")
    parser.add_argument("--set", nargs="*", default=[], dest="settings")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--limit", type=float, default=1.0)
    parser.add_argument("--runs", type=Path, default=Path("runs/flagship"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    faces = load(args.data, ferplus=args.data.with_name("fer2013new.csv"))
    changes = dict(setting.split("=", 1) for setting in args.settings)
    if args.stage == "members":
        wanted = {}
        for member in args.members:
            recipe, _, seed = member.partition(":")
            name = f"{recipe}-seed{seed or 0}"
            wanted[name] = override(RECIPES[recipe], changes | {"seed": seed or "0"})
        seconds = 60 * args.minutes / len(wanted)
        for name, recipe in wanted.items():
            one(name, recipe, [], faces, seconds, args)
    members = {folder.name: folder for folder in sorted(args.runs.glob("*-seed*")) if (folder / "report.json").exists()}
    trained = dict(members)
    if args.stage == "student":
        recipe = override(RECIPES[args.student], {"distil": "0.8", "mixup": "0.2"} | changes)
        name = f"{args.student}-student"
        trained[name] = one(name, recipe, list(members.values()), faces, 60 * args.minutes, args)
        export(trained[name], args.out / "models" / f"{name}.onnx", faces=faces, name=args.student)
    measure(trained, list(members), faces, args.out, args.limit)


if __name__ == "__main__":
    main()
