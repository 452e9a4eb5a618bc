"""Scales, ticks and escaping."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from compressrl.study.report import charts, svg
from compressrl.study.report.charts import Dot, Square, Stack

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=10)
POSITIVE = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=10)


@given(VALUES)
def test_a_scale_holds_its_values_with_air_and_has_round_ticks_within(values):
    scale = svg.scale(values, 0, 100)
    assert all(0 < scale(value) < 100 for value in values)
    ticks = scale.ticks()
    slack = 1e-6 * (scale.high - scale.low)  # a tick on the very edge
    assert all(scale.low - slack <= tick <= scale.high + slack for tick in ticks)
    assert 2 <= len(ticks) <= 11
    assert all(a < b for a, b in pairwise(ticks))


@given(POSITIVE)
def test_a_log_scale_keeps_the_order_and_has_two_ticks_or_more(values):
    scale = svg.scale(values, 0, 100, log=True)
    assert all(0 < scale(value) < 100 for value in values)
    assert len(scale.ticks()) >= 2


@given(st.text(), st.text())
def test_text_cannot_become_markup(name, value):
    assume(not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", name + value))
    made = ElementTree.fromstring(str(svg.mark(name, svg.label(0, 0, value))))
    assert [child.tag for child in made.iter()] == ["g", "text"]
    assert "".join(made.itertext()).split() == value.split()
    assert made.get("aria-label").split() == name.split()


def test_many_series_differ_in_colour_or_shape():
    marks = {(n % svg.COLOURS, re.sub(r'[\d.,"-]+', "", str(svg.symbol(n, 10.0, 10.0)))) for n in range(21)}
    assert len(marks) >= 18  # two polygons look alike here: their numbers differ


@pytest.mark.parametrize(("value", "text"), [(12000, "12k"), (2.5e6, "2.5M"), (0.05, "0.05"), (-3, "-3")])
def test_ticks_are_short(value, text):
    assert svg.short(value) == text


def texts(picture: str) -> str:
    return "\n".join(ElementTree.fromstring(str(picture)).itertext())


def test_every_chart_is_sound_and_shows_its_details():
    dots = [Dot(0, 1.0, 0, "first & <b>", (0.5, 1.5)), Dot(1, 2.0, 1, "second")]
    pictures = [
        charts.by_category("title", ["a", "b"], dots, "y", level=1),
        charts.over_number("title", dots, "x", "y", lines=[dots], level=1),
        charts.over_number("title", [Dot(1, 1, 0, "first & <b>")], "x", "y", log_x=True, front=[(1, 1)]),
        charts.heat("title", ["r"], ["c"], [Square(0, 0, 0.5, "50", "first & <b>")]),
        charts.stacks("title", [Stack("r", [(0, 1.0, "first & <b>")], "note")], "MiB"),
    ]
    for picture in pictures:
        root = ElementTree.fromstring(str(picture))
        labels = [g.get("aria-label") for g in root.iter("g") if g.get("class").startswith("mark")]
        assert "first & <b>" in labels


def test_what_is_empty_can_be_drawn_too():
    assert "title" in texts(charts.by_category("title", ["a"], [Dot(0, 0.0, 0, "zero")], "y"))
    ElementTree.fromstring(str(charts.heat("title", [], [], [])))


def test_a_higher_value_stands_higher():
    picture = charts.by_category("t", ["a", "b"], [Dot(0, 1.0, 0, "low"), Dot(1, 2.0, 0, "high")], "y")
    heights = {
        g.get("aria-label"): float(g.find("circle").get("cy"))
        for g in ElementTree.fromstring(str(picture)).iter("g")
    }
    assert heights["high"] < heights["low"]


@pytest.mark.parametrize(
    ("value", "colour"), [(-1, "rgb(0,34,78)"), (0, "rgb(0,34,78)"), (2, "rgb(254,232,56)")]
)
def test_the_colour_scale_ends_at_its_ends(value, colour):
    assert charts.cividis(value) == colour
