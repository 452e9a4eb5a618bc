"""The stack by its kernel against the stack in plain torch, and that against separate modules."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from compressrl_algorithms import mlp_stack
from compressrl_algorithms.mlp_stack import MLPStack

needs_kernel = pytest.mark.skipif(
    mlp_stack.kernel() is None, reason="no C compiler, or a CPU without AVX512-BF16"
)
SHAPES = [
    ((23, 256, 256, 1), 2),
    ((17, 64, 64, 12), 1),
    ((9, 100, 70, 5), 3),
    ((3, 8, 1), 2),
    ((5, 40, 3), 1),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def stack(sizes, count, *, bfloat16=False):
    made = MLPStack(sizes, count, bfloat16=bfloat16)
    made.initialise(generator())
    return made


def inputs(sizes, rows=64):
    x = torch.randn(rows, sizes[0], generator=generator(1))
    return x[:, :-2], x[:, -2:].clone().requires_grad_(True)


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("sizes", "count"), SHAPES)
def test_plain_it_is_as_many_separate_networks(sizes, count):
    one, x = stack(sizes, count), torch.cat(inputs(sizes), dim=1).detach()
    for index, outputs in enumerate(one(x)):
        row = []
        for inputs_, layer in zip(sizes, one.layers(), strict=False):
            linear = nn.Linear(inputs_, layer.weight.shape[1])
            linear.weight.data, linear.bias.data = layer.weight[index].data, layer.bias[index, 0].data
            row += [linear, nn.ReLU()]
        torch.testing.assert_close(outputs, nn.Sequential(*row[:-1])(x))


@needs_kernel
@pytest.mark.parametrize(("sizes", "count"), SHAPES)
@pytest.mark.parametrize("rows", [2, 8, 64])
def test_the_kernel_agrees_with_torch(sizes, count, rows):
    plain, fast = stack(sizes, count), stack(sizes, count, bfloat16=True)
    assert fast.by_kernel
    results = []
    for one in (plain, fast):
        x, action = inputs(sizes, rows)
        outputs = one(x, action)
        weights = torch.rand(outputs.shape, generator=generator(2))
        results.append((outputs, *torch.autograd.grad((outputs * weights).sum(), [one.vector, action])))
    for index, (expected, found) in enumerate(zip(*results, strict=True)):
        # bfloat16 has 8 bits; a unit that rounding moves over zero also takes its share of the gradient.
        assert found.dtype is torch.float32
        assert relative(found, expected) < (0.02, 0.1, 0.25)[index]
    assert not torch.equal(results[0][0], results[1][0])


@needs_kernel
def test_the_kernels_gradient_is_exact_where_nothing_is_rounded():
    """Small whole numbers are exact in bfloat16, and so are their products and sums in float32."""
    sizes, count = (7, 20, 12, 3), 2
    plain, fast = MLPStack(sizes, count), MLPStack(sizes, count, bfloat16=True)
    whole = torch.randint(-2, 3, plain.vector.shape, generator=generator()).float()
    results = []
    for one in (plain, fast):
        one.vector.data.copy_(whole)
        x = torch.randint(-2, 3, (6, 4), generator=generator(1)).float()
        action = torch.randint(-2, 3, (6, 3), generator=generator(2)).float().requires_grad_(True)
        outputs = one(x, action)
        weights = torch.randint(-1, 2, outputs.shape, generator=generator(3)).float()
        loss = (outputs * weights).sum()
        results.append([outputs, *torch.autograd.grad(loss, [one.vector, action])])
        frozen = (one.frozen(x, action, count=1) * weights[:1]).sum()
        results[-1] += torch.autograd.grad(frozen, [action])
    for expected, found in zip(*results, strict=True):
        assert torch.equal(expected, found)


def test_frozen_parameters_take_no_gradient():
    for bfloat16 in (False, True):
        one = stack((5, 8, 1), 2, bfloat16=bfloat16)
        x, action = inputs((5, 8, 1))
        one.frozen(x, action).sum().backward()
        assert one.vector.grad is None
        assert action.grad is not None


@needs_kernel
def test_an_odd_batch_goes_the_plain_way():
    one = stack((5, 8, 1), 1, bfloat16=True)
    x = torch.randn(7, 5, generator=generator())
    torch.testing.assert_close(one(x), stack((5, 8, 1), 1)(x))


@needs_kernel
def test_the_gradient_of_an_overwritten_pass_is_refused():
    one = stack((5, 8, 1), 1, bfloat16=True)
    first = one(torch.ones(2, 5))
    one(torch.zeros(2, 5))
    with pytest.raises(RuntimeError, match="before the next pass"):
        first.sum().backward()


def test_adopted_layers_follow_the_vector_and_it_follows_them():
    one = stack((4, 6, 3), 2)
    body, head, other = nn.Linear(4, 6), nn.Linear(6, 1), nn.Linear(6, 2)
    one.adopt(1, [[body], [head, other]])
    x = torch.randn(5, 4, generator=generator(4))

    def by_modules():
        features = body(x).relu()
        return torch.cat([head(features), other(features)], dim=1)

    torch.testing.assert_close(one(x)[1], by_modules())
    with torch.no_grad():
        one.vector.mul_(0.5)
    torch.testing.assert_close(one(x)[1], by_modules())
    with torch.no_grad():
        other.bias.add_(1.0)
    torch.testing.assert_close(one(x)[1], by_modules())


@needs_kernel
def test_a_copy_is_its_own():
    one = stack((5, 8, 1), 2, bfloat16=True)
    x = torch.randn(4, 5, generator=generator())
    before, weight = one(x), one.matrices[0][0].clone()
    other = copy.deepcopy(one)
    with torch.no_grad():
        other.vector.zero_()
    assert torch.equal(other(x), torch.zeros(2, 4, 1))
    assert torch.equal(other.matrices[0][0], torch.zeros_like(weight))
    assert torch.equal(one(x), before)
    assert torch.equal(one.matrices[0][0], weight)


def test_without_a_compiler_it_is_plain_torch(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    mlp_stack.kernel.cache_clear()
    try:
        assert not stack((5, 8, 1), 1, bfloat16=True).by_kernel
    finally:
        mlp_stack.kernel.cache_clear()
