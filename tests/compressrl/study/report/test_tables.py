"""Tables as Markdown and CSV: nothing breaks out of its cell, and nothing is lost."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from compressrl.study.report import tables
from compressrl.study.report.groups import Estimate
from compressrl.study.report.tables import Cell, Table

TEXT = st.text(
    st.sampled_from("ab|\\<>&,\"' é…") | st.characters(exclude_categories=["Cs", "Cc"]), max_size=30
)
ROWS = st.lists(st.tuples(TEXT, st.none() | st.floats(allow_nan=False)), max_size=5)


def table(*rows: tuple[Cell, ...], columns: tuple[str, ...] = ("name", "value")) -> Table:
    return Table("t", "A title", columns, rows, "A text.")


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@given(ROWS)
def test_csv_gives_back_what_was_put_in(rows):
    made = table(*((tables.word(name), tables.number(value)) for name, value in rows))
    found = [
        (line["name"], float(line["value"]) if line["value"] else None) for line in read(tables.to_csv(made))
    ]
    assert found == rows


@given(ROWS)
def test_markdown_has_one_line_a_row_and_as_many_bars_as_columns(rows):
    text = tables.to_markdown(table(*((tables.word(name), tables.number(value)) for name, value in rows)))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows)
    for line in lines:
        assert line.replace("\\\\", "").replace("\\|", "").count("|") == 3


def test_a_cell_with_several_values_takes_a_column_each():
    made = table(
        (tables.word("a"), tables.estimate(Estimate(5.0, (4.0, 6.0)))),
        (tables.word("b"), tables.estimate(Estimate(7.0))),
    )
    assert read(tables.to_csv(made)) == [
        {"name": "a", "value": "5.0", "value low": "4.0", "value high": "6.0"},
        {"name": "b", "value": "7.0", "value low": "", "value high": ""},
    ]


def test_what_was_not_measured_is_na_with_the_reason_and_empty_in_csv():
    made = table((tables.word("a"), tables.number(None, reason="no meter")))
    assert "| n/a (no meter) |" in tables.to_markdown(made)
    assert read(tables.to_csv(made)) == [{"name": "a", "value": ""}]


def test_an_estimate_says_so_in_the_cell_of_its_number():
    cell = tables.number(1.25, ".2f", note="estimated")
    assert cell.text == "1.25 (estimated)"
    assert read(tables.to_csv(table((tables.word("a"), cell)))) == [
        {"name": "a", "value": "1.25", "value kind": "estimated"}
    ]


def test_numbers_are_flush_right():
    made = table((tables.word("a"), tables.number(None)), (tables.word("b"), tables.number(2.0)))
    assert made.numeric == [False, True]
    assert "| --- | ---: |" in tables.to_markdown(made)
