"""Our own reader of Linux powercap counters (RAPL), cheap enough for every environment step.

Zeus reads the same files, but a begin-end pair costs it 70-85 µs, longer than a MuJoCo step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from compressrl_profilers.counter_file import SIZE, CounterFile, on_sysfs, pread
from compressrl_profilers.meters import MeterError

ROOT_VARIABLE = "COMPRESSRL_POWERCAP_ROOT"
ROOT = "/sys/class/powercap"
REMEDY = f"Run as root, or once: sudo chmod a+r {ROOT}/*/energy_uj"


@dataclass(frozen=True, slots=True)
class Zone:
    """One counter: its label (`package-0`, `package-0/dram`), its file, where it wraps."""

    label: str
    counter: Path
    range_uj: int


class PowercapMeter:
    """Sum of all packages and their DRAM, in joules since this meter was made; about 1 µs a zone.

    The root is /sys/class/powercap or COMPRESSRL_POWERCAP_ROOT; one that is not on sysfs is `simulated`.
    A counter that wrapped between two readings is counted right, if they are less than half a range apart:
    read at least every range / (2 x highest power), some five minutes at 400 W. More is taken for a counter
    that went back (a suspended machine, a reloaded driver): a MeterError, and it counts on from there.
    """

    min_window_seconds = 0.0

    def __init__(self) -> None:
        """Raises MeterError when a counter is missing, unreadable or not a number."""
        root = Path(os.environ.get(ROOT_VARIABLE) or ROOT)
        zones = find_zones(root)
        self.zones = tuple(zone.label for zone in zones)
        self.source = f"powercap {', '.join(self.zones)}"
        self.simulated = not on_sysfs(root)
        self._counters = [_Counter(zone) for zone in zones]
        self._microjoules = 0
        self._joules = 0.0

    def read(self) -> float:
        for counter in self._counters:
            shown = counter.read()
            if shown != counter.shown:
                self._microjoules += counter.advance(shown)
        self._joules = self._microjoules / 1e6
        return self._joules

    def reader(self) -> Callable[[], float]:
        """For a step loop: as `read`, NaN where that fails; between two ticks, nothing but `pread`."""
        if len(self._counters) == 2:
            return self._reader_of_two(*self._counters)
        counters = self._counters

        def read() -> float:
            try:
                for counter in counters:
                    if pread(counter.file.descriptor, SIZE, 0) != counter.shown:
                        return self._read_or_nan()
            except OSError:  # a forked process opens its own
                return self._read_or_nan()
            return self._joules

        return read

    def _reader_of_two(self, one: _Counter, two: _Counter) -> Callable[[], float]:
        """The usual pair, a package and its DRAM, without a loop: a fiftieth of a step's reading less."""
        first, second = one.file, two.file

        def read() -> float:
            try:
                if (
                    pread(first.descriptor, SIZE, 0) == one.shown
                    and pread(second.descriptor, SIZE, 0) == two.shown
                ):
                    return self._joules
            except OSError:  # a forked process opens its own
                pass
            return self._read_or_nan()

        return read

    def _read_or_nan(self) -> float:
        try:
            return self.read()
        except MeterError:
            return math.nan

    def check(self) -> None:
        for counter in self._counters:
            counter.check()


class _Counter:
    """One zone's counter, and what it showed last."""

    def __init__(self, zone: Zone) -> None:
        self.file = CounterFile(str(zone.counter))
        self._range = zone.range_uj
        self.shown = self.read()
        self._last = self._microjoules(self.shown)

    def read(self) -> bytes:
        try:
            return self.file.read()
        except OSError as error:
            raise MeterError(f"{self.file.path} is not readable ({error.strerror}).", REMEDY) from error

    def advance(self, shown: bytes) -> int:
        """Take a new value; microjoules since the one before, across a wrap."""
        value, last = self._microjoules(shown), self._last
        self._last, self.shown = value, shown
        passed = (value - last) % self._range
        if passed > self._range / 2:
            raise MeterError(
                f"{self.file.path} went back from {last} to {value} µJ, or was not read for long."
            )
        return passed

    def _microjoules(self, shown: bytes) -> int:
        try:
            return int(shown)
        except ValueError as error:
            raise MeterError(f"{self.file.path} does not hold a number.") from error

    def check(self) -> None:
        """Raise MeterError when the counter was deleted while it was open."""
        if self.file.vanished:
            raise MeterError(f"{self.file.path} vanished.")


def find_zones(root: Path) -> list[Zone]:
    """Unique packages and their DRAM, in order. Raises MeterError with the remedy where there are none.

    Never `core` and `uncore`, which are inside their package, nor `psys`, which holds the packages. A package
    that a second driver shows again (`intel-rapl-mmio`) counts once.
    """
    folders = dict(_zone_folders(root))
    names = {zone_id: _text(folder / "name") for zone_id, folder in folders.items()}
    zones: dict[str, Zone] = {}
    for zone_id in sorted(folders, key=lambda zone_id: ("mmio" in zone_id, zone_id)):
        label = names[zone_id]
        if label == "dram":
            label = f"{names.get(zone_id.rpartition(':')[0], '')}/dram"
        if label.startswith("package-") and label not in zones:
            folder = folders[zone_id]
            zones[label] = Zone(label, folder / "energy_uj", _range_uj(folder))
    if not zones:
        raise MeterError(
            f"No CPU energy counter under {root}: that needs Linux on a CPU with RAPL (Intel, AMD), "
            "and most virtual machines do not pass it through.",
            "On bare metal: sudo modprobe intel_rapl_msr.",
        )
    return sorted(zones.values(), key=lambda zone: zone.label)


def _zone_folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Zone folders by their id (`intel-rapl:0:1`): sysfs shows them as links at the top, and nested."""
    for entry in root.iterdir() if root.is_dir() else ():
        real = entry.resolve()
        for folder in [real, *real.rglob("*:*")]:
            if ":" in folder.name and (folder / "name").is_file():
                yield folder.name, folder


def _range_uj(folder: Path) -> int:
    path = folder / "max_energy_range_uj"
    text = _text(path)
    if not text.isdigit() or int(text) == 0:
        raise MeterError(f"{path} does not hold a positive number: {text[:40]!r}.")
    return int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError as error:
        raise MeterError(f"{path} is not readable ({error.strerror}).", REMEDY) from error
