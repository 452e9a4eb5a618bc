"""A powercap tree without hardware: what Linux shows under /sys/class/powercap, in an ordinary folder.

    fake = FakePowercap(tmp_path, packages=2, psys=True)
    monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", str(fake.root))
    fake.advance(1.5, "package-0")
    with fake.constant_power({"package-0": 40.0}):
        ...

Counters are fixed-width numbers that are overwritten in place, as the kernel's are: a replaced file would
leave a reader that keeps it open with a dead descriptor. Needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

INTEL_RANGE_UJ = 262_143_328_850  # 2**32 - 1 units of 61 µJ: what most Intel packages show
PERIOD_SECONDS = 0.001  # how often RAPL moves
# 16 digits: the eight low ones, which change, share one aligned word, so that no reader sees half a carry.
_WIDTH = 16


class FakePowercap:
    """A tree of RAPL zones under `root`.

    packages: number of `package-<n>` zones, each with `core`, `uncore` and (with `dram`) `dram` inside
    psys:     add the platform zone, a superset of the packages
    mmio:     add the duplicate of package-0 that laptops show as `intel-rapl-mmio:0`
    range_uj: `max_energy_range_uj`; the counters wrap there
    Zones are named `package-0`, `package-0/dram`, `psys`, `mmio/package-0`.
    """

    def __init__(
        self,
        root: Path,
        packages: int = 1,
        *,
        dram: bool = True,
        psys: bool = False,
        mmio: bool = False,
        range_uj: int = INTEL_RANGE_UJ,
    ) -> None:
        self.root = root
        self.range_uj = range_uj
        self._folders: dict[str, Path] = {}
        for number in range(packages):
            self._add(f"package-{number}", f"intel-rapl:{number}")
            for index, name in enumerate(["core", "uncore", "dram"][: 3 if dram else 2]):
                self._add(f"package-{number}/{name}", f"intel-rapl:{number}/intel-rapl:{number}:{index}")
        if psys:
            self._add("psys", f"intel-rapl:{packages}")
        if mmio:
            self._add("mmio/package-0", "intel-rapl-mmio:0")

    @property
    def zones(self) -> list[str]:
        return list(self._folders)

    def counter(self, zone: str) -> Path:
        """The zone's `energy_uj` file."""
        return self._folders[zone] / "energy_uj"

    def joules(self, zone: str) -> float:
        """What the counter shows now."""
        return int(self.counter(zone).read_bytes()) / 1e6

    def set(self, joules: float, zone: str = "package-0") -> None:
        """Put the counter to this value, in place, modulo its range."""
        self.write(_digits(round(joules * 1e6) % self.range_uj), zone)

    def advance(self, joules: float, zone: str = "package-0") -> None:
        """Add to one zone's counter; zones around or inside it do not move."""
        self.set(self.joules(zone) + joules, zone)

    def write(self, content: bytes, zone: str = "package-0") -> None:
        """Overwrite the counter's bytes in place with anything, garbage too."""
        descriptor = os.open(self.counter(zone), os.O_WRONLY)
        os.pwrite(descriptor, content, 0)
        os.close(descriptor)

    def remove(self, zone: str = "package-0") -> None:
        """Let the counter vanish, as when a driver is unloaded."""
        self.counter(zone).unlink()

    def make_unreadable(self, zone: str = "package-0") -> None:
        """Put a folder in the counter's place: unlike mode 0400, root cannot read that either."""
        self.remove(zone)
        self.counter(zone).mkdir()

    @contextlib.contextmanager
    def constant_power(
        self, watts: Mapping[str, float], period_seconds: float = PERIOD_SECONDS
    ) -> Iterator[None]:
        """Advance zones at constant power, by a process of its own, until the block is left.

        Each write holds the energy of the time that really passed, so a late write is late but not wrong.
        """
        zones = [[str(self.counter(zone)), power] for zone, power in watts.items()]
        job = json.dumps({"zones": zones, "range_uj": self.range_uj, "period": period_seconds})
        # By path and isolated: it starts in some 20 ms and imports nothing of the package.
        command = [sys.executable, "-I", __file__, job]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdout.readline()  # it writes
            try:
                yield
            finally:
                writer.stdin.close()

    def _add(self, zone: str, folder: str) -> None:
        path = self.root / folder.partition(":")[0] / folder  # below its control type, as in sysfs
        path.mkdir(parents=True)
        (path / "name").write_text(zone.rpartition("/")[2] + "\n")
        (path / "max_energy_range_uj").write_text(f"{self.range_uj}\n")
        (path / "energy_uj").write_bytes(_digits(0))
        (self.root / path.name).symlink_to(path.relative_to(self.root))  # sysfs shows all at the top, too
        self._folders[zone] = path


def _digits(microjoules: int) -> bytes:
    return b"%0*d\n" % (_WIDTH, microjoules)


def _write_until_closed(job: str) -> None:
    """Run the writer until standard input closes, which it also does when the test's process dies."""
    parsed = json.loads(job)
    zones = [(os.open(path, os.O_RDWR), watts) for path, watts in parsed["zones"]]
    starts = [int(os.pread(descriptor, 64, 0)) for descriptor, _ in zones]
    # A counter in hardware waits for no CPU: on a busy machine only a real-time process comes near that.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    began = time.monotonic()
    sys.stdout.write("started\n")
    sys.stdout.flush()
    while not select.select([sys.stdin], [], [], parsed["period"])[0]:
        elapsed = time.monotonic() - began
        for (descriptor, watts), start in zip(zones, starts, strict=True):
            energy = start + round(watts * elapsed * 1e6)
            os.pwrite(descriptor, _digits(energy % parsed["range_uj"]), 0)


if __name__ == "__main__":
    _write_until_closed(sys.argv[1])
