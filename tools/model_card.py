#!/usr/bin/env python3
"""Write the card of a model from the scores inside its file, so that no number is typed by hand.

    mien evaluate mien-small --data fer2013.csv --corrupt --json > benchmarks/results/mien-small-corrupt.json
    python tools/model_card.py src/mien/models/mien-small.onnx
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import onnx

from mien.expressions import EXPRESSIONS
from mien.measuring.evaluation import Scores, confusion_table, markdown_table, scores_table
from mien.measuring.robustness import Robustness
from mien.reading.recognizer import Card, Recognizer
from mien.recipes import SIZES, Recipe

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def main(path: Path) -> None:
    card = Recognizer(path).card
    path.with_suffix(".md").write_text(text(card, path), encoding="utf-8")
    sys.stdout.write(f"{path.with_suffix('.md')}\n")


def text(card: Card, path: Path) -> str:
    recipe = Recipe.from_json(card.recipe)
    parameters = sum(
        math.prod(tensor.dims) for tensor in onnx.load(path).graph.initializer if tensor.dims
    )
    calibration = card.scores["calibration"]
    scores = {name: _scores(values) for name, values in card.scores["PublicTest"].items()}
    first = scores["single view, all"]
    votes = (
        "A second head learned the FER+ vote shares of the same rows (extra annotations, no extra images) and was\n"
        "  cut off afterwards." if recipe.votes else "It saw FER2013's labels alone."
    )
    if recipe.distil:
        votes += "\n  Networks of ours that learned from the same rows before it were its teachers."
    members = card.scores.get("members", [])
    alone = f"A network of {SIZES[recipe.network][1] / 1e6:.0f} million multiply-adds"
    summary = f"The mean of the answers of {len(members)} networks" if members else alone
    return f"""# {card.name}

{summary}. Input: grey faces, uint8 (B, 48, 48); output: seven logits.
Preprocessing, labels, calibration, threshold, recipe and the scores below stand in the file's metadata.

- {parameters:,} numbers in {path.stat().st_size / 1e6:.2f} MB, {card.precision} ONNX
- Learned from the Training rows of FER2013, from scratch: no pretraining, no other images.
  {votes}
- {_data(card, recipe)}
{_recipes(card)}
- Terms: {card.licence}; see WEIGHTS.md

## Scores on PublicTest

PublicTest chose the epoch, the calibration and the threshold: **these are selection scores.** PrivateTest is scored
blind, from `benchmarks/predictions/{card.name}.csv`.

{scores_table(scores)}

"Without twins" leaves out the images that also stand, pixel for pixel, in Training.{_near_twins(scores)}

## What it confuses

True expression by row, answer by column (single view, all rows):

{confusion_table(first)}

{_habits(first)}

## Confidence

- Each expression's logit is divided by its temperature and shifted by its bias (vector scaling):
  {_scaling(card)}.
  They were fitted on {_fitted(calibration, first)}.
  Expected calibration error when they are fitted on other rows than it is measured on (five folds):
  {_crossed(calibration, first)}{_answers_changed(calibration)}
- An answer below a confidence of {card.threshold:.1%} is called **uncertain**. At or above it, of the rows that it was
  fitted on {calibration["coverage"]:.1%} are answered, and {calibration["accuracy_kept"]:.1%} of that is right.

Of the rows that it was fitted on:

{_risk_coverage(calibration["risk_coverage"])}
{_precisions(card)}{_worse_pictures(card)}
## Limits

- It reads the *expression* in a picture, as untrained taggers named it. That is not what a person feels.
- FER2013 came from web searches for emotion words: posed faces, film stills, few children, few old people, an
  unknown share of each skin tone, and labels that people themselves agree on about two times in three. Nobody knows
  the demographics of its images, so nobody can say how unequal the errors are.
- Small, blurred, tilted or covered faces are read worse than the scores say, and in dark photos fewer are found.
  Readings flag what can be measured of a face: `small`, `blurred`, `dark`, `bright`, `rotated`, `cut`
  (`docs/quality.md`). Noise, heavy compression and what covers a face are not flagged.
- Not for decisions about people: hiring, policing, schooling, health, insurance. Ask people before you read their
  faces.
"""


def _near_twins(scores: dict[str, Scores]) -> str:
    """What is left without other versions of Training pictures; nothing where that was not measured."""
    if "single view, without near twins" not in scores:
        return ""
    exact, near = (scores[f"single view, without {rows}"] for rows in ("twins", "near twins"))
    return f"""
{exact.n - near.n} more show a Training picture in another version (near twins: cropped, mirrored or lit otherwise).
What is left without these too, {near.n:,} rows, is nearer to what new faces can expect: **{near.accuracy:.2%}**."""


def _fitted(calibration: dict[str, Any], first: Scores) -> str:
    """The rows that scaling and threshold are from."""
    if calibration["n"] == first.n:
        return "all rows of PublicTest, some of which it may remember"
    return f"the {calibration['n']:,} rows of PublicTest whose pictures stand in Training in no version"


def _crossed(calibration: dict[str, Any], first: Scores) -> str:
    """Cross-fitted calibration errors, each with what chance alone makes it."""
    kinds = {"over all rows": ""} | ({"over those": "_new"} if calibration["n"] < first.n else {})
    found = (
        f"{calibration['ece_cross_fitted' + kind]:.2%} {rows} ({calibration['ece_floor' + kind]:.2%} by chance alone)"
        for rows, kind in kinds.items()
    )
    return f"{', '.join(found)}, in 15 bins."


def _data(card: Card, recipe: Recipe) -> str:
    """By which checksums the data set is known."""
    files = "the csv and the FER+ csv behind it" if recipe.votes else "the csv"
    lines = [f"Data: sha-256 `{card.data_sha256[:16]}...` of {files}"]
    lines += [f"  {note}" for note in card.scores["calibration"].get("notes", [])]
    return "\n".join(lines)


def _recipes(card: Card) -> str:
    """The recipe in a line, and the trainings where there were several; of an ensemble, those of its members with what
    each reaches alone.
    """
    made = [(Recipe.from_json(card.recipe), None, card.trainings)]
    if members := card.scores.get("members"):
        made = [
            (Recipe.from_json(json.dumps(member["recipe"])), member["accuracy"], member.get("trainings", []))
            for member in members
        ]
    lines = []
    for recipe, accuracy, trainings in made:
        used = {name: getattr(recipe, name) for name in ("mixup", "cutmix", "distil")}
        changes = [f"{name} {value:g}" for name, value in used.items() if value]
        parts = [f"{recipe.epochs} epochs", f"batch {recipe.batch}", f"seed {recipe.seed}", *changes]
        alone = "" if accuracy is None else f"; alone {accuracy:.2%}"
        lines.append(f"- Recipe `{recipe.name}`: {', '.join(parts)}{alone}")
        if len(trainings) > 1:
            lines.append(f"  - one after the other, each from the weights before: {'; then '.join(trainings)}")
    return "\n".join(lines)


def _scaling(card: Card) -> str:
    each = zip(card.labels, card.temperatures, card.biases, strict=True)
    return ", ".join(f"{label} {temperature:.2f} and {bias:+.2f}" for label, temperature, bias in each)


def _answers_changed(calibration: dict[str, Any]) -> str:
    """What scaling does to accuracy; nothing where the file is from before that was measured."""
    crossed, unscaled = (calibration.get(f"accuracy_{name}") for name in ("cross_fitted", "unscaled"))
    if crossed is None or unscaled is None:
        return ""
    return (
        "\n  Biases change answers, too: so fitted on other rows, the accuracy (single view) is "
        f"{crossed:.2%},\n  and without any scaling {unscaled:.2%}."
    )


def _scores(values: dict[str, Any]) -> Scores:
    """What JSON made of scores: its lists stand for pairs too."""
    return Scores(**values | {"interval": tuple(values["interval"])})


def _risk_coverage(curve: list[list[float]]) -> str:
    """What is right when only the surest faces are answered."""
    rows = [[f"{share:.0%}", f"{accuracy:.1%}", f"{confidence:.0%}"] for share, accuracy, confidence in curve]
    return markdown_table(["surest share that is answered", "of it right", "confidence at least"], rows)


def _precisions(card: Card) -> str:
    """What 8 bits cost; nothing where the file is as it was trained."""
    if "before" not in card.scores:
        return ""
    rows = []
    for name, scores in (("float32", card.scores["before"]), (card.precision, card.scores)):
        single = _scores(scores["PublicTest"]["single view, all"])
        rows.append([
            name, f"{single.accuracy:.2%}", f"{single.nll:.3f}", f"{single.ece:.2%}",
            f"{scores['calibration']['ece_cross_fitted']:.2%}",
        ])  # fmt: skip
    head = ["precision", "accuracy", "NLL", "ECE", "ECE, cross-fitted"]
    return f"""
## What 8 bits cost

The network was trained in float32 and quantised afterwards: weights to 7 bits for each channel, activations to 8.
PublicTest, single view, each with its own calibration:

{markdown_table(head, rows)}
"""


def _worse_pictures(card: Card) -> str:
    """What corruptions cost; nothing where that was not measured."""
    file = RESULTS / f"{card.name}-corrupt.json"
    if not file.exists():
        return ""
    measured = Robustness.from_json(file.read_text(encoding="utf-8"))
    return f"""
## On worse pictures

{measured.split} made worse, n = {measured.n:,}, single view: `mien evaluate {card.name} --data fer2013.csv --corrupt`.
Accuracy, by strength; {measured.clean.accuracy:.1%} as they are:

{measured.short_table()}

<details><summary>Calibration and coverage at each strength</summary>

"Answered" are faces with a confidence of {measured.threshold:.1%} or more; flags, which ask for more, are not counted
in.

{measured.table()}

</details>
"""


def _habits(first: Scores) -> str:
    """The largest confusions in words."""
    found = []
    for truth, row in zip(EXPRESSIONS, first.confusion, strict=True):
        share, answer = max((n / max(1, sum(row)), a) for n, a in zip(row, EXPRESSIONS, strict=True) if a != truth)
        found.append((share, truth, answer))
    worst = sorted(found, reverse=True)[:4]
    return "For a user: " + "; ".join(f"{s:.0%} of the {t} faces are read as {a}" for s, t, a in worst) + "."


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
