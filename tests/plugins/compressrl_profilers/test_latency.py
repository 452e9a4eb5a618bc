import time
from typing import ClassVar

import numpy as np
import pytest

from compressrl.interfaces import Workload
from compressrl.testing import ProfilerContract
from compressrl.testing.policies import states, tiny_policy
from compressrl_profilers.latency import BLOCK, LatencyProfiler


class TestContract(ProfilerContract):
    plugin = LatencyProfiler
    options: ClassVar = {"runs": 200}


def _workload(function, label="baseline", observations=7):
    return Workload(label, tiny_policy(), "reference", "", {}, function, states(observations))


def _spin(seconds):
    def act(_):
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass

    return act


def test_times_are_microseconds_around_each_call():
    (record,) = LatencyProfiler(runs=300).measure([_workload(_spin(0.0003))])
    assert record.runs == 300
    assert 300 <= record.p50_us <= record.p99_us
    assert record.mean_us >= 300
    assert record.p50_us < 3000, "milliseconds, or nanoseconds divided once too little"


def test_the_slower_policy_shows():
    slow, fast = LatencyProfiler(runs=200).measure(
        [_workload(_spin(0.0005)), _workload(_spin(0.0), "compressed")]
    )
    assert slow.p50_us > 10 * fast.p50_us


def test_the_ninety_ninth_percentile_sees_rare_slow_calls():
    calls = 0

    def act(_):
        nonlocal calls
        calls += 1
        if calls % 25 == 0:
            time.sleep(0.002)

    (record,) = LatencyProfiler(runs=500).measure([_workload(act)])
    assert record.p99_us >= 2000 > record.p50_us


def test_sides_run_in_interleaved_blocks_after_a_warm_up():
    order = []
    sides = [_workload(lambda _: order.append("A")), _workload(lambda _: order.append("B"), "compressed")]
    LatencyProfiler(runs=350).measure(sides)
    blocks = ["".join(order[i : i + BLOCK]) for i in range(0, len(order), BLOCK)]
    assert [block[0] for block in blocks] == list("ABBAABABBAABBA")
    assert all(len(set(block)) == 1 for block in blocks)


def test_runs_are_whole_blocks():
    (record,) = LatencyProfiler(runs=350).measure([_workload(lambda _: None)])
    assert record.runs == 400


def test_observations_come_around_in_turn():
    seen = []
    workload = _workload(lambda observation: seen.append(observation.copy()), observations=7)
    LatencyProfiler(runs=100).measure([workload])
    np.testing.assert_array_equal(seen[:20], workload.observations[np.arange(20) % 7])
    assert seen[0].shape == (3,)


def test_the_reading_is_the_wall_clock():
    profiler = LatencyProfiler()
    before = time.perf_counter()
    assert before <= profiler.read() <= time.perf_counter()


def test_no_workload_no_record():
    assert LatencyProfiler().measure([]) == []


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_workloads(count):
    assert len(LatencyProfiler(runs=100).measure([_workload(lambda _: None)] * count)) == count
