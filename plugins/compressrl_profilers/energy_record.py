"""The energy record: what was measured or estimated, with what, how surely, and over how much."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from compressrl.records import Energy, EnergyKind
from compressrl_profilers import figures
from compressrl_profilers.figures import Metered
from compressrl_profilers.meters import Meter
from compressrl_profilers.windows import Window

WORKLOAD = "policy on recorded observations, batch 1"
WATTS_PER_CORE = 4.0
WATTS_PER_CORE_RANGE = (1.0, 15.0)  # a core of a many-core server or phone; one of a desktop at full clock
ALONE = 0.9  # share of the machine's busy time; below it others are in the reading

Step = Mapping[str, Any] | None  # of ControlStep.report


def metered(
    found: Sequence[Meter],
    reason: str,
    sides: Sequence[list[Window]],
    idle: list[Window],
    steps: Sequence[Step],
) -> list[Energy]:
    """One record a side, each compared with the first."""
    parts = [Metered.of(side, idle) for side in sides]
    return [
        _metered(found, reason, side, idle, part, None if part is parts[0] else parts[0], step)
        for side, part, step in zip(sides, parts, steps, strict=True)
    ]


def estimated(
    watts_per_core: float | None, reason: str, side: list[Window], base: list[Window], step: Step
) -> Energy:
    """CPU seconds x watts; `base` are the windows of the first side, which may be this one."""
    watts = watts_per_core or WATTS_PER_CORE
    low, high = WATTS_PER_CORE_RANGE
    cpu = figures.cpu_seconds(side)
    if watts_per_core is None:
        origin = f"CPU time x {watts:g} W per core (assumed, range {low:g}-{high:g} W)"
        ci95 = cpu.mean * low, cpu.mean * high
    else:
        origin = f"CPU time x {watts:g} W per core (as set)"
        ci95 = cpu.ci95[0] * watts, cpu.ci95[1] * watts
    return Energy(
        joules_per_decision=cpu.mean * watts,
        ci95=ci95,
        kind="estimated",
        source=origin,
        reason=f"{origin}. {reason}",
        cpu_seconds_per_decision=cpu.mean,
        below_resolution=None if base is side else cpu.minus(figures.cpu_seconds(base)).holds_zero,
        details={
            **_extent(side),
            "zones": [],
            "counter_period_seconds": time.get_clock_info("process_time").resolution,
            "gross_joules_per_decision": None,  # idle power has no part in a model of CPU time
            "net_joules_per_decision": cpu.mean * watts,
            "cpu_seconds_ci95": list(cpu.ci95),
            "control_step": step,
        },
    )


def source(found: Sequence[Meter]) -> str:
    return " + ".join(meter.source for meter in found)


def _metered(
    found: Sequence[Meter],
    reason: str,
    side: list[Window],
    idle: list[Window],
    part: Metered,
    base: Metered | None,
    step: Step,
) -> Energy:
    origin = _origin(found, figures.cpu_shares(side, idle))
    net = part.figure
    return Energy(
        joules_per_decision=net.mean * origin.own,
        ci95=(net.ci95[0] * origin.own, net.ci95[1] * origin.own),
        kind=origin.kind,
        source=source(found),
        reason=" ".join(filter(None, [origin.reason, reason])),
        cpu_seconds_per_decision=figures.cpu_seconds(side).mean,
        below_resolution=None if base is None else part.minus(base).holds_zero,
        details={
            **_extent(side),
            "zones": [zone for meter in found for zone in meter.zones],
            "counter_period_seconds": _slowest_period(side),
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
            "control_step": step,
        },
    )


def _extent(side: list[Window]) -> dict[str, Any]:
    """K windows of T seconds, N decisions in all."""
    return {
        "workload": WORKLOAD,
        "windows": len(side),
        "window_seconds": fmean(window.seconds for window in side),
        "decisions": figures.decisions(side),
    }


def _slowest_period(side: list[Window]) -> float:
    """Seconds between two moves of the slowest counter, as far as the readings can tell (2 ms and more)."""
    return sum(w.seconds for w in side) / min(map(sum, zip(*(w.ticks for w in side), strict=True)))


@dataclass(frozen=True)
class _Origin:
    """Whose energy the meters counted.

    own: share of the energy above idle that is this process's
    """

    kind: EnergyKind
    cpu_share: float | None
    own: float
    reason: str


def _origin(found: Sequence[Meter], shares: tuple[float, float] | None) -> _Origin:
    share = None if shares is None else shares[0]
    if any(meter.simulated for meter in found):
        return _Origin("simulated", share, 1.0, "The counters are not the kernel's: nothing was measured.")
    if shares is None:
        return _Origin("measured", None, 1.0, "Whether other processes were busy is unknown here.")
    if shares[0] >= ALONE:
        return _Origin("measured", share, 1.0, "")
    reason = f"Others had {1 - shares[0]:.0%} of the CPU time; run on an idle machine to measure alone."
    return _Origin("attributed", share, shares[1], reason)
