"""Memory, inference time and energy of every method without a level, as ratios to the baseline."""

from __future__ import annotations

from collections.abc import Sequence

from compressrl.study.report import charts, tables
from compressrl.study.report.charts import Dot
from compressrl.study.report.figures.figure import Figure, Point, said, titled
from compressrl.study.report.groups import Estimate, Group, Ratio, kinds, median_ratio, of_kind
from compressrl.study.report.methods import Method
from compressrl.study.report.metrics import ENERGY, LATENCY, MEMORY, Metric
from compressrl.study.report.pooled import Pooled
from compressrl.study.report.tables import Table

COSTS = (MEMORY, LATENCY, ENERGY)


def figure(pooled: Pooled) -> Figure | None:
    """None where no compressed cell is finished; the baseline against itself comes first."""
    chosen = [method for method in pooled.methods if method.level is None and pooled.of(method)]
    if not any(not method.is_baseline for method in chosen):
        return None
    panels, points, said_of = [], [], []
    for metric in COSTS:
        for kind in kinds(pooled.of_all(chosen), metric):
            found = [
                p for place, method in enumerate(chosen) for p in _points(pooled, method, place, metric, kind)
            ]
            labels, dots = [method.label for method in chosen], [p.dot for p in found]
            panels.append(
                charts.by_category(titled(metric, kind), labels, dots, "ratio to baseline", level=1)
            )
            points += found
            said_of.append(_lowest(pooled, chosen, metric, kind))
    columns = ("metric", "policy", "method", "ratio", "baseline", "compressed")
    table = Table("figure_costs", "Cost by method", columns, tuple(point.row for point in points))
    noise = "".join(_noise(pooled.of(method)) for method in chosen if method.is_baseline)
    text = f"Medians over policies: {'; '.join(filter(None, said_of))}. {noise}A point is a policy."
    return Figure("Memory, inference time, energy", text, tuple(panels), table)


def _points(pooled: Pooled, method: Method, place: int, metric: Metric, kind: str) -> list[Point]:
    found = []
    for group, ratio, value in of_kind(pooled.of(method), metric, kind):
        base, comp = (group.level(metric, side) for side in ("baseline", "compressed"))
        row = (
            tables.word(titled(metric, kind)),
            tables.word(group.policy),
            tables.word(method.label),
            tables.estimate(Estimate(value, ratio.ci95), ".3f"),
            tables.quantity(base.value, metric),
            tables.quantity(comp.value, metric),
        )
        found.append(Point(Dot(place, value, place, _tip(group, metric, ratio), ratio.ci95), row))
    return found


def _tip(group: Group, metric: Metric, ratio: Ratio) -> str:
    base, comp = (metric.show(group.level(metric, side).value) for side in ("baseline", "compressed"))
    kind = f", {ratio.kind}" if ratio.kind else ""
    return (
        f"{group.policy}\n{group.method.label}: {said(ratio, '.3g')} of the baseline\n{base} to {comp}{kind}"
    )


def _lowest(pooled: Pooled, chosen: Sequence[Method], metric: Metric, kind: str) -> str:
    """The cheapest method by this metric."""
    found = {m.label: median_ratio(pooled.of(m), metric, kind) for m in chosen if not m.is_baseline}
    known = {label: value for label, value in found.items() if value is not None}
    if not known:
        return ""
    label = min(known, key=lambda name: known[name])
    return f"{titled(metric, kind)} is lowest under {label} ({known[label]:.2f} of the baseline)"


def _noise(groups: Sequence[Group]) -> str:
    times = [value for _, _, value in of_kind(groups, LATENCY, "")]
    if not times:
        return ""
    return (
        f"Against itself, a baseline's time comes out at {min(times):.2f} to {max(times):.2f}: smaller "
        "differences are noise. "
    )
