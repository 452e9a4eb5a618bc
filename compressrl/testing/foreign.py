"""A torch module that no policy file can describe layer by layer, as users bring them along."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from compressrl.interfaces import Float32Array


class ResidualNetwork(nn.Module):
    """Linear layers with a skip connection wherever sizes allow, tanh, and scaling to [low, high]."""

    low: torch.Tensor
    high: torch.Tensor

    def __init__(
        self, weights: Sequence[tuple[Float32Array, Float32Array]], low: Float32Array, high: Float32Array
    ) -> None:
        super().__init__()
        self.linears = nn.ModuleList(_linear(weight, bias) for weight, bias in weights)
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("high", torch.tensor(high))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        x = observation
        for layer in list(self.linears)[:-1]:
            y = torch.relu(layer(x))
            x = x + y if x.shape == y.shape else y
        share = (torch.tanh(self.linears[-1](x)) + 1) / 2
        return self.low + (self.high - self.low) * share


def _linear(weight: Float32Array, bias: Float32Array) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])  # type: ignore[no-untyped-call]
    layer.weight, layer.bias = nn.Parameter(torch.tensor(weight)), nn.Parameter(torch.tensor(bias))
    return layer
