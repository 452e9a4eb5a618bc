"""Structured magnitude pruning: hidden neurons with small weights are removed, the network gets narrower.

DepGraph (Fang et al. 2023, arXiv 2301.12900; the library torch-pruning) finds what must go together with a
neuron: its weights and bias, the columns of every layer that reads it, its partners in residual sums.
Which neurons go is decided here, because the library's own pruner leaves a layer as it is, without a word,
where a ratio rounds to all of its neurons or a global ranking picks all of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, ClassVar, Literal, cast

import torch
import torch_pruning
from torch import nn

from compressrl.errors import PipelineError, one_line
from compressrl.lab import Lab
from compressrl.options import Option
from compressrl.policy import Form, Policy


@dataclass(frozen=True)
class MagnitudePruning:
    """Pruning by the p-norm of a neuron's weights.

    importance "group" is torch-pruning's default: the mean of the norms of a neuron's incoming and
    outgoing weights, relative to the layer's mean. A neuron that nobody listens to goes first, however
    large its own weights. (The study arXiv 2407.04803 prunes with DepGraph too; whether it kept this
    default we do not know.)
    "row" is the textbook norm of the incoming weights alone (Li et al. 2017, arXiv 1608.08710).
    Both sum |w|^p over weights (no bias, no root), which ranks like the norm.
    """

    ratio: Annotated[float, Option("share of the hidden neurons to remove", low=0.05, high=0.95)] = 0.5
    scope: Annotated[
        Literal["layer", "global"],
        Option("rank neurons in each layer (the share of each), or all together (the share of the whole)"),
    ] = "layer"
    importance: Annotated[
        Literal["group", "row"], Option("weights that count: incoming and outgoing, or incoming only")
    ] = "group"
    round_to: Annotated[int, Option("keep a multiple of this many neurons in each layer", low=1)] = 1

    p: ClassVar[int]
    takes: ClassVar[tuple[Form, ...]] = ("network",)
    gives: ClassVar[Form] = "network"

    def compress(self, policy: Policy, lab: Lab) -> Policy:
        """Return the policy with a narrower float network; its output layer keeps its size.

        Raises PipelineError for a quantized policy, for a network without hidden linear layers or that
        torch-pruning cannot trace, and where there is nothing to remove.
        """
        network = policy.network
        parameters, hidden = _parameters(network), _hidden_layers(network, policy.observation_size)
        removed = self._choose([self._scores(group) for group in hidden.groups])
        if not any(removed):
            raise PipelineError(
                f"l{self.p}: nothing to remove from hidden layers of {hidden.widths()} neurons with "
                f"ratio={self.ratio:g},round_to={self.round_to}."
            )
        widths = hidden.widths()
        hidden.remove(removed)
        _check(network, policy)
        change = f"{parameters} -> {_parameters(network)} parameters, hidden {widths} -> {hidden.widths()}"
        return policy.with_network(network, f"l{self.p} ({self._settings()}: {change})")

    def _settings(self) -> str:
        """The ratio, and every other option that is not at its default."""
        other = [f for f in fields(self) if f.name != "ratio" and getattr(self, f.name) != f.default]
        return ", ".join([f"ratio {self.ratio:g}", *(f"{f.name} {getattr(self, f.name)}" for f in other)])

    def _scores(self, group: torch_pruning.Group) -> torch.Tensor:
        """Importance (neurons,) of a layer's neurons."""
        reduction, normalizer = ("mean", "mean") if self.importance == "group" else ("first", None)
        score = torch_pruning.importance.MagnitudeImportance(self.p, reduction, normalizer)
        return cast(torch.Tensor, score(group))

    def _choose(self, scores: Sequence[torch.Tensor]) -> list[list[int]]:
        """Neurons to remove from each layer, the least important first; every layer keeps one at least."""
        if self.scope == "layer":
            chosen = [_lowest(layer, self._count(len(layer))) for layer in scores]
        else:
            spared = [layer.index_fill(0, layer.argmax(), math.inf) for layer in scores]
            ranked = _lowest(torch.cat(spared), self._count(sum(map(len, scores)), len(scores)))
            chosen = _by_layer(ranked, [len(layer) for layer in scores])
        return [
            neurons[: max(len(neurons) - self._surplus(len(layer) - len(neurons)), 0)]
            for layer, neurons in zip(scores, chosen, strict=True)
        ]

    def _count(self, neurons: int, layers: int = 1) -> int:
        """How many of these to remove: `ratio` of them, rounded up; one of each layer stays."""
        # 20 * 0.55 is 11.000000000000002, and 11 are meant.
        return min(math.ceil(neurons * self.ratio - 1e-9), neurons - layers)

    def _surplus(self, kept: int) -> int:
        """How many more must be kept for a multiple of `round_to`."""
        return -kept % self.round_to


@dataclass(frozen=True)
class L1Pruning(MagnitudePruning):
    """Pruning by the L1 norm."""

    p: ClassVar[int] = 1


@dataclass(frozen=True)
class L2Pruning(MagnitudePruning):
    """Pruning by the L2 norm."""

    p: ClassVar[int] = 2


@dataclass(frozen=True)
class _HiddenLayers:
    """The groups of coupled neurons that other layers read, in the order of the network's layers."""

    graph: torch_pruning.DependencyGraph
    groups: list[torch_pruning.Group]

    def widths(self) -> str:
        return ",".join(str(_root(group).out_features) for group in self.groups)

    def remove(self, neurons: Sequence[Sequence[int]]) -> None:
        for group, indices in zip(self.groups, neurons, strict=True):
            layer, before = _root(group), _root(group).out_features
            if indices:
                prune = torch_pruning.prune_linear_out_channels
                self.graph.get_pruning_group(layer, prune, sorted(indices)).prune()
            assert layer.out_features == before - len(indices), (
                "torch-pruning removed another number of neurons"
            )


def _hidden_layers(network: nn.Module, observation_size: int) -> _HiddenLayers:
    """Trace the network. What reaches its output unread by another layer is an output layer: protected."""
    # The trace follows gradients: frozen parameters and no_grad would hide their layers from it.
    network.requires_grad_(True)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what it does not know; `_check` sees what matters
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
    return _HiddenLayers(graph, sorted(hidden, key=lambda group: order.index(_root(group))))


def _reaches_output(graph: torch_pruning.DependencyGraph, group: torch_pruning.Group) -> bool:
    """Whether removing these neurons would narrow the network's output."""
    ends = (dep for dep, _ in group if not dep.target.outputs)
    return any(graph.is_out_channel_pruning_fn(dep.handler) for dep in ends)


def _root(group: torch_pruning.Group) -> nn.Linear:
    return cast(nn.Linear, group[0].dep.target.module)


def _lowest(scores: torch.Tensor, count: int) -> list[int]:
    """Indices of the lowest scores, ascending; of equal ones the first."""
    return cast("list[int]", torch.argsort(scores, stable=True)[:count].tolist())


def _by_layer(ranked: Sequence[int], widths: Sequence[int]) -> list[list[int]]:
    """Split indices into the concatenation of all layers into indices into each, keeping their order."""
    chosen, start = [], 0
    for width in widths:
        chosen.append([index - start for index in ranked if start <= index < start + width])
        start += width
    return chosen


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _check(network: nn.Module, policy: Policy) -> None:
    """Run the pruned network once: not every network can be pruned layer by layer."""
    name = type(network).__name__
    try:
        with torch.no_grad():
            shape = tuple(network(torch.zeros(2, policy.observation_size)).shape)
    except Exception as error:  # whatever the network's own code raises
        raise PipelineError(f"The {name} does not run without hidden neurons ({one_line(error)}).") from error
    if shape != (2, policy.action_size):
        raise PipelineError(f"The {name} gives {shape[1:]} actions without hidden neurons.")
