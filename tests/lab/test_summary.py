import pytest

pytest.importorskip("torch")

from mien.lab.networks import NETWORKS
from mien.lab.summary import layers
from mien.recipes import RECIPES, SIZES


@pytest.mark.parametrize(
    ("network", "parameters", "multiply_adds"),
    [
        # millions of multiply-adds as published analyses of the three systems count them
        ("workshop", 2_787_015, 722e6),
        ("alexnet", 41_462_727, 545e6),
        ("paul", 9_014_727, 601e6),
        ("mien-small", 1_230_503, 36e6),
    ],
)
def test_totals(network: str, parameters: int, multiply_adds: float) -> None:
    rows = layers(NETWORKS[network]())
    assert sum(row.parameters for row in rows) == parameters
    assert sum(row.multiply_adds for row in rows) == pytest.approx(multiply_adds, rel=0.03)
    assert rows[-1].shape == (7,)


def test_layers_come_in_the_order_they_run() -> None:
    kinds = [row.kind for row in layers(NETWORKS["paul"]())]
    assert kinds[:2] == ["Conv2d", "ReLU"]
    assert kinds[-1] == "Linear"
    assert layers(NETWORKS["paul"]())[0].shape == (64, 46, 46)


def test_recipes_know_the_sizes_of_their_networks() -> None:
    for network, (parameters, multiply_adds) in SIZES.items():
        rows = layers(NETWORKS[network]())
        assert (sum(r.parameters for r in rows), sum(r.multiply_adds for r in rows)) == (parameters, multiply_adds)
    assert set(SIZES) == set(NETWORKS) >= {recipe.network for recipe in RECIPES.values()}
