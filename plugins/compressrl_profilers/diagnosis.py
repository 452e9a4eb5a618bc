"""Every energy source that this package knows: whether it can be used here, why not, and what to do."""

from __future__ import annotations

from collections.abc import Callable

from compressrl.interfaces import Finding
from compressrl_profilers import zeus_devices
from compressrl_profilers.battery import BatteryMeter
from compressrl_profilers.meters import Meter, MeterError
from compressrl_profilers.powercap import PowercapMeter
from compressrl_profilers.zeus_devices import GpuMeter, SocMeter

BATTERY_USE = "Opt in, for long runs: --profiler energy:battery=true,windows=3."
WATTS_USE = "Give the power of a busy core, if you know it: --profiler energy:watts_per_core=6."


def diagnose() -> list[Finding]:
    """All sources in the order in which they are preferred; each meter is read once."""
    return [
        _finding("GPU (Zeus)", GpuMeter, "Counts while this process computes on it."),
        _chip(),
        _finding("powercap (RAPL)", PowercapMeter),
        _finding("battery", BatteryMeter, BATTERY_USE),
        Finding(
            "CPU time", True, "the fallback: CPU seconds x watts per core, labelled `estimated`", WATTS_USE
        ),
    ]


def _chip() -> Finding:
    if zeus_devices.soc_expected():
        return _finding("chip (Zeus)", SocMeter)
    return Finding("chip (Zeus)", False, "This is neither Apple silicon nor an NVIDIA Jetson.")


def _finding(name: str, open_meter: Callable[[], Meter], use: str = "") -> Finding:
    try:
        meter = open_meter()
        meter.read()
    except MeterError as error:
        return Finding(name, False, error.reason, error.remedy)
    simulated = "; simulated: the counters are not the kernel's" if meter.simulated else ""
    return Finding(name, True, meter.source + simulated, use)
