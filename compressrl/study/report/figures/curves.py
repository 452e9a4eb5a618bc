"""Learning curves of the baselines, from the policy sources.

A source's policy has its curve beside it: the same name with the suffix .csv, with the columns `step` and
`evaluation_return_mean` (as `compressrl train` writes it).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from compressrl import plugins
from compressrl.study.grid import Subject
from compressrl.study.report import charts, tables
from compressrl.study.report.charts import Dot
from compressrl.study.report.figures.figure import Figure
from compressrl.study.report.tables import Table

POINTS = 60  # of a curve, at most: more cannot be told apart in a panel


@dataclass(frozen=True)
class Curve:
    """points: (environment steps, mean evaluation return), never empty"""

    algorithm: str
    env_id: str
    seed: int
    points: tuple[tuple[float, float], ...]


def find(subjects: Sequence[Subject]) -> list[Curve]:
    """The curves that the installed sources have of these policies, in their order; none of a file's."""
    cells = [(*plugins.parse(s.algorithm), s.env_id) for s in subjects if not s.policy]
    wanted = list(dict.fromkeys((name, env_id) for name, options, env_id in cells if not options))
    found = []
    for source in plugins.registry().entries("policies"):
        for row in plugins.create("policies", source.entry.name).list():
            path = Path(row["path"]).with_suffix(".csv")
            if (row["algorithm"], row["env_id"]) in wanted and path.exists():
                found.append(Curve(row["algorithm"], row["env_id"], row["seed"], _points(path)))
    return sorted(
        (curve for curve in found if curve.points),
        key=lambda c: (wanted.index((c.algorithm, c.env_id)), c.seed),
    )


def _points(path: Path) -> tuple[tuple[float, float], ...]:
    """Evenly thinned; the last point always stays."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("evaluation_return_mean")]
    points = [(float(row["step"]), float(row["evaluation_return_mean"])) for row in rows]
    every = max(1, -(-len(points) // POINTS))
    return tuple(points[::-1][::every][::-1])


def figure(curves: Sequence[Curve]) -> Figure | None:
    """A panel for each environment, a line for each policy; None without curves."""
    if not curves:
        return None
    algorithms = list(dict.fromkeys(curve.algorithm for curve in curves))
    panels = [
        _panel(env_id, [curve for curve in curves if curve.env_id == env_id], algorithms)
        for env_id in dict.fromkeys(curve.env_id for curve in curves)
    ]
    rows = [
        (
            tables.word(curve.algorithm),
            tables.word(curve.env_id),
            tables.number(curve.seed, "d"),
            tables.number(step, ",.0f"),
            tables.number(value, ",.0f"),
        )
        for curve in curves
        for step, value in curve.points
    ]
    columns = ("algorithm", "environment", "seed", "step", "return")
    table = Table("figure_learning_curves", "Learning curves", columns, tuple(rows))
    legend = tuple(enumerate(algorithms))
    return Figure("Learning curves of the baselines", _text(curves), tuple(panels), table, legend)


def _panel(env_id: str, curves: Sequence[Curve], algorithms: list[str]) -> Markup:
    lines = [
        [
            Dot(step, value, algorithms.index(curve.algorithm), _tip(curve, step, value))
            for step, value in curve.points
        ]
        for curve in curves
    ]
    dots = [dot for line in lines for dot in line]
    return charts.over_number(
        env_id, dots, "environment steps (log scale)", "evaluation return", lines=lines, log_x=True, size=2
    )


def _tip(curve: Curve, step: float, value: float) -> str:
    return f"{curve.algorithm}, seed {curve.seed}\n{step:,.0f} steps: return {value:,.0f}"


def _text(curves: Sequence[Curve]) -> str:
    names = ", ".join(f"{curve.algorithm} on {curve.env_id}" for curve in curves if _still_rises(curve))
    tail = f" Not at their end yet (the last tenth is 5 % above the tenth before): {names}." if names else ""
    return f"Trained policies: {len(curves)}; what is compressed is the best one along a curve.{tail}"


def _still_rises(curve: Curve) -> bool:
    values = [value for _, value in curve.points]
    tenth = max(1, len(values) // 10)
    last, before = sum(values[-tenth:]) / tenth, sum(values[-2 * tenth : -tenth]) / tenth
    return len(values) >= 2 * tenth and last > before + 0.05 * abs(before)
