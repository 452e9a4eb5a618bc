"""Post-training quantization layer by layer: input ranges from visited states, biases that undo the shift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import nn

from compressrl.networks.fake_quantization import SHARES, FakeQuantLinear
from compressrl.networks.integer import LEVELS

Method = Literal["minmax", "percentile", "mse", "entropy"]
Range = tuple[float, float]
SAMPLES = 100_000  # values that a range is chosen by
BINS, COARSE = 2048, 128


@torch.no_grad()
def calibrate(
    student: nn.Sequential,
    original: nn.Sequential,
    states: torch.Tensor,
    find_range: Callable[[np.ndarray], Range],
    *,
    bias_correction: bool,
) -> None:
    """Set the ranges of a fake-quantized network, in place, by what reaches each layer.

    student, original: the same row of layers, with FakeQuantLinear for nn.Linear in the student
    states:            (N, observation_size) float32
    bias_correction:   move every bias so that the layer's mean output is that of the original (Nagel et al.
                       2019, arXiv 1906.04721, §4.2, with the means taken from the states)
    """
    student.eval()
    exact = rounded = states
    for layer, twin in zip(student, original, strict=True):
        if isinstance(layer, FakeQuantLinear):
            low, high = find_range(_sampled(rounded))
            layer.low.fill_(min(low, 0.0))
            layer.high.fill_(max(high, 0.0))
            layer.batches.fill_(1)
        exact, before = twin(exact), rounded
        rounded = layer(before)
        if isinstance(layer, FakeQuantLinear) and bias_correction:
            layer.bias.add_((exact - rounded).mean(dim=0))
            rounded = layer(before)


def range_finder(method: Method, percentile: float) -> Callable[[np.ndarray], Range]:
    """How a range (low, high) follows from the values that reach a layer.

    minmax:     all of them
    percentile: this share (of 100) of them between the ends, the rest cut off at both alike
    mse:        the shrunken range whose rounding and clipping cost the least squared error together
    entropy:    the shrunken range whose levels keep most of the distribution (Kullback-Leibler divergence
                of the clipped histogram from its coarse copy; Migacz 2017, "8-bit inference with TensorRT")
    """
    tail = (100 - percentile) / 200
    finders: dict[Method, Callable[[np.ndarray], Range]] = {
        "minmax": lambda x: (float(x.min()), float(x.max())),
        "percentile": lambda x: (float(np.quantile(x, tail)), float(np.quantile(x, 1 - tail))),
        "mse": lambda x: _best_share(x, _squared_error),
        "entropy": lambda x: _best_share(x, _divergence),
    }
    return finders[method]


def _sampled(x: torch.Tensor) -> np.ndarray:
    flat = x.flatten()
    sampled: np.ndarray = flat[:: max(1, len(flat) // SAMPLES)].numpy()
    return sampled


def _best_share(x: np.ndarray, cost: Callable[[np.ndarray, float, float], float]) -> Range:
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    if low == high:
        return low, high
    ranges = [(low * share, high * share) for share in SHARES]
    return min(ranges, key=lambda ends: cost(x, *ends))


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
