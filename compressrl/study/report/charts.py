"""The kinds of charts of a study's page, each an SVG whose marks show their details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from compressrl.study.report import svg
from compressrl.study.report.groups import Interval
from compressrl.study.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale


@dataclass(frozen=True)
class Dot:
    """A value at place `x` of series number `series`; `tip` holds its details, line by line."""

    x: float
    y: float
    series: int
    tip: str
    ci95: Interval = None


def by_category(
    title: str, names: Sequence[str], dots: Sequence[Dot], y_title: str, *, level: float | None = None
) -> Markup:
    """Dots with intervals over categories: a dot's x is its category's number; they stand side by side there.

    level: value at which a line is drawn, such as the baseline
    """
    ends = [end for dot in dots for end in dot.ci95 or ()]
    include = () if level is None else (level,)
    y = svg.scale([*(d.y for d in dots), *ends], HEIGHT - BOTTOM, TOP, include=include)
    width = (WIDTH - RIGHT - LEFT) / max(len(names), 1)
    parts = svg.axes(title, "", y_title, y)
    parts += _level_line(y, level)
    for place, name in enumerate(names):
        middle = LEFT + (place + 0.5) * width
        parts += _category(middle, width, name, crowded=len(names) > 4)
        here = [dot for dot in dots if dot.x == place]
        step = min(width * 0.8 / max(len(here), 1), 16)
        first = middle - (len(here) - 1) / 2 * step
        parts += [_dot(dot, first + number * step, y) for number, dot in enumerate(here)]
    return svg.picture(title, WIDTH, HEIGHT, *parts)


def _category(middle: float, width: float, name: str, *, crowded: bool) -> list[Markup]:
    base = HEIGHT - BOTTOM
    text = name if len(name) * 6.2 < max(width, 60) else f"{name[: int(max(width, 60) / 6.2)]}…"
    turn = f"rotate(-28 {middle:.1f} {base + 16})" if crowded and len(name) > 5 else None
    anchor = "end" if turn else "middle"
    return [
        svg.label(middle + (6 if turn else 0), base + 16, text, "tick", text_anchor=anchor, transform=turn)
    ]


def _level_line(y: Scale, level: float | None) -> list[Markup]:
    return [] if level is None else [svg.line(LEFT, y(level), WIDTH - RIGHT, y(level), "level")]


def _dot(dot: Dot, x: float, y: Scale, size: float = 4.5) -> Markup:
    shapes = [svg.symbol(dot.series, x, y(dot.y), size)]
    if dot.ci95 is not None:
        low, high = dot.ci95
        shapes.insert(0, svg.line(x, y(low), x, y(high), "whisker"))
    return svg.mark(dot.tip, *shapes, series=dot.series)


def over_number(
    title: str,
    dots: Sequence[Dot],
    x_title: str,
    y_title: str,
    *,
    lines: Sequence[Sequence[Dot]] = (),
    percent: bool = False,
    level: float | None = None,
    log_x: bool = False,
    front: Sequence[tuple[float, float]] = (),
    size: float = 4.5,
) -> Markup:
    """Dots over a number, some of them joined by lines.

    level: value at which a line is drawn, such as the baseline
    front: corners (x, y) of a staircase, lowest x first
    size:  of a dot, half its width in pixels
    """
    ends = [end for dot in dots for end in dot.ci95 or ()]
    y = svg.scale(
        [*(d.y for d in dots), *ends], HEIGHT - BOTTOM, TOP, include=() if level is None else (level,)
    )
    x = svg.scale([d.x for d in dots], LEFT, WIDTH - RIGHT, log=log_x)
    parts = svg.axes(title, x_title, y_title, y, "percent" if percent else "number")
    parts += [*svg.x_ticks(x), *_level_line(y, level), *_staircase(front, x, y)]
    parts += [_curve(run, x, y) for run in lines]
    parts += [_dot(dot, x(dot.x), y, size) for dot in dots]
    return svg.picture(title, WIDTH, HEIGHT, *parts)


def _curve(dots: Sequence[Dot], x: Scale, y: Scale) -> Markup:
    points = " ".join(f"{x(dot.x):.1f},{y(dot.y):.1f}" for dot in dots)
    return svg.tag("polyline", points=points, class_=f"curve s{dots[0].series % svg.COLOURS}")


def _staircase(front: Sequence[tuple[float, float]], x: Scale, y: Scale) -> list[Markup]:
    """The corners joined by steps: what is above and left of it, nobody reaches."""
    if not front:
        return []
    path = [f"M{x(front[0][0]):.1f},{y.start:.1f}"]
    for at, value in front:
        path.append(f"H{x(at):.1f}V{y(value):.1f}")
    path.append(f"H{x.end:.1f}")
    return [svg.tag("path", d="".join(path), class_="front")]


@dataclass(frozen=True)
class Square:
    """One square of a heat map. value: 0-1 sets its colour; None is an empty one; `text` stands in it."""

    row: int
    column: int
    value: float | None
    text: str
    tip: str


def heat(title: str, rows: Sequence[str], columns: Sequence[str], squares: Sequence[Square]) -> Markup:
    """A heat map, the same colours on light and on dark pages: cividis, dark blue is 0 and yellow is 1."""
    left = 12 + 6.6 * max(map(len, rows), default=0)
    top = 14 + 4.9 * max(map(len, columns), default=0)
    side, height = 34, 22
    parts = [
        svg.label(left - 8, top + (place + 0.66) * height, name, "tick", text_anchor="end")
        for place, name in enumerate(rows)
    ]
    for place, name in enumerate(columns):
        x, y = left + (place + 0.6) * side, top - 6
        parts.append(svg.label(x, y, name, "tick", transform=f"rotate(-48 {x:.1f} {y:.1f})"))
    for square in squares:
        x, y = left + square.column * side, top + square.row * height
        box = svg.tag(
            "rect",
            x=x + 1, y=y + 1, width=side - 2, height=height - 2, rx=3,
            class_="empty" if square.value is None else None,
            style=None if square.value is None else f"fill:{cividis(square.value)}",
        )  # fmt: skip
        text = svg.label(
            x + side / 2, y + 15, square.text, f"value {ink(square.value)}", text_anchor="middle"
        )
        parts.append(svg.mark(square.tip, box, text))
    width = left + side * len(columns) + 4 * max(map(len, columns), default=0)
    return svg.picture(title, width, top + height * len(rows) + 6, *parts)


def ink(value: float | None) -> str:
    """Class of a number that can be read on the colour of its value."""
    return "muted" if value is None else "on-dark" if value < 0.5 else "on-light"


# Nuñez, Anderton & Renslow 2018, "Optimizing colormaps with consideration for color vision deficiency".
_CIVIDIS = ((0, 34, 78), (53, 69, 108), (102, 105, 112), (148, 142, 119), (200, 184, 102), (254, 232, 56))


def cividis(value: float) -> str:
    """The colour of a value, 0 to 1 (clipped)."""
    place = min(max(value, 0.0), 1.0) * (len(_CIVIDIS) - 1)
    index = min(int(place), len(_CIVIDIS) - 2)
    low, high = _CIVIDIS[index], _CIVIDIS[index + 1]
    mixed = (round(a + (b - a) * (place - index)) for a, b in zip(low, high, strict=True))
    return f"rgb({','.join(map(str, mixed))})"


@dataclass(frozen=True)
class Stack:
    """A horizontal bar of stages, each (series, value, tip), with a note after it."""

    label: str
    stages: Sequence[tuple[int, float, str]]
    note: str


def stacks(title: str, rows: Sequence[Stack], x_title: str) -> Markup:
    """Horizontal bars, first on top, stage after stage."""
    left, height = 16 + 6.4 * max(map(len, (row.label for row in rows)), default=0), 26
    width, end = left + 390, 26 + height * len(rows)
    totals = [sum(value for _, value, _ in row.stages) for row in rows]
    x = Scale(0.0, max(totals, default=1.0) * 1.02 or 1.0, left, left + 250)
    parts = [svg.label(left, 15, title, "title"), *svg.x_ticks(x, end)]
    parts.append(svg.label((x.start + x.end) / 2, end + 34, x_title, "axis", text_anchor="middle"))
    for place, row in enumerate(rows):
        y, at = 26 + place * height, 0.0
        parts.append(svg.label(left - 8, y + 17, row.label, "tick", text_anchor="end"))
        for series, value, tip in row.stages:
            box = svg.tag("rect", x=x(at), y=float(y + 4), width=max(x(at + value) - x(at), 0.0), height=18)
            parts.append(svg.mark(tip, box, series=series))
            at += value
        parts.append(svg.label(x(at) + 6, y + 17, row.note, "tick"))
    return svg.picture(title, width, end + 42, *parts)
