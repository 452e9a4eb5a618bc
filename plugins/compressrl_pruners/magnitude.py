"""Structured magnitude pruning: hidden neurons with small weights are removed, the network gets narrower.

Which neurons go is decided here, because torch-pruning's own pruner leaves a layer as it is, without a word,
where a ratio rounds to all of its neurons or a global ranking picks all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, cast

import torch
import torch_pruning
from torch import nn

from compressrl import options, provenance
from compressrl.errors import PipelineError
from compressrl.lab import Lab
from compressrl.options import Option
from compressrl.policy import Form, Policy
from compressrl_distillation.distill import trainable
from compressrl_distillation.distillation import DistillationOptions, one_thread
from compressrl_pruners.hidden_layers import HiddenLayers, check, hidden_layers, parameters
from compressrl_pruners.recovery import Recovery


@dataclass(frozen=True, kw_only=True)
class PruningOptions:
    """What is removed, and how.

    importance "group" is torch-pruning's default: the mean of the norms of a neuron's incoming and
    outgoing weights, relative to the layer's mean. A neuron that nobody listens to goes first, however
    large its own weights. (The study arXiv 2407.04803 prunes with DepGraph too; whether it kept this
    default we do not know.)
    "row" is the textbook norm of the incoming weights alone (Li et al. 2017, arXiv 1608.08710).
    Both sum |w|^p over weights (no bias, no root), which ranks like the norm.
    """

    ratio: Annotated[float, Option("share of the hidden neurons to remove", low=0.05, high=0.95)] = 0.5
    preset: Annotated[
        Literal["best", "paper"],
        Option("best: prune a little, recover by distillation, repeat; paper: one cut, no recovery"),
    ] = "best"
    iterations: Annotated[int, Option("cuts, each followed by recovery, preset=best", low=1)] = 4
    scope: Annotated[
        Literal["layer", "global"],
        Option("rank neurons in each layer (the share of each), or all together (the share of the whole)"),
    ] = "layer"
    importance: Annotated[
        Literal["group", "row"], Option("weights that count: incoming and outgoing, or incoming only")
    ] = "group"
    round_to: Annotated[int, Option("keep a multiple of this many neurons in each layer", low=1)] = 1


PAPER_OPTIONS = {"ratio", "preset", "scope", "importance", "round_to"}


@dataclass(frozen=True, kw_only=True)
class MagnitudePruning(DistillationOptions, PruningOptions):
    """Pruning by the p-norm of a neuron's weights.

    preset "best" is iterative (Han et al. 2015, arXiv 1506.02626): each cut takes the same share of what is
    left, and the policy before the pipeline then teaches the network to do without. Half of the recovery's
    budget follows the last cut.
    """

    rounds: Annotated[int, Option("rounds of recovery in all; half of them after the last cut", low=0)] = 24
    learning_rate: Annotated[float, Option("Adam's step, falling to 1 % by a cosine", low=0)] = 3e-3
    batch_size: Annotated[int, Option("states of an update", low=1)] = 1024

    p: ClassVar[int]
    takes: ClassVar[tuple[Form, ...]] = ("network",)
    gives: ClassVar[Form] = "network"

    def __post_init__(self) -> None:
        if self.preset == "paper":
            unused = options.chosen(self).keys() - PAPER_OPTIONS
            options.refuse_chosen(self, unused, "preset=paper does not recover")

    @property
    def trains(self) -> bool:
        return self.preset == "best"

    def compress(self, policy: Policy, lab: Lab) -> Policy:
        """Return the policy with a narrower float network; its output layer keeps its size.

        Raises PipelineError for a quantized policy, for a network without hidden linear layers or that
        torch-pruning cannot trace, where there is nothing to remove, and with preset=best for a network
        that cannot be distilled into.
        """
        original = policy.network
        hidden = hidden_layers(original, policy.observation_size)
        self._refuse_nothing(hidden)
        widths = hidden.widths()
        if self.preset == "paper":
            network, recovered = self._cut_once(policy, widths), list[str]()
        else:
            with one_thread():
                network, recovered = self._iterate(policy, lab, widths)
        kept = hidden_layers(network, policy.observation_size).widths()
        figures = [
            f"{parameters(original)} -> {parameters(network)} parameters",
            f"hidden {_listed(widths)} -> {_listed(kept)}",
        ]
        return policy.with_network(network, provenance.step(f"l{self.p}", self, *figures, *recovered))

    def _cut_once(self, policy: Policy, widths: Sequence[int]) -> nn.Module:
        network = policy.network
        self._cut(network, policy, widths, self.ratio)
        return network

    def _iterate(self, policy: Policy, lab: Lab, widths: Sequence[int]) -> tuple[nn.Module, list[str]]:
        """Cut and recover until `ratio` is reached; also says what the recovery took."""
        network = _recoverable(policy)
        recovery = Recovery(network, policy, lab, self, self.iterations)
        for iteration in range(1, self.iterations + 1):
            self._cut(network, policy, widths, 1 - (1 - self.ratio) ** (iteration / self.iterations))
            recovery.run(iteration)
        return network, recovery.figures()

    def _refuse_nothing(self, hidden: HiddenLayers) -> None:
        if not any(self._choose(hidden, hidden.widths(), self.ratio)):
            raise PipelineError(
                f"l{self.p}: nothing to remove from hidden layers of {_listed(hidden.widths())} neurons with "
                f"ratio={self.ratio:g},round_to={self.round_to}."
            )

    def _cut(self, network: nn.Module, policy: Policy, widths: Sequence[int], ratio: float) -> None:
        """Bring hidden layers that had these widths to `ratio`."""
        hidden = hidden_layers(network, policy.observation_size)
        hidden.remove(self._choose(hidden, widths, ratio))
        check(network, policy)

    def _choose(self, hidden: HiddenLayers, widths: Sequence[int], ratio: float) -> list[list[int]]:
        """Neurons to remove from each layer, the least important first; every layer keeps one at least."""
        scores = [self._scores(group) for group in hidden.groups]
        now = hidden.widths()
        if self.scope == "layer":
            chosen = [
                _lowest(score, _count(width, ratio) - (width - len(score)))
                for score, width in zip(scores, widths, strict=True)
            ]
        else:
            spared = [score.index_fill(0, score.argmax(), math.inf) for score in scores]
            count = _count(sum(widths), ratio, len(widths)) - (sum(widths) - sum(now))
            chosen = _by_layer(_lowest(torch.cat(spared), count), now)
        return [
            neurons[: max(len(neurons) - self._surplus(width - len(neurons)), 0)]
            for width, neurons in zip(now, chosen, strict=True)
        ]

    def _scores(self, group: torch_pruning.Group) -> torch.Tensor:
        """Importance (neurons,) of a layer's neurons."""
        reduction, normalizer = ("mean", "mean") if self.importance == "group" else ("first", None)
        score = torch_pruning.importance.MagnitudeImportance(self.p, reduction, normalizer)
        return cast(torch.Tensor, score(group))

    def _surplus(self, kept: int) -> int:
        """How many more must be kept for a multiple of `round_to`."""
        return -kept % self.round_to


@dataclass(frozen=True, kw_only=True)
class L1Pruning(MagnitudePruning):
    """Pruning by the L1 norm."""

    p: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class L2Pruning(MagnitudePruning):
    """Pruning by the L2 norm."""

    p: ClassVar[int] = 2
    candidates: ClassVar[tuple[str, ...]] = (
        "l2:ratio=0.25",
        "l2:ratio=0.5",
        "l2:ratio=0.75",
        "l2:ratio=0.5+qat",
        "l2:ratio=0.75+qat",
    )


def _recoverable(policy: Policy) -> nn.Sequential:
    try:
        return trainable(policy)
    except PipelineError as error:
        raise PipelineError(f"{error} Without recovery: preset=paper.") from error


def _count(neurons: int, ratio: float, layers: int = 1) -> int:
    """How many of these to remove: `ratio` of them, rounded up; one of each layer stays."""
    # 20 * 0.55 is 11.000000000000002, and 11 are meant.
    return min(math.ceil(neurons * ratio - 1e-9), neurons - layers)


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


def _listed(widths: Sequence[int]) -> str:
    return ",".join(map(str, widths))
