"""The contracts pass on plugins that keep to them."""

import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest

from compressrl import Lab, Option, Policy, environments, rollout
from compressrl.records import Latency
from compressrl.testing import (
    TINY,
    AlgorithmContract,
    CompressorContract,
    ProfilerContract,
    RandomSearch,
    ReferenceRuntime,
    RuntimeContract,
)
from compressrl.training import TrainingSession


class TestRandomSearch(AlgorithmContract):
    plugin = RandomSearch
    steps = 200


def test_random_search_learns_the_tiny_environment():
    lab = Lab(TINY, 0, training=TrainingSession(steps=2000))
    policy = RandomSearch().train(lab)
    untrained = RandomSearch().train(Lab(TINY, 0))
    before, after = (
        rollout.run_episodes(p, lambda: environments.make(TINY), range(20)).mean_return
        for p in (untrained, policy)
    )
    assert before < 5
    assert after > 15  # of 25


class TestReferenceRuntime(RuntimeContract):
    plugin = ReferenceRuntime


@dataclass(frozen=True)
class FurtherTraining:
    """Trains on: the simplest compressor that uses the lab's algorithm."""

    steps: Annotated[int, Option("environment steps", low=1)] = 100

    def compress(self, policy: Policy, lab: Lab) -> Policy:
        _ = policy.network  # only the float form can be trained
        return lab.train(self.steps, start=policy)


class TestFurtherTraining(CompressorContract):
    plugin = FurtherTraining
    algorithm = RandomSearch()


class Clock:
    """Counts CPU time, and times workloads."""

    quantity, unit = "latency", "s"

    def available(self):
        return True, "time.process_time"

    def read(self):
        return time.process_time()

    def measure(self, workloads):
        return [self._time(workload) for workload in workloads]

    def _time(self, workload):
        started = time.perf_counter()
        for observation in workload.observations[:100]:
            workload.function(observation)
        return Latency(mean_us=(time.perf_counter() - started) * 1e4, runs=100)


class TestClock(ProfilerContract):
    plugin = Clock


class Absent:
    quantity, unit, cumulative = "energy", "J", False

    def available(self):
        return False, "no meter; buy one"

    def read(self):
        return None


class TestAbsent(ProfilerContract):
    plugin = Absent


def test_an_assertion_in_a_contract_shows_its_values():
    with pytest.raises(AssertionError, match=r"assert \(1\.0 is not None\) == False|where|1\.0"):
        TestAbsent().test_a_reading_is_a_finite_number_or_none_where_there_is_no_meter(Lying())


class Lying(Absent):
    def read(self):
        return 1.0


def test_every_contract_has_a_dozen_tests():
    for contract in (AlgorithmContract, CompressorContract, ProfilerContract, RuntimeContract):
        assert np.sum([name.startswith("test_") for name in dir(contract)]) >= 11
