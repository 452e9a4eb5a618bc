"""The energy profiler: without a meter here, and with a fake powercap tree."""

import json
import os
import pickle
from dataclasses import asdict
from typing import ClassVar

import numpy as np
import pytest

from compressrl import options
from compressrl.errors import OptionError
from compressrl.interfaces import Workload
from compressrl.testing import ProfilerContract
from compressrl.testing.policies import states, tiny_policy
from compressrl.testing.powercap import FakePowercap
from compressrl_profilers import energy_record
from compressrl_profilers.battery import BatteryMeter
from compressrl_profilers.energy import EnergyProfiler
from compressrl_profilers.figures import Metered
from compressrl_profilers.windows import Window

EVERY_RECORD = {
    "zones", "windows", "window_seconds", "decisions", "counter_period_seconds",
    "gross_joules_per_decision", "net_joules_per_decision", "control_step",
}  # fmt: skip
SHORT = {"windows": 2, "window_seconds": 0.5}


@pytest.fixture
def no_meter(monkeypatch):
    monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", "/nowhere")


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", str(tmp_path / "powercap"))
    return FakePowercap(tmp_path / "powercap", packages=2, psys=True)


def _workload(function, label="baseline"):
    return Workload(label, tiny_policy(), "reference", "", {}, function, states(100))


def _spend(cycles):
    values = np.ones(cycles)
    return lambda _: values.sum()


@pytest.mark.usefixtures("no_meter")
class TestContractWithoutMeter(ProfilerContract):
    plugin = EnergyProfiler
    options: ClassVar = {"windows": 2}


@pytest.mark.usefixtures("fake")
class TestContractWithMeter(ProfilerContract):
    plugin = EnergyProfiler

    @pytest.fixture
    def profiler(self):
        return EnergyProfiler(**SHORT)

    @pytest.fixture
    def workloads(self, fake):
        with fake.constant_power({"package-0": 40.0}):
            yield [_workload(_spend(10_000)), _workload(_spend(100), "compressed")]


@pytest.mark.usefixtures("no_meter")
class TestWithoutMeter:
    def test_reading_is_none_with_a_reason_never_an_estimate(self):
        profiler = EnergyProfiler()
        available, reason = profiler.available()
        assert not available
        assert "needs Linux on a CPU with RAPL" in reason
        assert profiler.read() is None

    def test_joules_are_estimated_from_cpu_time_and_say_so(self):
        base, compressed = EnergyProfiler(windows=4).measure(
            [_workload(_spend(200_000)), _workload(_spend(100), "compressed")]
        )

        assert base.kind == compressed.kind == "estimated"
        assert base.joules_per_decision == pytest.approx(4.0 * base.cpu_seconds_per_decision)
        assert base.ci95 == pytest.approx((base.cpu_seconds_per_decision, 15 * base.cpu_seconds_per_decision))
        assert base.source == "CPU time x 4 W per core (assumed, range 1-15 W)"
        assert "No CPU energy counter under /nowhere" in base.reason
        assert base.details["workload"] == energy_record.WORKLOAD
        assert base.details.keys() >= EVERY_RECORD
        assert base.details["zones"] == []
        assert base.below_resolution is None
        assert compressed.below_resolution is False
        assert 0 < compressed.joules_per_decision < base.joules_per_decision / 5

    def test_ones_own_watts_leave_the_interval_of_the_cpu_time(self):
        profiler = EnergyProfiler(windows=4, watts_per_core=6.5)
        (record,) = profiler.measure([_workload(_spend(10_000))])

        low, high = record.ci95
        assert record.joules_per_decision == pytest.approx(6.5 * record.cpu_seconds_per_decision)
        assert low < record.joules_per_decision < high
        assert record.source == "CPU time x 6.5 W per core (as set)"
        assert [low / 6.5, high / 6.5] == pytest.approx(record.details["cpu_seconds_ci95"])


class TestWithMeter:
    def test_reading_is_cumulative_joules_of_packages_and_dram(self, fake):
        profiler = EnergyProfiler()
        first = profiler.read()
        fake.advance(1.5, "package-1")
        fake.advance(0.5, "package-0/dram")
        fake.advance(9.0, "psys")

        assert profiler.read() - first == 2.0
        assert profiler.available() == (
            True,
            "powercap package-0, package-0/dram, package-1, package-1/dram",
        )

    def test_a_counter_that_fails_reads_none_and_comes_back(self, fake):
        profiler = EnergyProfiler()
        profiler.read()
        fake.write(b"garbage_________\n")
        assert profiler.read() is None
        fake.set(3.0)
        assert profiler.read() == 3.0

    def test_a_counter_that_goes_back_is_no_energy(self, fake):
        fake.set(100.0)
        profiler = EnergyProfiler()
        fake.advance(1.0)
        assert profiler.available()[0]
        first = profiler.read()
        fake.set(0.0)
        assert profiler.read() is None, "and not a whole range"
        fake.advance(2.0)
        assert profiler.read() == first + 2.0

    def test_a_counter_that_goes_back_meanwhile_ends_in_an_estimate(self, fake):
        fake.set(100.0)
        calls = 0

        def act(_):
            nonlocal calls
            calls += 1
            fake.set(0.0) if calls == 50 else fake.advance(0.001)

        (record,) = EnergyProfiler(**SHORT).measure([_workload(act)])
        assert record.kind == "estimated"
        assert "went back" in record.reason

    def test_an_unreadable_counter_gives_the_remedy_and_an_estimate(self, fake):
        fake.make_unreadable("package-1")
        profiler = EnergyProfiler(windows=2)
        (record,) = profiler.measure([_workload(_spend(100))])

        assert profiler.read() is None
        assert "sudo chmod a+r" in profiler.available()[1]
        assert record.kind == "estimated"
        assert "sudo chmod a+r" in record.reason

    def test_a_pickled_profiler_opens_the_meter_anew(self, fake):
        profiler = EnergyProfiler(windows=4)
        profiler.read()
        copy = pickle.loads(pickle.dumps(profiler))
        assert copy == profiler
        assert "_found" not in vars(copy)
        assert copy.read() == 0.0

    def test_net_energy_is_what_decisions_add_to_the_idle_machine(self, fake):
        # 10 W idle in one package; each decision adds 1 mJ in the other.
        with fake.constant_power({"package-0": 10.0}):
            base, half = EnergyProfiler(**SHORT).measure(
                [
                    _workload(lambda _: fake.advance(0.001, "package-1")),
                    _workload(lambda _: fake.advance(0.0005, "package-1"), "compressed"),
                ]
            )

        assert base.kind == half.kind == "simulated"
        assert "nothing was measured" in base.reason
        assert base.joules_per_decision == pytest.approx(1e-3, rel=0.1)
        assert half.joules_per_decision == pytest.approx(0.5e-3, rel=0.1)
        assert base.details["idle_watts"] == pytest.approx(10.0, rel=0.1)
        assert base.details["gross_joules_per_decision"] > base.details["net_joules_per_decision"]
        assert base.details.keys() >= EVERY_RECORD
        assert base.details["zones"] == [
            "package-0", "package-0/dram", "package-1", "package-1/dram",
        ]  # fmt: skip
        assert base.details["counter_period_seconds"] < 0.02
        assert base.details["control_step"] is None, "these observations come from no environment"
        assert base.ci95[0] < base.joules_per_decision < base.ci95[1]
        assert base.below_resolution is None
        assert half.below_resolution is False
        assert 0 < base.details["cpu_share"] <= 1
        json.dumps(asdict(base), allow_nan=False)

    def test_measuring_looks_for_meters_anew(self, fake, monkeypatch):
        root = str(fake.root)
        monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", "/nowhere")
        profiler = EnergyProfiler(**SHORT)
        assert not profiler.available()[0]
        monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", root)
        with fake.constant_power({"package-0": 10.0}):
            assert profiler.measure([_workload(_spend(100))])[0].kind == "simulated"

    def test_a_counter_slower_than_any_window_allows_is_refused(self, fake):
        with fake.constant_power({"package-0": 10.0}, period_seconds=0.5):
            (record,) = EnergyProfiler(**SHORT).measure([_workload(_spend(100))])
        assert record.kind == "estimated"
        assert "too slow, a figure needs 50 moves" in record.reason

    def test_a_counter_that_vanishes_meanwhile_ends_in_an_estimate(self, fake):
        calls = 0

        def act(_):
            nonlocal calls
            calls += 1
            if calls == 50:
                fake.remove("package-0")

        (record,) = EnergyProfiler(**SHORT).measure([_workload(act)])
        assert record.kind == "estimated"
        assert "vanished" in record.reason

    @pytest.mark.slow
    def test_constant_power_of_40_watts_across_wraps(self, tmp_path, monkeypatch):
        monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", str(tmp_path / "wrapping"))
        wrapping = FakePowercap(tmp_path / "wrapping", packages=2, psys=True, range_uj=15_000_000)
        with wrapping.constant_power({"package-0": 25.0, "package-1/dram": 15.0, "psys": 60.0}):
            (record,) = EnergyProfiler(windows=4).measure([_workload(_spend(100))])

        assert record.details["watts"] == pytest.approx(40.0, rel=0.01)
        assert record.details["idle_watts"] == pytest.approx(40.0, rel=0.01)
        low, high = record.ci95
        assert low < 0 < high, "the power did not change: a decision added nothing"


class TestBelowResolution:
    idle = (Window(1.0, 0.0, 0, (10.0,), (50,), 0.0), Window(1.0, 0.0, 0, (10.0,), (50,), 0.0))

    def _compare(self, base_joules, joules):
        meter = type(
            "RealMeter", (), {"source": "powercap package-0", "zones": ("package-0",), "simulated": False}
        )()
        sides = [
            [Window(1.0, 1.0, 1000, (value,), (500,), 1.0) for value in values]
            for values in (base_joules, joules)
        ]
        base, part = (Metered.of(side, self.idle) for side in sides)
        return energy_record._metered([meter], "", sides[1], self.idle, part, base, None)

    def test_a_difference_whose_interval_holds_zero(self):
        record = self._compare([20.0, 21.0, 22.0], [20.2, 20.9, 22.1])
        assert record.below_resolution is True
        assert record.kind == "measured"
        assert record.details["zones"] == ["package-0"]
        assert record.details["counter_period_seconds"] == pytest.approx(0.002)
        assert record.joules_per_decision == pytest.approx((sum([20.2, 20.9, 22.1]) / 3 - 10) / 1000)

    def test_a_difference_beyond_it(self):
        assert self._compare([20.0, 21.0, 22.0], [25.0, 26.1, 27.0]).below_resolution is False


class TestOrigin:
    meter = type(
        "RealMeter", (), {"source": "powercap package-0", "zones": ("package-0",), "simulated": False}
    )()

    def test_alone_is_measured(self):
        origin = energy_record._origin([self.meter], (0.95, 0.97))
        assert (origin.kind, origin.own, origin.reason) == ("measured", 1.0, "")

    def test_in_company_is_attributed_by_the_share_above_idle(self):
        origin = energy_record._origin([self.meter], (0.5, 0.8))
        assert (origin.kind, origin.cpu_share, origin.own) == ("attributed", 0.5, 0.8)
        assert "Others had 50% of the CPU time" in origin.reason

    def test_unknown_company_is_said(self):
        origin = energy_record._origin([self.meter], None)
        assert (origin.kind, origin.cpu_share) == ("measured", None)
        assert "unknown" in origin.reason

    def test_one_simulated_meter_makes_all_simulated(self):
        fake = type("FakeMeter", (), {"source": "powercap package-0", "simulated": True})()
        origin = energy_record._origin([self.meter, fake], (0.5, 0.8))
        assert (origin.kind, origin.own) == ("simulated", 1.0)


class TestBattery:
    @pytest.fixture
    def battery_root(self, tmp_path, monkeypatch):
        folder = tmp_path / "supply" / "BAT0"
        folder.mkdir(parents=True)
        (folder / "status").write_text("Discharging\n")
        (folder / "energy_now").write_text("0050000000\n")
        monkeypatch.setenv("COMPRESSRL_POWER_SUPPLY_ROOT", str(folder.parent))
        monkeypatch.setattr(BatteryMeter, "min_window_seconds", 1.0)
        return folder

    @pytest.mark.usefixtures("fake", "battery_root")
    def test_it_is_used_only_when_asked_for_and_then_alone(self):
        assert EnergyProfiler().available()[1].startswith("powercap")
        assert EnergyProfiler(battery=True).available() == (True, "battery BAT0 (whole machine)")

    @pytest.mark.usefixtures("no_meter")
    def test_its_windows_are_long_whatever_is_asked(self, battery_root):
        left = 50_000_000

        def drain(_):
            nonlocal left
            left -= 10
            with (battery_root / "energy_now").open("r+") as file:
                file.write(f"{left:010d}\n")

        (record,) = EnergyProfiler(**SHORT, battery=True).measure([_workload(drain)])
        assert record.kind == "simulated"
        assert record.source == "battery BAT0 (whole machine)"
        assert record.details["window_seconds"] >= 1.0
        assert record.joules_per_decision == pytest.approx(10 * 3.6e-3, rel=0.01)

    @pytest.mark.usefixtures("fake")
    def test_plugged_in_the_next_best_meter_is_used_and_the_reason_given(self, fake, battery_root):
        (battery_root / "status").write_text("Charging\n")
        with fake.constant_power({"package-0": 10.0}):
            (record,) = EnergyProfiler(**SHORT, battery=True).measure([_workload(_spend(100))])
        assert record.source.startswith("powercap")
        assert "The battery is not discharging (Charging). Unplug the mains." in record.reason


@pytest.mark.parametrize(
    "text", ["windows=1", "window_seconds=0.5", "window_seconds=nan", "watts_per_core=0"]
)
def test_options_out_of_range_are_refused(text):
    key, value = text.split("=")
    with pytest.raises(OptionError, match=key):
        options.build(EnergyProfiler, "energy", {key: value})


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_reads_the_same_counter(fake):
    profiler = EnergyProfiler()
    profiler.read()
    fake.advance(2.0)
    child = os.fork()
    if child == 0:
        os._exit(0 if profiler.read() == 2.0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
