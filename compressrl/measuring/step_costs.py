"""What an episode cost, and its steps one by one: the records of `compressrl.instrument`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CPU = "cpu_s"


@dataclass(frozen=True, slots=True)
class EpisodeCost:
    """What one episode cost, over its `steps` steps; its reset is not in it.

    finished:                terminated or truncated; False where reset() cut it short
    environment_seconds:     wall time inside the wrapped environment's step
    policy_seconds:          wall time between steps: the policy and the rest of the caller's loop
    instrumentation_seconds: wall time of reading the counters
    counters: by column of `StepTrace.counters`, how far a cumulative counter advanced, or the highest value
              of a level; None where it was not read
    """

    steps: int
    finished: bool
    environment_seconds: float
    policy_seconds: float
    instrumentation_seconds: float
    counters: Mapping[str, float | None]

    @classmethod
    def of(cls, trace: StepTrace, cumulative: Mapping[str, bool], finished: bool) -> EpisodeCost:
        """Add up a trace; `cumulative` says of each column whether it is a counter or a level."""
        return cls(
            steps=len(trace.policy_ns),
            finished=finished,
            environment_seconds=float(trace.environment_ns.sum()) / 1e9,
            policy_seconds=float(trace.policy_ns.sum()) / 1e9,
            instrumentation_seconds=float(trace.instrumentation_ns.sum()) / 1e9,
            counters={
                name: _total(values[1:], values[0], cumulative[name])
                for name, values in trace.counters.items()
            },
        )

    @property
    def cpu_seconds(self) -> float | None:
        """CPU time of this process, all threads; None at level `time`."""
        return self.counters.get(CPU)

    @property
    def energy_joules(self) -> float | None:
        """By the first profiler of energy in J; None where there is no meter."""
        return self.counters.get("energy_J")

    @property
    def memory_peak_bytes(self) -> float | None:
        """Highest level after a step, by the first profiler of memory in B; None where there is none."""
        return self.counters.get("memory_B")


@dataclass(frozen=True, slots=True)
class StepTrace:
    """The current episode, step by step.

    environment_ns, policy_ns, instrumentation_ns: (steps,) int64, parted as in `EpisodeCost`
    counters: column -> (steps + 1,) float64, the counter as it stood after the reset and after each step,
              NaN where it was not read. Columns are `cpu_s` and `<quantity>_<unit>` of each profiler
              (`energy_J`, `memory_B`); a second profiler of the same quantity and unit gets `energy_J_2`
    """

    environment_ns: NDArray[np.int64]
    policy_ns: NDArray[np.int64]
    instrumentation_ns: NDArray[np.int64]
    counters: Mapping[str, NDArray[np.float64]]


def _total(values: NDArray[np.float64], first: float, cumulative: bool) -> float | None:
    if cumulative:
        total = values[-1] - first
        return None if math.isnan(total) else float(total)
    known = values[~np.isnan(values)]
    return float(known.max()) if known.size else None
