import dataclasses

import pytest

from mien.errors import InputError, NotFound
from mien.recipes import RECIPES, SGD, Constant, Muon, Plateau, Protocol, Recipe, Stopping, get_recipe, override


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
        ({"optimizer": "sgd"}, InputError, "takes Adam or SGD or Muon, but got 'sgd'"),  # a block as text
        ({"loss": "foo"}, InputError, "loss takes one of cross_entropy, binary_cross_entropy, but got 'foo'"),
        ({"keep": "foo"}, InputError, "keep takes one of loss, accuracy"),
        ({"protocol.held_out": "first"}, InputError, "Protocol.held_out takes one of last, random"),
        ({"seed": "-1"}, InputError, r"seed takes int in \[0, 4294967295\], but got -1"),
        ({"seed": "true"}, InputError, "but got True"),
        ({"batch": "0"}, InputError, r"batch takes int in \[2, inf\), but got 0"),
        ({"epochs": "0"}, InputError, r"epochs takes int in \[1, inf\), but got 0"),
        ({"epochs": "1.5"}, InputError, "but got 1.5"),
        ({"label_smoothing": "1.1"}, InputError, r"label_smoothing takes float in \[0, 1\], but got 1.1"),
        ({"augment.flip": "-0.5"}, InputError, r"Augment.flip takes float in \[0, 1\], but got -0.5"),
        ({"ema": "1"}, InputError, r"ema takes float in \[0, 1\), but got 1.0"),
        ({"optimizer.lr": "0"}, InputError, r"SGD.lr takes float in \(0, inf\), but got 0.0"),
        ({"optimizer.lr": "NaN"}, InputError, "but got nan"),
        ({"protocol.select": "1.5"}, InputError, r"select takes str or float in \(0, 1\), but got 1.5"),
        ({"protocol.train": "Training"}, InputError, r"train takes a list of str, as \[\"a\", \"b\"\], but got"),
        ({"protocol.train": "[1]"}, InputError, "but got \\(1,\\)"),
        ({"schedule": "SGD"}, InputError, "schedule takes Constant or Plateau or Cosine, but got SGD"),
        ({"stopping.wait": "3"}, NotFound, "known: patience"),
        ({"stopping": "3"}, InputError, "stopping takes Stopping or null, but got 3"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_override_refuses(settings: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        override(get_recipe("mien-small"), settings)


def test_override_takes_all_that_a_field_takes() -> None:
    settings = {"protocol.select": "0.2", "protocol.train": '["Training", "PublicTest"]', "protocol.held_out": "random"}
    protocol = override(get_recipe("mien-small"), settings).protocol
    assert protocol == Protocol(train=("Training", "PublicTest"), select=0.2, held_out="random")
    assert override(get_recipe("paul"), {"protocol.select": "PublicTest"}).protocol.select == "PublicTest"
    assert override(get_recipe("paul-as-printed"), {"stopping": "null"}).stopping is None


def test_override_takes_another_rule_by_its_name() -> None:
    settings = {"optimizer": "Muon", "optimizer.lr": "0.01", "schedule": "Constant", "stopping.patience": "4"}
    recipe = override(get_recipe("paul"), settings)
    assert recipe.optimizer == Muon(lr=0.01)
    assert recipe.schedule == Constant()
    assert recipe.stopping == Stopping(patience=4)


@pytest.mark.usefixtures("unchecked")
def test_every_way_to_make_a_recipe_is_checked() -> None:
    recipe = get_recipe("mien-small")
    with pytest.raises(InputError, match="Recipe.votes takes float"):
        dataclasses.replace(recipe, votes=-1.0)
    with pytest.raises(InputError, match="Plateau.factor takes float"):
        Plateau(factor=1.0)
    with pytest.raises(InputError, match="does not read as one: Recipe.epochs takes int"):
        Recipe.from_json(recipe.to_json().replace('"epochs": 100', '"epochs": "100"'))
    with pytest.raises(InputError, match="Recipe.augment takes Augment, but got Protocol"):
        dataclasses.replace(recipe, augment=recipe.protocol)  # type: ignore[arg-type]


def test_seeds_keep_their_published_protocol() -> None:
    paul, printed, alexnet, workshop = (RECIPES[n] for n in ("paul", "paul-as-printed", "alexnet", "workshop"))
    assert paul.protocol.train == ("Training", "PublicTest")
    assert (paul.protocol.select, paul.protocol.held_out) == (0.2, "last")
    assert paul.stopping is None
    assert printed.stopping is not None
    assert dataclasses.replace(printed, name="paul", summary=paul.summary, stopping=None) == paul
    assert (alexnet.loss, alexnet.claims_binary, alexnet.batch) == ("binary_cross_entropy", True, 128)
    assert (workshop.protocol.held_out, workshop.epochs, workshop.batch) == ("random", 20, 64)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"":' * 100_000])
def test_json_nested_too_deeply_is_no_recipe(text: str) -> None:
    with pytest.raises(InputError, match="nested too deeply"):
        Recipe.from_json(text)


def test_numbers_beyond_all_floats_are_refused() -> None:
    text = get_recipe("mien-small").to_json().replace('"votes": 1.0', '"votes": ' + "9" * 400)
    with pytest.raises(InputError, match=r"Recipe.votes takes float"):
        Recipe.from_json(text)
