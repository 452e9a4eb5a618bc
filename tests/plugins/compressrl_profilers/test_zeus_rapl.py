"""The unmodified Zeus on the fake powercap tree: it must read there what our own reader reads.

Zeus looks in /sys/class/powercap only, so the tree is mounted there, in a mount namespace of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compressrl.testing.powercap import FakePowercap
from compressrl_profilers.powercap import ROOT_VARIABLE

pytestmark = [pytest.mark.linux_root, pytest.mark.slow]

MOUNT = """
mount -t tmpfs none /sys/class && mkdir /sys/class/powercap || exit
mount --bind "$0" /sys/class/powercap && exec "$@"
"""
READ = """
import json, sys, time
from pathlib import Path
from compressrl_profilers.powercap import PowercapMeter

def zeus_joules(cpus):
    found = [cpu.get_total_energy_consumption() for cpu in cpus]
    return sum(m.cpu_mj + (m.dram_mj or 0.0) for m in found) / 1e3

def read_both(cpus, meter):
    while True:
        started = time.perf_counter()
        joules = zeus_joules(cpus), meter.read()
        if time.perf_counter() - started < 0.005:  # nobody came in between
            return joules

def pass_half_the_range(meter):
    # Zeus notices a wrap up to a second late: its windows must not end just after one.
    zone = Path("/sys/class/powercap/intel-rapl:0")
    half = int((zone / "max_energy_range_uj").read_text()) / 2
    for below in (True, False):
        while (int((zone / "energy_uj").read_text()) < half) != below:
            meter.read()  # ours counts a wrap where it is read in between
            time.sleep(0.002)

if __name__ == "__main__":
    from zeus.device.cpu import get_cpus
    cpus = [cpu for cpu in get_cpus().cpus if cpu.rapl_file.name.startswith("package-")]  # psys is no CPU
    meter = PowercapMeter()
    wait = pass_half_the_range if sys.argv[1] == "wrap" else lambda _: time.sleep(3)
    zeus_joules(cpus)  # starts its helper processes
    wait(meter)
    before = read_both(cpus, meter)
    wait(meter)
    after = read_both(cpus, meter)
    print(json.dumps({
        "zeus": after[0] - before[0], "ours": after[1] - before[1], "simulated": meter.simulated
    }))
"""


@pytest.fixture
def namespace() -> list[str]:
    """The start of a command line that may mount; skips where this user or machine may not."""
    command = ["unshare", "--mount"]
    try:
        probe = ["mount", "-t", "tmpfs", "none", "/sys/class"]
        done = subprocess.run([*command, *probe], capture_output=True, text=True, timeout=20)
    except FileNotFoundError:
        pytest.skip("needs Linux: there is no `unshare` here")
    if done.returncode:
        pytest.skip(f"needs Linux root that may mount: {done.stderr.strip()}")
    return command


def _both(namespace: list[str], tree: FakePowercap, window: str) -> dict[str, float]:
    """Joules of one window by Zeus and by us, from a process that sees the tree in /sys."""
    script = tree.root.parent / "read_both.py"
    script.write_text(READ)
    shell = [*namespace, "sh", "-c", MOUNT, str(tree.root), sys.executable, str(script), window]
    clean = {name: value for name, value in os.environ.items() if name != ROOT_VARIABLE}
    done = subprocess.run(shell, env=clean, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    read: dict[str, float] = json.loads(done.stdout)
    return read


def test_zeus_and_our_reader_agree_within_one_per_cent(namespace: list[str], tmp_path: Path) -> None:
    fake = FakePowercap(tmp_path / "tree", packages=2, psys=True)
    power = {"package-0": 25.0, "package-0/dram": 5.0, "package-0/core": 9.0, "package-1": 10.0, "psys": 70.0}
    with fake.constant_power(power):
        read = _both(namespace, fake, "plain")
    assert read["ours"] == pytest.approx(read["zeus"], rel=0.01)
    assert read["ours"] > 40 * 3 * 0.99
    assert read["simulated"], "a tree that is mounted over sysfs is still not the kernel's"


def test_they_agree_across_a_wrap(namespace: list[str], tmp_path: Path) -> None:
    fake = FakePowercap(tmp_path / "tree", dram=False, range_uj=120_000_000)
    with fake.constant_power({"package-0": 40.0}):
        read = _both(namespace, fake, "wrap")
    assert read["ours"] == pytest.approx(read["zeus"], rel=0.01)
    assert read["ours"] == pytest.approx(120, rel=0.01)
