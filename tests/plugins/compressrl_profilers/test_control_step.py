"""Whether the energy of a whole control step is that of the policy and the environment."""

import time

import numpy as np
import pytest

from compressrl.interfaces import Workload
from compressrl.testing import TINY, tiny_policy
from compressrl.testing.policies import states
from compressrl.testing.powercap import FakePowercap
from compressrl_profilers import control_step
from compressrl_profilers.energy import EnergyProfiler
from compressrl_profilers.windows import Window
from compressrl_profilers.work import Work


def _workload(function, env_id=TINY):
    return Workload("baseline", tiny_policy(), "", "", {}, function, states(100), env_id)


def _busy(seconds):
    def act(_):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return np.zeros(2, np.float32)

    return act


def _windows(cpu_seconds, joules=()):
    return [Window(1.0, cpu, 1000, joules, tuple(500 for _ in joules), None) for cpu in cpu_seconds]


def test_the_parts_of_a_step_without_a_meter(monkeypatch):
    monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", "/nowhere")
    slow, fast = EnergyProfiler(windows=3).measure([_workload(_busy(1e-3)), _workload(_busy(2e-4))])

    slow, fast = slow.details["control_step"], fast.details["control_step"]
    assert slow["joules"] is fast["joules"] is None
    assert slow["cpu_seconds"]["policy"] == pytest.approx(1e-3, rel=0.2)
    assert fast["cpu_seconds"]["policy"] == pytest.approx(2e-4, rel=0.3)
    assert slow["cpu_seconds"]["environment"] == fast["cpu_seconds"]["environment"] < 2e-4
    assert slow["cpu_seconds"]["both"] > 1e-3
    assert fast["cpu_seconds"]["both"] < 1e-3, "its own, not the first policy's"
    assert slow["cpu_seconds"]["adds_up"]
    assert slow["windows"] == control_step.ROUNDS


def test_the_joules_of_a_step_with_a_meter(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", str(tmp_path))
    fake = FakePowercap(tmp_path)

    def act(_):
        fake.advance(0.001)
        return np.zeros(2, np.float32)

    with fake.constant_power({"package-0/dram": 5.0}):
        (record,) = EnergyProfiler(windows=2, window_seconds=0.5).measure([_workload(act)])
    joules = record.details["control_step"]["joules"]
    assert joules["both"] == pytest.approx(1e-3, rel=0.1)
    assert joules["policy"] == pytest.approx(1e-3, rel=0.1)
    assert joules["environment"] == pytest.approx(0, abs=1e-4)
    assert joules["adds_up"]


@pytest.mark.parametrize(
    ("both", "adds_up"), [((3.0, 3.1, 2.9), True), ((3.3, 3.3, 3.3), True), ((4.0, 4.01, 3.99), False)]
)
def test_a_whole_that_is_more_than_its_parts_is_told(both, adds_up):
    steps = control_step.ControlStep([], _windows([2.0, 2.01, 1.99]), [_windows(both)])
    report = steps.report(0, _windows([1.0, 1.01, 0.99]))["cpu_seconds"]
    assert report["adds_up"] is adds_up
    assert report["both_minus_parts"] == pytest.approx((sum(both) / 3 - 3) / 1000)
    low, high = report["both_minus_parts_ci95"]
    assert low < report["both_minus_parts"] < high


def test_nothing_is_measured_without_an_environment_or_in_a_batterys_windows():
    assert control_step.measure([_workload(_busy(0), env_id="")], 0.1) is None
    assert control_step.measure([_workload(_busy(0))], 600.0) is None


def test_a_meter_that_fails_meanwhile_costs_the_parts_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSRL_POWERCAP_ROOT", str(tmp_path))
    fake = FakePowercap(tmp_path)

    def control_steps(*_):
        fake.counter("package-0").unlink(missing_ok=True)
        return Work(iter(int, 1))

    monkeypatch.setattr(control_step, "control_steps", control_steps)
    with fake.constant_power({"package-0": 5.0}):
        (record,) = EnergyProfiler(windows=2, window_seconds=0.5).measure([_workload(_busy(0))])
    assert record.kind == "simulated"
    assert record.details["control_step"] == {"reason": f"{fake.counter('package-0')} vanished."}
