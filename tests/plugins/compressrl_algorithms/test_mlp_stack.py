"""The stack in plain torch against separate modules, and its gradients against autograd's of a loss."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from compressrl_algorithms.mlp_stack import MLPStack


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def stack(sizes, count, activation="relu"):
    made = MLPStack(sizes, count, activation)
    made.initialise(generator())
    return made


def modules(one, index):
    """Network `index` as ordinary modules with the same values."""
    row = []
    for inputs, layer in zip(one.sizes, one.layers(), strict=False):
        linear = nn.Linear(inputs, layer.weight.shape[1])
        linear.weight.data, linear.bias.data = layer.weight[index].data, layer.bias[index, 0].data
        row += [linear, nn.Tanh() if one.activation == "tanh" else nn.ReLU()]
    return nn.Sequential(*row[:-1])


@pytest.mark.parametrize(("sizes", "count"), [((23, 64, 64, 1), 2), ((9, 20, 5), 3), ((4, 2), 1)])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_it_is_as_many_separate_networks_with_their_gradients(sizes, count, activation):
    one, x, action = stack(sizes, count, activation), torch.randn(7, sizes[0] - 2), torch.randn(7, 2)
    weights = torch.rand(count, 7, sizes[-1], generator=generator(2))
    separate = [modules(one, index) for index in range(count)]
    leaf = action.clone().requires_grad_(True)
    expected = torch.stack([each(torch.cat([x, leaf], dim=1)) for each in separate])
    (expected * weights).sum().backward()
    for outputs in (one(x, action), one.learn(x, action)):
        torch.testing.assert_close(outputs, expected.detach())
        assert not outputs.requires_grad
    found = one.gradient(weights)
    one.vector.data.copy_(found)  # its layers are views
    for index, each in enumerate(separate):
        for layer, linear in zip(one.layers(), [m for m in each if isinstance(m, nn.Linear)], strict=True):
            torch.testing.assert_close(layer.weight[index].detach(), linear.weight.grad)
            torch.testing.assert_close(layer.bias[index, 0].detach(), linear.bias.grad)


def test_a_probe_gives_the_gradient_of_the_last_input_through_the_first_networks():
    one, x, action = stack((5, 8, 1), 2), torch.randn(4, 3), torch.randn(4, 2)
    leaf = action.clone().requires_grad_(True)
    expected = modules(one, 0)(torch.cat([x, leaf], dim=1))
    expected.sum().backward()
    torch.testing.assert_close(one.probe(x, action, count=1)[0], expected.detach())
    torch.testing.assert_close(one.gradient(torch.ones(1, 4, 1)), leaf.grad)
    assert one.vector.grad is None


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_tangent_is_the_slope_of_the_outputs_along_the_direction(activation):
    one = stack((5, 8, 3), 2, activation).double()
    x, direction = torch.randn(4, 5).double(), torch.randn(one.vector.shape, generator=generator(1)).double()
    here = one.learn(x)
    tangent, step = one.tangent(direction), 1e-7
    with torch.no_grad():
        one.vector += step * direction
    torch.testing.assert_close(tangent, (one(x) - here) / step, rtol=1e-4, atol=1e-5)


def test_adopted_layers_follow_the_vector_and_it_follows_them():
    one = stack((4, 6, 3), 2)
    body, head, other = nn.Linear(4, 6), nn.Linear(6, 1), nn.Linear(6, 2)
    one.adopt(1, [[body], [head, other]])
    x = torch.randn(5, 4, generator=generator(4))

    def by_modules():
        features = body(x).relu()
        return torch.cat([head(features), other(features)], dim=1).detach()

    torch.testing.assert_close(one(x)[1], by_modules())
    with torch.no_grad():
        one.vector.mul_(0.5)
    torch.testing.assert_close(one(x)[1], by_modules())
    with torch.no_grad():
        other.bias.add_(1.0)
    torch.testing.assert_close(one(x)[1], by_modules())


def test_a_copy_after_a_pass_is_its_own():
    one, x = stack((5, 8, 1), 2), torch.randn(4, 5)
    before, weight = one.learn(x), one.matrices[0][0].clone()
    other = copy.deepcopy(one)
    with torch.no_grad():
        other.vector.zero_()
    assert torch.equal(other(x), torch.zeros(2, 4, 1))
    assert torch.equal(other.matrices[0][0], torch.zeros_like(weight))
    assert torch.equal(one(x), before)
    assert torch.equal(one.matrices[0][0], weight)
