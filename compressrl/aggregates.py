"""Many cells (environments, checkpoints) in one figure: pooled IQM, probability of improvement, profiles.

A cell holds the scores of its runs, say the retention of each checkpoint, or episode. Cells are the strata of
the bootstrap: runs are resampled within each (Agarwal et al. 2021, "Deep RL at the edge of the statistical
precipice", arXiv 2108.13264, §4.1). The figures, and the resamples behind them, are those of its library
rliable (tests/compressrl/test_aggregates.py); the interval is expanded for few runs as in
`compressrl.statistics`, which rliable does not do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compressrl.statistics import RESAMPLES, Floats, expanded_interval, iqm

Cells = Sequence[Sequence[float] | Floats]
BLOCK = 1000  # resamples at once: bounds the memory


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; None where a cell has a single run."""

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
    """Every cell lends its degrees of freedom; the smallest says how much too narrow resampling is."""
    return expanded_interval(samples, min(map(len, cells)), sum(len(cell) - 1 for cell in cells))


def _iqm_rows(rows: Floats) -> Floats:
    cut = rows.shape[1] // 4
    means: Floats = np.sort(rows, axis=1)[:, cut : rows.shape[1] - cut].mean(axis=1)
    return means


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
