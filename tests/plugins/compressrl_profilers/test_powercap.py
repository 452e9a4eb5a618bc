"""Our RAPL reader against a fake tree: no machine here has the real one."""

import math
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressrl.testing.powercap import FakePowercap
from compressrl_profilers import powercap
from compressrl_profilers.counter_file import on_sysfs
from compressrl_profilers.meters import MeterError
from compressrl_profilers.powercap import PowercapMeter, find_zones

JOULE = 1_000_000  # µJ


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "powercap"
    monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", str(folder))
    return folder


def _labels(root):
    return [zone.label for zone in find_zones(root)]


def test_packages_and_their_dram_count_and_nothing_that_is_inside_or_around_them(root):
    fake = FakePowercap(root, packages=2, psys=True, mmio=True)
    meter = PowercapMeter()
    expected = {"package-0": 1.0, "package-0/dram": 2.0, "package-1": 4.0, "package-1/dram": 8.0}

    for zone in fake.zones:
        fake.advance(expected.get(zone, 100.0), zone)

    assert meter.read() == 15.0
    assert meter.source == "powercap package-0, package-0/dram, package-1, package-1/dram"


def test_a_package_that_two_drivers_show_is_read_from_the_first(root):
    fake = FakePowercap(root, mmio=True)
    meter = PowercapMeter()
    fake.advance(3.0, "mmio/package-0")
    assert meter.read() == 0.0
    fake.advance(5.0, "package-0")
    assert meter.read() == 5.0


def test_dies_of_one_package_are_all_counted(root):
    fake = FakePowercap(root, packages=2, dram=False)
    for number in range(2):
        (fake.counter(f"package-{number}").parent / "name").write_text(f"package-0-die-{number}\n")
    assert _labels(root) == ["package-0-die-0", "package-0-die-1"]


def test_a_tree_without_links(root, tmp_path):
    fake = FakePowercap(tmp_path / "original", packages=2)
    for zone in fake.zones:
        folder = fake.counter(zone).parent
        shutil.copytree(folder, root / folder.name, ignore=shutil.ignore_patterns("*:*"))
    assert _labels(root) == ["package-0", "package-0/dram", "package-1", "package-1/dram"]


def test_a_tree_below_its_control_type(root):
    FakePowercap(root / "intel-rapl", packages=2)
    assert _labels(root) == ["package-0", "package-0/dram", "package-1", "package-1/dram"]


def _sharp_reading(meter):
    """Joules and their time, from a reading that no other process interrupted."""
    while True:
        before = time.perf_counter()
        joules = meter.read()
        after = time.perf_counter()
        if after - before < 0.0005:
            return joules, after


def test_constant_power_is_read_within_one_per_cent(root):
    fake = FakePowercap(root, packages=2, psys=True, range_uj=25 * JOULE)
    with fake.constant_power({"package-0": 30.0, "package-1/dram": 10.0, "psys": 55.0}):
        meter = PowercapMeter()
        first, started = _sharp_reading(meter)
        for _ in range(20):  # the packages wrap in between
            time.sleep(0.1)
            last, ended = _sharp_reading(meter)
    assert (last - first) / (ended - started) == pytest.approx(40.0, rel=0.01)


def test_a_wrap_between_two_readings_counts_on(root):
    fake = FakePowercap(root, range_uj=10 * JOULE)
    fake.set(9.5)
    meter = PowercapMeter()
    fake.advance(1.25)
    assert fake.joules("package-0") == 0.75
    assert meter.read() == 1.25


@settings(max_examples=50, deadline=None)
@given(start=st.integers(0, 999), steps=st.lists(st.integers(0, 500), max_size=12))
def test_any_row_of_advances_up_to_half_the_range_adds_up(tmp_path_factory, start, steps):
    root = tmp_path_factory.mktemp("powercap")
    fake = FakePowercap(root, dram=False, range_uj=1000)
    fake.set(start / 1e6)
    counter = powercap._Counter(find_zones(root)[0])
    passed = 0
    for step in steps:
        fake.advance(step / 1e6)
        passed += counter.advance(counter.read())
    assert passed == sum(steps)


@settings(max_examples=50)
@given(start=st.integers(0, 999), back=st.integers(1, 499))
def test_any_step_back_is_an_error_and_no_joules(tmp_path_factory, start, back):
    root = tmp_path_factory.mktemp("powercap")
    fake = FakePowercap(root, dram=False, range_uj=1000)
    fake.set(start / 1e6)
    counter = powercap._Counter(find_zones(root)[0])
    fake.advance(-back / 1e6)
    with pytest.raises(MeterError, match="went back"):
        counter.advance(counter.read())
    fake.advance(7 / 1e6)
    assert counter.advance(counter.read()) == 7, "it counts on from there"


def test_a_folder_off_sysfs_is_simulated_and_sysfs_itself_is_not(root):
    FakePowercap(root)
    assert PowercapMeter().simulated
    assert not on_sysfs(root)
    assert on_sysfs(Path("/sys/class"))


def test_the_default_root_is_that_of_linux(monkeypatch):
    monkeypatch.delenv("COMPRESSRL_POWERCAP_ROOT", raising=False)
    monkeypatch.setattr(powercap, "ROOT", "/nowhere")
    with pytest.raises(MeterError, match="under /nowhere: that needs Linux on a CPU with RAPL"):
        PowercapMeter()


def test_an_empty_tree_has_no_counter(root):
    root.mkdir()
    with pytest.raises(MeterError, match="No CPU energy counter"):
        PowercapMeter()


@pytest.mark.parametrize("zone", ["package-0", "package-1/dram"])
def test_an_unreadable_counter_is_refused_with_the_remedy_and_not_left_out(root, zone):
    fake = FakePowercap(root, packages=2)
    fake.make_unreadable(zone)
    with pytest.raises(MeterError, match=r"energy_uj is not readable .*sudo chmod a\+r"):
        PowercapMeter()


def test_counters_that_do_not_count_may_be_broken(root):
    fake = FakePowercap(root, psys=True)
    fake.make_unreadable("package-0/core")
    fake.write(b"garbage", "psys")
    assert PowercapMeter().read() == 0.0


@pytest.mark.parametrize("content", [b"garbage_________\n", b"                \n", b"12.5            \n"])
def test_a_counter_that_holds_no_number_is_refused(root, content):
    fake = FakePowercap(root)
    meter = PowercapMeter()
    fake.write(content)
    with pytest.raises(MeterError, match="does not hold a number"):
        meter.read()
    with pytest.raises(MeterError, match="does not hold a number"):
        PowercapMeter()


@pytest.mark.parametrize("content", ["", "0", "-5", "many"])
def test_a_range_that_is_not_positive_is_refused(root, content):
    fake = FakePowercap(root)
    (fake.counter("package-0").parent / "max_energy_range_uj").write_text(content)
    with pytest.raises(MeterError, match="max_energy_range_uj does not hold a positive number"):
        PowercapMeter()


def test_a_missing_range_is_refused(root):
    fake = FakePowercap(root)
    (fake.counter("package-0").parent / "max_energy_range_uj").unlink()
    with pytest.raises(MeterError, match="max_energy_range_uj is not readable"):
        PowercapMeter()


def test_a_counter_that_vanishes_is_noticed(root):
    fake = FakePowercap(root)
    meter = PowercapMeter()
    meter.check()
    fake.remove("package-0/dram")
    meter.read()
    with pytest.raises(MeterError, match="energy_uj vanished"):
        meter.check()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_counts_on_by_itself(root):
    fake = FakePowercap(root)
    meter = PowercapMeter()
    fake.advance(1.0)
    child = os.fork()
    if child == 0:
        os._exit(0 if meter.read() == 1.0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    fake.advance(1.0)
    assert meter.read() == 2.0


class TestReader:
    """The step loop's function gives what `read` gives."""

    def test_it_follows_the_counters_and_other_readers(self, root):
        fake = FakePowercap(root)
        meter = PowercapMeter()
        read = meter.reader()
        assert read() == meter.read() == 0.0
        fake.advance(1.0)
        assert read() == 1.0
        fake.advance(2.0, "package-0/dram")
        assert meter.read() == 3.0, "a tick that another reader saw first"
        assert read() == meter.reader()() == 3.0

    def test_a_wrap_counts_on(self, root):
        fake = FakePowercap(root, range_uj=10 * JOULE)
        fake.set(9.5)
        read = PowercapMeter().reader()
        fake.advance(1.25)
        assert read() == 1.25

    def test_what_is_no_number_is_nan_until_it_is_one_again(self, root):
        fake = FakePowercap(root)
        read = PowercapMeter().reader()
        fake.write(b"garbage_________\n")
        assert math.isnan(read())
        fake.set(4.0)
        assert read() == 4.0

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_forked_process_counts_on_by_itself_and_misses_a_counter_that_is_gone(self, root):
        fake = FakePowercap(root)
        read = PowercapMeter().reader()
        fake.advance(1.0)
        assert _in_child(lambda: read() == 1.0)
        fake.remove("package-0/dram")
        assert _in_child(lambda: math.isnan(read()))
        assert read() == 1.0, "its own descriptor is still open"


def _in_child(check):
    child = os.fork()
    if child == 0:
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
