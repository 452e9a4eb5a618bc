"""A complete plugin: a compressor that rounds the weights of a policy to few bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from compressrl import Option, PluginEntry, hookimpl

if TYPE_CHECKING:
    from compressrl import Lab, Policy


@hookimpl
def compressrl_compressors() -> list[PluginEntry]:
    """Tell compressrl what there is: name, one line for `list-plugins`, and where the class is."""
    return [PluginEntry("round", "Rounds weights to few bits", "compressrl_rounding:WeightRounding")]


@dataclass(frozen=True)
class WeightRounding:
    """Rounds each row of each weight matrix to evenly spaced levels, symmetric about zero.

    The network stays in float form: this shows what the rounding costs in return, not what it saves.
    """

    bits: Annotated[int, Option("bits of a weight", low=2, high=8)] = 4

    def compress(self, policy: Policy, lab: Lab) -> Policy:
        """Return a new policy; `policy.network` is a copy that may be changed."""
        import torch  # here, so that `compressrl list-plugins` need not wait for it

        network, largest = policy.network, 2 ** (self.bits - 1) - 1
        with torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, torch.nn.Linear):
                    scale = layer.weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / largest
                    layer.weight.copy_((layer.weight / scale).round() * scale)
        return policy.with_network(network, f"round ({self.bits} bits a weight, one scale a row)")
