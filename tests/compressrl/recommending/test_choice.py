"""The front, the rule, and what is missing, on made-up variants."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressrl import statistics
from compressrl.measuring.workloads import Loaded
from compressrl.progress import silent
from compressrl.recommending import choice, costs
from compressrl.recommending.candidates import Candidate, Trial
from compressrl.recommending.choice import Variant, episodes_needed
from compressrl.records import Energy, Latency, Memory, ModelSize, Retention
from compressrl.testing import tiny_policy

POLICY = tiny_policy("graph")
BLANK = statistics.retention([1.0, 2.0], [1.0, 2.0])


def kept(value: float, low: float, high: float, pairs: int = 40) -> Retention:
    return replace(BLANK, value=value, ci95=(low, high), pairs=pairs)


def variant(
    name: str, value: float = 1.0, low: float = 0.98, size: int = 100, us: float | None = 1.0, **costs: object
) -> Variant:
    loaded = Loaded(name, POLICY, POLICY, "onnx", POLICY)
    trial = Trial(
        Candidate(name, ("a stage",) if name else ()), POLICY, ModelSize(9, size, size, size, 8, 1.0),
        (loaded,), (), 1.0, 0, retention=kept(value, low, 2 * value - low),
    )  # fmt: skip
    return Variant(trial, loaded, Latency(p50_us=us), **costs)


def names(variants) -> list[str]:
    return [v.trial.candidate.pipeline for v in variants]


def test_the_front_is_what_nothing_betters_in_everything():
    slow_but_sure = variant("sure", 1.0, us=9.0, size=400)
    fast = variant("fast", 0.9, us=1.0, size=400)
    small = variant("small", 0.9, us=9.0, size=50)
    poor = variant("poor", 0.9, us=9.0, size=400)
    untimed = variant("untimed", 0.95, us=None, size=400)
    assert names(choice.front([slow_but_sure, fast, small, poor, untimed], "latency")) == [
        "sure",
        "fast",
        "small",
    ]


def test_the_front_minds_the_objective():
    light = variant("light", 0.9, memory=Memory(1, 1, 1, 9))
    heavy = variant("heavy", 1.0, memory=Memory(5, 1, 1, 9))
    assert names(choice.front([light, heavy], "latency")) == ["heavy"]
    assert names(choice.front([light, heavy], "memory")) == ["light", "heavy"]


@given(st.lists(st.tuples(*[st.floats(0.1, 10)] * 3), min_size=1, max_size=12))
def test_whatever_is_off_the_front_is_dominated_by_the_front(figures):
    variants = [variant(str(n), v, size=s, us=t) for n, (v, s, t) in enumerate(figures)]
    front = choice.front(variants, "size")
    assert front
    for off in (v for v in variants if v not in front):
        assert any(
            on.trial.retention.value >= off.trial.retention.value
            and on.trial.model.size_bytes <= off.trial.model.size_bytes
            and on.latency.p50_us <= off.latency.p50_us
            for on in front
        )


def test_only_the_lower_end_of_the_interval_qualifies():
    sure, unsure = variant("sure", 0.98, low=0.97), variant("unsure", 1.5, low=0.969)
    dropped = replace(sure, trial=replace(sure.trial, dropped="another is better"))
    assert names(choice.qualified([sure, unsure, dropped], 0.97)) == ["sure"]


def test_the_best_by_the_objective_comes_first_and_unknown_costs_never():
    variants = [variant("a", us=3.0, size=1), variant("b", us=2.0, size=3), variant("c", us=None, size=2)]
    assert names(choice.ranked(variants, "latency")) == ["b", "a"]
    assert names(choice.ranked(variants, "size")) == ["a", "c", "b"]
    assert names(choice.ranked(variants, "memory")) == []


def test_equal_costs_are_decided_by_what_is_kept_for_certain_and_then_by_time():
    variants = [
        variant("sure", low=0.99, us=1.04),
        variant("best", low=0.97, us=1.0),
        variant("slower", low=1.0, us=1.2),
    ]
    assert names(choice.ranked(variants, "latency")) == ["sure", "best", "slower"]
    variants = [variant("slow", us=9.0), variant("fast", us=1.0)]
    assert names(choice.ranked(variants, "size")) == ["fast", "slow"]


def test_energy_is_joules_where_a_meter_counted_them_and_else_cpu_time():
    metered = Energy(5e-6, None, "measured", "RAPL", cpu_seconds_per_decision=1e-6)
    assert choice.energy_cost(metered) == 5e-6
    assert choice.energy_cost(replace(metered, kind="estimated")) == 1e-6
    assert variant("x", energy=metered).cost("energy") == 5e-6
    assert variant("x").cost("energy") is None


def test_memory_is_what_library_model_and_running_add():
    assert variant("x", memory=Memory(5, 3, 1, 99)).cost("memory") == 9
    assert variant("x", memory=Memory(5, None, 1, 99, reason="no /proc")).cost("memory") is None


def test_the_closest_keeps_most_for_certain_and_is_not_the_original():
    trials = [variant(n, low=low).trial for n, low in (("", 1.0), ("a", 0.9), ("b", 0.95))]
    closest = choice.closest(trials, lambda trial: trial.retention)
    assert closest is not None
    assert closest.label == "b"
    assert choice.closest(trials[:1], lambda trial: trial.retention) is None


def test_episodes_that_would_be_needed():
    assert choice.episodes_needed(kept(0.99, 0.95, 1.03, pairs=40), 0.97) == 160  # half the width: four times
    assert choice.episodes_needed(kept(0.96, 0.95, 0.97), 0.97) is None


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_that_many_episodes_are_about_enough(noise: float):
    rng = np.random.default_rng(0)

    def retention(episodes: int) -> Retention:
        baseline = rng.normal(1, noise, episodes)
        return statistics.retention(baseline, rng.normal(0.985, noise, episodes))

    few = retention(10)
    shifted = replace(few, value=0.985, ci95=(0.985 - (few.value - few.ci95[0]), 1.0))
    needed = choice.episodes_needed(shifted, 0.97)
    lows = [retention(needed).ci95[0] for _ in range(20)]
    assert math.isclose(float(np.mean(lows)), 0.97, abs_tol=0.006)


def test_episodes_that_nobody_knows_are_none():
    """Of a baseline that may fail altogether: its retention has no lower end."""
    unknown = replace(BLANK, value=1.0, ci95=(-math.inf, 1.1), pairs=10)
    assert episodes_needed(unknown, 0.95) is None


def test_an_objective_is_not_measured_where_nothing_qualifies():
    lost = [variant("a", 0.5, low=0.4)]
    assert costs.with_objective(None, lost, "memory", 0.95, silent) == lost
