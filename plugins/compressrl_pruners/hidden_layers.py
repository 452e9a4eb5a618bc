"""The hidden layers of a network and what must go together with each of their neurons.

DepGraph (Fang et al. 2023, arXiv 2301.12900; the library torch-pruning) finds it: a neuron's weights and
bias, the columns of every layer that reads it, its partners in residual sums.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch_pruning
from torch import nn

from compressrl.errors import PipelineError, one_line
from compressrl.policy import Policy


@dataclass(frozen=True)
class HiddenLayers:
    """The groups of coupled neurons that other layers read, in the order of the network's layers."""

    graph: torch_pruning.DependencyGraph
    groups: list[torch_pruning.Group]

    def widths(self) -> list[int]:
        return [_root(group).out_features for group in self.groups]

    def remove(self, neurons: Sequence[Sequence[int]]) -> None:
        for group, indices in zip(self.groups, neurons, strict=True):
            layer, before = _root(group), _root(group).out_features
            if indices:
                prune = torch_pruning.prune_linear_out_channels
                self.graph.get_pruning_group(layer, prune, sorted(indices)).prune()
            assert layer.out_features == before - len(indices), (
                "torch-pruning removed another number of neurons"
            )


def hidden_layers(network: nn.Module, observation_size: int) -> HiddenLayers:
    """Trace the network. What reaches its output unread by another layer is an output layer: protected."""
    # The trace follows gradients: frozen parameters and no_grad would hide their layers from it.
    network.requires_grad_(True)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what it does not know; `check` sees what matters
            graph = torch_pruning.DependencyGraph()
            graph.build_dependency(network, example_inputs=torch.zeros(2, observation_size))
            groups = list(graph.get_all_groups(root_module_types=[nn.Linear]))
    except Exception as error:  # many types, for networks of many types
        name = type(network).__name__
        raise PipelineError(f"torch-pruning cannot trace the {name} ({one_line(error)}).") from error
    order = list(network.modules())
    hidden = [group for group in groups if not _reaches_output(graph, group)]
    if not hidden:
        raise PipelineError(
            "Pruning removes neurons of hidden layers, but this network has no hidden linear layer."
        )
    return HiddenLayers(graph, sorted(hidden, key=lambda group: order.index(_root(group))))


def _reaches_output(graph: torch_pruning.DependencyGraph, group: torch_pruning.Group) -> bool:
    """Whether removing these neurons would narrow the network's output."""
    ends = (dep for dep, _ in group if not dep.target.outputs)
    return any(graph.is_out_channel_pruning_fn(dep.handler) for dep in ends)


def _root(group: torch_pruning.Group) -> nn.Linear:
    return cast(nn.Linear, group[0].dep.target.module)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def check(network: nn.Module, policy: Policy) -> None:
    """Run the pruned network once: not every network can be pruned layer by layer."""
    name = type(network).__name__
    try:
        with torch.no_grad():
            shape = tuple(network(torch.zeros(2, policy.observation_size)).shape)
    except Exception as error:  # whatever the network's own code raises
        raise PipelineError(f"The {name} does not run without hidden neurons ({one_line(error)}).") from error
    if shape != (2, policy.action_size):
        raise PipelineError(f"The {name} gives {shape[1:]} actions without hidden neurons.")
