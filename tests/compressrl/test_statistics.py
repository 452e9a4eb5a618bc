"""Retention: properties, an independent slow bootstrap, and how often the interval holds the truth."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import fmean

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from compressrl import statistics
from compressrl.statistics import FEW, iqm, iqm_interval, retention

RETURNS = st.lists(st.floats(1, 1e4), min_size=FEW, max_size=12)
PAIRS = st.lists(st.tuples(st.floats(1, 1e4), st.floats(-1e4, 1e4)), min_size=2, max_size=12)
quick = settings(max_examples=40)


def columns(pairs):
    return [p[0] for p in pairs], [p[1] for p in pairs]


@quick
@given(RETURNS)
def test_an_identical_policy_retains_everything_and_is_non_inferior(returns):
    kept = retention(returns, returns, resamples=200)
    assert (kept.value, kept.ci95, kept.non_inferior) == (1, (1, 1), True)
    assert (kept.difference, kept.difference_ci95, kept.probability_of_improvement) == (0, (0, 0), 0.5)
    assert kept.pairs == len(returns)


@quick
@given(RETURNS, st.floats(0.1, 2))
def test_a_constant_share_of_every_episode_is_that_share_without_spread(returns, share):
    kept = retention(returns, [share * r for r in returns], resamples=200)
    assert kept.value == pytest.approx(share)
    assert kept.ci95 == pytest.approx((share, share))


@quick
@given(PAIRS, st.floats(1e-3, 1e3))
def test_the_unit_of_the_return_does_not_matter(pairs, scale):
    base, comp = columns(pairs)
    plain = retention(base, comp, random_return=0.5, resamples=500)
    scaled = retention(
        [scale * x for x in base], [scale * x for x in comp], random_return=0.5 * scale, resamples=500
    )
    assert scaled.value == pytest.approx(plain.value)
    assert scaled.ci95 == pytest.approx(plain.ci95)
    assert scaled.above_random == pytest.approx(plain.above_random)
    assert scaled.difference == pytest.approx(scale * plain.difference)
    assert scaled.probability_of_improvement == plain.probability_of_improvement


@quick
@given(PAIRS)
def test_the_interval_is_ordered_and_repeats_with_its_seed(pairs):
    base, comp = columns(pairs)
    kept = retention(base, comp, resamples=500, seed=3)
    assume(kept.ci95 is not None)
    assert kept.ci95[0] <= kept.ci95[1]
    assert kept == retention(base, comp, resamples=500, seed=3)
    assert kept.non_inferior == (kept.ci95[0] > 0.95)
    assert kept.value == pytest.approx(fmean(comp) / fmean(base))
    assert kept.difference == pytest.approx(fmean(comp) - fmean(base), abs=1e-6)


def test_pairs_are_resampled_as_pairs():
    rng = np.random.default_rng(0)
    base = rng.uniform(1000, 9000, 20)
    comp = base * rng.normal(0.99, 0.005, 20)
    paired = retention(base, comp)
    shuffled = retention(base, rng.permutation(comp))
    assert paired.value == pytest.approx(shuffled.value)
    assert paired.ci95[1] - paired.ci95[0] < 0.01
    assert shuffled.ci95[1] - shuffled.ci95[0] > 0.1
    assert paired.non_inferior
    assert not shuffled.non_inferior


def test_the_margin_decides_and_the_lower_end_only():
    base = np.linspace(900, 1100, 20)
    comp = base * np.linspace(0.93, 0.97, 20)
    kept = retention(base, comp, margin=0.07)
    assert kept.non_inferior
    assert kept.margin == 0.07
    low = kept.ci95[0]
    assert not retention(base, comp, margin=1 - low - 1e-6).non_inferior
    assert retention(base, comp, margin=1 - low + 1e-6).non_inferior
    assert retention(base, 2 * base).non_inferior, "better is not inferior"


def slow_bootstrap(base: list[list[float]], comp: list[list[float]], resamples: int) -> list[float]:
    """The same resampling by plain loops and another generator; sorted ratios of means."""
    draw, ratios = random.Random(1), []
    if len(base) == 1:
        units = list(zip(base[0], comp[0], strict=True))
    else:
        units = [(sum(b), sum(c)) for b, c in zip(base, comp, strict=True)]
    for _ in range(resamples):
        drawn = [draw.choice(units) for _ in units]
        ratios.append(sum(c for _, c in drawn) / sum(b for b, _ in drawn))
    return sorted(ratios)


@pytest.mark.parametrize(
    ("checkpoints", "episodes", "tail"),
    # Tails worked out by hand: t(0.025, n - 1) * sqrt(n / (n - 1)) for n = 10, 30, 10, and its normal share.
    [(1, 10, 0.00855), (1, 30, 0.01877), (10, 6, 0.00855)],
)
def test_an_independent_bootstrap_finds_the_same_interval(checkpoints, episodes, tail):
    rng = np.random.default_rng(7)
    base = rng.normal(3000, 600, (checkpoints, episodes))
    comp = base * rng.uniform(0.5, 1.2, (checkpoints, episodes))
    ratios = slow_bootstrap(base.tolist(), comp.tolist(), 20_000)
    expected = ratios[int(tail * 20_000)], ratios[int((1 - tail) * 20_000)]
    found = retention(base, comp, resamples=20_000).ci95
    spread = expected[1] - expected[0]
    assert found == pytest.approx(expected, abs=0.04 * spread)


def test_checkpoints_are_resampled_too():
    base = np.full((2, 30), 100.0)
    comp = np.stack([np.full(30, 80.0), np.full(30, 120.0)])
    kept = retention(base, comp)
    assert kept.value == pytest.approx(1)
    # By hand: t(0.975, 1) = 12.706 times the deviation of the mean of 0.8 and 1.2, which is 0.2.
    assert kept.ci95 == pytest.approx((1 - 2.5412, 1 + 2.5412), abs=1e-4)
    assert kept.pairs == 60
    assert retention(base.ravel(), comp.ravel()).ci95[0] > 0.9, "sixty episodes of one checkpoint"


@pytest.mark.parametrize("pairs", range(2, FEW))
def test_few_pairs_have_a_t_interval(pairs):
    """Of the ratio as SciPy's t-interval of the linearised pairs finds it, and of their difference."""
    rng = np.random.default_rng(pairs)
    base, comp = rng.normal(3000, 100, pairs), rng.normal(2900, 100, pairs)
    kept, ratio = retention(base, comp, random_return=500.0), comp.mean() / base.mean()
    linear = ratio + (comp - ratio * base) / base.mean()
    for found, sample in ((kept.ci95, linear), (kept.difference_ci95, comp - base)):
        theirs = stats.t.interval(0.95, pairs - 1, sample.mean(), stats.sem(sample))
        assert found == pytest.approx(tuple(theirs))
    assert kept.above_random_ci95 == pytest.approx(retention(base - 500, comp - 500).ci95)


def test_two_episodes_prove_little():
    """The range of two pairs is above 95 % in one experiment of four, whatever the truth is."""
    kept = retention([9400.0, 9300.0], [9300.0, 9350.0])
    assert kept.ci95[0] < 0.95
    assert not kept.non_inferior


@pytest.mark.parametrize("compressed", [0.5, 1.0, 7.0])
def test_a_single_pair_has_no_interval_and_proves_nothing(compressed):
    kept = retention([1.0], [compressed])
    assert kept.value == compressed
    assert kept.ci95 is None
    assert kept.difference_ci95 is None
    assert not kept.non_inferior


@pytest.mark.parametrize("pairs", [2, 5, FEW - 1])
def test_few_pairs_that_are_all_the_same_prove_nothing(pairs):
    """One episode in five ends early, and seven do not show it in one case of five (0.8 ** 7)."""
    for base in ([1000.0] * pairs, [1000.0 + n for n in range(pairs)]):
        kept = retention(base, base)
        assert (kept.value, kept.ci95, kept.difference_ci95, kept.non_inferior) == (1, None, None, False)
    assert retention([1000.0] * FEW, [1000.0] * FEW).non_inferior
    assert retention([1000.0] * pairs, [1000.0] * (pairs - 1) + [1001.0]).ci95 is not None


def test_costs_are_counted_from_the_random_policy():
    base, comp = [-150.0, -170.0, -130.0], [-200.0, -220.0, -180.0]
    kept = retention(base, comp, random_return=-1150.0)
    assert kept.zero_return == -1150
    assert kept.value == pytest.approx(950 / 1000)
    assert kept.above_random == kept.value
    assert kept.ci95[0] <= kept.value <= kept.ci95[1]
    better = retention(comp, base, random_return=-1150.0)
    assert better.value > 1
    assert better.non_inferior


@pytest.mark.parametrize("sign", [-1, 1])
def test_around_zero_the_random_policy_is_the_zero_whatever_the_sample(sign):
    """By the sign of the sample, one seed would have an open verdict, the next a clear one."""
    base = [*np.linspace(-100, 100, 20), sign * 30.0]
    kept = retention(base, [x - 1 for x in base], random_return=-2000.0)
    assert kept.zero_return == -2000
    assert kept.non_inferior
    assert retention([3.0], [3.0], random_return=-2000.0).zero_return == 0, "of one, its sign decides"
    poor = retention([-1.0, 5.0], [-1.0, 5.0], random_return=9.0)
    assert (poor.zero_return, poor.value) == (0, 1), "above what random actions earn there is nothing to keep"


def test_rewards_are_counted_from_zero_and_from_the_random_policy_beside_it():
    kept = retention([40_000.0, 42_000.0], [38_000.0, 38_000.0], random_return=31_000.0)
    assert kept.zero_return == 0
    assert kept.value == pytest.approx(38 / 41)
    assert kept.above_random == pytest.approx(7 / 10)


@pytest.mark.parametrize("random_return", [None, -100.0, 0.0])
def test_a_baseline_that_is_no_better_than_random_has_no_retention(random_return):
    kept = retention([-150.0, -160.0], [-150.0, -10.0], random_return=random_return)
    assert (kept.value, kept.ci95, kept.above_random, kept.non_inferior) == (None, None, None, False)
    assert kept.difference == 75


def test_a_baseline_that_may_fail_altogether_proves_nothing():
    kept = retention([-100.0, 100.0, 90.0] * 3, [100.0] * 9)
    assert kept.value > 1
    assert kept.ci95[0] == -math.inf
    assert not kept.non_inferior


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_return_that_is_not_finite_has_no_retention(bad):
    for base, comp in (([10.0, 11.0], [10.0, bad]), ([10.0, bad], [10.0, 11.0])):
        kept = retention(base, comp, random_return=1.0, resamples=100)
        assert (kept.value, kept.ci95, kept.above_random, kept.non_inferior) == (None, None, None, False)
        assert not math.isfinite(kept.difference)


@pytest.mark.parametrize(
    ("base", "comp"), [([], []), ([1.0], [1.0, 2.0]), ([[1.0, 2.0]], [[1.0], [2.0]]), ([[]], [[]])]
)
def test_returns_that_are_not_paired_are_refused(base, comp):
    with pytest.raises(ValueError, match="paired returns need one shape"):
        retention(base, comp)


def test_probability_of_improvement_counts_ties_half():
    kept = retention([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 5.0])
    assert kept.probability_of_improvement == (0.5 + 1 + 0 + 1) / 4


def test_the_interval_of_the_probability_of_improvement_is_wilsons():
    # Worked out by hand: 8 of 10 won, z = 1.96.
    kept = retention([0.0] * 10, [1.0] * 8 + [-1.0] * 2, random_return=-1.0)
    assert kept.probability_of_improvement == 0.8
    assert kept.probability_of_improvement_ci95 == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert retention([1.0] * 3, [2.0] * 3).probability_of_improvement_ci95 == pytest.approx(
        (0.4385, 1), abs=1e-4
    )
    assert retention([1.0], [2.0]).probability_of_improvement_ci95 is None
    two = retention([[1.0] * 9] * 2, [[2.0] * 9] * 2).probability_of_improvement_ci95
    assert two[0] < 0.4, "checkpoints are what is independent, not their episodes"


@pytest.mark.parametrize("episodes", [1, 2, 10])
def test_retention_above_random_has_an_interval_of_its_own(episodes):
    rng = np.random.default_rng(3)
    base, comp = rng.normal(40_000, 500, episodes), rng.normal(39_000, 500, episodes)
    kept = retention(base, comp, random_return=31_000.0)
    shifted = retention(base - 31_000, comp - 31_000)
    assert kept.above_random == pytest.approx(shifted.value)
    if episodes == 1:
        assert kept.above_random_ci95 is None
    else:
        assert kept.above_random_ci95 == pytest.approx(shifted.ci95)
    assert retention(base, comp).above_random_ci95 is None


@pytest.mark.parametrize("episodes", [10, 30])
def test_scipys_bootstrap_cut_at_the_same_tails_finds_the_same_interval(episodes):
    rng = np.random.default_rng(2)
    base, comp = rng.normal(3000, 600, episodes), rng.normal(2900, 700, episodes)
    tail = stats.norm.cdf(stats.t.ppf(0.025, episodes - 1) * np.sqrt(episodes / (episodes - 1)))
    theirs = stats.bootstrap(
        (base, comp),
        lambda x, y, axis: y.mean(axis) / x.mean(axis),
        paired=True,
        n_resamples=20_000,
        confidence_level=1 - 2 * tail,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    low, high = retention(base, comp, resamples=20_000).ci95
    assert (low, high) == pytest.approx(tuple(theirs), abs=0.04 * (high - low))


@quick
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12))
def test_the_interval_of_the_iqm_holds_it(values):
    low, high = iqm_interval(values, resamples=300)
    assert low - 1e-9 <= iqm(values) <= high + 1e-9
    assert (low, high) == iqm_interval(values, resamples=300)
    if len(values) >= FEW:
        assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_the_interval_of_the_iqm_of_few_values_is_that_of_a_trimmed_mean():
    # By hand: 2, 3, 4 remain of five, the deviation of 2, 2, 3, 4, 4 is 1, so 1 / (0.6 * sqrt(5)) is that of
    # the mean, and t(0.975, 2) = 4.3027.
    assert iqm_interval([1.0, 2.0, 3.0, 4.0, 50.0]) == pytest.approx((-0.2070, 6.2070), abs=1e-3)


def test_the_iqm_of_one_value_has_no_interval():
    assert iqm_interval([3.0]) is None


def test_iqm_is_the_mean_of_the_middle_half():
    assert iqm([100, 1, 2, 3, 4, 5, -50, 6]) == pytest.approx(fmean([2, 3, 4, 5]))
    assert iqm([7]) == 7


@quick
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(-1e3, 1e3))
def test_iqm_moves_with_its_values_and_lies_among_them(values, shift):
    assume(max(values) - min(values) < 1e6)
    assert min(values) - 1e-6 <= iqm(values) <= max(values) + 1e-6
    assert iqm([v + shift for v in values]) == pytest.approx(iqm(values) + shift, abs=1e-3)


# How often the 95 % interval holds the true retention: synthetic experiments of which the truth is known.

Draw = Callable[[np.random.Generator, int], np.ndarray]


def falls(share: float) -> Draw:
    """Walks to about 3800, or falls early."""
    return lambda rng, n: np.where(rng.random(n) < share, rng.uniform(500, 2500, n), rng.normal(3800, 50, n))


EXPERIMENTS: dict[str, tuple[Draw, Draw, float]] = {
    "normal": (lambda r, n: r.normal(9400, 300, n), lambda r, n: r.normal(9300, 400, n), 9300 / 9400),
    "ceiling": (
        lambda r, n: 5000 - r.exponential(500, n),
        lambda r, n: 4900 - r.exponential(700, n),
        4200 / 4500,
    ),
    "falls alike": (falls(0.3), falls(0.3), 1.0),
    "falls more": (falls(0.1), falls(0.3), (0.3 * 1500 + 0.7 * 3800) / (0.1 * 1500 + 0.9 * 3800)),
}


def coverage(name: str, episodes: int, experiments: int) -> float:
    base, comp, truth = EXPERIMENTS[name]
    rng, held = np.random.default_rng(0), 0
    for seed in range(experiments):
        low, high = retention(base(rng, episodes), comp(rng, episodes), seed=seed, resamples=2000).ci95
        held += low <= truth <= high
    return held / experiments


@pytest.mark.slow
@pytest.mark.parametrize("episodes", [2, 3, 5, 7])
def test_the_interval_of_few_pairs_holds_the_truth(episodes):
    assert 0.93 <= coverage("normal", episodes, 500) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("episodes", "held"), [(2, 0.5), (3, 0.75), (5, 0.92)])
def test_a_bootstrap_of_few_pairs_would_not(episodes, held, monkeypatch):
    monkeypatch.setattr(statistics, "FEW", 2)
    assert coverage("normal", episodes, 500) == pytest.approx(held, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("episodes", [10, 30])
def test_the_interval_holds_the_truth_as_often_as_it_says(name, episodes):
    """500 experiments: the share is known to ±1.9 points. A plain percentile interval fails at 10 pairs."""
    assert 0.93 <= coverage(name, episodes, 500) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_the_interval_of_the_probability_of_improvement_holds_the_truth(share):
    rng, held = np.random.default_rng(0), 0
    for _ in range(500):
        kept = retention(np.zeros(30), np.where(rng.random(30) < share, 1.0, -1.0), resamples=2)
        low, high = kept.probability_of_improvement_ci95
        held += low <= share <= high
    assert 0.93 <= held / 500 <= 0.99


@pytest.mark.slow
def test_the_interval_of_the_iqm_holds_the_truth():
    rng, held = np.random.default_rng(0), 0
    for seed in range(500):
        low, high = iqm_interval(rng.normal(3000, 500, 10), seed=seed, resamples=1000)
        held += low <= 3000 <= high
    assert 0.93 <= held / 500 <= 0.97


@pytest.mark.slow
def test_the_interval_over_checkpoints_holds_the_truth():
    """Five checkpoints of unlike quality, ten episodes each: the truth is the mean over all checkpoints."""
    rng, held = np.random.default_rng(0), 0
    for seed in range(500):
        level = rng.normal(3000, 500, (5, 1))
        base = level + rng.normal(0, 200, (5, 10))
        comp = level * rng.normal(0.95, 0.05, (5, 1)) + rng.normal(0, 200, (5, 10))
        low, high = retention(base, comp, seed=seed, resamples=2000).ci95
        held += low <= 0.95 <= high
    assert 0.93 <= held / 500 <= 0.97


def test_confidence_is_what_the_report_says():
    assert statistics.CONFIDENCE == 0.95
