"""Post-training quantization layer by layer: input ranges from visited states, biases that undo the shift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import nn

from compressrl.interfaces import Float32Array
from compressrl.networks.fake_quantization import SHARES, FakeQuantLinear
from compressrl.networks.integer import LEVELS

Method = Literal["action", "minmax", "percentile", "mse", "entropy"]
Range = tuple[float, float]
SAMPLES = 100_000  # values that a search for the best range looks at
BINS, COARSE = 2048, 128
# method=action: cuts that are tried, as shares of the largest value; how often for each layer; and which
# error, in the least one's, is as good.
ACTION_SHARES = [float(share) for share in np.geomspace(0.04, 1.0, 16)]
SWEEPS = 2
AS_GOOD = 1.1


def set_ranges(
    student: nn.Sequential,
    original: nn.Sequential,
    states: Float32Array,
    half_range: Float32Array,
    method: Method = "action",
    percentile: float = 100.0,
) -> None:
    """Set the input ranges of a fake-quantized network, in place; leaves it in eval mode.

    student, original: the same row of layers, with FakeQuantLinear for nn.Linear in the student
    states:            (N, observation_size)
    half_range:        (action_size,) half of the range of an action
    percentile:        share (of 100) of the values kept by method=percentile
    """
    student.eval()
    x = torch.from_numpy(states)
    _set_layer_by_layer(student, x, range_finder(method, percentile))
    if method == "action":
        narrow_ranges(student, original, x, torch.from_numpy(half_range))


@torch.no_grad()
def _set_layer_by_layer(
    student: nn.Sequential, x: torch.Tensor, find_range: Callable[[np.ndarray], Range]
) -> None:
    for layer in student:
        if isinstance(layer, FakeQuantLinear):
            low, high = find_range(x.flatten().numpy())
            layer.set_range(low, high)
        x = layer(x)


@torch.no_grad()
def narrow_ranges(
    student: nn.Sequential, original: nn.Sequential, states: torch.Tensor, half_range: torch.Tensor
) -> None:
    """Cut ranges that hold all values off where the policy's actions change least, layer after layer.

    A few features with rare large values, as contact forces are, would else coarsen all the others. Of the
    cuts that serve about as well the widest is taken: what is beyond it is lost, what is rounded is right
    on average.
    """
    exact = original(states)
    layers = [(i, layer) for i, layer in enumerate(student) if isinstance(layer, FakeQuantLinear)]
    whole = {i: (float(layer.low), float(layer.high)) for i, layer in layers}

    def cut(i: int, layer: FakeQuantLinear, share: float) -> None:
        low, high = whole[i]
        largest = share * max(-low, high)
        layer.set_range(max(low, -largest), min(high, largest))

    for _ in range(SWEEPS):
        for i, layer in layers:
            x, errors = student[:i](states), {}
            for share in ACTION_SHARES:
                cut(i, layer, share)
                errors[share] = float(((student[i:](x) - exact) / half_range).square().mean())
            as_good = [share for share, error in errors.items() if error <= AS_GOOD * min(errors.values())]
            cut(i, layer, max(as_good, default=1.0))


@torch.no_grad()
def correct_biases(student: nn.Sequential, original: nn.Sequential, states: Float32Array) -> None:
    """Move every bias so that the layer's mean output is that of the original, in place.

    Nagel et al. 2019, arXiv 1906.04721, §4.2, with the means taken from the states.
    """
    exact = rounded = torch.from_numpy(states)
    for layer, twin in zip(student, original, strict=True):
        exact, before = twin(exact), rounded
        rounded = layer(before)
        if isinstance(layer, FakeQuantLinear):
            layer.bias.add_((exact - rounded).mean(dim=0))
            rounded = layer(before)


def range_finder(method: Method, percentile: float) -> Callable[[np.ndarray], Range]:
    """How a range (low, high) follows from the values that reach a layer.

    minmax:     all of them
    action:     all of them, to be narrowed
    percentile: this share (of 100) of them between the ends, the rest cut off at both alike
    mse:        the shrunken range whose rounding and clipping cost the least squared error together
    entropy:    the shrunken range whose levels keep most of the distribution (Kullback-Leibler divergence
                of the clipped histogram from its coarse copy; Migacz 2017, "8-bit inference with TensorRT")
    """
    tail = (100 - percentile) / 200
    finders: dict[Method, Callable[[np.ndarray], Range]] = {
        "minmax": _ends,
        "action": _ends,
        "percentile": lambda x: (float(np.quantile(x, tail)), float(np.quantile(x, 1 - tail))),
        "mse": lambda x: _best_share(x, _squared_error),
        "entropy": lambda x: _best_share(x, _divergence),
    }
    return finders[method]


def _ends(x: np.ndarray) -> Range:
    return float(x.min()), float(x.max())


def _sampled(x: np.ndarray) -> np.ndarray:
    """So many at random: at even distances in rows of states, they would be of a few neurons only."""
    return x if len(x) <= SAMPLES else np.random.default_rng(0).choice(x, SAMPLES)


def _best_share(x: np.ndarray, cost: Callable[[np.ndarray, float, float], float]) -> Range:
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    if low == high:
        return low, high
    ranges, sample = [(low * share, high * share) for share in SHARES], _sampled(x)
    return min(ranges, key=lambda ends: cost(sample, *ends))


def _squared_error(x: np.ndarray, low: float, high: float) -> float:
    scale = (high - low) / LEVELS
    rounded = np.rint(np.clip(x, low, high) / scale) * scale
    return float(np.mean((rounded - x) ** 2))


def _divergence(x: np.ndarray, low: float, high: float) -> float:
    """KL(clipped values, the same on 128 levels), nats."""
    counts, _ = np.histogram(np.clip(x, low, high), BINS, (low, high))
    whole, _ = np.histogram(x, BINS, (low, high))
    kept = whole.reshape(COARSE, -1)
    occupied = (kept > 0).sum(axis=1, keepdims=True)
    coarse = np.where(kept > 0, kept.sum(axis=1, keepdims=True) / np.maximum(occupied, 1), 0).ravel()
    p, q = counts / counts.sum(), coarse / max(coarse.sum(), 1)
    # What clipping moved to an end bin that was empty has no counterpart: count it as a whole level's worth.
    q = np.where((p > 0) & (q == 0), 1 / (COARSE * len(x)), q)
    present = p > 0
    return float(np.sum(p[present] * np.log(p[present] / q[present])))
