"""Time of a decision: batch 1, recorded observations, one thread, interleaved between policies."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from compressrl.interfaces import Workload
from compressrl.measuring.interleaving import interleaved
from compressrl.options import Option
from compressrl.records import Latency

BLOCK = 100  # calls in a row on one side: long enough for its caches, short enough to share every disturbance
WARM_UP = 3  # blocks that do not count


@dataclass(frozen=True)
class LatencyProfiler:
    """Wall time around each call of the policy, by perf_counter_ns.

    The two clock readings, 0.1-0.2 µs, are inside every figure and nothing is subtracted. Caches are warm.
    Only figures of one `measure` call compare: its sides ran interleaved.
    `read` gives the wall clock in seconds.
    """

    quantity: ClassVar[str] = "latency"
    unit: ClassVar[str] = "s"

    runs: Annotated[int, Option("timed calls a side, in blocks of 100", low=100, high=10_000_000)] = 5000

    def available(self) -> tuple[bool, str]:
        return True, f"perf_counter, resolution {time.get_clock_info('perf_counter').resolution:g} s"

    def read(self) -> float:
        return time.perf_counter()

    def measure(self, workloads: Sequence[Workload]) -> list[Latency]:
        sides = [_Side(workload) for workload in workloads]
        for side in interleaved(sides, WARM_UP):
            side.block()
        times: dict[_Side, list[NDArray[np.int64]]] = {side: [] for side in sides}
        for side in interleaved(sides, -(-self.runs // BLOCK)):
            times[side].append(side.block())
        return [_record(np.concatenate(times[side])) for side in sides]


class _Side:
    def __init__(self, workload: Workload) -> None:
        self._function = workload.function
        self._observations = list(workload.observations)
        self._next = 0

    def block(self) -> NDArray[np.int64]:
        """Times of the next calls, ns; the observations come around in turn."""
        function, observations, clock = self._function, self._observations, time.perf_counter_ns
        times = np.empty(BLOCK, np.int64)
        for index in range(BLOCK):
            observation = observations[(self._next + index) % len(observations)]
            started = clock()
            function(observation)
            times[index] = clock() - started
        self._next += BLOCK
        return times


def _record(times_ns: NDArray[np.int64]) -> Latency:
    p50, p99 = np.percentile(times_ns, [50, 99])
    return Latency(
        p50_us=float(p50) / 1e3,
        p99_us=float(p99) / 1e3,
        mean_us=float(times_ns.mean()) / 1e3,
        runs=len(times_ns),
    )
