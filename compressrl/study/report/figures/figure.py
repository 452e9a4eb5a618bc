"""What all figures are made of."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from compressrl.study.report import tables
from compressrl.study.report.charts import Dot
from compressrl.study.report.groups import Estimate, Ratio
from compressrl.study.report.metrics import Metric
from compressrl.study.report.tables import Cell, Table


@dataclass(frozen=True)
class Figure:
    """A drawing with what to see in it and the table of what it draws.

    panels: SVGs, side by side where there is room
    legend:     (series, name)
    wide:       a single drawing that keeps its size and is scrolled sideways on a narrow page
    in_numbers: the table is one to read, and stands in for the drawing where there is none
    colours:    what they mean; said where there is a drawing
    """

    title: str
    text: str
    panels: tuple[Markup, ...]
    table: Table
    legend: tuple[tuple[int, str], ...] = ()
    wide: bool = False
    in_numbers: bool = False
    colours: str = ""


@dataclass(frozen=True)
class Point:
    """A dot and its line in the table behind the figure."""

    dot: Dot
    row: tuple[Cell, ...]


def said(found: Estimate | Ratio, form: str) -> str:
    """`98.2% (95 %: 97.1% to 99.0%)`."""
    if found.value is None:
        return "n/a"
    interval = f" (95 %: {tables.interval(found.ci95, form)})" if found.ci95 else ""
    return f"{found.value:{form}}{interval}"


def titled(metric: Metric, kind: str) -> str:
    return f"{metric.title} ({kind})" if kind else metric.title
