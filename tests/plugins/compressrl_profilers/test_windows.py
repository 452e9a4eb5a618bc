import itertools
import time

import pytest

from compressrl_profilers import windows
from compressrl_profilers.meters import MeterError
from compressrl_profilers.windows import Window, measure_windows, window
from compressrl_profilers.work import Work


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


def _work(value=None):
    return Work(itertools.repeat(value))


def test_a_window_counts_joules_ticks_decisions_and_time(monkeypatch):
    monkeypatch.setattr(windows, "SHARP_SECONDS", 10.0)  # one reading a chunk, however busy the machine
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


def test_nothing_idles_without_meters():
    idle, (side,) = measure_windows([_work()], 3, 0.01)
    assert (idle, len(side)) == ([], 3)


def test_a_reading_that_was_interrupted_is_taken_again():
    class Interrupted(_Clockwork):
        def read(self):
            value = super().read()
            if self.readings == 1:
                time.sleep(0.005)
            return value

    before = time.perf_counter()
    moment, joules = windows._reading([Interrupted()])
    assert joules[0] > 2.0, "not the first, whose moment is unknown"
    assert moment - before >= 0.005


def _ticking(per_second):
    """Windows of a counter that moves so often a second, without waiting for them."""

    def taken(work, seconds, meters):
        decisions = 0 if work is windows.parked else 1000
        return Window(seconds, seconds, decisions, (seconds,), (int(per_second * seconds),), None)

    return taken


def test_sides_and_idle_windows_are_interleaved_after_a_warm_up(monkeypatch):
    order = []

    def taken(work, seconds, meters):
        order.append("-" if work is windows.parked else next(work._steps))
        return _ticking(1000)(work, seconds, meters)

    monkeypatch.setattr(windows, "window", taken)
    sides = [_work("A"), _work("B")]
    idle, (base, compressed) = measure_windows(sides, 2, 1.0, [_Clockwork()])

    assert "".join(order) == "AB-ABBA-"
    assert (len(idle), len(base), len(compressed)) == (2, 2, 2)
    assert all(window.decisions == 0 for window in idle)


@pytest.mark.parametrize(("per_second", "seconds"), [(1000, 1.0), (75, 1.0), (25, 3.0), (10, 7.5)])
def test_windows_stretch_for_a_counter_that_needs_it(monkeypatch, per_second, seconds):
    monkeypatch.setattr(windows, "window", _ticking(per_second))
    idle, (side,) = measure_windows([_work()], 2, 1.0, [_Clockwork()])
    assert [taken.seconds for taken in [*idle, *side]] == pytest.approx([seconds] * 4)


@pytest.mark.parametrize("per_second", [0, 7])
def test_a_counter_that_no_window_is_long_enough_for_is_refused_at_once(monkeypatch, per_second):
    monkeypatch.setattr(windows, "window", _ticking(per_second))
    with pytest.raises(MeterError, match=f"clockwork moved {per_second} times in 1 s: too slow"):
        measure_windows([_work()], 2, 1.0, [_Clockwork()])


def test_longer_windows_as_asked_take_a_slower_counter(monkeypatch):
    monkeypatch.setattr(windows, "window", _ticking(3))
    _, (side,) = measure_windows([_work()], 2, 30.0, [_Clockwork()])
    assert [taken.seconds for taken in side] == [30.0, 30.0]


def test_a_batterys_windows_are_not_judged_by_their_short_warm_up(monkeypatch):
    lengths = []

    def taken(work, seconds, meters):
        lengths.append(seconds)
        return _ticking(0.1)(work, seconds, meters)

    monkeypatch.setattr(windows, "window", taken)
    _, (side,) = measure_windows([_work()], 2, 600.0, [_Clockwork()])
    assert lengths == [10.0, 600.0, 600.0, 600.0, 600.0]
    assert [taken.ticks for taken in side] == [(60,), (60,)]


def test_a_counter_that_slows_down_after_the_warm_up_is_refused(monkeypatch):
    speeds = iter([1000, 1000, 40])
    monkeypatch.setattr(windows, "window", lambda *args: _ticking(next(speeds))(*args))
    with pytest.raises(MeterError, match="clockwork moved 40 times in a window of 1 s; a figure needs 50"):
        measure_windows([_work()], 2, 1.0, [_Clockwork()])
