"""What an energy meter is, and which meters this process has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class MeterError(Exception):
    """A meter that is missing, unreadable or fails; the message is the reason with its remedy."""


class Meter(Protocol):
    """Counts joules of some part of this machine."""

    source: str  # what it is and what it covers
    simulated: bool

    def read(self) -> float:
        """Joules since some fixed moment, never falling. Raises MeterError."""
        ...

    def check(self) -> None:
        """Raise MeterError when the last readings cannot be true; for what `read` has no time to look at."""
        ...


def find() -> tuple[list[Meter], str]:
    """The meters that cover what this process uses, and why there are no better ones.

    A system on a chip is metered as a whole by Zeus. Elsewhere the CPU is metered by powercap, and to it
    comes Zeus's reading of the GPUs if this process computes on one: a GPU that a policy does not use would
    add its idle power and its slow counter to a figure that it has no part in.
    """
    from compressrl_profilers import powercap, zeus_devices

    meters: list[Meter] = []
    reasons: list[str] = []
    if zeus_devices.soc_expected():
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
