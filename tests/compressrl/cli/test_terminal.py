"""What all commands share: numbers of steps as people write them."""

from __future__ import annotations

import pytest
import typer

from compressrl.cli import terminal


@pytest.mark.parametrize(
    ("text", "steps"), [("1e6", 10**6), ("300_000", 300_000), ("1", 1), ("2.5e3", 2500), ("1e+3", 1000)]
)
def test_step_counts(text, steps):
    assert terminal.step_count(text) == steps


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "many", "", "nan", "inf", "1e999"])
def test_what_is_no_step_count_is_refused_in_one_line(text):
    with pytest.raises(typer.BadParameter, match="is not a whole number of at least 1"):
        terminal.step_count(text)
