"""Layers as plain data: execution in numpy, and the way to JSON and arrays and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressrl.networks import layers
from compressrl.networks.layers import ACTIVATIONS, Activation, Clip, Layer, Linear, Rescale, Standardize

EXTREME = np.array([-np.inf, -1e30, -200, -1, -0.0, 0, 1e-30, 1, 200, 1e30, np.inf], np.float32)


def rows(rng: np.random.Generator, size: int, clip: float) -> tuple[Layer, ...]:
    """One layer of each kind, (size,) -> (size + 1,)."""
    return (
        Standardize(rng.normal(size=size), rng.uniform(0.1, 2, size), clip),
        Linear(rng.normal(size=(size + 1, size)), rng.normal(size=size + 1)),
        Activation("tanh"),
        Rescale(rng.uniform(0.1, 2, size + 1), rng.normal(size=size + 1)),
        Clip(np.full(size + 1, -1), np.full(size + 1, 1.5)),
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([0.5, 10.0, float("inf")]))
def test_layers_survive_the_way_through_json(seed, size, clip):
    row = rows(np.random.default_rng(seed), size, clip)
    document, arrays = layers.describe(row)
    text = json.dumps(document, allow_nan=False)
    again = layers.restore(json.loads(text), arrays)
    assert [type(layer) for layer in again] == [type(layer) for layer in row]
    x = np.random.default_rng(seed).normal(size=(4, size)).astype(np.float32)
    np.testing.assert_array_equal(layers.forward(again, x), layers.forward(row, x))
    assert layers.describe(again)[0] == document


def test_what_each_layer_computes():
    x = np.array([[1.0, -4.0]], np.float32)
    assert Standardize(np.array([1, 0]), np.array([2, 0.5]), 5)(x).tolist() == [[0, -5]]
    assert Standardize(np.array([1, 0]), np.array([2, 0.5]))(x).tolist() == [[0, -8]]
    assert Linear(np.array([[1, 2], [3, 4], [0, 1]]), np.array([0, 0, 0.5]))(x).tolist() == [[-7, -13, -3.5]]
    assert Rescale(np.array([2, 3]), np.array([0.5, 1]))(x).tolist() == [[2.5, -11]]
    assert Clip(np.array([-1, -1]), np.array([0.5, 3]))(x).tolist() == [[0.5, -1]]
    assert Activation("relu")(x).tolist() == [[1, 0]]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_stay_float32_without_overflow(name):
    with np.errstate(over="raise", divide="raise"):
        y = Activation(name)(EXTREME[1:-1])
    assert y.dtype == np.float32
    assert np.isfinite(y).all()


@given(st.integers(1, 6), st.integers(1, 6))
def test_every_layer_gives_float32_whatever_its_arrays_were(size, batch):
    rng = np.random.default_rng(size)
    x = rng.normal(size=(batch, size)).astype(np.float32)
    for layer in rows(rng, size, 3.0):
        x = layer(x)
        assert x.dtype == np.float32
    assert x.shape == (batch, size + 1)


def test_a_single_observation_is_one_of_a_batch():
    row = rows(np.random.default_rng(0), 3, 2.0)
    x = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(
        np.stack([layers.forward(row, one) for one in x]), layers.forward(row, x), rtol=1e-6
    )


def test_no_layers_change_nothing():
    assert layers.forward((), EXTREME) is EXTREME
    assert layers.restore(*layers.describe(())) == ()


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ([{"kind": "unheard of"}], KeyError),
        ([{}], KeyError),
        ([{"kind": "activation", "name": "unheard of"}], ValueError),
        ([{"kind": "linear"}], TypeError),
        ([{"kind": "activation", "name": "relu", "more": 1}], TypeError),
    ],
)
def test_restore_refuses_what_it_does_not_know(document, error):
    with pytest.raises(error):
        layers.restore(document, {})
