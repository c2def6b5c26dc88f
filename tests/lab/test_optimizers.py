"""Nesterov's steps: torch's own SGD, and Muon's orthogonal ones for convolutions before a batch norm."""

import copy

import pytest
import torch
from torch import nn

from mien.lab.networks import NETWORKS
from mien.lab.optimizers import make, nesterov, orthogonal
from mien.recipes import SGD, Muon


@pytest.mark.parametrize("shape", [(16, 9), (48, 144), (300, 90)])
def test_steps_are_nearly_orthogonal(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonal(matrix)
    assert torch.linalg.svdvals(matrix).max() / torch.linalg.svdvals(matrix).min() > 3
    sizes = (left.T @ made @ right.T).diagonal()  # the same directions, at sizes of their own
    torch.testing.assert_close((left * sizes) @ right, made, atol=1e-4, rtol=0)
    assert sizes.min() > 0.6
    assert sizes.max() < 1.25


def test_no_gradient_is_no_step() -> None:
    assert orthogonal(torch.zeros(4, 9)).abs().max() == 0


def network() -> nn.Sequential:
    torch.manual_seed(1)
    normed = nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6)
    return nn.Sequential(*normed, nn.Conv2d(6, 3, 1), nn.Flatten(), nn.Linear(3 * 4, 7))


def steps(one: nn.Module, optimizer: torch.optim.Optimizer, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        torch.manual_seed(number)
        optimizer.zero_grad()
        one(torch.randn(8, 1, 4, 4)).square().mean().backward()
        optimizer.step()


def test_sgd_is_torchs_own_at_a_rate_that_is_a_tensor_too() -> None:
    one, other = network(), network()
    rated = nesterov(SGD(), one)
    for group in rated.param_groups:
        group["lr"] = torch.tensor(group["lr"])
    steps(one, rated, 4)
    steps(other, make(SGD(), other), 4)
    for here, there in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(here, there, atol=2e-6, rtol=0)


def test_all_else_learns_as_by_sgd() -> None:
    """With the convolution standing still in both, what is left must be the same."""
    one, other = network(), network()
    still = make(Muon(), one)
    still.param_groups[0]["lr"] = 0.0
    steps(one, still, 4)
    with torch.no_grad():
        other[0].weight.mul_(6**0.5 / other[0].weight.norm())
    other[0].weight.requires_grad_(False)
    steps(other, make(SGD(), other), 4)
    for here, there in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(here, there, atol=2e-5, rtol=0)


def test_a_convolution_moves_by_the_share_that_its_rate_says() -> None:
    one = network()
    steps(one, optimizer := make(Muon(), one), 1)
    before = one[0].weight.detach().clone()
    steps(one, optimizer, 1)
    kept = before * 6**0.5 / before.norm()
    moved = torch.linalg.svdvals((one[0].weight - kept).flatten(1))
    assert 0.3 * 0.02 < moved.min() < moved.max() < 1.25 * 0.02


def test_it_goes_on_from_its_state() -> None:
    whole, part = network(), network()
    steps(whole, make(Muon(), whole), 4)
    steps(part, first := make(Muon(), part), 2)
    resumed = copy.deepcopy(part)
    second = make(Muon(), resumed)
    second.load_state_dict(first.state_dict())
    steps(resumed, second, 2, first=2)
    for here, there in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(here, there, atol=0, rtol=0)


def test_it_learns_every_parameter_once() -> None:
    for name in ("vgg-slim-standard", "resnet18-se"):
        net = NETWORKS[name]()
        groups = make(Muon(), net).param_groups
        listed = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(listed) == sorted(id(parameter) for parameter in net.parameters())
        assert all(parameter.ndim == 4 for parameter in groups[0]["params"])
