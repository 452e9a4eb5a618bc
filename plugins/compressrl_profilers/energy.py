"""Energy of a decision: by a meter where there is one, else estimated from CPU time and labelled so."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from compressrl import options
from compressrl.interfaces import Finding, Workload
from compressrl.options import Option
from compressrl.records import Energy
from compressrl_profilers import control_step, diagnosis, energy_record, meters
from compressrl_profilers.meters import Meter, MeterError
from compressrl_profilers.powercap import PowercapMeter
from compressrl_profilers.windows import Window, measure_windows
from compressrl_profilers.work import decisions

ESTIMATE_WINDOW_SECONDS = 0.1  # CPU time is counted in ns: no need for a second


@dataclass(frozen=True)
class EnergyProfiler:
    """Joules by Zeus (a system on a chip; a GPU that this process computes on) and powercap (the CPU).

    `measure` gives the energy that a decision adds over the idle machine, from interleaved windows. With no
    meter, or one that fails, it gives CPU seconds x watts per core, of kind `estimated`.
    `read` gives the meters' joules since this process first read them, and None where there is no meter: an
    estimate is never passed off as a counter.
    """

    quantity: ClassVar[str] = "energy"
    unit: ClassVar[str] = "J"

    windows: Annotated[int, Option("windows of each side, interleaved", low=2, high=1000)] = 10
    window_seconds: Annotated[
        float, Option("length of a metered window; longer where the counter is slow", low=1, high=100)
    ] = 1.0
    watts_per_core: Annotated[
        float | None,
        Option("power of a busy core for the estimate; none: 4, range 1-15", low=0.01, high=1000),
    ] = None
    battery: Annotated[
        bool, Option("meter the whole machine by its battery, in windows of ten minutes and more")
    ] = False

    @functools.cached_property
    def _found(self) -> tuple[list[Meter], str]:
        return meters.find(self.battery)

    def __getstate__(self) -> dict[str, Any]:
        """The options alone: another process opens the meters itself."""
        return options.as_dict(self)

    def available(self) -> tuple[bool, str]:
        """(True, meters and zones) or (False, why there is no meter and the remedy)."""
        found, reason = self._found
        return (True, energy_record.source(found)) if found else (False, reason)

    def read(self) -> float | None:
        total = None
        try:
            for meter in self._found[0]:
                total = meter.read() + (total or 0.0)
        except MeterError:
            return None
        return total

    def diagnose(self) -> list[Finding]:
        return diagnosis.diagnose()

    def reader(self) -> Callable[[], float]:
        found = self._found[0]
        if len(found) == 1 and isinstance(found[0], PowercapMeter):
            return found[0].reader()
        return self._read_or_nan

    def measure(self, workloads: Sequence[Workload]) -> list[Energy]:
        """One record a workload: metered, with as many idle windows as each of them gets, or estimated."""
        found, reason = meters.find(self.battery)  # anew: a runtime may compute on a GPU since the last look
        works = [decisions(workload) for workload in workloads]
        if found:
            try:
                seconds = max([self.window_seconds, *(meter.min_window_seconds for meter in found)])
                idle, sides = measure_windows(works, self.windows, seconds, found)
            except MeterError as error:
                reason = str(error)
            else:
                steps = _control_steps(workloads, seconds, found, sides)
                return energy_record.metered(found, reason, sides, idle, steps)
        _, sides = measure_windows(works, self.windows, ESTIMATE_WINDOW_SECONDS)
        steps = _control_steps(workloads, ESTIMATE_WINDOW_SECONDS, [], sides)
        return [
            energy_record.estimated(self.watts_per_core, reason, side, sides[0], step)
            for side, step in zip(sides, steps, strict=True)
        ]

    def _read_or_nan(self) -> float:
        joules = self.read()
        return math.nan if joules is None else joules


def _control_steps(
    workloads: Sequence[Workload], seconds: float, found: Sequence[Meter], sides: Sequence[list[Window]]
) -> list[dict[str, Any] | None]:
    """What a whole control step takes, for each side's record; None where it cannot be said."""
    try:
        steps = control_step.measure(workloads, seconds, found)
    except MeterError as error:  # the policies' own figures stand
        return [{"reason": str(error)} for _ in sides]
    return [None if steps is None else steps.report(index, side) for index, side in enumerate(sides)]
