"""Mean return of the baselines and of every method without a level, a panel for each environment."""

from __future__ import annotations

from collections.abc import Sequence

from compressrl.study.grid import Subject
from compressrl.study.report import charts, tables
from compressrl.study.report.charts import Dot
from compressrl.study.report.figures.figure import Figure, Point, said
from compressrl.study.report.groups import Estimate, algorithm_name
from compressrl.study.report.methods import Method
from compressrl.study.report.pooled import Pooled
from compressrl.study.report.tables import Table


def figure(pooled: Pooled) -> Figure | None:
    """None where no such cell is finished."""
    chosen = [method for method in pooled.compressors if method.level is None]
    if not pooled.of_all(chosen):
        return None
    panels, points = [], []
    for env_id in dict.fromkeys(subject.env_id for subject in pooled.subjects):
        subjects = [s for s in pooled.subjects if s.env_id == env_id and pooled.baseline(s)]
        found = [p for place, subject in enumerate(subjects) for p in _points(pooled, subject, place, chosen)]
        if found:
            names = [algorithm_name(subject) for subject in subjects]
            panels.append(charts.by_category(env_id, names, [p.dot for p in found], "return"))
            points += found
    columns = ("algorithm", "environment", "method", "return")
    table = Table("figure_returns", "Return by method", columns, tuple(point.row for point in points))
    legend = tuple(enumerate(["baseline", *(method.label for method in chosen)]))
    return Figure("Return", _text(pooled, chosen), tuple(panels), table, legend)


def _points(pooled: Pooled, subject: Subject, place: int, chosen: Sequence[Method]) -> list[Point]:
    baseline = pooled.baseline(subject)
    sides = [("baseline", baseline, "baseline")]
    sides += [(method.label, pooled.groups.get((subject, method)), "compressed") for method in chosen]
    means = [(name, group.mean_return(side) if group else Estimate(None)) for name, group, side in sides]
    found = []
    for series, (name, mean) in enumerate(means):
        if mean.value is not None:
            policy = algorithm_name(subject)
            tip = f"{policy}, {name}\nreturn {said(mean, ',.0f')}"
            row = (*map(tables.word, (policy, subject.env_id, name)), tables.estimate(mean))
            found.append(Point(Dot(place, mean.value, series, tip, mean.ci95), row))
    return found


def _text(pooled: Pooled, chosen: Sequence[Method]) -> str:
    intervals = [group.kept.ci95 for group in pooled.of_all(chosen) if group.kept.ci95]
    below = sum(high < 1 for _, high in intervals)
    return (
        f"Of {len(intervals)} compressed policies, {below} lose return beyond doubt (the interval of their "
        "retention ends below 100 %). Whiskers: 95 % interval of the mean."
    )
