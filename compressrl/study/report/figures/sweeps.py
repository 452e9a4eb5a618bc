"""Retention and costs over the level of every sweep, all policies together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from compressrl.study.report import charts, tables
from compressrl.study.report.charts import Dot
from compressrl.study.report.figures.costs import COSTS
from compressrl.study.report.figures.figure import Figure, Point, said, titled
from compressrl.study.report.groups import Estimate, Group, kinds, median_ratio
from compressrl.study.report.metrics import Metric
from compressrl.study.report.overview import pooled_retention
from compressrl.study.report.pooled import Pooled
from compressrl.study.report.tables import Table


def figure(pooled: Pooled, kept_share: float) -> Figure | None:
    """None where nothing was swept."""
    swept = [method for method in pooled.compressors if method.level is not None and pooled.of(method)]
    if not swept:
        return None
    families = tuple(dict.fromkeys(method.family for method in swept))
    found = _points(pooled, families, "retention, pooled IQM", pooled_retention)
    panels = [_panel("retention", found, percent=True)] if found else []
    points = list(found)
    for metric in COSTS:
        for kind in kinds(pooled.of_all(swept), metric):
            if found := _cost_points(pooled, families, metric, kind):
                panels.append(_panel(titled(metric, kind), found))
                points += found
    columns = ("what", "family", "level", "policies", "value")
    table = Table("figure_sweeps", "Sweeps", columns, tuple(point.row for point in points))
    text = _text(pooled, families, kept_share)
    return Figure("Over the level", text, tuple(panels), table, tuple(enumerate(families)))


def _panel(title: str, points: Sequence[Point], *, percent: bool = False) -> Markup:
    dots = [point.dot for point in points]
    series = dict.fromkeys(dot.series for dot in dots)
    lines = [sorted((dot for dot in dots if dot.series == n), key=lambda dot: dot.x) for n in series]
    y_title = "of the baseline's" if percent else "ratio to baseline"
    return charts.over_number(title, dots, "level", y_title, lines=lines, percent=percent, level=1)


def _cost_points(pooled: Pooled, families: Sequence[str], metric: Metric, kind: str) -> list[Point]:
    def median(groups: Sequence[Group]) -> Estimate:
        return Estimate(median_ratio(groups, metric, kind))

    return _points(pooled, families, f"{titled(metric, kind)}, median ratio", median)


def _points(
    pooled: Pooled, families: Sequence[str], what: str, read: Callable[[Sequence[Group]], Estimate]
) -> list[Point]:
    points = []
    for method in pooled.compressors:
        groups = pooled.of(method)
        found = read(groups)
        if method.level is None or found.value is None:
            continue
        tip = f"{method.label}\n{what}: {said(found, '.3g')}\n{len(groups)} policies"
        row = (
            tables.word(what),
            tables.word(method.family),
            tables.number(method.level, "g"),
            tables.number(len(groups), "d"),
            tables.estimate(found, ".3f"),
        )
        series = families.index(method.family)
        points.append(Point(Dot(method.level, found.value, series, tip, found.ci95), row))
    return points


def _text(pooled: Pooled, families: Sequence[str], kept_share: float) -> str:
    parts = []
    for family in families:
        methods = [m for m in pooled.compressors if m.family == family and m.level is not None]
        found = [(m.level or 0.0, pooled_retention(pooled.of(m)).value) for m in methods]
        kept = [(level, value) for level, value in found if value is not None]
        if not kept:
            continue
        alive = [level for level, value in kept if value >= kept_share]
        parts.append(f"{family} at levels up to {max(alive):g}" if alive else f"{family} at no level")
    if not parts:
        return "No baseline earns a positive return: no level keeps a share of it."
    return f"Over all policies together, {kept_share:.0%} of the return is kept by {' and by '.join(parts)}."
