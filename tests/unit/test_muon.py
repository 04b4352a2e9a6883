"""The optimiser of the heads: its steps are orthogonal, it works on convolutions, and it learns."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.loop.muon import ADAM_STEP, Muon, orthogonalised


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(2, 40), columns=st.integers(2, 40), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99)
)
def test_a_direction_keeps_its_singular_vectors_and_evens_out_their_values(rows, columns, scale, seed):
    matrix = scale * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    turned = left.T @ orthogonalised(matrix).double() @ right.T
    found = turned.diagonal()
    # Five rounds lift what is above a hundredth of the whole into the band; the rest is on its way there.
    heard = values > 0.02 * values.norm()
    assert ((found[heard] > 0.6) & (found[heard] < 1.3)).all()
    assert (turned - torch.diag(found)).abs().max() < 0.02


def test_a_step_has_the_size_of_adams():
    layer = nn.Conv2d(32, 64, 3)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.randn_like(layer.weight)
    Muon([layer.weight], learning_rate=0.01).step()
    step = (layer.weight.detach() - before).square().mean().sqrt().item()
    assert step == pytest.approx(0.01 * ADAM_STEP, rel=0.25)


def test_only_weight_decay_moves_where_there_is_no_gradient():
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    Muon([weight], learning_rate=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))


def test_it_solves_an_ill_conditioned_problem_that_plain_descent_does_not():
    generator = torch.Generator().manual_seed(0)
    stretch = torch.logspace(0, -3, 16)
    goal = torch.randn(16, 16, generator=generator)

    def after(make_optimizer) -> float:
        weight = nn.Parameter(torch.zeros(16, 16))
        optimizer = make_optimizer([weight])
        for _ in range(300):
            for group in optimizer.param_groups:
                group["lr"] *= 0.985
            optimizer.zero_grad()
            ((weight - goal) * stretch[:, None]).square().sum().backward()
            optimizer.step()
        return (weight - goal).square().mean().item()

    assert after(lambda weights: Muon(weights, 0.3)) < 0.1
    assert after(lambda weights: torch.optim.SGD(weights, 0.4)) > 0.4


def test_biases_are_refused():
    with pytest.raises(ValueError, match="fewer than two dimensions"):
        Muon([nn.Parameter(torch.zeros(3))], learning_rate=0.1)
