"""Observations on one scale, at no cost: the standardisation is undone in the first layer's weights."""

from __future__ import annotations

import torch
from torch import nn

from compressrl.errors import PipelineError
from compressrl.interfaces import Float32Array
from compressrl.networks.modules import IGNORED_STD, Standardize
from compressrl.policy import Policy

# A feature that stands still has no scale of its own; it keeps its unit.
SMALLEST_STD = 1e-6


def standardized(policy: Policy, states: Float32Array) -> list[nn.Module]:
    """The layers of a float policy behind a standardisation by these states, its inverse in the first layer.

    The function is the same. One uint8 range for all observations then suits each of them. A policy that
    standardises its observations already is left as it is.
    """
    network = policy.network
    if not isinstance(network, nn.Sequential) or not any(isinstance(layer, nn.Linear) for layer in network):
        raise PipelineError(
            f"This quantizer takes a row of linear layers, and the network is a {type(network).__name__}. "
            "ptdq:preset=paper and ptsq:preset=paper take any."
        )
    first = network[0]
    if type(first) is not nn.Linear:
        return list(network)
    x = torch.from_numpy(states).double()
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    std = torch.where(std < SMALLEST_STD, 1.0, std)
    with torch.no_grad():
        weight = first.weight.double()
        # What the policy ignores must not widen the range of the others.
        std[~weight.any(dim=0)] = IGNORED_STD
        first.bias.copy_(first.bias + weight @ mean)
        first.weight.copy_(weight * std)
    return [Standardize(mean.float(), std.float()), *network]
