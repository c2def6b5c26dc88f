import dataclasses

import pytest

from mien.errors import InputError, NotFound
from mien.recipes import RECIPES, SGD, Recipe, get_recipe, override


@pytest.mark.parametrize("name", RECIPES)
def test_json_brings_back_the_same_recipe(name: str) -> None:
    assert Recipe.from_json(RECIPES[name].to_json()) == RECIPES[name]
    assert RECIPES[name].name == name


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",  # JSON of another shape
        '{"": "Recipe", "name": "x", "surprise": 1}',  # an unknown field
        '{"": "Path", "name": "x"}',  # a class that is none of ours
    ],
)
def test_json_that_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="recipe"):
        Recipe.from_json(text)


def test_recipes_cannot_be_changed_by_accident() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPES["paul"].epochs = 3  # type: ignore[misc]


def test_an_unknown_recipe_names_the_closest() -> None:
    with pytest.raises(NotFound, match="did you mean 'alexnet'"):
        get_recipe("alexnt")


def test_override() -> None:
    recipe = override(get_recipe("mien-small"), {"epochs": "5", "optimizer.lr": "1", "votes": "0"})
    assert recipe.epochs == 5
    assert recipe.optimizer == SGD(lr=1.0)
    assert recipe.votes == 0.0
    assert get_recipe("mien-small").epochs != 5


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epoch": "5"}, NotFound, "did you mean 'epochs'"),  # a slip
        ({"optimizer.rate": "5"}, NotFound, "known: lr"),  # a nested slip
        ({"epochs": "many"}, InputError, "epochs takes int"),  # another type
        ({"optimizer": "sgd"}, InputError, "optimizer"),  # a whole block as text
    ],
)
def test_override_refuses(settings: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        override(get_recipe("mien-small"), settings)


def test_seeds_keep_their_published_protocol() -> None:
    paul, printed, alexnet, workshop = (RECIPES[n] for n in ("paul", "paul-as-printed", "alexnet", "workshop"))
    assert paul.protocol.train == ("Training", "PublicTest")
    assert (paul.protocol.select, paul.protocol.held_out) == (0.2, "last")
    assert paul.stopping is None
    assert printed.stopping is not None
    assert dataclasses.replace(printed, name="paul", summary=paul.summary, stopping=None) == paul
    assert (alexnet.loss, alexnet.claims_binary, alexnet.batch) == ("binary_cross_entropy", True, 128)
    assert (workshop.protocol.held_out, workshop.epochs, workshop.batch) == ("random", 20, 64)
