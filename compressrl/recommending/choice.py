"""Which variant to ship: the Pareto front, the rule, and what is missing where none qualifies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from compressrl.measuring.workloads import Loaded
from compressrl.recommending.candidates import Trial
from compressrl.recommending.halving import TIE
from compressrl.records import Energy, Latency, Memory, Retention

Objective = Literal["latency", "size", "energy", "memory"]
OBJECTIVES: tuple[Objective, ...] = ("latency", "size", "energy", "memory")
METERED = ("measured", "attributed", "simulated")


@dataclass(frozen=True)
class Variant:
    """A trial in one of its runtimes, and what a decision costs there.

    energy, memory: None where the objective does not ask for them, or the trial was dropped before
    """

    trial: Trial
    loaded: Loaded
    latency: Latency
    energy: Energy | None = None
    memory: Memory | None = None

    @property
    def runtime(self) -> str:
        return self.loaded.runtime

    def cost(self, objective: Objective) -> float | None:
        """What the objective makes small: µs (p50), bytes, or see `energy_cost`; None where it is not known.

        memory: library + model + runtime
        """
        match objective:
            case "latency":
                return self.latency.p50_us
            case "size":
                return self.trial.model.size_bytes
            case "energy":
                return None if self.energy is None else energy_cost(self.energy)
            case "memory":
                return None if self.memory is None else _added(self.memory)


def energy_cost(energy: Energy) -> float | None:
    """Joules a decision where a meter counted them, else CPU seconds: an estimate only scales those."""
    return energy.joules_per_decision if energy.kind in METERED else energy.cpu_seconds_per_decision


def _added(memory: Memory) -> int | None:
    stages = (memory.library, memory.model, memory.runtime)
    known = [stage for stage in stages if stage is not None]
    return sum(known) if len(known) == len(stages) else None


def front(variants: Sequence[Variant], objective: Objective) -> list[Variant]:
    """Variants that no other one equals or betters in retention, size, inference time and the objective."""
    axes = [_axes(variant, objective) for variant in variants]
    return [v for v, mine in zip(variants, axes, strict=True) if not any(_dominates(a, mine) for a in axes)]


def _axes(variant: Variant, objective: Objective) -> tuple[float, ...]:
    """What is to be small, the worst where it is not known."""
    kept = variant.trial.retention
    value = kept.value if kept is not None and kept.value is not None else -math.inf
    costs = (variant.cost(axis) for axis in dict.fromkeys(("latency", "size", objective)))
    return (-value, *(math.inf if cost is None else cost for cost in costs))


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def qualified(variants: Iterable[Variant], min_retention: float) -> list[Variant]:
    """Those of finalists whose retention interval lies above the minimum."""
    return [v for v in variants if not v.trial.dropped and v.trial.interval[0] >= min_retention]


def ranked(variants: Iterable[Variant], objective: Objective) -> list[Variant]:
    """By the objective, best first; where costs tie (`TIE`), by what is kept for certain, then by time."""
    costs = [(cost, variant) for variant in variants if (cost := variant.cost(objective)) is not None]
    best = min((cost for cost, _ in costs), default=0.0)

    def order(pair: tuple[float, Variant]) -> tuple[float, float, float]:
        cost, variant = pair
        steps = math.floor(math.log(cost / best) / math.log1p(TIE)) if best > 0 else cost
        return steps, -variant.trial.interval[0], variant.latency.p50_us or math.inf

    return [variant for _, variant in sorted(costs, key=order)]


def closest(trials: Iterable[Trial], kept: Callable[[Trial], Retention]) -> Trial | None:
    """The compressed trial that keeps the most for certain; None where there is no compressed one."""

    def certain(trial: Trial) -> float:
        interval = kept(trial).ci95
        return -math.inf if interval is None else interval[0]

    return max((trial for trial in trials if trial.candidate.stages), key=certain, default=None)


def episodes_needed(kept: Retention, min_retention: float) -> int | None:
    """About how many episodes would lift the interval above the minimum, if the value stays.

    The interval narrows by the root of their number. None where the value itself is too low.
    """
    if kept.value is None or kept.ci95 is None or kept.value <= min_retention:
        return None
    if not math.isfinite(kept.ci95[0]):  # the baseline itself may fail altogether
        return None
    return math.ceil(kept.pairs * ((kept.value - kept.ci95[0]) / (kept.value - min_retention)) ** 2)
