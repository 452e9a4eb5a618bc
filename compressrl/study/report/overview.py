"""What was run, what each method comes to over all policies, and what is missing or failed."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from statistics import median

from compressrl import aggregates
from compressrl.study.grid import Study
from compressrl.study.report import tables
from compressrl.study.report.groups import Estimate, Group
from compressrl.study.report.methods import Method
from compressrl.study.report.metrics import METRICS, Metric
from compressrl.study.report.pooled import Pooled
from compressrl.study.report.tables import Cell, Table
from compressrl.study.store import Outcome

BUSY = 0.1  # neighbours that took more than this share of the other cores make timings rough
A_LINE = 300
RESAMPLES = 2000  # of hundreds of episodes of each policy: more would take minutes


def counts(study: Study, outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Cells by what became of them."""
    found = Counter(outcome.status for outcome in outcomes)
    return {
        "done": found["done"],
        "failed": found["failed"],
        "without a trained policy": found["missing"],
        "not run yet": len(study.cells) - found.total(),
    }


def host_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """Every different machine with its versions, the most frequent first, and what ran beside the cells."""
    hosts = Counter(
        ", ".join(f"{key} {value}" for key, value in outcome.report["host"].items() if value)
        for outcome in outcomes
        if outcome.report is not None
    )
    lines = [f"{host} ({count} cells)" for host, count in hosts.most_common()]
    timed = [o.busy_neighbours for o in outcomes if o.busy_neighbours is not None]
    busy = sum(share > BUSY for share in timed)
    if timed:
        lines.append(
            f"{busy} of {len(timed)} cells had neighbours on more than {BUSY:.0%} of the other cores: time "
            "and energy are ratios of interleaved measurements, and rougher there."
        )
    return lines


def method_table(pooled: Pooled) -> Table:
    """One line a method: retention over all policies, and the four metrics as ratios to the baseline."""
    rows = [_method_row(method, pooled.of(method)) for method in pooled.methods]
    columns = (
        "method",
        "policies",
        "retention, IQM",
        "worst policy",
        "not inferior",
        *(f"{metric.title} ratio" for metric in METRICS),
        "compressing, s",
        "environment steps",
    )
    text = (
        "Retention is the return of an episode over the interquartile mean (IQM) of its baseline; below it, "
        "the 95 % interval of a bootstrap of pairs, stratified by policy. “Not inferior” counts policies "
        "whose retention stays above 1 - margin with its whole interval. Ratios are medians over policies, "
        "compressed over baseline. A line “baseline” compares every policy with itself: what differs from 1 "
        "there is noise. What compressing took is the median over cells, the most that one took below "
        "it; a cell has one core."
    )
    return Table("methods", "Every method over all policies", columns, tuple(rows), text)


def _method_row(method: Method, groups: Sequence[Group]) -> tuple[Cell, ...]:
    name = Cell(method.label, (), method.label, {"": method.label, "pipeline": method.compressor})
    if method.label != method.compressor and method.compressor:
        name = Cell(method.label, (method.compressor,), method.label, name.data)
    kept = [group for group in groups if group.kept.value is not None]
    safe = sum(group.kept.non_inferior for group in kept)
    return (
        name,
        tables.number(len(groups), "d"),
        tables.estimate(pooled_retention(groups), ".1%"),
        _worst(kept),
        Cell(f"{safe} of {len(kept)}", (), safe, {"": safe}) if kept else tables.number(None),
        *(_median_ratio(groups, metric) for metric in METRICS),
        _spent(groups, "seconds"),
        _spent(groups, "environment_steps"),
    )


def pooled_retention(groups: Sequence[Group]) -> Estimate:
    """Pooled IQM of the retention of all groups."""
    return _pooled_retention(tuple(groups))


@functools.lru_cache(maxsize=1024)
def _pooled_retention(groups: tuple[Group, ...]) -> Estimate:
    pairs = [found for group in groups if (found := group.pairs()) is not None]
    if not pairs:
        return Estimate(None, reason="no baseline with a positive return" if groups else "")
    pooled = aggregates.pooled_retention(pairs, resamples=RESAMPLES)
    return Estimate(pooled.value, pooled.ci95)


def _worst(kept: Sequence[Group]) -> Cell:
    if not kept:
        return tables.number(None)
    worst = min(kept, key=lambda group: group.kept.value or 0.0)
    value = worst.kept.value
    return Cell(f"{value:.1%}", (worst.policy,), value, {"": value, "policy": worst.policy})


def _median_ratio(groups: Sequence[Group], metric: Metric) -> Cell:
    ratios = [group.ratio(metric) for group in groups]
    values = [ratio.value for ratio in ratios if ratio.value is not None]
    kinds = {ratio.kind for ratio in ratios if ratio.value is not None and ratio.kind}
    if not values:
        return tables.number(None, reason=next((r.reason for r in ratios if r.reason), ""))
    return tables.number(median(values), ".2f", note=", ".join(sorted(kinds)))


def _spent(groups: Sequence[Group], what: str) -> Cell:
    values = [float(report["spent"][what]) for group in groups for report in group.reports]
    if not values:
        return tables.number(None)
    middle, most = median(values), max(values)
    return Cell(f"{middle:,.0f}", (f"{most:,.0f}",), middle, {"": middle, "most": most})


def missing_table(outcomes: Sequence[Outcome]) -> Table | None:
    """Cells without a trained policy, with the command that trains each; None where there is none."""
    found = Counter((o.cell.algorithm, o.cell.env_id, o.error) for o in outcomes if o.status == "missing")
    rows = [
        (tables.word(algorithm), tables.word(env_id), tables.number(count, "d"), tables.word(error))
        for (algorithm, env_id, error), count in found.items()
    ]
    columns = ("algorithm", "environment", "cells", "what to do")
    text = "These cells wait for a trained policy; train it, then run the study again."
    return Table("missing", "Missing cells", columns, tuple(rows), text) if rows else None


def failed_table(outcomes: Sequence[Outcome]) -> Table | None:
    """Cells that ran and failed, with their error; None where there is none."""
    rows = [
        (
            tables.word(o.cell.algorithm),
            tables.word(o.cell.env_id),
            tables.word(o.cell.compressor or "baseline"),
            tables.number(o.cell.repeat, "d"),
            tables.word(o.error if len(o.error) <= A_LINE else f"{o.error[:A_LINE]}…"),
        )
        for o in outcomes
        if o.status == "failed"
    ]
    columns = ("algorithm", "environment", "method", "repeat", "error")
    text = "To run them again: compressrl study retry FOLDER"
    return Table("failed", "Failed cells", columns, tuple(rows), text) if rows else None
