import time

import numpy as np
import pytest
from compressrl_profilers import windows
from compressrl_profilers.meters import MeterError
from compressrl_profilers.windows import Decisions, Window, measure_windows, window

from compressrl.interfaces import Workload
from compressrl.testing.policies import tiny_policy


class _Clockwork:
    """A meter that moves by 2 J every `period` readings."""

    source = "clockwork"
    simulated = True

    def __init__(self, period=1):
        self.readings = 0
        self.period = period
        self.checks = 0

    def read(self):
        self.readings += 1
        return 2.0 * (self.readings // self.period)

    def check(self):
        self.checks += 1


def _workload(function, observations=3):
    return Workload(
        "baseline", tiny_policy(), "", "", {}, function, np.arange(observations, dtype=np.float32)[:, None]
    )


def test_decisions_take_the_observations_in_turn():
    seen = []
    loop = Decisions(_workload(lambda observation: seen.append(float(observation[0]))))
    loop.chunk = 5
    assert loop() == 5
    assert loop() == 5
    assert seen == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_the_chunk_fits_the_time_between_two_readings():
    loop = Decisions(_workload(lambda _: None))
    loop.fit_chunk(Window(1.0, 1.0, 20_000, (), (), None))
    assert loop.chunk == 40
    loop.fit_chunk(Window(1.0, 1.0, 3, (), (), None))
    assert loop.chunk == 1


def test_a_window_counts_joules_ticks_decisions_and_time():
    meter = _Clockwork(period=2)
    taken = window(lambda: time.sleep(0.001) or 7, 0.05, [meter])
    chunks = meter.readings - 1
    assert taken.decisions == 7 * chunks
    assert taken.joules == (2.0 * (meter.readings // 2),)
    assert taken.ticks == (meter.readings // 2,)
    assert taken.seconds >= 0.05
    assert meter.checks == 1


def test_cpu_time_is_this_process_and_busy_time_the_machine():
    def work():
        until = time.process_time() + 0.01
        while time.process_time() < until:
            pass
        return 1

    taken = window(work, 0.3, [])
    assert taken.cpu_seconds == pytest.approx(0.01 * taken.decisions, rel=0.2)
    assert taken.busy_seconds >= taken.cpu_seconds - 0.03  # /proc/stat counts in 10 ms


def test_parking_takes_no_decision_and_hardly_any_cpu_time():
    taken = window(windows.parked, 0.1, [_Clockwork()])
    assert taken.decisions == 0
    assert taken.cpu_seconds < 0.05


def test_sides_and_idle_windows_are_interleaved_after_a_warm_up():
    order = []

    def side(name):
        def act(_):
            if order[-1:] != [name]:
                order.append(name)
            time.sleep(0.0001)

        return _workload(act)

    idle, (base, compressed) = measure_windows([side("A"), side("B")], 2, 0.15, [_Clockwork()])

    assert "".join(order) == "ABABA"  # warm-up A B, then (idle) A B, B A (idle)
    assert (len(idle), len(base), len(compressed)) == (2, 2, 2)
    assert all(taken.decisions == 0 for taken in idle)


def test_nothing_idles_without_meters():
    idle, (side,) = measure_windows([_workload(lambda _: None)], 3, 0.01)
    assert (idle, len(side)) == ([], 3)


def test_a_counter_too_slow_for_the_window_is_refused():
    with pytest.raises(MeterError, match=r"clockwork moved \d+ times .* \(option window_seconds"):
        measure_windows([_workload(lambda _: time.sleep(0.0001))], 2, 0.05, [_Clockwork(period=1000)])
