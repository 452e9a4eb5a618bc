"""Repeats pooled: retention, means, ratios, and n/a with the reason."""

from __future__ import annotations

import math

import pytest

from compressrl import statistics
from compressrl.study.grid import Cell, Subject
from compressrl.study.report.groups import kinds, median_ratio, policy_name
from compressrl.study.report.metrics import ENERGY, LATENCY, MEMORY, SIZE
from compressrl.study.report.pooled import pool
from compressrl.study.store import Outcome

MIB = 1 << 20


def group(*outcomes):
    pooled = pool([outcome.cell for outcome in outcomes], outcomes)
    (found,) = pooled.groups.values()
    return found


def test_retention_is_that_of_all_repeats_together(done):
    found = group(
        done("sac", "Ant-v5", "ptdq", [100, 120], [50, 70], repeat=1),
        done("sac", "Ant-v5", "ptdq", [90, 110], [80, 100], repeat=0),
    )
    assert found.repeats == 2
    assert found.returns("baseline") == [[90, 110], [100, 120]]
    assert found.kept == statistics.retention([[90, 110], [100, 120]], [[80, 100], [50, 70]])


def test_the_mean_return_has_its_interval_over_repeats(done):
    found = group(*(done("sac", "Ant-v5", "ptdq", [r, r + 20], repeat=r) for r in range(3)))
    mean = found.mean_return("baseline")
    assert mean.value == pytest.approx(11)
    assert mean.ci95 == pytest.approx(statistics.mean_interval([10, 11, 12]))


def test_a_return_that_is_no_number_is_not_zero(done):
    found = group(done("sac", "Ant-v5", "ptdq", [100, 110], [50, math.nan]))
    assert found.mean_return("compressed").value is None
    assert "not a number" in found.mean_return("compressed").reason
    assert found.kept.value is None
    assert found.pairs() is None
    negative = group(done("sac", "Ant-v5", "ptdq", [-100, -110], [-50, -40]))
    assert negative.pairs() is None


def test_a_ratio_is_the_geometric_mean_over_repeats(done):
    found = group(
        done("sac", "Ant-v5", "ptdq", repeat=0, compressed={"p50": 20.0}),
        done("sac", "Ant-v5", "ptdq", repeat=1, compressed={"p50": 5.0}),
    )
    ratio = found.ratio(LATENCY)
    assert ratio.value == pytest.approx(1.0)
    assert ratio.clear is False
    assert ratio.ci95 is not None
    assert ratio.ci95[0] * ratio.ci95[1] == pytest.approx(1.0)


def test_repeats_that_agree_make_a_clear_difference(done):
    sizes = (20.0, 20.1, 19.9)
    found = group(*(done("sac", "Ant-v5", "q", repeat=r, compressed={"p50": p}) for r, p in enumerate(sizes)))
    assert found.ratio(LATENCY).clear is True


@pytest.mark.parametrize(("below", "clear"), [(True, False), (False, True), (None, None)])
def test_a_single_repeat_asks_the_energy_meter_whether_it_is_clear(done, below, clear):
    found = group(done("sac", "Ant-v5", "q", compressed={"joules": 3e-5, "below_resolution": below}))
    ratio = found.ratio(ENERGY)
    assert (ratio.value, ratio.clear, ratio.kind) == (pytest.approx(0.75), clear, "estimated")


@pytest.mark.parametrize(("ranges", "clear"), [((61, 62), True), ((59, 60), False)])
def test_a_single_repeat_is_clear_in_memory_where_the_ranges_are_apart(done, ranges, clear):
    found = group(done("sac", "Ant-v5", "q", baseline={"ranges": (58, 60)}, compressed={"ranges": ranges}))
    assert found.ratio(MEMORY).clear is clear


def test_memory_that_was_measured_once_is_never_clear(done):
    once = {"ranges": (58, 58), "measured": 1}, {"ranges": (62, 62), "measured": 1}
    found = group(done("sac", "Ant-v5", "q", baseline=once[0], compressed=once[1]))
    assert found.ratio(MEMORY).clear is None


def test_what_was_not_measured_is_none_with_the_reason(done):
    found = group(done("sac", "Ant-v5", "q", compressed={"peak": None, "p50": None, "joules": None}))
    assert (found.ratio(MEMORY).value, found.ratio(MEMORY).reason) == (None, "no smaps")
    assert (found.ratio(LATENCY).value, found.ratio(LATENCY).reason) == (None, "no clock")
    assert found.ratio(ENERGY).value is None
    assert found.ratio(SIZE).value == 1


def test_estimated_and_measured_energy_stay_apart(done):
    outcomes = [
        done("sac", "Ant-v5", "q", compressed={"joules": 2e-5}),
        done("td3", "Ant-v5", "q", compressed={"joules": 8e-5, "kind": "measured"}),
    ]
    groups = list(pool([o.cell for o in outcomes], outcomes).groups.values())
    assert kinds(groups, ENERGY) == ["estimated", "measured"]
    assert median_ratio(groups, ENERGY, "estimated") == pytest.approx(0.5)
    assert median_ratio(groups, ENERGY, "measured") == pytest.approx(2.0)


@pytest.mark.parametrize(("noise", "clear"), [(0.9, True), (1.2, True), (0.7, False), (1.5, False)])
def test_a_difference_is_clear_only_above_that_of_the_policy_from_itself(done, noise, clear):
    outcomes = [
        done("sac", "Ant-v5", "", compressed={"joules": noise * 4e-5, "below_resolution": False}),
        done("sac", "Ant-v5", "q", compressed={"joules": 3e-5, "below_resolution": False}),
        done("sac", "Ant-v5", "", runtime="native", compressed={"joules": 1e-7}),
    ]
    (found,) = pool([o.cell for o in outcomes], outcomes).compressed
    assert found.ratio(ENERGY).clear is clear


def test_two_policy_files_of_one_algorithm_are_two_policies():
    cells = [Cell("sac", "Ant-v5", "q", "onnx", 0, 3, policy=f"/somewhere/{name}.policy") for name in "ab"]
    pooled = pool(cells, [Outcome(cell, "x", "failed", "why") for cell in cells])
    assert [policy_name(subject) for subject in pooled.subjects] == ["sac Ant-v5 (a)", "sac Ant-v5 (b)"]
    assert policy_name(Subject("sac", "Ant-v5")) == "sac Ant-v5"


def test_the_baseline_of_a_policy_is_its_comparison_with_itself(done):
    outcomes = [done("sac", "Ant-v5", "q"), done("sac", "Ant-v5", "")]
    pooled = pool([o.cell for o in outcomes], outcomes)
    assert pooled.baseline(Subject("sac", "Ant-v5")).method.is_baseline
    assert [group.method.compressor for group in pooled.compressed] == ["q"]
    assert pooled.baseline(Subject("ppo", "Ant-v5")) is None
