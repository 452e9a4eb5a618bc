"""Against real meters; skipped, with the reason that the meter itself gives, where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from compressrl.interfaces import Workload
from compressrl.testing.policies import states, tiny_policy
from compressrl.testing.runtimes import ReferenceRuntime
from compressrl_profilers import meters, powercap
from compressrl_profilers.battery import BatteryMeter
from compressrl_profilers.energy import EnergyProfiler
from compressrl_profilers.meters import Meter, MeterError
from compressrl_profilers.powercap import PowercapMeter
from compressrl_profilers.zeus_devices import GpuMeter

pytestmark = pytest.mark.hardware
M = TypeVar("M", bound=Meter)


def _open(meter: Callable[[], M]) -> M:
    try:
        return meter()
    except MeterError as error:
        pytest.skip(str(error))


def _busy_second(meter: Meter) -> float:
    """Joules of a second in which one core is busy."""
    before = meter.read()
    end = time.perf_counter() + 1
    while time.perf_counter() < end:
        pass
    return meter.read() - before


@pytest.fixture
def rapl(monkeypatch: pytest.MonkeyPatch) -> PowercapMeter:
    monkeypatch.delenv(powercap.ROOT_VARIABLE, raising=False)
    return _open(PowercapMeter)


def test_a_busy_second_costs_between_a_tenth_of_a_joule_and_a_kilojoule(rapl: PowercapMeter) -> None:
    assert not rapl.simulated
    assert 0.1 < _busy_second(rapl) < 1000


def test_rapl_measures_a_policy(rapl: PowercapMeter) -> None:
    policy = tiny_policy()
    workload = Workload("", policy, "reference", "", {}, ReferenceRuntime().load(policy), states(100))
    (record,) = EnergyProfiler(windows=3).measure([workload])
    assert record.source.endswith(rapl.source)
    assert record.kind in ("measured", "attributed")
    assert record.details["ticks_per_window"] >= 50
    assert record.details["gross_joules_per_decision"] > 0


def test_zeus_reads_what_our_reader_reads(rapl: PowercapMeter) -> None:
    from zeus.device.cpu import get_cpus

    def zeus_joules() -> float:
        cpus = [cpu for cpu in get_cpus().cpus if cpu.rapl_file.name.startswith("package-")]
        found = [cpu.get_total_energy_consumption() for cpu in cpus]
        return sum(m.cpu_mj + (m.dram_mj or 0.0) for m in found) / 1e3

    zeus_joules()  # starts its helper processes
    before, ours = zeus_joules(), rapl.read()
    time.sleep(3)
    assert rapl.read() - ours == pytest.approx(zeus_joules() - before, rel=0.01)


def test_a_gpu_draws_between_a_watt_and_two_kilowatts() -> None:
    gpus = _open(GpuMeter)
    assert len(gpus.zones) * 1 < _busy_second(gpus) < len(gpus.zones) * 2000


def test_a_gpu_counts_once_this_process_computes_on_it() -> None:
    _open(GpuMeter)
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this build of torch cannot compute on the GPU")
    torch.ones(8, device="cuda").sum().item()
    assert any(isinstance(meter, GpuMeter) for meter in meters.find()[0])


def test_a_battery_gives_some_joules_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPRESSRL_POWER_SUPPLY_ROOT", raising=False)
    gauge = _open(BatteryMeter)
    before = gauge.read()
    time.sleep(60)
    assert 30 < gauge.read() - before < 60 * 200
