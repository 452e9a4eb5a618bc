"""The panels of a picture: bars with whiskers, stacked stages, and paired episodes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

# Okabe & Ito 2008, "Color universal design".
COLOURS = {"baseline": "#0072B2", "compressed": "#E69F00"}
STAGE_COLOURS = {"library": "#56B4E9", "model": "#D55E00", "runtime": "#009E73"}
MUTED = "#595959"
HEADROOM = 5.0  # a whisker of more than this many times the highest bar leaves the panel, with an arrow


@dataclass(frozen=True)
class Bar:
    """A figure with its interval; None is drawn as n/a with the reason, never as a bar of zero.

    label:   lines below the bar
    version: "baseline" or "compressed": its colour
    note:    a line below the value
    """

    label: str
    version: str
    value: float | None
    interval: tuple[float, float] | None = None
    note: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Stack:
    """MiB by stage with a note beside the bar; None with the reason as its note."""

    label: str
    stages: dict[str, float] | None
    note: str


def bars(axes: Axes, title: str, whisker: str, unit: str, row: Sequence[Bar]) -> None:
    """One vertical bar each, its value below it."""
    for place, bar in enumerate(row):
        if bar.value is not None:
            axes.bar(place, bar.value, 0.6, color=COLOURS[bar.version])
        if bar.value is not None and bar.interval is not None:
            _draw_whisker(axes, place, bar.value, bar.interval)
    axes.set_title(f"{title}\n", fontweight="bold")
    axes.annotate(whisker, (0, 1), (0, 4), "axes fraction", "offset points", color=MUTED, fontsize=7)
    axes.set_ylabel(unit)
    axes.set_xlim(-0.6, len(row) - 0.4)
    axes.set_xticks(range(len(row)), [_below(bar, unit) for bar in row], fontsize=8)
    axes.axhline(0, color="black", linewidth=0.8)
    _limit(axes, row)
    _say_missing(axes, row)


def stacks(axes: Axes, rows: Sequence[Stack]) -> None:
    """Draw one horizontal bar for each, first on top, stage after stage."""
    axes.set_title("where the memory goes", fontweight="bold")
    for place, stack in enumerate(rows):
        if stack.stages is None:
            text = textwrap.fill(textwrap.shorten(f"n/a: {stack.note}", 130), 55)
            place_of_text = axes.get_yaxis_transform()
            axes.text(0.01, place, text, transform=place_of_text, va="center", fontsize=8, color=MUTED)
            continue
        left = 0.0
        for stage, size in stack.stages.items():
            axes.barh(place, size, 0.55, left=left, color=STAGE_COLOURS[stage])
            left += size
        axes.annotate(
            stack.note,
            (left, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=MUTED,
        )
    sums = [sum(stack.stages.values()) for stack in rows if stack.stages is not None]
    axes.set_yticks(range(len(rows)), [stack.label for stack in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("MiB of a fresh process, on top of the interpreter")
    if not sums:
        axes.set_xticks([])
        return
    axes.set_xlim(0, 1.6 * max(sums))  # room for the notes
    for stage, colour in STAGE_COLOURS.items():
        axes.bar(0, 0, color=colour, label=stage)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=3, frameon=False, fontsize=8)


def pairs(axes: Axes, baseline: Sequence[float | None], compressed: Sequence[float | None]) -> None:
    """Every pair of episodes of one seed as a line; a pair with a return that is not a number is left out."""
    found = [(b, c) for b, c in zip(baseline, compressed, strict=True) if b is not None and c is not None]
    for pair in found:
        axes.plot((0, 1), pair, color="#999999", linewidth=1, zorder=1)
    for place, version in enumerate(COLOURS):
        returns = [pair[place] for pair in found]
        axes.scatter([place] * len(returns), returns, 28, COLOURS[version], edgecolors="white", zorder=2)
    axes.set_title("return by episode, pairs of one seed", fontweight="bold")
    axes.set_ylabel("return")
    axes.set_xlim(-0.4, 1.4)
    axes.set_xticks((0, 1), list(COLOURS))
    left_out = len(baseline) - len(found)
    if left_out:
        text = f"n/a for {left_out} of {len(baseline)} pairs: a return is not a number"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=MUTED)


def _draw_whisker(axes: Axes, place: int, value: float, interval: tuple[float, float]) -> None:
    low, high = interval
    whisker: Any = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
    axes.errorbar(place, value, whisker, color="black", capsize=4, linewidth=1.2)


def _limit(axes: Axes, row: Sequence[Bar]) -> None:
    """Let whiskers end within the panel while the bars stay visible; an arrow marks one that does not."""
    values = [bar.value for bar in row if bar.value is not None]
    if not values:
        axes.set_yticks([])
        return
    if max(values) <= 0:
        return
    ends = {place: bar.interval[1] for place, bar in enumerate(row) if bar.interval is not None}
    limit = HEADROOM * max(values)
    axes.set_ylim(top=min(1.08 * max([*values, *ends.values()]), limit))
    for place in (place for place, end in ends.items() if end > limit):
        axes.plot(place, 1.0, "^", color="black", clip_on=False, transform=axes.get_xaxis_transform())


def _below(bar: Bar, unit: str) -> str:
    if bar.value is None:
        return f"{bar.label}\nn/a"
    digits = 0 if abs(bar.value) >= 1000 else 1
    return "\n".join(filter(None, [bar.label, f"{bar.value:,.{digits}f} {unit}".strip(), bar.note]))


def _say_missing(axes: Axes, row: Sequence[Bar]) -> None:
    """Write why bars are missing where they would stand; once where it is the same for all."""
    missing: dict[float, str] = {place: bar.reason for place, bar in enumerate(row) if bar.value is None}
    width = 14
    if len(missing) == len(row) and len(set(missing.values())) == 1:
        missing, width = {(len(row) - 1) / 2: row[0].reason}, 28
    for place, reason in missing.items():
        text = "n/a\n" + textwrap.fill(textwrap.shorten(reason, 110), width)
        where: Any = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "center"}
        axes.text(place, 0.5, text, fontsize=7, color=MUTED, **where).set_in_layout(False)
