"""The integer form of a quantized network: one description that feeds every writer.

Symbols of a layer, as in Jacob et al. 2018 (arXiv 1712.05877), eq. 1-4:

    x_q = clip(round(x / x_scale) + x_zero, 0, 255)                   uint8 activations, per tensor
    b32 = round(bias / (x_scale * w_scale))                           int32
    y   = x_scale * w_scale * (sum((x_q - x_zero) * w8) + b32)        int8 weights, symmetric, per row

followed by the activation in float. `inputs` (standardisation) and `outputs` (tanh, action scaling) stay
float: quantizing the pre-tanh output raises the mean action error about twentyfold.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressrl.networks.layers import ACTIVATIONS, Array, Layer, forward, owned

LEVELS = 255  # highest level of an activation


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One quantized linear layer and its activation. Raises ValueError on values out of these ranges.

    w8:      (out, in) int8, within ±(2**(bits-1) - 1)
    w_scale: (out,) float32 > 0
    bias:    (out,) float32, less than 2**31 in units of x_scale * w_scale
    x_scale: float > 0, of this layer's input
    x_zero:  0..255, of this layer's input
    activation: name in `compressrl.networks.layers.ACTIVATIONS`, or None
    bits:    2..8, width of a weight
    """

    w8: NDArray[np.int8]
    w_scale: Array
    bias: Array
    x_scale: float
    x_zero: int
    activation: str | None = None
    bits: int = 8

    def __post_init__(self) -> None:
        w8 = np.array(self.w8, dtype=np.int8)
        w8.setflags(write=False)
        object.__setattr__(self, "w8", w8)
        for name in ("w_scale", "bias"):
            object.__setattr__(self, name, owned(getattr(self, name)))
        self._check()

    def _check(self) -> None:
        rows = (len(self.w8),)
        if self.w8.ndim != 2 or self.w_scale.shape != rows or self.bias.shape != rows:
            raise ValueError(f"shapes {self.w8.shape}, {self.w_scale.shape}, {self.bias.shape} do not fit")
        if not 2 <= self.bits <= 8 or np.abs(self.w8.astype(int)).max(initial=0) >= 2 ** (self.bits - 1):
            raise ValueError(f"the weights do not fit in {self.bits} bits (2 to 8, symmetric)")
        scales = np.append(self.w_scale, np.float32(self.x_scale))
        if not (np.isfinite(scales).all() and (scales > 0).all() and np.isfinite(self.bias).all()):
            raise ValueError("scales must be positive and finite, and biases finite")
        if not 0 <= self.x_zero <= LEVELS:
            raise ValueError(f"x_zero is {self.x_zero}, not within 0..{LEVELS}")
        if np.abs(self.bias.astype(np.float64) / self.product_scale).max(initial=0) >= 2**31 - 1:
            raise ValueError("a bias does not fit in 32 bits: raise w_scale where weights are tiny beside it")
        if self.activation is not None and self.activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {self.activation!r}")

    @functools.cached_property
    def product_scale(self) -> Array:
        """(out,) What one unit of the integer sum is worth."""
        scale: Array = np.float32(self.x_scale) * self.w_scale
        return scale

    @functools.cached_property
    def b32(self) -> NDArray[np.int32]:
        """(out,) The bias in units of the integer sum."""
        return np.rint(self.bias.astype(np.float64) / self.product_scale).astype(np.int32)

    @functools.cached_property
    def _columns(self) -> NDArray[Any]:
        """w8 transposed, in the smallest float type that holds every sum exactly: products are fast in it."""
        largest_sum = LEVELS * 127 * self.w8.shape[1]
        return self.w8.T.astype(np.float32 if largest_sum < 2**24 else np.float64)

    def quantize_input(self, x: Array) -> NDArray[np.uint8]:
        # Dividing, not multiplying by the inverse, and rounding half to even: what ONNX Runtime does.
        levels = np.rint(x / np.float32(self.x_scale)) + self.x_zero
        clipped: NDArray[np.uint8] = np.clip(levels, 0, LEVELS).astype(np.uint8)
        return clipped

    def __call__(self, x: Array) -> Array:
        centred = self.quantize_input(x).astype(self._columns.dtype) - self.x_zero
        sums = (centred @ self._columns).astype(np.float64) + self.b32
        y: Array = sums.astype(np.float32) * self.product_scale
        return ACTIVATIONS[self.activation](y) if self.activation else y


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """(batch, observation_size) float32 -> (batch, action_size) float32 through integer layers.

    Calling it is the reference that every writer (ONNX, C) must agree with.
    """

    inputs: tuple[Layer, ...]
    layers: tuple[IntegerLayer, ...]
    outputs: tuple[Layer, ...]

    def __call__(self, x: Array) -> Array:
        x = forward(self.inputs, x)
        for layer in self.layers:
            x = layer(x)
        return forward(self.outputs, x)
