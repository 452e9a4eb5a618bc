"""Ranges for quantized activations."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from compressrl.networks.fake_quantization import fake_quantize
from compressrl_quantizers.calibration import range_finder, set_ranges

METHODS = ("minmax", "percentile", "mse", "entropy")
TAILED = np.concatenate([np.random.default_rng(0).normal(size=20_000), [40.0, -60.0]]).astype(np.float32)


def found(method, x=TAILED, percentile=99.0):
    return range_finder(method, percentile)(x)


def rounding_error(x, low, high):
    scale = (high - low) / 255
    return float(np.mean((np.rint(np.clip(x, low, high) / scale) * scale - x) ** 2))


def test_minmax_takes_all():
    assert found("minmax") == (-60.0, 40.0)


def test_percentile_cuts_both_ends_alike():
    low, high = found("percentile")
    kept = np.mean((low <= TAILED) & (high >= TAILED))
    assert kept == pytest.approx(0.99, abs=1e-3)
    assert np.mean(low > TAILED) == pytest.approx(np.mean(high < TAILED), abs=1e-3)


def test_mse_finds_the_range_of_least_error():
    ends = found("mse")
    shares = [(-60.0 * s, 40.0 * s) for s in np.linspace(0.3, 1, 100)]
    assert rounding_error(TAILED, *ends) <= 1.02 * min(rounding_error(TAILED, *each) for each in shares)
    # One outlier among few values is worth its levels; without outliers nothing is cut.
    assert found("mse", np.linspace(-1, 1, 100)) == (-1.0, 1.0)


def test_entropy_cuts_outliers_and_nothing_else():
    low, high = found("entropy")
    assert -30 < low < 0 < high < 20
    flat = found("entropy", np.linspace(0, 1, 50_000))
    assert flat[1] > 0.9


@pytest.mark.parametrize("method", ["mse", "entropy"])
def test_every_neuron_of_a_wide_layer_is_seen(method):
    """Values are given as rows of states: at even distances the same few neurons would be taken."""
    generator = np.random.default_rng(0)
    states = generator.normal(size=(5000, 256)).astype(np.float32)
    narrow = found(method, states.ravel())[1]
    states[:, 1] *= 20  # whole tails of one neuron, not an outlier
    states[7, 2] = 1e4
    assert found(method, states.ravel())[1] > 5 * narrow


@pytest.mark.parametrize("method", METHODS)
def test_values_that_stand_still(method):
    assert found(method, np.zeros(100, np.float32)) == (0.0, 0.0)


def quantized(method, states):
    """Of a network that acts on its first feature, and the share of an action that its rounding costs."""
    torch.manual_seed(0)
    original = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2), nn.Tanh())
    with torch.no_grad():
        original[0].weight[:, 1] *= 0.001
        student = fake_quantize(copy.deepcopy(original))
        set_ranges(student, original, states, np.ones(2, np.float32), method)
        x = torch.from_numpy(states)
        return student, float((student(x) - original(x)).abs().mean())


def test_action_cuts_rare_large_values_of_a_feature_off_where_the_actions_gain():
    states = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    states[::1000, 1] = 300
    (student, error), (_, whole) = (quantized(method, states) for method in ("action", "minmax"))
    assert float(student[0].high) < 30
    assert error < 0.2 * whole


def test_action_keeps_the_whole_range_where_nothing_is_gained():
    states = np.random.default_rng(0).uniform(-1, 1, size=(5000, 2)).astype(np.float32)
    (student, _), (whole, _) = (quantized(method, states) for method in ("action", "minmax"))
    assert [float(student[i].high) for i in (0, 2)] == [float(whole[i].high) for i in (0, 2)]


@given(
    x=arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e4, 1e4, width=32)),
    method=st.sampled_from(METHODS),
)
def test_a_range_lies_within_the_values_and_zero(x, method):
    low, high = found(method, x)
    assert min(float(x.min()), 0) <= low <= high <= max(float(x.max()), 0)
