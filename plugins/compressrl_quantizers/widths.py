"""How many bits the weights of a quantized network get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from compressrl import options
from compressrl.errors import PipelineError
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
        """The network with fake-quantized linear layers of these widths; changed in place.

        Raises PipelineError where `bits` would change nothing: the network has no layer between its ends.
        """
        network = fake_quantize(network)
        layers = [layer for layer in network.modules() if isinstance(layer, FakeQuantLinear)]
        if len(layers) < 3 and "bits" in options.chosen(self):
            raise PipelineError(
                f"bits={self.bits} is for layers between the first and the last, and this network has none "
                "there. Set first_bits and last_bits."
            )
        for layer in layers[1:-1]:
            layer.set_bits(self.bits)
        layers[0].set_bits(self.first_bits)
        layers[-1].set_bits(self.last_bits)
        return network
