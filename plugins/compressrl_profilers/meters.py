"""What an energy meter is, and which meters this process has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class MeterError(Exception):
    """A meter that is missing, unreadable or fails: the reason and, where there is one, the remedy."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason} {remedy}".rstrip())
        self.reason = reason
        self.remedy = remedy


class Meter(Protocol):
    """Counts joules of some part of this machine."""

    source: str  # what it is and what it covers
    zones: tuple[str, ...]  # what it covers, one by one
    simulated: bool
    min_window_seconds: float  # shorter windows than this hold too few of its ticks

    def read(self) -> float:
        """Joules since some fixed moment, never falling. Raises MeterError."""
        ...

    def check(self) -> None:
        """Raise MeterError when the last readings cannot be true; for what `read` has no time to look at."""
        ...


def find(battery: bool = False) -> tuple[list[Meter], str]:
    """The meters that cover what this process uses, and why there are no better ones.

    A battery, if it is asked for, meters everything, and alone. A system on a chip is metered as a whole by
    Zeus. Elsewhere the CPU is metered by powercap, and to it comes Zeus's reading of the GPUs if this process
    computes on one: a GPU that a policy does not use would add its idle power and its slow counter to a
    figure that it has no part in.
    """
    from compressrl_profilers import powercap, zeus_devices
    from compressrl_profilers.battery import BatteryMeter

    meters: list[Meter] = []
    reasons: list[str] = []
    if battery:
        _try(BatteryMeter, meters, reasons)
    if not meters and zeus_devices.soc_expected():
        _try(zeus_devices.SocMeter, meters, reasons)
    if not meters:
        if zeus_devices.gpu_in_use():
            _try(zeus_devices.GpuMeter, meters, reasons)
        _try(powercap.PowercapMeter, meters, reasons)
    return meters, " ".join(reasons)


def _try(open_meter: Callable[[], Meter], meters: list[Meter], reasons: list[str]) -> None:
    try:
        meters.append(open_meter())
    except MeterError as error:
        reasons.append(str(error))
