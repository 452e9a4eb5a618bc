"""Against real meters; skipped, with the reason that the program itself gives, where there is none."""

from __future__ import annotations

import time

import pytest

from compressrl_profilers.energy import EnergyProfiler

pytestmark = pytest.mark.hardware


@pytest.fixture
def profiler() -> EnergyProfiler:
    profiler = EnergyProfiler()
    available, reason = profiler.available()
    if not available:
        pytest.skip(reason)
    return profiler


def test_a_busy_second_costs_between_a_tenth_of_a_joule_and_a_kilojoule(profiler: EnergyProfiler) -> None:
    before = profiler.read()
    end = time.perf_counter() + 1
    while time.perf_counter() < end:
        pass
    after = profiler.read()
    assert before is not None
    assert after is not None
    assert 0.1 < after - before < 1000
