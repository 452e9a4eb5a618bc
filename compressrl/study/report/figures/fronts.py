"""Retention against what it costs, all policies together, and the methods that nothing beats in both."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from compressrl.study.report import charts, tables
from compressrl.study.report.charts import Dot
from compressrl.study.report.figures.figure import Figure, Point, said, titled
from compressrl.study.report.groups import Estimate, Group, kinds, median_ratio, of_kind
from compressrl.study.report.metrics import ENERGY, LATENCY, SIZE, Metric
from compressrl.study.report.overview import pooled_retention
from compressrl.study.report.pooled import Pooled
from compressrl.study.report.tables import Table


def figure(pooled: Pooled) -> Figure | None:
    """A panel for each cost; None where no compressed cell is finished, or none has a retention."""
    if not pooled.compressed:
        return None
    families = list(dict.fromkeys(m.family for m in pooled.methods if pooled.of(m)))
    panels, rows, said_of = [], [], []
    for metric in (SIZE, LATENCY, ENERGY):
        for kind in kinds(list(pooled.groups.values()), metric):
            points = [p for m in pooled.methods if (p := _point(pooled.of(m), metric, kind, families))]
            if not points:
                continue
            dots = [point.dot for point in points]
            best = pareto(dots)
            panels.append(_panel(titled(metric, kind), dots, best))
            rows += [(*p.row, tables.word("yes" if p.dot in best else "no")) for p in points]
            names = [dot.tip.split("\n")[0] for dot in best]
            said_of.append(f"{titled(metric, kind)}: {', '.join(names)}")
    if not panels:
        return None
    columns = ("cost", "method", "median ratio", "retention", "on the front")
    table = Table("figure_fronts", "Pareto fronts", columns, tuple(rows))
    text = (
        f"Upper left is better. Nothing is both cheaper and better than these: {'; '.join(said_of)}. "
        "A point is a method over all policies: median cost and pooled IQM of the retention."
    )
    return Figure("Pareto fronts", text, tuple(panels), table, tuple(enumerate(families)))


def _panel(title: str, dots: Sequence[Dot], best: Sequence[Dot]) -> Markup:
    front = [(dot.x, dot.y) for dot in best]
    return charts.over_number(
        title, dots, "ratio to baseline", "retention", percent=True, level=1, log_x=True, front=front
    )


def _point(all_groups: Sequence[Group], metric: Metric, kind: str, families: list[str]) -> Point | None:
    groups = [group for group, _, _ in of_kind(all_groups, metric, kind)]
    cost, kept = median_ratio(groups, metric, kind), pooled_retention(groups)
    if cost is None or kept.value is None:
        return None
    label = groups[0].method.label
    tip = f"{label}\n{titled(metric, kind)}: {cost:.2f} of the baseline\nretention {said(kept, '.1%')}"
    row = (
        tables.word(titled(metric, kind)),
        tables.word(label),
        tables.number(cost, ".3f"),
        tables.estimate(Estimate(kept.value, kept.ci95), ".1%"),
    )
    series = families.index(groups[0].method.family)
    return Point(Dot(cost, kept.value, series, f"{tip}\n{len(groups)} policies", kept.ci95), row)


def pareto(dots: Sequence[Dot]) -> list[Dot]:
    """Those that no other beats by lower x and higher y; lowest x first."""
    best: list[Dot] = []
    for dot in sorted(dots, key=lambda d: (d.x, -d.y)):
        if not best or dot.y > best[-1].y:
            best.append(dot)
    return best
