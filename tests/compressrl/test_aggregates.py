"""Aggregates over cells: properties, rliable on the same arrays, and how often intervals hold the truth."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from statistics import fmean
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressrl import aggregates
from compressrl.aggregates import (
    performance_profile,
    pooled_iqm,
    pooled_retention,
    probability_of_improvement,
)
from compressrl.statistics import FEW, iqm

CELLS = st.lists(st.lists(st.floats(-10, 10), min_size=2, max_size=6), min_size=1, max_size=4)
quick = settings(max_examples=30)


@quick
@given(CELLS)
def test_the_pooled_iqm_is_that_of_all_runs_within_its_interval(cells):
    found = pooled_iqm(cells, resamples=300)
    assert found.value == pytest.approx(iqm([x for cell in cells for x in cell]))
    assert found == pooled_iqm(cells, resamples=300)
    if sum(len(cell) - 1 for cell in cells) < FEW - 1:
        assert found.ci95 is None, "no resample lies beyond so few runs"
    else:
        low, high = found.ci95
        assert min(map(min, cells)) - 1e-9 <= low <= high <= max(map(max, cells)) + 1e-9


def test_runs_are_resampled_within_their_cell():
    """Cells far apart, without spread of their own: nothing is uncertain."""
    assert pooled_iqm([[1.0] * 4, [2.0] * 4, [9.0] * 4]).ci95 == (3, 3)
    assert pooled_iqm([[1.0, 2.0, 9.0] * 4]).ci95 != (3, 3)


@quick
@given(CELLS)
def test_improvement_over_oneself_is_even_and_the_opposite_adds_up_to_one(cells):
    assert probability_of_improvement(cells, cells, resamples=50).value == pytest.approx(0.5)
    shifted = [[x + 0.5 for x in cell] for cell in cells]
    there = probability_of_improvement(cells, shifted, resamples=50).value
    back = probability_of_improvement(shifted, cells, resamples=50).value
    assert there + back == pytest.approx(1)


def test_improvement_counts_pairs_of_runs_in_each_cell_and_ties_half():
    found = probability_of_improvement([[1.0, 3.0], [5.0]], [[2.0, 2.0, 3.0], [5.0, 4.0]])
    assert found.value == pytest.approx(fmean([(2 + 0.5) / 6, 1.5 / 2]))
    assert found.ci95 is None, "a cell with a single run"


def test_a_profile_falls_from_all_to_none():
    found = performance_profile([[0.2, 0.9, 1.0] * 3, [0.5, 0.95] * 3], [0.0, 0.5, 0.9, 2.0])
    assert found.thresholds == (0.0, 0.5, 0.9, 2.0)
    assert found.shares == (1.0, 0.6, 0.4, 0.0)
    assert found.ci95[0] == (1, 1)
    assert found.ci95[3] == (0, 0)
    for (low, high), share in zip(found.ci95, found.shares, strict=True):
        assert low <= share <= high
    assert found.ci95[1][1] - found.ci95[1][0] > 0.3


def paired(base, comp):
    return np.stack([np.atleast_2d(base), np.atleast_2d(comp)], axis=-1).astype(float)


def test_pooled_retention_is_each_episode_over_its_baselines_iqm():
    found = pooled_retention([paired([9, 10, 10, 99], [5, 6, 7, 8]), paired([2, 2], [1, 4])], resamples=50)
    assert found.value == pytest.approx(iqm([0.5, 0.6, 0.7, 0.8, 0.5, 2.0]))
    assert found.ci95 is None, "six pairs of two policies are too few"


def test_pooled_retention_knows_that_a_baseline_is_measured():
    """A constant return over a noisy baseline is as uncertain as that; over a constant one, not at all."""
    noisy = np.random.default_rng(0).normal(100, 20, 30)
    low, high = pooled_retention([paired(noisy, np.full(30, 100.0))]).ci95
    assert 0.08 < high - low < 0.3
    assert pooled_retention([paired(np.full(30, 100.0), np.full(30, 90.0))]).ci95 == (0.9, 0.9)


def test_repeats_are_pooled_whole():
    """Episodes alike within a repeat: eight repeats are eight pairs, not eighty."""
    base, comp = np.full((8, 10), 100.0), np.repeat(np.linspace(80, 120, 8)[:, None], 10, axis=1)
    whole = pooled_retention([paired(base, comp)]).ci95
    apart = pooled_retention([paired(base.ravel(), comp.ravel())]).ci95
    assert whole[1] - whole[0] > 2 * (apart[1] - apart[0])


def test_where_a_baseline_may_fail_the_compressed_may_have_kept_nothing():
    base = [-90.0] * 12 + [100.0] * 16
    assert pooled_retention([paired(base, [100.0] * 28)]).ci95[0] == -np.inf


@pytest.mark.parametrize("policies", [[], [paired([-1, 1], [1, 1])]])
def test_retention_of_nothing_is_refused(policies):
    with pytest.raises(ValueError, match="of positive return"):
        pooled_retention(policies)


@pytest.mark.parametrize("bad", [[], [[]], [[1.0], []], [[[1.0]]]])
def test_cells_without_runs_are_refused(bad):
    with pytest.raises(ValueError, match="at least one cell"):
        pooled_iqm(bad)


def test_cells_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 cells cannot be compared with 1"):
        probability_of_improvement([[1.0], [2.0]], [[1.0]])


def test_blocks_of_resamples_are_all_resamples(monkeypatch):
    monkeypatch.setattr(aggregates, "BLOCK", 7)
    rows = list(aggregates._resampled([np.arange(3.0)], 20, np.random.default_rng(0)))
    assert [len(block[0]) for block in rows] == [7, 7, 6]


# The same arrays in rliable, the field's own library.


@pytest.fixture(scope="module")
def rliable():
    """rliable's library and metrics; of its dependency arch the bootstrap alone, which is all that it uses.

    The rest of arch 7, the newest that rliable allows, cannot be imported beside pandas 3.
    """
    for name in ("rliable", "arch"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'compressrl[crosscheck]'")
    package = ModuleType("arch")
    package.__path__ = list(importlib.util.find_spec("arch").submodule_search_locations)
    before = {name for name in sys.modules if name.partition(".")[0] == "arch"}
    assert not before
    sys.modules["arch"] = package
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from rliable import library, metrics
    except (ImportError, TypeError) as error:
        pytest.skip(f"rliable cannot be imported with what else is installed: {error}")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "arch"]:
            del sys.modules[name]
    return library, metrics


RUNS, TASKS, REPEATS = 10, 4, 4000
OF_ARCH = pytest.mark.filterwarnings("ignore:random_state is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def scores():
    """(runs, tasks), as rliable takes them, of two methods."""
    rng = np.random.default_rng(5)
    level = np.array([0.6, 0.9, 0.95, 1.05])
    return rng.normal(level, 0.1, (RUNS, TASKS)), rng.normal(level - 0.03, 0.15, (RUNS, TASKS))


def plain_interval(monkeypatch):
    """rliable cuts its resamples at 2.5 and 97.5 %."""

    def interval(samples, runs, degrees):
        low, high = np.quantile(samples, [0.025, 0.975])
        return float(low), float(high)

    monkeypatch.setattr(aggregates, "expanded_interval", interval)


@OF_ARCH
def test_rliable_finds_the_same_iqm_and_interval(rliable, scores, monkeypatch):
    library, metrics = rliable
    values, intervals = library.get_interval_estimates(
        {"x": scores[0]},
        lambda x: np.array([metrics.aggregate_iqm(x)]),
        reps=REPEATS,
        random_state=np.random.RandomState(0),
    )
    plain_interval(monkeypatch)
    found = pooled_iqm(list(scores[0].T))
    assert found.value == pytest.approx(values["x"].item(), abs=1e-12)
    agree(found.ci95, intervals["x"].ravel())


@OF_ARCH
def test_rliable_finds_the_same_probability_of_improvement(rliable, scores, monkeypatch):
    library, metrics = rliable
    values, intervals = library.get_interval_estimates(
        {"x": list(scores)},
        lambda x, y: np.array([metrics.probability_of_improvement(x, y)]),
        reps=1000,
        random_state=np.random.RandomState(0),
    )
    plain_interval(monkeypatch)
    found = probability_of_improvement(list(scores[0].T), list(scores[1].T))
    assert found.value == pytest.approx(values["x"].item(), abs=1e-12)
    agree(found.ci95, intervals["x"].ravel(), within=0.08)


def test_rliable_finds_the_same_profile(rliable, scores, monkeypatch):
    library, _ = rliable
    thresholds = np.linspace(0.4, 1.2, 9)
    shares, bands = library.create_performance_profile({"x": scores[0]}, thresholds, reps=REPEATS)
    plain_interval(monkeypatch)
    found = performance_profile(list(scores[0].T), thresholds)
    assert found.shares == pytest.approx(shares["x"].tolist(), abs=1e-12)
    for ours, theirs in zip(found.ci95, bands["x"].T, strict=True):
        assert ours == pytest.approx(theirs.tolist(), abs=0.0251), "one run of forty is 0.025"


def agree(ours, theirs, within=0.05):
    """Ends within a share of the width: the Monte-Carlo error of quantiles of some thousand resamples."""
    assert list(ours) == pytest.approx(list(theirs), abs=within * (theirs[1] - theirs[0]))


# How often the 95 % intervals hold the truth: 500 experiments, which know it to ±1.9 points.


def held(experiment, seeds=500):
    return fmean(experiment(np.random.default_rng([1, seed]), seed) for seed in range(seeds))


@pytest.mark.slow
@pytest.mark.parametrize("runs", [10, 20])
def test_the_interval_of_the_pooled_iqm_holds_the_truth(runs):
    level = np.array([0.7, 0.9, 0.95, 1.0])[:, None]
    truth = iqm((level + np.random.default_rng(0).normal(0, 0.1, (4, 250_000))).ravel())

    def experiment(rng, seed):
        low, high = pooled_iqm(list(level + rng.normal(0, 0.1, (4, runs))), seed=seed, resamples=1000).ci95
        return low <= truth <= high

    assert 0.93 <= held(experiment) <= 0.97


@pytest.mark.slow
def test_the_interval_of_the_probability_of_improvement_holds_the_truth():
    """Normal scores one standard deviation apart in one cell, alike in the other."""
    truth = fmean([0.7602499, 0.5])  # Φ(1 / √2)

    def experiment(rng, seed):
        better, worse = rng.normal([[1.0], [0.0]], 1, (2, 10)), rng.normal(0, 1, (2, 10))
        low, high = probability_of_improvement(list(better), list(worse), seed=seed, resamples=1000).ci95
        return low <= truth <= high

    assert 0.93 <= held(experiment) <= 0.97


def of_25_policies(together, interval_of):
    """How often an interval of the pooled retention holds the truth; sides rise and fall together, or not."""
    kept = np.linspace(0.7, 1.0, 25)[:, None]
    truth = iqm((kept * np.random.default_rng(0).normal(1, 0.1, (25, 40_000))).ravel())

    def experiment(rng, seed):
        shared, base, comp = rng.normal(0, 0.1, (3, 25, 30))
        own = (1 - together**2) ** 0.5
        base, comp = 1 + together * shared + own * base, kept * (1 + together * shared + own * comp)
        low, high = interval_of(base, comp, seed)
        return low <= truth <= high

    return held(experiment, 300)


@pytest.mark.slow
@pytest.mark.parametrize("together", [0.0, 0.9])
def test_the_interval_of_the_pooled_retention_holds_the_truth(together):
    """25 policies of 30 pairs."""

    def interval_of(base, comp, seed):
        pairs = [paired(*sides) for sides in zip(base, comp, strict=True)]
        return pooled_retention(pairs, seed=seed, resamples=500).ci95

    assert 0.93 <= of_25_policies(together, interval_of) <= 0.99


@pytest.mark.slow
def test_with_baselines_taken_as_known_it_would_not():
    def interval_of(base, comp, seed):
        scores = [row / iqm(known) for row, known in zip(comp, base, strict=True)]
        return pooled_iqm(scores, seed=seed, resamples=500).ci95

    assert of_25_policies(0.0, interval_of) < 0.9
