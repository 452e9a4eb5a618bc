"""Torch modules and plain layers compute the same, and turn into each other without loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from compressrl.networks import layers, modules
from compressrl.networks.layers import ACTIVATIONS, Activation, Clip, Layer, Linear, Rescale, Standardize

KINDS = ("standardize", "linear", "rescale", "clip", *ACTIVATIONS)


def make(kind: str, size: int, rng: np.random.Generator) -> Layer:
    """A random layer (size,) -> (size,)."""
    values = [rng.normal(size=size) for _ in range(2)]
    match kind:
        case "standardize":
            return Standardize(values[0], rng.uniform(0.1, 2, size), float(rng.choice([1.5, np.inf])))
        case "linear":
            return Linear(rng.normal(size=(size, size)), values[0])
        case "rescale":
            return Rescale(*values)
        case "clip":
            return Clip(np.minimum(*values), np.maximum(*values))
    return Activation(kind)


def assert_same(row: tuple[Layer, ...], module: nn.Module, size: int, rng: np.random.Generator) -> None:
    x = rng.normal(0, 3, size=(7, size)).astype(np.float32)
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, layers.forward(row, x), rtol=1e-4, atol=1e-5)


@given(st.lists(st.sampled_from(KINDS), max_size=6), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_torch_and_numpy_agree_and_the_way_back_is_exact(kinds, size, seed):
    rng = np.random.default_rng(seed)
    row = tuple(make(kind, size, rng) for kind in kinds)
    module = modules.to_module(row)
    assert_same(row, module, size, rng)
    again = modules.from_module(module)
    assert again is not None
    assert layers.describe(again)[0] == layers.describe(row)[0]
    for name, array in layers.describe(row)[1].items():
        np.testing.assert_array_equal(layers.describe(again)[1][name], array)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_alone(kind):
    rng = np.random.default_rng(0)
    row = (make(kind, 4, rng),)
    assert_same(row, modules.to_module(row), 4, rng)


def test_torch_knows_every_activation():
    assert modules.ACTIVATION_MODULES.keys() == ACTIVATIONS.keys()


def test_a_module_has_weights_of_its_own():
    row = (Linear(np.ones((2, 2)), np.zeros(2)),)
    module = modules.to_module(row)
    assert not module.training
    with torch.no_grad():
        module[0].weight.zero_()
    assert row[0].weight.tolist() == [[1, 1], [1, 1]]
    described = modules.from_module(module)
    with torch.no_grad():
        module[0].bias.fill_(9)
    assert described is not None
    assert described[0].bias.tolist() == [0, 0]


def test_nested_rows_identities_and_missing_biases_are_understood():
    module = nn.Sequential(
        nn.Sequential(nn.Linear(3, 4, bias=False), nn.Identity(), nn.Sequential()), nn.ReLU(), nn.Linear(4, 2)
    )
    row = modules.from_module(module)
    assert row is not None
    assert [layer.kind for layer in row] == ["linear", "activation", "linear"]
    assert_same(row, module, 3, np.random.default_rng(0))
    assert modules.from_module(module.double()) is not None


class DoublingLinear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class DoublingClip(modules.Clip):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Reversed(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.flip(-1))


def hooked(module: nn.Module, before: bool = False) -> nn.Module:
    if before:
        module.register_forward_pre_hook(lambda _, args: (2 * args[0],))
    else:
        module.register_forward_hook(lambda _module, _args, output: 2 * output)
    return module


@pytest.mark.parametrize(
    "module",
    [
        nn.LeakyReLU(),
        nn.ELU(alpha=0.5),
        DoublingLinear(2, 2),
        DoublingClip(torch.zeros(2), torch.ones(2)),
        Reversed(nn.Linear(2, 2)),
        hooked(nn.Linear(2, 2)),
        hooked(nn.Tanh(), before=True),
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_what_may_compute_something_else_is_not_described(module):
    assert modules.from_module(module) is None
    assert modules.from_module(nn.Sequential(nn.ReLU(), module)) is None
    assert modules.from_module(nn.Sequential(nn.Sequential(module), nn.ReLU())) is None


def test_a_hook_on_the_whole_row_counts():
    assert modules.from_module(hooked(nn.Sequential(nn.ReLU()))) is None


def test_a_pruning_mask_is_in_the_described_weights():
    module = nn.Sequential(nn.Linear(3, 2))
    prune.l1_unstructured(module[0], "weight", amount=3)
    row = modules.from_module(module)
    assert row is not None
    assert (row[0].weight == 0).sum() == 3
    assert_same(row, module, 3, np.random.default_rng(0))
