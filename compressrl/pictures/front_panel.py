"""The Pareto front of a recommendation as scatter panels: what is kept against what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from compressrl.pictures.plot_panels import MUTED

# Okabe & Ito 2008, "Color universal design".
RUNTIME_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
LOWEST = 0.5  # retention below which a point is drawn at the edge, as an arrow
ORIGINAL = "original"
TITLES = {
    "latency": ("what is kept, by inference time", "µs a decision, p50"),
    "size": ("what is kept, by size", "KiB of weights"),
}


@dataclass(frozen=True)
class Point:
    """A variant: retention with interval against a cost.

    number: its place in the list beside the panels; None off the front, where it is drawn small and unnamed,
            but for the original
    """

    number: int | None
    runtime: str
    cost: float
    retention: float
    interval: tuple[float, float] | None
    chosen: bool
    original: bool


def points(report: Mapping[str, Any], cost: str) -> list[Point]:
    """Of every variant with this cost, "latency" (µs) or "size" (KiB), and a retention."""
    numbers = {(row["pipeline"], row["runtime"]): n for n, row in enumerate(report["front"], start=1)}
    chosen = report["chosen"] and (report["chosen"]["pipeline"], report["chosen"]["runtime"])
    found = []
    for candidate in report["candidates"]:
        for variant in candidate["variants"]:
            name = candidate["pipeline"], variant["runtime"]
            size = candidate["model"]["size_bytes"] / 1024
            x = variant["latency_us"]["p50"] if cost == "latency" else size
            kept = candidate["retention"]
            if x is not None and kept is not None and kept["value"] is not None:
                number, interval = numbers.get(name), kept["ci95"]
                found.append(Point(number, name[1], x, kept["value"], interval, name == chosen, not name[0]))
    return found


def names(report: Mapping[str, Any]) -> list[str]:
    """The numbered list of the front."""
    rows = enumerate(report["front"], start=1)
    return [f"{n}  {row['pipeline'] or ORIGINAL}, {row['runtime']}" for n, row in rows]


def draw(axes: Axes, report: Mapping[str, Any], cost: str) -> None:
    """Retention over a cost on a logarithmic axis; front in colour, the chosen one ringed."""
    runtimes, minimum = report["request"]["runtimes"], report["request"]["min_retention"]
    colours = {r: RUNTIME_COLOURS[i % len(RUNTIME_COLOURS)] for i, r in enumerate(runtimes)}
    for point in sorted(points(report, cost), key=lambda point: point.number is not None):
        _draw_point(axes, point, colours[point.runtime])
    for runtime, colour in colours.items():
        axes.scatter([], [], 24, colour, label=f"in {runtime}")
    axes.scatter([], [], 24, MUTED, marker="D", label=ORIGINAL)
    axes.axhline(minimum, color=MUTED, linestyle="--", linewidth=0.8)
    place: Any = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "ha": "right"}
    axes.annotate(f"to be kept: {minimum:.1%}", (1, minimum), (0, -9), color=MUTED, fontsize=7, **place)
    _label(axes, *TITLES[cost])


def _label(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, fontweight="bold")
    axes.set_xlabel(unit)
    axes.set_ylabel("retention")
    axes.set_xscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_point(axes: Axes, point: Point, colour: str) -> None:
    if point.retention < LOWEST:
        axes.plot(point.cost, LOWEST, "v", color=colour, alpha=0.4, markersize=4)
        return
    if point.number is None:
        size, opacity, marker = (24, 1.0, "D") if point.original else (10, 0.35, "o")
        axes.scatter(point.cost, point.retention, size, colour, marker=marker, alpha=opacity)
        return
    if point.interval is not None:
        axes.plot((point.cost, point.cost), point.interval, color=colour, linewidth=1.2)
    axes.scatter(point.cost, point.retention, 28, colour, marker="D" if point.original else "o", zorder=3)
    if point.chosen:
        axes.scatter(point.cost, point.retention, 150, "none", edgecolors="black", linewidths=1.5, zorder=4)
    axes.annotate(
        str(point.number), (point.cost, point.retention), (7, 3), textcoords="offset points", fontsize=8
    )
