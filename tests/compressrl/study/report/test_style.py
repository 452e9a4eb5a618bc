"""Contrast of the page's colours, light and dark (WCAG 2.2: 4.5 for text, 3 for what is drawn)."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from compressrl.study.report import charts

STYLE = (files("compressrl.study.report") / "page.css").read_text()
TEXTS, SERIES = ("ink", "muted", "link", "good", "bad", "open"), [f"s{n}" for n in range(7)]


def colours(mode: str) -> dict[str, str]:
    """The style sheet's variables: the first block is light, the second dark."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.S)
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[("light", "dark").index(mode)]))


def luminance(rgb: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def rgb(text: str) -> tuple[float, ...]:
    return tuple(int(text[place : place + 2], 16) for place in (1, 3, 5))


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("back", ["back", "raised"])
def test_text_can_be_read(mode, back):
    found = colours(mode)
    assert {name: contrast(rgb(found[name]), rgb(found[back])) >= 4.5 for name in TEXTS} == dict.fromkeys(
        TEXTS, True
    )


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_series_stand_out_from_the_page(mode):
    found = colours(mode)
    drawn = {name: contrast(rgb(found[name]), rgb(found["back"])) >= 3 for name in SERIES}
    assert drawn == dict.fromkeys(SERIES, True)


@pytest.mark.parametrize("value", [n / 20 for n in range(21)])
def test_numbers_in_the_heat_map_can_be_read(value):
    square = tuple(float(c) for c in re.findall(r"\d+", charts.cividis(value)))
    ink = {"on-dark": "#ffffff", "on-light": "#000000"}[charts.ink(value)]
    assert contrast(square, rgb(ink)) >= 4.5
