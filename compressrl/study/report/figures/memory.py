"""Where the memory goes: library, model and runtime, for the baseline and every method without a level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median

from compressrl.study.report import charts, tables
from compressrl.study.report.charts import Stack
from compressrl.study.report.figures.figure import Figure
from compressrl.study.report.groups import Group
from compressrl.study.report.metrics import MIB
from compressrl.study.report.pooled import Pooled
from compressrl.study.report.tables import Table

STAGES = ("library", "model", "runtime")
Row = tuple[str, Mapping[str, float], float]  # label, mean bytes by stage, median bytes of the weights


def figure(pooled: Pooled) -> Figure | None:
    """None where no memory could be read."""
    chosen = [method for method in pooled.compressors if method.level is None and pooled.of(method)]
    found = [
        _row("baseline", list(pooled.groups.values()), "baseline"),
        *(_row(method.label, pooled.of(method), "compressed") for method in chosen),
    ]
    rows = [row for row in found if row is not None]
    if not rows:
        return None
    drawn = charts.stacks(
        "Mean over policies", [_stack(*row) for row in rows], "MiB on top of an interpreter"
    )
    cells = tuple(
        (
            tables.word(label),
            *(tables.number(stages[name] / MIB, ".2f") for name in STAGES),
            tables.number(weights / 1024, ",.1f"),
        )
        for label, stages, weights in rows
    )
    columns = ("method", *(f"{name}, MiB" for name in STAGES), "packed weights, KiB")
    table = Table("figure_memory", "Memory by stage", columns, cells)
    return Figure("Where the memory goes", _text(rows), (drawn,), table, tuple(enumerate(STAGES)), wide=True)


def _row(label: str, groups: Sequence[Group], side: str) -> Row | None:
    """None where a stage could not be read."""
    sides = [report[side] for group in groups for report in group.reports]
    records = [found["memory_bytes"] for found in sides]
    if not records or any(record[name] is None for record in records for name in STAGES):
        return None
    stages = {name: fmean(record[name] for record in records) for name in STAGES}
    return label, stages, median(found["model"]["size_bytes"] for found in sides)


def _stack(label: str, stages: Mapping[str, float], weights: float) -> Stack:
    parts = [
        (series, stages[name] / MIB, f"{label}\n{name}: {stages[name] / MIB:.2f} MiB")
        for series, name in enumerate(STAGES)
    ]
    return Stack(label, parts, f"weights {weights / 1024:,.0f} KiB")


def _text(rows: Sequence[Row]) -> str:
    shares = [stages["library"] / sum(stages.values()) for _, stages, _ in rows]
    ends = dict.fromkeys((f"{min(shares):.0%}", f"{max(shares):.0%}"))
    return (
        f"The library that runs the policy takes {' to '.join(ends)} of the memory on top "
        "of an interpreter. The weights, all that compression can shrink, stand behind the bars in KiB."
    )
