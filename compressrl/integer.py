"""The integer form of a quantized network: one description that feeds every writer.

Symbols of a layer, as in Jacob et al. 2018 (arXiv 1712.05877), eq. 1-4:

    x_q = clip(round(x / x_scale) + x_zero, 0, 255)                   uint8 activations, per tensor
    y   = x_scale * w_scale * sum((x_q - x_zero) * w8) + bias         int8 weights, symmetric, per row

followed by the activation in float. `inputs` (standardisation) and `outputs` (tanh, action scaling) stay
float: quantizing the pre-tanh output raises the mean action error about twentyfold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressrl.layers import ACTIVATIONS, Array, Layer, forward


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One quantized linear layer and its activation.

    w8:      (out, in) int8, within ±(2**(bits-1) - 1)
    w_scale: (out,) float32 > 0
    bias:    (out,) float32
    x_scale: float > 0, of this layer's input
    x_zero:  0..255, of this layer's input
    activation: name in `compressrl.layers.ACTIVATIONS`, or None
    """

    w8: NDArray[np.int8]
    w_scale: Array
    bias: Array
    x_scale: float
    x_zero: int
    activation: str | None = None
    bits: int = 8

    def quantize_input(self, x: Array) -> NDArray[np.uint8]:
        # Dividing, not multiplying by the inverse, and rounding half to even: what ONNX Runtime does.
        levels = np.rint(x / np.float32(self.x_scale)) + self.x_zero
        return np.clip(levels, 0, 255).astype(np.uint8)

    def __call__(self, x: Array) -> Array:
        centred = self.quantize_input(x).astype(np.int32) - self.x_zero
        # float64 holds every int32 product sum exactly and, unlike int32, has a fast matrix product.
        sums = centred.astype(np.float64) @ self.w8.T.astype(np.float64)
        y: Array = sums.astype(np.float32) * (np.float32(self.x_scale) * self.w_scale) + self.bias
        return ACTIVATIONS[self.activation](y) if self.activation else y


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """(batch, observation_size) float32 -> (batch, action_size) float32 through integer layers."""

    inputs: tuple[Layer, ...]
    layers: tuple[IntegerLayer, ...]
    outputs: tuple[Layer, ...]

    def __call__(self, x: Array) -> Array:
        x = forward(self.inputs, x)
        for layer in self.layers:
            x = layer(x)
        return forward(self.outputs, x)
