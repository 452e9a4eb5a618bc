"""The numpy reference of integer networks against plain integer arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressrl.networks.integer import IntegerLayer, IntegerNetwork
from compressrl.networks.layers import Activation, Rescale
from compressrl.testing.policies import states, tiny_policy


def layer(seed: int = 0, out: int = 5, inputs: int = 7, **changes) -> IntegerLayer:
    rng = np.random.default_rng(seed)
    values = {
        "w8": rng.integers(-127, 128, (out, inputs)),
        "w_scale": rng.uniform(0.001, 0.01, out),
        "bias": rng.normal(size=out),
        "x_scale": 0.02,
        "x_zero": 100,
    }
    return IntegerLayer(**(values | changes))


def by_hand(layer: IntegerLayer, x: np.ndarray) -> list[float]:
    """Python integers and floats, from the formulas in the module's docstring."""
    scale = np.float32(layer.x_scale)
    x_q = [min(max(round(float(np.float32(v) / scale)) + layer.x_zero, 0), 255) for v in x]
    result = []
    for row, w_scale, bias in zip(layer.w8.tolist(), layer.w_scale, layer.bias, strict=True):
        unit = float(scale * w_scale)
        total = sum((q - layer.x_zero) * w for q, w in zip(x_q, row, strict=True)) + round(float(bias) / unit)
        result.append(unit * total)
    return result


@given(st.integers(0, 2**32), st.integers(0, 255), st.floats(1e-3, 1.0))
def test_a_layer_computes_the_formula(seed: int, x_zero: int, x_scale: float):
    x = np.random.default_rng(seed).normal(0, 3, 7).astype(np.float32)
    one = layer(seed, x_zero=x_zero, x_scale=x_scale)
    assert one(x) == pytest.approx(by_hand(one, x), rel=1e-6)


@given(st.integers(0, 255), st.floats(1e-6, 1e3))
def test_every_level_stands_for_itself(x_zero: int, x_scale: float):
    one = layer(x_zero=x_zero, x_scale=x_scale)
    levels = np.arange(256)
    values = (levels - x_zero).astype(np.float32) * np.float32(x_scale)
    assert np.array_equal(one.quantize_input(values), levels)


def test_inputs_round_half_to_even_and_clip():
    one = layer(x_scale=2.0, x_zero=10)
    x = np.array([1.0, 3.0, -1.0, 5.0, 1e9, -1e9], np.float32)
    assert one.quantize_input(x).tolist() == [10, 12, 10, 12, 255, 0]


@pytest.mark.parametrize("inputs", [500, 100_000])
def test_sums_are_exact_however_large_they_are_on_the_way(inputs: int):
    """Past 2**24 float32 has no odd numbers: there the sums must not be kept in it."""
    w8 = np.full((1, inputs), 127)
    w8[0, inputs // 2 :] = -127
    w8[0, -1] = 0
    one = layer(w8=w8, w_scale=[1.0], bias=[1.0], x_scale=1.0, x_zero=0)
    assert one(np.full(inputs, 255, np.float32)) == 127 * 255 + 1


def test_a_batch_is_its_rows():
    network = tiny_policy("integer").integer
    batch = states(20)
    assert np.array_equal(network(batch), np.stack([network(row) for row in batch]))


def test_a_network_is_inputs_then_layers_then_outputs():
    first = layer(out=4, inputs=3, activation="relu")
    second = layer(1, out=2, inputs=4)
    double = Rescale(np.full(3, 2.0), np.zeros(3))
    network = IntegerNetwork((double,), (first, second), (Activation("tanh"),))
    x = np.array([0.1, -0.2, 0.3], np.float32)
    hidden = np.maximum(by_hand(first, 2 * x), 0).astype(np.float32)
    assert network(x) == pytest.approx(np.tanh(by_hand(second, hidden)), rel=1e-5)


def test_a_layer_owns_its_arrays():
    w8 = np.ones((1, 2), np.int8)
    one = layer(w8=w8, w_scale=[1.0], bias=[0.0])
    w8[:] = 5
    assert one.w8.tolist() == [[1, 1]]
    for array in (one.w8, one.w_scale, one.bias):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w_scale": np.ones(4)}, "shapes"),
        ({"bias": np.ones(6)}, "shapes"),
        ({"w8": np.ones(5)}, "shapes"),
        ({"w8": np.full((5, 7), -128)}, "8 bits"),
        ({"w8": np.full((5, 7), 8), "bits": 4}, "4 bits"),
        ({"bits": 9}, "bits"),
        ({"bits": 1}, "bits"),
        ({"w_scale": np.zeros(5)}, "positive"),
        ({"w_scale": np.full(5, np.inf)}, "positive"),
        ({"x_scale": 0.0}, "positive"),
        ({"x_scale": float("nan")}, "positive"),
        ({"bias": np.full(5, np.nan)}, "positive"),
        ({"x_zero": 256}, "x_zero"),
        ({"x_zero": -1}, "x_zero"),
        ({"activation": "gelu"}, "gelu"),
        ({"bias": np.full(5, 1e9), "w_scale": np.full(5, 1e-3)}, "32 bits"),
    ],
)
def test_what_no_kernel_can_hold_is_refused(changes, message: str):
    with pytest.raises(ValueError, match=message):
        layer(**changes)


def test_the_widest_weights_of_a_width_are_taken():
    assert replace(layer(), w8=np.full((5, 7), 7), bits=4).bits == 4
    assert layer(w8=np.full((5, 7), -127)).w8.min() == -127
