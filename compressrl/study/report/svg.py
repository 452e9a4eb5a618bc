"""Small SVG: escaped tags, scales with round ticks, axes, and marks that show details."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 66, 12, 26, 46
COLOURS, SHAPES = 7, 5  # of the page's style sheet; series beyond them repeat a colour with another shape


def tag(name: str, *content: str, **attributes: str | float | None) -> Markup:
    """An element. `class_` is class, other underscores are hyphens; None leaves an attribute out."""
    words = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _plain(value))
        for key, value in attributes.items()
        if value is not None
    ]
    return Markup("<{0}{1}>{2}</{0}>").format(
        Markup(name), Markup("").join(words), Markup("").join(map(escape, content))
    )


def _plain(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def picture(title: str, width: float, height: float, *content: str) -> Markup:
    """An SVG that grows with its place; its marks are reached by the arrow keys (page.js)."""
    return tag(
        "svg",
        *content,
        viewBox=f"0 0 {width:g} {height:g}",
        role="group",
        aria_label=title,
        style=f"--width:{width:g}px",
    )


def mark(tip: str, *shapes: str, series: int | None = None) -> Markup:
    """Shapes that show `tip` (lines of text) when they are pointed at, tapped or focused."""
    style = "mark" if series is None else f"mark s{series % COLOURS}"
    return tag("g", *shapes, class_=style, role="img", aria_label=tip, tabindex="-1")


def label(x: float, y: float, text: str, kind: str = "", **attributes: str | float | None) -> Markup:
    return tag("text", text, x=x, y=y, class_=kind or None, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def symbol(series: int, x: float, y: float, size: float = 4.5) -> Markup:
    """A point: series differ in shape as well as in colour."""
    shape = series % SHAPES
    if shape == 0:
        return tag("circle", cx=x, cy=y, r=size)
    if shape == 1:
        return tag("rect", x=x - size * 0.9, y=y - size * 0.9, width=size * 1.8, height=size * 1.8)
    corners = {
        2: ((0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
        3: ((0, -1.3), (1.2, 0), (0, 1.3), (-1.2, 0)),
        4: ((0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
    }[shape]
    return tag("polygon", points=" ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in corners))


@dataclass(frozen=True)
class Scale:
    """Data from `low` to `high` onto pixels from `start` to `end`; `log` needs positive data."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About five round values within the scale."""
        if self.log:
            found = [m * 10.0**e for e in range(-9, 10) for m in (1, 2, 5)]
            return [tick for tick in found if self.low <= tick <= self.high]
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def scale(
    values: Sequence[float], start: float, end: float, *, include: Sequence[float] = (), log: bool = False
) -> Scale:
    """A scale on which all values, and those to include, have a little air around them."""
    low, high = min([*values, *include]), max([*values, *include])
    if log:
        low, high = low / 1.15, high * 1.15
        # Of 1, 2, 5, 10 ... two always lie between two numbers of which one is five times the other.
        missing = max(1.0, 5.01 * low / high) ** 0.5
        low, high = low / missing, high * missing
        return Scale(low, high, start, end, log=True)
    magnitude = max(abs(low), abs(high))
    if high - low > 1e-9 * magnitude and magnitude > 1e-12:
        air = (high - low) * 0.06
    else:  # one value, up to rounding
        air = magnitude * 0.1 if magnitude > 1e-12 else 1.0
    return Scale(low - air, high + air, start, end)


def short(value: float) -> str:
    """A tick's label: 12k, 0.5, 3."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:.6g}"


def percent(value: float) -> str:
    return f"{value * 100:.4g} %"


def axes(title: str, x_title: str, y_title: str, y: Scale, y_label: str = "number") -> list[Markup]:
    """Title, horizontal grid with its labels, and the titles of both axes."""
    write = percent if y_label == "percent" else short
    parts = [
        label(LEFT, 15, title, "title"),
        label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_title, "axis", text_anchor="middle"),
        label(13, (TOP + HEIGHT - BOTTOM) / 2, y_title, "axis turned", text_anchor="middle"),
    ]
    for tick in y.ticks():
        parts += [
            line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid"),
            label(LEFT - 6, y(tick) + 4, write(tick), "tick", text_anchor="end"),
        ]
    return parts


def x_ticks(x: Scale, y_end: float = HEIGHT - BOTTOM) -> list[Markup]:
    parts = []
    for tick in x.ticks():
        parts += [
            line(x(tick), y_end, x(tick), y_end + 4, "axisline"),
            label(x(tick), y_end + 16, short(tick), "tick", text_anchor="middle"),
        ]
    return [line(x.start, y_end, x.end, y_end, "axisline"), *parts]
