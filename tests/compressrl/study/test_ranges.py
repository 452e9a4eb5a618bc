"""Ranges in pipelines."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressrl.errors import UsageError
from compressrl.study import ranges


def test_both_ends_are_included_and_decimal():
    found = ranges.expand("l1:ratio=0.05..0.70/0.05,preset=paper")
    assert len(found) == 14
    assert found[0] == "l1:ratio=0.05,preset=paper"
    assert found[2] == "l1:ratio=0.15,preset=paper"
    assert found[-1] == "l1:ratio=0.7,preset=paper"


def test_several_ranges_give_every_combination():
    assert ranges.expand("l2:ratio=0.1..0.2/0.1+ptsq:bits=4..8/4") == [
        "l2:ratio=0.1+ptsq:bits=4",
        "l2:ratio=0.1+ptsq:bits=8",
        "l2:ratio=0.2+ptsq:bits=4",
        "l2:ratio=0.2+ptsq:bits=8",
    ]


@pytest.mark.parametrize("text", ["ptsq", "l2:ratio=0.5+ptsq", "x:limit=1e+3", "x:path=a.b"])
def test_what_holds_no_range_stays(text):
    assert ranges.expand(text) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "0.1..0.5",
        "0.5..0.1/0.1",
        "0.1..0.5/0",
        "0.1..0.5/-0.1",
        "a..b/c",
        "0..inf/1",
        "0..1/1e-9",
        "1..2..3/1",
    ],
)
def test_an_impossible_range_is_refused(text):
    with pytest.raises(UsageError, match="range"):
        ranges.expand(f"l1:ratio={text}")


@given(
    low=st.integers(-1000, 1000), count=st.integers(0, 50), step=st.integers(1, 500), places=st.integers(0, 4)
)
def test_values_are_those_of_exact_arithmetic(low, count, step, places):
    unit = Decimal(1).scaleb(-places)
    ends = [low * unit, (low + count * step) * unit, step * unit]
    found = ranges.expand("a:b={}..{}/{}".format(*(f"{end:f}" for end in ends)))
    values = [Decimal(text.removeprefix("a:b=")) for text in found]
    assert values == [(low + n * step) * unit for n in range(count + 1)]
