"""Many cells (environments, checkpoints) in one figure: pooled IQM, probability of improvement, profiles.

A cell holds the scores of its runs, say the retention of each checkpoint, or episode. Cells are the strata of
the bootstrap: runs are resampled within each (Agarwal et al. 2021, "Deep RL at the edge of the statistical
precipice", arXiv 2108.13264, §4.1). The figures, and the resamples behind them, are those of its library
rliable (tests/compressrl/test_aggregates.py); the interval is expanded for few runs as in
`compressrl.statistics`, which rliable does not do. `pooled_retention` has no counterpart there: rliable
divides by reference scores that are known, and a baseline's return is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compressrl.statistics import FEW, RESAMPLES, Floats, expanded_interval, iqm

Cells = Sequence[Sequence[float] | Floats]
BLOCK = 1000  # resamples at once: bounds the memory


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; None where a cell has a single run, or all together too few."""

    value: float
    ci95: tuple[float, float] | None


@dataclass(frozen=True)
class Profile:
    """Share of runs whose score lies above each threshold, with a 95 % interval for each threshold."""

    thresholds: tuple[float, ...]
    shares: tuple[float, ...]
    ci95: tuple[tuple[float, float] | None, ...]


def pooled_iqm(cells: Cells, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Interquartile mean over the runs of all cells together (arXiv 2108.13264, §4.3).

    cells: any number of runs each, e.g. retentions. Raises ValueError where there is none, or an empty one
    """
    arrays = _checked(cells)
    samples = [
        _iqm_rows(np.concatenate(rows, axis=1))
        for rows in _resampled(arrays, resamples, np.random.default_rng(seed))
    ]
    return Estimate(iqm(np.concatenate(arrays)), _interval(np.concatenate(samples), arrays))


def pooled_retention(policies: Sequence[Floats], *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """Interquartile mean over the compressed episodes of all policies, each over the IQM of its baseline's.

    policies: (repeats, episodes, 2) returns of baseline and compressed, paired by repeat and episode seed.
    Pairs of episodes are resampled within each policy, repeats with all their pairs where there are several,
    and in each resample the baseline's IQM is taken anew; where it is not positive, the compressed has kept
    nothing. Raises ValueError where there is no policy, or a baseline whose IQM is not positive
    """
    units = [pairs if len(pairs) > 1 else pairs[0][:, None] for pairs in policies]
    if not units or any(iqm(pairs[..., 0].ravel()) <= 0 for pairs in units):
        raise ValueError("retention is pooled of one policy or more, of positive return each")
    rng, samples = np.random.default_rng(seed), []
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        drawn = [pairs[rng.integers(len(pairs), size=(rows, len(pairs)))] for pairs in units]
        samples.append(_iqm_rows(np.concatenate([_kept(each) for each in drawn], axis=1)))
    value = _iqm_rows(np.concatenate([_kept(pairs[None]) for pairs in units], axis=1))
    return Estimate(float(value[0]), _interval(np.concatenate(samples), units))


def probability_of_improvement(
    cells: Cells, over: Cells, *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """Chance that a run of `cells` beats one of `over` in the same cell, mean over cells; a tie counts half.

    It is the Mann-Whitney statistic over the number of pairs (arXiv 2108.13264, §4.3). Runs are not paired:
    both sides are resampled by themselves. Raises ValueError where the cells do not match one another.
    """
    better, worse = _checked(cells), _checked(over)
    if len(better) != len(worse):
        raise ValueError(f"{len(better)} cells cannot be compared with {len(worse)}")
    rng = np.random.default_rng(seed)
    both = zip(_resampled(better, resamples, rng), _resampled(worse, resamples, rng), strict=True)
    samples = np.concatenate([_wins(rows, others) for rows, others in both])
    value = _wins([cell[None] for cell in better], [cell[None] for cell in worse])
    return Estimate(float(value[0]), _interval(samples, [*better, *worse]))


def performance_profile(
    cells: Cells, thresholds: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Profile:
    """Share of the runs of all cells with a score above each threshold (arXiv 2108.13264, §4.2)."""
    arrays, limits = _checked(cells), np.asarray(thresholds, dtype=np.float64)
    samples = np.concatenate(
        [
            _above(np.concatenate(rows, axis=1), limits)
            for rows in _resampled(arrays, resamples, np.random.default_rng(seed))
        ]
    )
    shares = _above(np.concatenate(arrays)[None], limits)[0]
    return Profile(
        thresholds=tuple(limits.tolist()),
        shares=tuple(shares.tolist()),
        ci95=tuple(_interval(column, arrays) for column in samples.T),
    )


def _checked(cells: Cells) -> list[Floats]:
    arrays = [np.asarray(cell, dtype=np.float64) for cell in cells]
    if not arrays or any(array.ndim != 1 or not array.size for array in arrays):
        raise ValueError("scores are needed as cells of one run or more each, and at least one cell")
    return arrays


def _resampled(cells: Sequence[Floats], resamples: int, rng: np.random.Generator) -> Iterator[list[Floats]]:
    """In blocks: (block, runs) resampled scores of each cell."""
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        yield [cell[rng.integers(len(cell), size=(rows, len(cell)))] for cell in cells]


def _interval(samples: Floats, cells: Sequence[Floats]) -> tuple[float, float] | None:
    """Every cell lends its degrees of freedom; the smallest says how much too narrow resampling is.

    With fewer than `FEW` runs in one cell, or as many degrees in several, resampling knows too little.
    """
    degrees = sum(len(cell) - 1 for cell in cells)
    return expanded_interval(samples, min(map(len, cells)), degrees) if degrees >= FEW - 1 else None


def _iqm_rows(rows: Floats) -> Floats:
    cut = rows.shape[1] // 4
    means: Floats = np.sort(rows, axis=1)[:, cut : rows.shape[1] - cut].mean(axis=1)
    return means


def _kept(pairs: Floats) -> Floats:
    """(block, runs) compressed returns over the IQM of their row's baseline; pairs: (block, units, ., 2)."""
    rows = pairs.reshape(len(pairs), -1, 2)
    middle = _iqm_rows(rows[..., 0])[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(middle > 0, rows[..., 1] / middle, -np.inf)


def _wins(rows: Sequence[Floats], others: Sequence[Floats]) -> Floats:
    """(block,) mean over cells of how often a run beats one of the other side."""
    cells = [_beats(row, other) for row, other in zip(rows, others, strict=True)]
    means: Floats = np.mean(cells, axis=0)
    return means


def _beats(rows: Floats, others: Floats) -> Floats:
    """(block,) share of pairs won; rows and others are (block, runs)."""
    difference = np.sign(rows[:, :, None] - others[:, None, :])
    shares: Floats = 0.5 + 0.5 * difference.mean(axis=(1, 2))
    return shares


def _above(rows: Floats, limits: Floats) -> Floats:
    """(block, limits) share of each row above each limit."""
    shares: Floats = (rows[:, :, None] > limits).mean(axis=1)
    return shares
