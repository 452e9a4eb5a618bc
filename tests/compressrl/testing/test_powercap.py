"""The fake powercap tree: it must look like sysfs, or whatever is tested against it proves nothing."""

import os
import time
from pathlib import Path

import pytest

from compressrl.testing.powercap import FakePowercap


def test_the_tree_is_laid_out_as_in_sysfs(tmp_path):
    fake = FakePowercap(tmp_path, packages=2, psys=True, mmio=True)

    links = [path for path in tmp_path.iterdir() if path.is_symlink()]
    names = {path.name: (path / "name").read_text().strip() for path in links}

    assert names == {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "uncore",
        "intel-rapl:0:2": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:1:0": "core",
        "intel-rapl:1:1": "uncore",
        "intel-rapl:1:2": "dram",
        "intel-rapl:2": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    assert {path.name for path in tmp_path.iterdir()} - names.keys() == {"intel-rapl", "intel-rapl-mmio"}
    assert all(not path.readlink().is_absolute() for path in links), "the tree may be mounted elsewhere"
    nested = tmp_path / "intel-rapl" / "intel-rapl:0" / "intel-rapl:0:2"
    assert (tmp_path / "intel-rapl:0:2").resolve() == nested.resolve()
    assert all(int(fake.counter(zone).read_text()) == 0 for zone in fake.zones)
    assert int((tmp_path / "intel-rapl:0" / "max_energy_range_uj").read_text()) == fake.range_uj


def test_dram_can_be_left_out(tmp_path):
    assert FakePowercap(tmp_path, dram=False).zones == ["package-0", "package-0/core", "package-0/uncore"]


def test_advancing_writes_in_place_and_wraps_at_the_range(tmp_path):
    fake = FakePowercap(tmp_path, range_uj=10_000_000)
    descriptor = os.open(fake.counter("package-0"), os.O_RDONLY)

    fake.advance(7.5)
    assert int(os.pread(descriptor, 64, 0)) == 7_500_000
    fake.advance(4)

    assert int(os.pread(descriptor, 64, 0)) == 1_500_000
    assert fake.joules("package-0") == 1.5
    assert fake.joules("package-0/core") == 0
    os.close(descriptor)


def test_constant_power_comes_from_another_process_and_ends_with_the_block(tmp_path):
    fake = FakePowercap(tmp_path, psys=True, range_uj=30_000_000)
    fake.set(29)
    started = time.monotonic()
    with fake.constant_power({"package-0": 10.0, "psys": 20.0}):
        while fake.joules("psys") < 4:
            assert time.monotonic() - started < 60
            time.sleep(0.005)
        package, psys = fake.joules("package-0"), fake.joules("psys")
    left = fake.joules("package-0")
    time.sleep(0.05)

    assert package == pytest.approx(1.0, abs=0.3), "29 + 2 J wrapped at 30"
    assert psys == pytest.approx(4.0, abs=0.5)
    assert fake.joules("package-0") == left


def test_counters_can_be_broken_in_every_way(tmp_path):
    fake = FakePowercap(tmp_path, packages=3)
    fake.make_unreadable("package-0")
    fake.remove("package-1")
    fake.write(b"garbage\n", "package-2")

    with pytest.raises(IsADirectoryError):
        fake.counter("package-0").read_bytes()
    assert not fake.counter("package-1").exists()
    assert fake.counter("package-2").read_bytes().startswith(b"garbage")


def test_it_needs_the_standard_library_only():
    source = Path(FakePowercap.__init__.__code__.co_filename).read_text()

    assert "import numpy" not in source
    assert "from compressrl" not in source
