"""The battery's gauge: the whole machine, screen and all; opt-in, and for long windows only."""

from __future__ import annotations

import os
from pathlib import Path

from compressrl_profilers.counter_file import CounterFile, on_sysfs
from compressrl_profilers.meters import MeterError

ROOT_VARIABLE = "COMPRESSRL_POWER_SUPPLY_ROOT"
ROOT = "/sys/class/power_supply"
WINDOW_SECONDS = 600.0  # a gauge moves every few seconds: 50 ticks, and 0.1 % of its range, take minutes
JOULES_PER_UWH = 3.6e-3
UNPLUG = "Unplug the mains."


class BatteryMeter:
    """Joules taken from all batteries since this meter was made, while they discharge.

    The root is /sys/class/power_supply or COMPRESSRL_POWER_SUPPLY_ROOT; one that is not on sysfs is
    `simulated`. A gauge that corrects itself upwards gives nothing back: readings never fall.
    """

    min_window_seconds = WINDOW_SECONDS

    def __init__(self) -> None:
        """Raises MeterError when there is no battery, it shows no energy, or it is not discharging."""
        root = Path(os.environ.get(ROOT_VARIABLE) or ROOT)
        folders = sorted(root.glob("BAT*"))
        if not folders:
            raise MeterError(f"No battery under {root}.")
        self.zones = tuple(folder.name for folder in folders)
        self.source = f"battery {', '.join(self.zones)} (whole machine)"
        self.simulated = not on_sysfs(root)
        self._states = [CounterFile(str(folder / "status")) for folder in folders]
        self._gauges = [CounterFile(str(folder / "energy_now")) for folder in folders]
        self.check()
        self._full = self._stored()
        self._taken = 0.0

    def read(self) -> float:
        self._taken = max(self._taken, (self._full - self._stored()) * JOULES_PER_UWH)
        return self._taken

    def check(self) -> None:
        """Raise MeterError unless a battery discharges and none charges, and all their files are there."""
        states = [_shown(file).decode(errors="replace").strip() for file in self._states]
        if "Discharging" not in states or "Charging" in states:
            raise MeterError(f"The battery is not discharging ({', '.join(states)}).", UNPLUG)
        for file in (*self._states, *self._gauges):
            if file.vanished:
                raise MeterError(f"{file.path} vanished.")

    def _stored(self) -> int:
        """µWh in all batteries."""
        return sum(_number(file) for file in self._gauges)


def _number(file: CounterFile) -> int:
    try:
        return int(_shown(file))
    except ValueError as error:
        raise MeterError(f"{file.path} does not hold a number.") from error


def _shown(file: CounterFile) -> bytes:
    try:
        return file.read()
    except OSError as error:
        raise MeterError(f"{file.path} is not readable ({error.strerror}).") from error
