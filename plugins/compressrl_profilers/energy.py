"""Energy of a decision: by a meter where there is one, else estimated from CPU time and labelled so."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any, ClassVar

from compressrl import options
from compressrl.interfaces import Finding, Workload
from compressrl.options import Option
from compressrl.records import Energy, EnergyKind
from compressrl_profilers import diagnosis, figures, meters
from compressrl_profilers.figures import Metered
from compressrl_profilers.meters import Meter, MeterError
from compressrl_profilers.powercap import PowercapMeter
from compressrl_profilers.windows import Window, measure_windows

WORKLOAD = "policy on recorded observations, batch 1"
WATTS_PER_CORE = 4.0
WATTS_PER_CORE_RANGE = (
    1.0,
    15.0,
)  # from a core of a many-core server or phone to one of a desktop at full clock
ESTIMATE_WINDOW_SECONDS = 0.1  # CPU time is counted in ns: no need for a second
ALONE = 0.9  # share of the machine's busy time; below it others are in the reading


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
        return (True, _source(found)) if found else (False, reason)

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
        if found:
            try:
                seconds = max([self.window_seconds, *(meter.min_window_seconds for meter in found)])
                idle, sides = measure_windows(workloads, self.windows, seconds, found)
            except MeterError as error:
                reason = str(error)
            else:
                parts = [Metered.of(side, idle) for side in sides]
                return [
                    _metered(found, reason, side, idle, part, None if part is parts[0] else parts[0])
                    for side, part in zip(sides, parts, strict=True)
                ]
        _, sides = measure_windows(workloads, self.windows, ESTIMATE_WINDOW_SECONDS)
        return [self._estimated(reason, side, None if side is sides[0] else sides[0]) for side in sides]

    def _read_or_nan(self) -> float:
        joules = self.read()
        return math.nan if joules is None else joules

    def _estimated(self, reason: str, side: list[Window], base: list[Window] | None) -> Energy:
        watts = self.watts_per_core or WATTS_PER_CORE
        low, high = WATTS_PER_CORE_RANGE
        cpu = figures.cpu_seconds(side)
        if self.watts_per_core is None:
            source = f"CPU time x {watts:g} W per core (assumed, range {low:g}-{high:g} W)"
            ci95 = cpu.mean * low, cpu.mean * high
        else:
            source = f"CPU time x {watts:g} W per core (as set)"
            ci95 = cpu.ci95[0] * watts, cpu.ci95[1] * watts
        return Energy(
            joules_per_decision=cpu.mean * watts,
            ci95=ci95,
            kind="estimated",
            source=source,
            reason=f"{source}. {reason}",
            cpu_seconds_per_decision=cpu.mean,
            below_resolution=None if base is None else cpu.minus(figures.cpu_seconds(base)).holds_zero,
            details={
                "workload": WORKLOAD,
                "windows": len(side),
                "window_seconds": fmean(window.seconds for window in side),
                "decisions": figures.decisions(side),
                "cpu_seconds_ci95": list(cpu.ci95),
            },
        )


def _metered(
    found: list[Meter],
    reason: str,
    side: list[Window],
    idle: list[Window],
    part: Metered,
    base: Metered | None,
) -> Energy:
    origin = _origin(found, figures.cpu_shares(side, idle))
    net = part.figure
    return Energy(
        joules_per_decision=net.mean * origin.own,
        ci95=(net.ci95[0] * origin.own, net.ci95[1] * origin.own),
        kind=origin.kind,
        source=_source(found),
        reason=" ".join(filter(None, [origin.reason, reason])),
        cpu_seconds_per_decision=figures.cpu_seconds(side).mean,
        below_resolution=None if base is None else part.minus(base).holds_zero,
        details={
            "workload": WORKLOAD,
            "windows": len(side),
            "window_seconds": fmean(window.seconds for window in side),
            "decisions": figures.decisions(side),
            "gross_joules_per_decision": float(part.gross.mean()),
            "net_joules_per_decision": net.mean,
            "watts": figures.power(side).mean,
            "idle_watts": figures.power(idle).mean,
            "uncertainty_joules": {
                "windows": net.scatter,
                "counter_phase": part.phase,
                "idle_power": part.idle_watts_uncertainty * part.seconds,
            },
            "ticks_per_window": fmean(min(window.ticks) for window in side),
            "cpu_share": origin.cpu_share,
            "attributed_share": origin.own,
        },
    )


@dataclass(frozen=True)
class _Origin:
    """Whose energy the meters counted.

    own: share of the energy above idle that is this process's
    """

    kind: EnergyKind
    cpu_share: float | None
    own: float
    reason: str


def _origin(found: list[Meter], shares: tuple[float, float] | None) -> _Origin:
    share = None if shares is None else shares[0]
    if any(meter.simulated for meter in found):
        return _Origin("simulated", share, 1.0, "The counters are not the kernel's: nothing was measured.")
    if shares is None:
        return _Origin("measured", None, 1.0, "Whether other processes were busy is unknown here.")
    if shares[0] >= ALONE:
        return _Origin("measured", share, 1.0, "")
    reason = f"Others had {1 - shares[0]:.0%} of the CPU time; run on an idle machine to measure alone."
    return _Origin("attributed", share, shares[1], reason)


def _source(found: list[Meter]) -> str:
    return " + ".join(meter.source for meter in found)
