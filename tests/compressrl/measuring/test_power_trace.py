"""Power traces: right about watts, and no thread or failing meter troubles the run."""

from __future__ import annotations

import csv
import math
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressrl.errors import UsageError
from compressrl.measuring import power_trace
from compressrl.measuring.power_trace import PowerSampler, PowerTrace


class Meter:
    """40 W; `broken` readings raise, `absent` ones are None."""

    quantity, unit = "energy", "J"

    def __init__(self, broken=(), absent=(), available=(True, "a meter")):
        self.broken, self.absent, self.readings = broken, absent, 0
        self._available = available

    def available(self):
        return self._available

    def read(self):
        self.readings += 1
        if self.readings in self.broken:
            raise OSError("gone")
        return None if self.readings in self.absent else 1000 + 40 * time.perf_counter()


class Gauge(Meter):
    quantity, unit = "memory", "B"


def _wait_for(meter, readings):
    deadline = time.monotonic() + 10
    while meter.readings < readings:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _threads():
    return [t for t in threading.enumerate() if t.name == "compressrl power trace"]


def test_constant_power_is_seen_as_such_from_the_first_to_the_last_moment():
    with PowerSampler(Meter(), hertz=100) as sampler:
        assert len(_threads()) == 1
        time.sleep(0.5)
    trace = sampler.trace
    assert trace.seconds[0] == trace.joules[0] == 0.0
    assert trace.seconds[-1] >= 0.5
    assert 2 < len(trace.seconds) <= 2 + 100 * trace.seconds[-1]
    assert (np.diff(trace.seconds) > 0).all()
    assert math.isnan(trace.watts[0])
    assert np.median(trace.watts[1:]) == pytest.approx(40, rel=0.05)
    assert trace.joules[-1] == pytest.approx(40 * trace.seconds[-1], rel=0.05)


def test_a_block_shorter_than_a_period_has_its_two_ends():
    with PowerSampler(Meter()) as sampler:
        time.sleep(0.005)
    assert len(sampler.trace.seconds) == 2
    assert sampler.trace.seconds[1] >= 0.005


def test_no_thread_is_left_when_the_block_raises():
    with pytest.raises(ZeroDivisionError), PowerSampler(Meter(), 100):
        raise ZeroDivisionError
    assert _threads() == []


def test_a_meter_that_fails_is_nan_there_and_the_run_goes_on():
    meter = Meter(broken=(3,), absent=(5,))
    with PowerSampler(meter, 100) as sampler:
        _wait_for(meter, 8)
    trace = sampler.trace
    assert np.flatnonzero(np.isnan(trace.joules)).tolist() == [2, 4]
    assert np.flatnonzero(np.isnan(trace.watts)).tolist() == [0, 2, 3, 4, 5]


def test_a_meter_that_never_reads_gives_a_trace_of_nan():
    with PowerSampler(Meter(broken=range(1000)), 100) as sampler:
        time.sleep(0.03)
    assert np.isnan(sampler.trace.joules).all()


def test_joules_count_from_the_first_reading_that_there_was():
    with PowerSampler(Meter(broken=(1,))) as sampler:
        time.sleep(0.12)
    assert sampler.trace.joules[1] == 0.0


def test_storage_grows_and_loses_nothing(monkeypatch):
    monkeypatch.setattr(power_trace, "INITIAL_SAMPLES", 2)
    meter = Meter()
    with PowerSampler(meter, 100) as sampler:
        _wait_for(meter, 9)
    assert len(sampler.trace.joules) == meter.readings >= 10
    assert not np.isnan(sampler.trace.joules).any()


def test_samples_know_what_was_being_done():
    meter = Meter()
    with PowerSampler(meter, 100) as sampler:
        for task in ("training", "training", "profiling"):
            time.sleep(0.03)
            sampler.mark(task)
        time.sleep(0.03)
    tasks = sampler.trace.tasks
    assert tasks[0] == ""
    assert tasks[-1] == "profiling"
    assert list(dict.fromkeys(tasks)) == ["", "training", "profiling"]
    assert len(tasks) == meter.readings


@pytest.mark.parametrize("hertz", [0.0, 9.9, 101.0, math.nan])
def test_a_rate_out_of_range_is_refused(hertz):
    with pytest.raises(UsageError, match="choose 10 to 100"):
        PowerSampler(Meter(), hertz)


def test_only_joules_make_power():
    with pytest.raises(UsageError, match="not memory"):
        PowerSampler(Gauge())


def test_the_meter_is_the_first_that_reads_joules_here():
    absent, here = Meter(available=(False, "no RAPL; run on bare metal.")), Meter()
    assert power_trace.find_meter([Gauge(), absent, here]) == (here, "a meter")
    with pytest.raises(UsageError, match=r"No power trace: no RAPL; run on bare metal\."):
        power_trace.find_meter([Gauge(), absent])
    with pytest.raises(UsageError, match="no energy profiler"):
        power_trace.find_meter([Gauge()])


@given(st.lists(st.one_of(st.floats(0, 1e6), st.just(math.nan)), min_size=1, max_size=8))
def test_a_written_trace_reads_back(tmp_path_factory, joules):
    path = tmp_path_factory.mktemp("trace") / "power.csv"
    seconds = np.arange(len(joules)) * 0.05
    trace = PowerTrace(seconds, np.array(joules), ("a, task",) * len(joules))
    trace.write_csv(path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name, values in (("seconds", seconds), ("joules", trace.joules), ("watts", trace.watts)):
        read = [float(row[name] or "nan") for row in rows]
        np.testing.assert_allclose(read, values, atol=1e-6)
    assert {row["task"] for row in rows} == {"a, task"}


def test_nothing_but_the_trace_is_left_in_its_folder(tmp_path: Path):
    PowerTrace(np.zeros(1), np.zeros(1), ("",)).write_csv(tmp_path / "power.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["power.csv"]
