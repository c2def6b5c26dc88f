#!/usr/bin/env python3
"""Where the quality flags come from: how accuracy falls with what each of them measures.

    python benchmarks/quality.py [fer2013.csv] [--model mien-small] [--flags small blurred ...]

Every flag has a corruption, swept over the images of PublicTest that Training has in no version, since confidence is
meant for such: blur and exposure on the 48 x 48 faces themselves; size, rotation and cutting on faces laid on a grey
canvas, found and cropped as those of a photo are, against the same faces found where nothing is wrong. Where a
corruption has cost ten points of accuracy (between two strengths: linearly), the median of the flag's measure becomes
its limit, or the median at a larger strength where that is met first; of two corruptions the limit that is met first.
Writes benchmarks/results/quality.json, which the limits in src/mien/reading/quality.py are held to, and the tables in
docs/quality.md; flags that are not named keep what stands there. Without a data set only the tables are written.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mien.measuring import metrics
from mien.measuring.corruptions import CORRUPTIONS, corrupt
from mien.measuring.data import load
from mien.measuring.evaluation import markdown_table, new_pictures
from mien.measuring.faceset import FaceSet
from mien.measuring.near import near_in_training
from mien.measuring.robustness import KEPT_ACCURACY
from mien.reading.faces import CenterFace, crop, share_outside
from mien.reading.quality import FLAGS, measure
from mien.reading.recognizer import Recognizer, load_model

RESULTS = Path(__file__).parent / "results" / "quality.json"
PAGE = Path(__file__).parent.parent / "docs" / "quality.md"
BEGIN, END = "<!-- written by benchmarks/quality.py -->", "<!-- end of what benchmarks/quality.py writes -->"
WIDTH, HEIGHT, SIDE = 320, 240, 80  # of the canvas, and of a face that nothing is wrong with, in pixels
LOOK = 160  # longer side at which rotated and cut faces are looked for, as for faces of 160 pixels in a photo of 1280
SPLITS = ("PublicTest", "Training")
FALL = 0.10  # of the accuracy, from which a flag is raised
CHOSEN = {"cut": 0.25}
"""Limits for networks that lose ten points nowhere: cutting may cost fewer wherever a face is still found."""

DIRECT = {
    "blurred": {
        "gaussian blur": (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5),
        "motion blur": (2.0, 3.0, 4.0, 5.0, 7.0, 10.0),
    },
    "dark": {"darker": (0.3, 0.2, 0.15, 0.1)},
    "bright": {"brighter": (1.5, 1.75, 2.0, 2.5, 3.0)},
}
PLACED = {
    "small": ("side of the face in its photo, pixels", (36.0, 28.0, 24.0, 20.0), 3000),
    "rotated": ("degrees", (20.0, 35.0, 45.0, 55.0, 70.0), 6000),
    "cut": ("share of the face cut off", (0.1, 0.2, 0.3, 0.4, 0.5), 3000),
}
"""By flag: what a strength is, the strengths, and how many faces are looked for: more than there are rows, so that
some are laid on two canvases, at other places and turned otherwise."""


@dataclass(frozen=True)
class Level:
    """One strength: which rows were found, what is measured of each, and what the network says."""

    strength: float
    rows: np.ndarray
    measures: list[dict[str, float]]
    probabilities: np.ndarray


def place(image: np.ndarray, flag: str, strength: float, generator: np.random.Generator) -> np.ndarray:
    """A face on a grey canvas, RGB: smaller, rotated to either side, or cut off at one of four sides."""
    side = strength if flag == "small" else SIDE
    if side < len(image):
        image = cv2.resize(image, (int(side), int(side)), interpolation=cv2.INTER_AREA)
    turn = np.radians(strength) * generator.choice((-1, 1)) if flag == "rotated" else 0.0
    spin = side / len(image) * np.exp(1j * turn)
    reach = side / 2 * (abs(np.sin(turn)) + abs(np.cos(turn)))
    centre = complex(generator.uniform(reach, WIDTH - reach), generator.uniform(reach, HEIGHT - reach))
    start = centre - spin * complex(1, 1) * (len(image) - 1) / 2
    picture = cv2.warpAffine(
        image,
        np.array([[spin.real, -spin.imag, start.real], [spin.imag, spin.real, start.imag]]),
        (WIDTH, HEIGHT),
        dst=np.full((HEIGHT, WIDTH), 128, np.uint8),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_TRANSPARENT,
    )
    if flag == "cut":
        inside = round((0.5 - strength) * side)  # from the face's centre to the edge of the picture
        x, y = round(centre.real), round(centre.imag)
        edges = (np.s_[:, x - inside :], np.s_[:, : x + inside], np.s_[y - inside :], np.s_[: y + inside])
        picture = picture[edges[generator.integers(4)]]
    return np.repeat(picture[..., None], 3, 2)


def seen(detector: CenterFace, recognizer: Recognizer, faces: FaceSet, flag: str, strength: float) -> Level:
    """Faces placed, found and cropped."""
    generator = np.random.default_rng(1)
    rows, measures, crops = [], [], []
    for row, image in enumerate(faces.images):
        picture = place(image, flag, strength, generator)
        if found := detector.find(picture):
            rows.append(row)
            crops.append(crop(picture, found[0]))
            height, width = picture.shape[:2]
            outside = share_outside(found[0], width, height)
            measures.append(measure(crops[-1], height=found[0].box[3], tilt=found[0].tilt, outside=outside))
    return Level(strength, np.array(rows), measures, recognizer.probabilities(np.stack(crops)))


def given(recognizer: Recognizer, images: np.ndarray, strength: float) -> Level:
    """Faces that are crops already."""
    measures = [measure(image, height=float(len(image)), tilt=0.0, outside=0.0) for image in images]
    return Level(strength, np.arange(len(images)), measures, recognizer.probabilities(images))


def some(faces: FaceSet, count: int) -> FaceSet:
    return faces.take(np.sort(np.resize(np.random.default_rng(0).permutation(len(faces)), count)))


def sweep(flag: str, what: str, clean: Level, levels: list[Level], labels: np.ndarray) -> dict[str, Any]:
    """The curve of one corruption, and where it has cost `FALL`."""
    right = dict(zip(clean.rows.tolist(), metrics.correct(clean.probabilities, labels[clean.rows]), strict=True))
    points = []
    for level in levels:
        hits = metrics.correct(level.probabilities, labels[level.rows])
        both = [k for k, row in enumerate(level.rows.tolist()) if row in right]
        fall = float(np.mean([float(right[level.rows[k]]) - float(hits[k]) for k in both]))
        points.append({
            "strength": level.strength, "n": len(both), "found": len(level.rows) / len(clean.rows),
            "accuracy": float(hits[both].mean()), "fall": fall, "median": float(np.median(values(level, flag))),
        })  # fmt: skip
    start = {"fall": 0.0, "median": float(np.median(values(clean, flag))), "strength": None}
    for number, (before, after) in enumerate(zip([start, *points], points, strict=False)):
        if before["fall"] <= FALL <= after["fall"]:
            share = (FALL - before["fall"]) / (after["fall"] - before["fall"])
            crossing = {k: before[k] + share * (after[k] - before[k]) for k in ("strength", "median")}
            # Where a measure fails what it measures, it turns back: what costs still more is to be flagged too.
            medians = [crossing["median"], *(point["median"] for point in points[number:])]
            crossing["median"] = min(medians) if FLAGS[flag].above else max(medians)
            return {"corruption": what, "clean_median": start["median"], "points": points} | crossing
    if flag in CHOSEN:
        return {"corruption": what, "clean_median": start["median"], "points": points, "strength": None,
                "median": CHOSEN[flag]}  # fmt: skip
    raise SystemExit(f"{what} never costs {FALL:.0%}: sweep further")


def values(level: Level, flag: str) -> np.ndarray:
    return np.array([each[flag] for each in level.measures])


def raised(level: Level, flag: str, limit: float) -> np.ndarray:
    found = values(level, flag)
    return np.asarray(found >= limit if FLAGS[flag].above else found <= limit)


def summary(
    flag: str, sweeps: list[dict[str, Any]], levels: list[list[Level]], clean: dict[str, Level], labels: np.ndarray,
    threshold: float,
) -> dict[str, Any]:  # fmt: skip
    """The limit, how often it is right to be raised, and the confidence that its bearers need."""
    medians = [each["median"] for each in sweeps]
    limit = min(medians) if FLAGS[flag].above else max(medians)  # no corruption may go on unseen
    probabilities, truths = [], []
    for each, found in zip(sweeps, levels, strict=True):
        for point, level in zip(each["points"], found, strict=True):
            where = raised(level, flag, limit)
            point["flagged"] = float(where.mean())
            probabilities.append(level.probabilities[where])
            truths.append(labels[level.rows[where]])
    flagged, truth = np.concatenate(probabilities), np.concatenate(truths)
    confidence = max(threshold, metrics.threshold_for(flagged, truth, KEPT_ACCURACY))
    kept = {}
    for name, least in (("at the model's threshold", threshold), ("at the raised one", confidence)):
        answered = flagged.max(1) >= least
        kept[name] = {
            "confidence": least, "answered": float(answered.mean()),
            "right": float(metrics.correct(flagged, truth)[answered].mean()),
        }  # fmt: skip
    odds = confidence / (1 - confidence) * (1 - threshold) / threshold
    false = {name: {"n": len(level.rows), "flagged": float(raised(level, flag, limit).mean())}
             for name, level in clean.items()}  # fmt: skip
    return {"limit": limit, "odds": odds, "n": len(truth), "kept": kept, "false": false, "sweeps": sweeps}


def measured(flag: str, recognizer: Recognizer, faces: FaceSet) -> dict[str, Any]:
    """One flag."""
    splits = {name: faces.split(name) for name in SPLITS}
    threshold = recognizer.card.threshold
    if flag in DIRECT:
        chosen = splits["PublicTest"]
        clean = {
            name: given(recognizer, some(rows, len(chosen)).images, 0.0) for name, rows in splits.items()
        }
        levels = [
            [given(recognizer, corrupt(chosen.images, name, strength), strength) for strength in strengths]
            for name, strengths in DIRECT[flag].items()
        ]
        names = [f"{name} ({CORRUPTIONS[name].unit})" for name in DIRECT[flag]]
    else:
        name, strengths, count = PLACED[flag]
        detector = CenterFace(side=None if flag == "small" else LOOK)
        chosen = some(splits["PublicTest"], count)
        clean = {
            split: seen(detector, recognizer, some(rows, count), "none", 0.0) for split, rows in splits.items()
        }
        levels, names = [[seen(detector, recognizer, chosen, flag, strength) for strength in strengths]], [name]
    sweeps = [
        sweep(flag, name, clean["PublicTest"], found, chosen.labels)
        for name, found in zip(names, levels, strict=True)
    ]
    return summary(flag, sweeps, levels, clean, chosen.labels, threshold)


def without_twins(faces: FaceSet) -> FaceSet:
    """The data set without PublicTest's images that show a picture of Training."""
    where = faces.where("PublicTest")
    where[where] = ~new_pictures(faces.take(where), faces, near_in_training(faces, "PublicTest"))
    return faces.take(~where)


MEANING = {
    "small": "height of the box, pixels",
    "blurred": "sharpness, 0 to 4",
    "dark": "95th percentile of the greys",
    "bright": "median of the greys",
    "rotated": "tilt, degrees",
    "cut": "share of the crop outside the image",
}


def tables(results: dict[str, Any]) -> str:
    """Limits, and the curves that they are from."""
    limits, curves = [], []
    for flag, found in results.items():
        sign = "from" if FLAGS[flag].above else "up to"
        kept, raised_one = found["kept"].values()
        limits.append([
            f"`{flag}`", MEANING[flag], f"{sign} {found['limit']:.3g}",
            "; ".join(
                f"{each['strength']:.3g}: {each['corruption']}" if each["strength"] is not None
                else f"nowhere ({each['corruption']}); the limit is chosen" for each in found["sweeps"]
            ),
            *(f"{found['false'][split]['flagged']:.1%} of {found['false'][split]['n']:,}" for split in SPLITS),
            f"{kept['answered']:.0%} of {found['n']:,}, {kept['right']:.0%} right",
            *(
                (f"{raised_one['confidence']:.0%}", f"{raised_one['answered']:.0%}, {raised_one['right']:.0%} right")
                if found["odds"] > 1
                else ("no more", "-")
            ),
        ])  # fmt: skip
        for each in found["sweeps"]:
            curves += [
                [f"`{flag}`", each["corruption"], f"{p['strength']:g}", f"{p['n']:,}", f"{p['accuracy']:.1%}",
                 f"{100 * p['fall']:.1f}", f"{p['median']:.3g}", f"{p['flagged']:.0%}"]
                for p in each["points"]
            ]  # fmt: skip
    head = ["flag", "what is measured of a face", "raised", "ten points are lost at",
            *(f"flagged as they are: {split}" for split in SPLITS), "flagged faces answered at the model's threshold",
            "confidence they need instead", "then answered"]  # fmt: skip
    curve_head = ["flag", "corruption", "strength", "n", "accuracy", "points lost", "measure, median", "flagged"]
    return f"{markdown_table(head, limits)}\n\nThe curves:\n\n{markdown_table(curve_head, curves)}\n"


def page(results: dict[str, Any]) -> str:
    """docs/quality.md with its tables as measured."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return f"{before}{BEGIN}\n{tables(results)}{END}{rest.split(END)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--model", default="mien-small")
    parser.add_argument("--flags", nargs="+", default=list(FLAGS), choices=list(FLAGS))
    options = parser.parse_args()
    faces = without_twins(load(options.data)) if options.data else None
    for flag in options.flags if faces else ():
        recognizer = load_model(options.model)
        found = {"model": recognizer.name, "threshold": recognizer.card.threshold} | measured(flag, recognizer, faces)
        results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        results = {name: each for name in FLAGS if (each := found if name == flag else results.get(name))}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{flag}: limit {found['limit']:.4g}, odds {found['odds']:.2f}", flush=True)
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
