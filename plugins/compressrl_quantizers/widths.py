"""How many bits the weights of a quantized network get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from compressrl.networks.fake_quantization import FakeQuantLinear, fake_quantize
from compressrl.options import Option


@dataclass(frozen=True, kw_only=True)
class WidthOptions:
    """Widths of the weights: few bits in the middle cost little where the first and last layer keep 8.

    That is the setting of LSQ (arXiv 1902.08153), and of Kresse & Lampert, whose cores hold with 3 bits.
    Activations have 8 bits.
    """

    bits: Annotated[int, Option("width of a weight between the first and last layer", low=2, high=8)] = 8
    first_bits: Annotated[int, Option("width of a weight in the first layer", low=2, high=8)] = 8
    last_bits: Annotated[int, Option("width of a weight in the last layer", low=2, high=8)] = 8

    def fake_quantized(self, network: nn.Module) -> nn.Module:
        """The network with fake-quantized linear layers of these widths; changed in place."""
        network = fake_quantize(network, self.bits)
        layers = [layer for layer in network.modules() if isinstance(layer, FakeQuantLinear)]
        layers[0].set_bits(self.first_bits)
        layers[-1].set_bits(self.last_bits)
        return network
