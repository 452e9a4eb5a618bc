"""The counters that a step loop reads: their columns, and the bare functions that read them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compressrl.interfaces import Profiler, StepProfiler
from compressrl.measuring.step_costs import CPU


@dataclass(frozen=True, slots=True)
class Column:
    """A profiler's counter or level; without a profiler, the CPU time of this process."""

    profiler: Profiler | None = None

    @property
    def cumulative(self) -> bool:
        return getattr(self.profiler, "cumulative", True)

    def reader(self) -> Callable[[], float]:
        """What to call for a reading; NaN where there is none."""
        if self.profiler is None:
            return time.process_time
        if isinstance(self.profiler, StepProfiler):
            return self.profiler.reader()
        read = self.profiler.read

        def reading() -> float:
            try:
                value = read()
            except Exception:  # anybody's code, and the episode is worth more than its reading
                return math.nan
            return math.nan if value is None else value

        return reading


def columns(profilers: Sequence[Profiler]) -> dict[str, Column]:
    """`cpu_s`, then `<quantity>_<unit>` of each profiler, numbered where two have the same."""
    named = {CPU: Column()}
    for profiler in profilers:
        base = name = f"{profiler.quantity}_{profiler.unit}"
        number = 1
        while name in named:
            number += 1
            name = f"{base}_{number}"
        named[name] = Column(profiler)
    return named
