"""The optimiser of short runs: Muon for kernels, Adam for the rest."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.training._distillation import DistillationRecipe
from edgead.training._loop import one_cycle, set_rate
from edgead.training._muon import ConvolutionMuon, Method, optimiser
from edgead.training._state import pack, unpack

RATE = 0.01


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16, bias=False), nn.Conv2d(16, 4, 3)
    )


def down(how: Any, loss: Tensor) -> None:
    how.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    how.step()


def descend(net: nn.Module, how: Any, steps: int, first: int = 0) -> Tensor:
    """Mean squared error after `steps` steps, each with images of its own."""
    loss = torch.zeros(())
    for step in range(first, first + steps):
        image = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(step))
        loss = (net(image) - F.avg_pool2d(image, 7, 1).sum(1, keepdim=True)).square().mean()
        down(how, loss)
    return loss.detach()


def test_a_kernel_moves_by_an_orthogonal_matrix_as_far_as_adam_would() -> None:
    """All singular values near 0.2·√max(A, B) times the rate: five iterations leave them near 1."""
    net = network()
    before = copy.deepcopy(net)
    descend(net, ConvolutionMuon([net], RATE, 0.0), 1)
    for index in (0, 3):
        moved = (before[index].weight - net[index].weight).detach().flatten(1)
        said = torch.linalg.svdvals(moved) / (0.2 * RATE * max(moved.shape) ** 0.5)
        assert bool(((said > 0.6) & (said < 1.3)).all())
    # Adam's first step is its rate, whatever the gradient.
    for name in ("0.bias", "2.weight", "3.bias"):
        moved = before.get_parameter(name) - net.get_parameter(name)
        torch.testing.assert_close(moved.abs(), torch.full_like(moved, RATE), rtol=1e-2, atol=0)


def test_both_get_the_rate_of_the_schedule() -> None:
    made = ConvolutionMuon([network()], 1.0, 0.0)
    set_rate(made, DistillationRecipe(steps=10, rate=RATE, schedule="one_cycle"), 5)
    assert [group["lr"] for group in made.param_groups] == [RATE * one_cycle(5, 10)] * 2


@pytest.mark.parametrize("method", ["muon", "adam"])
def test_it_goes_on_where_it_was(method: Method) -> None:
    whole = network()
    descend(whole, optimiser(method, [whole], RATE), 6)
    begun, resumed = network(), network()
    first = optimiser(method, [begun], RATE)
    descend(begun, first, 3)
    second = optimiser(method, [resumed], RATE)
    unpack(pack(begun, first, {}), resumed, second, {})
    descend(resumed, second, 3, first=3)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def uneven(method: Method, rate: float) -> float:
    """Share of a matrix that is not learned after 200 steps on inputs whose directions differ 1000-fold."""
    random = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(32, 32, generator=random)).Q
    mixed = basis @ torch.diag(torch.logspace(0, -3, 32)) @ basis.T
    wanted = torch.randn(32, 32, generator=random)
    net = nn.Conv2d(32, 32, 1)
    nn.init.zeros_(net.weight)
    how = optimiser(method, [net], rate)
    for step in range(200):
        for group in how.param_groups:
            group["lr"] = rate * one_cycle(step, 200)
        images = F.conv2d(torch.randn(64, 32, 1, 1, generator=random), mixed[:, :, None, None])
        loss = (net(images) - F.conv2d(images, wanted[:, :, None, None])).square().mean()
        down(how, loss)
    return float((net.weight.detach()[:, :, 0, 0] - wanted).square().mean() / wanted.square().mean())


def test_it_learns_what_shows_little_as_fast_as_what_shows_much() -> None:
    rates = (0.03, 0.1, 0.3)
    assert min(uneven("muon", rate) for rate in rates) < 0.5 * min(uneven("adam", rate) for rate in rates)
