"""Tiny policies in each form that a policy can have."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from compressrl.networks import layers
from compressrl.networks.integer import IntegerLayer, IntegerNetwork
from compressrl.policy import Policy
from compressrl.testing.environments import ACTION_HIGH as HIGH
from compressrl.testing.environments import ACTION_LOW as LOW
from compressrl.testing.environments import LIMIT, TINY

if TYPE_CHECKING:
    from torch import nn

TinyForm: TypeAlias = Literal["network", "foreign", "integer", "graph"]
FORMS: tuple[TinyForm, ...] = ("network", "foreign", "integer", "graph")
OBSERVATIONS, ACTIONS = 3, 2


def tiny_policy(
    form: TinyForm = "network", *, seed: int = 0, hidden: Sequence[int] = (32, 32), activation: str = "relu"
) -> Policy:
    """An untrained policy for `compressrl.testing:Tiny-v0`: standardisation, MLP, tanh, action scaling.

    form:       network; foreign (a torch module of unknown types, with a residual connection);
                integer (8 bits); graph (the ONNX file of the float network)
    seed:       of its weights
    hidden:     widths of the hidden layers
    activation: name in `compressrl.networks.layers.ACTIVATIONS`
    """
    row = _layers(np.random.default_rng(seed), hidden, activation)
    blank = Policy(TINY, "", OBSERVATIONS, LOW, HIGH, ())
    if form == "foreign":
        return blank.with_network(_residual(row), f"a tiny residual network, seed {seed}")
    if form == "integer":
        return blank.with_integer(quantized(row), f"a tiny integer network, seed {seed}")
    policy = Policy(TINY, "", OBSERVATIONS, LOW, HIGH, (f"a tiny network, seed {seed}",), layers=row)
    return policy if form == "network" else policy.with_graph(policy.to_onnx(), "written as ONNX")


def states(count: int = 50, *, spread: float = 1.0, seed: int = 0) -> layers.Array:
    """Observations (count, 3) float32 of the tiny environment, within its limits for spread <= 1."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, OBSERVATIONS)).astype(np.float32) * np.float32(
        LIMIT * spread
    )


def _layers(rng: np.random.Generator, hidden: Sequence[int], activation: str) -> tuple[layers.Layer, ...]:
    mean, std = rng.uniform(-0.2, 0.2, OBSERVATIONS), rng.uniform(0.5, 1.5, OBSERVATIONS)
    row: list[layers.Layer] = [layers.Standardize(mean.astype(np.float32), std.astype(np.float32), 10.0)]
    for inputs, outputs in pairwise([OBSERVATIONS, *hidden, ACTIONS]):
        weight = rng.normal(0, 1 / np.sqrt(inputs), (outputs, inputs)).astype(np.float32)
        row += [layers.Linear(weight, rng.normal(0, 0.1, outputs).astype(np.float32))]
        row += [layers.Activation(activation)]
    scale, offset = ((HIGH - LOW) / 2).astype(np.float32), ((HIGH + LOW) / 2).astype(np.float32)
    return (*row[:-1], layers.Activation("tanh"), layers.Rescale(scale, offset))


def quantized(row: tuple[layers.Layer, ...]) -> IntegerNetwork:
    """Round the linear layers to 8 bits, with input ranges taken on random states (min and max)."""
    first = next(i for i, layer in enumerate(row) if isinstance(layer, layers.Linear))
    last = max(i for i, layer in enumerate(row) if isinstance(layer, layers.Linear))
    integer, x = [], layers.forward(row[:first], states(1000))
    for index in range(first, last + 1):
        layer = row[index]
        if isinstance(layer, layers.Linear):
            after = row[index + 1]
            activation = after.name if isinstance(after, layers.Activation) and index < last else None
            integer.append(_quantized(layer, float(x.min()), float(x.max()), activation))
        x = layer(x)
    return IntegerNetwork(row[:first], tuple(integer), row[last + 1 :])


def _quantized(layer: layers.Linear, low: float, high: float, activation: str | None) -> IntegerLayer:
    w_scale = np.abs(layer.weight).max(axis=1) / np.float32(127)
    x_scale = (max(high, 0.0) - min(low, 0.0)) / 255
    return IntegerLayer(
        w8=np.rint(layer.weight / w_scale[:, None]).astype(np.int8),
        w_scale=w_scale,
        bias=layer.bias,
        x_scale=x_scale,
        x_zero=round(-min(low, 0.0) / x_scale),
        activation=activation,
    )


def _residual(row: tuple[layers.Layer, ...]) -> nn.Module:
    from compressrl.testing.foreign import ResidualNetwork

    weights = [layer for layer in row if isinstance(layer, layers.Linear)]
    return ResidualNetwork([(layer.weight, layer.bias) for layer in weights], LOW, HIGH)
