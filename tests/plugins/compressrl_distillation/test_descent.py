"""One update of a student: by autograd, and by the algorithms' kernel."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from compressrl.networks.modules import Rescale, Standardize
from compressrl_distillation.descent import Descent, StackDescent, descent

HALF_RANGE = torch.tensor([2.0, 0.5])
HEAD = (nn.Tanh(), Rescale(HALF_RANGE, torch.tensor([0.0, 0.1])))


def perceptron(activation: type[nn.Module] = nn.ReLU, *first: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    body = (nn.Linear(5, 33), activation(), nn.Linear(33, 20), activation(), nn.Linear(20, 2))
    return nn.Sequential(*first, *body, *HEAD)


def batch(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, 5, generator=generator), torch.randn(rows, 2, generator=generator) * HALF_RANGE


STANDARDIZE = Standardize(torch.full((5,), 0.3), torch.full((5,), 2.0))


@pytest.mark.parametrize("rows", [64, 7])
@pytest.mark.parametrize("make", [(nn.ReLU,), (nn.Tanh,), (nn.Tanh, STANDARDIZE)])
def test_the_kernel_takes_the_steps_that_autograd_takes(rows, make):
    plain, stacked = perceptron(*make), perceptron(*make)
    by_autograd, by_kernel = Descent(plain, len(make) + 3, HALF_RANGE), descent(stacked, HALF_RANGE)
    assert type(by_kernel) is StackDescent
    for step in range(20):
        rate = 1e-2 / (1 + step)
        assert by_kernel.step(*batch(rows), rate) == pytest.approx(by_autograd.step(*batch(rows), rate), 1e-3)
    x = batch(100)[0]
    assert torch.allclose(stacked(x), plain(x), atol=1e-3)
    assert not torch.allclose(plain(x), perceptron(*make)(x), atol=1e-2)


def test_the_error_is_that_before_the_step_in_half_ranges():
    student = perceptron()
    states, actions = batch(64)
    expected = ((student(states) - actions) / HALF_RANGE).abs().mean().item()
    assert descent(student, HALF_RANGE).step(states, actions, 1e-2) == pytest.approx(expected, 1e-5)


def test_weights_that_are_put_back_are_those_that_go_on_learning():
    student = perceptron()
    one = descent(student, HALF_RANGE)
    before = copy.deepcopy(student.state_dict())
    one.step(*batch(64), 1e-1)
    student.load_state_dict(before)
    expected = ((student(batch(64)[0]) - batch(64)[1]) / HALF_RANGE).abs().mean().item()
    assert one.step(*batch(64), 1e-1) == pytest.approx(expected, 1e-5)
    assert not torch.equal(student[0].weight, before["0.weight"])


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "student",
    [
        perceptron(nn.Softsign),
        perceptron(nn.ReLU, nn.LayerNorm(5)),
        nn.Sequential(Doubled(5, 8), nn.ReLU(), nn.Linear(8, 2), *HEAD),
        nn.Sequential(nn.Linear(5, 8, bias=False), nn.ReLU(), nn.Linear(8, 2), *HEAD),
    ],
)
def test_other_rows_of_layers_learn_by_autograd(student):
    one = descent(student, HALF_RANGE)
    assert type(one) is Descent
    errors = [one.step(*batch(64), 1e-2) for _ in range(20)]
    assert errors[-1] < errors[0]
