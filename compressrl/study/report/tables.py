"""Tables that are written three ways: HTML for reading and sorting, Markdown, and CSV with bare numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from compressrl.study.report.groups import Estimate
from compressrl.study.report.metrics import Metric

Value = float | str | None
Tone = Literal["", "good", "bad", "muted"]


@dataclass(frozen=True)
class Cell:
    """text:  what is read
    notes: smaller lines below it: an interval, the published value
    value: what the column is sorted by; None comes last
    data:  bare values for the CSV by the name of their column ("" is the table's column itself)
    """

    text: str
    notes: tuple[str, ...] = ()
    value: Value = None
    data: Mapping[str, Value] = field(default_factory=dict)
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """name: of its CSV file; each row has a cell for each column. `text` says what to see in it."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    text: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Columns without words: they are set flush right."""
        return [
            bool(self.rows) and not any(isinstance(row[place].value, str) for row in self.rows)
            for place in range(len(self.columns))
        ]


def word(text: str, tone: Tone = "") -> Cell:
    return Cell(text, value=text, data={"": text}, tone=tone)


def number(
    value: float | None, form: str = ",.4g", reason: str = "", tone: Tone = "", note: str = ""
) -> Cell:
    """A number, or n/a with the reason; a `note` such as `estimated` stands beside it."""
    if value is None:
        return Cell("n/a", (reason,) if reason else (), None, {"": None}, "muted")
    text = f"{value:{form}} ({note})" if note else f"{value:{form}}"
    return Cell(text, (), value, {"": value, **({"kind": note} if note else {})}, tone)


def quantity(value: float | None, metric: Metric) -> Cell:
    """A metric in its unit."""
    return Cell(metric.show(value), (), value, {"": value})


def estimate(found: Estimate, form: str = ",.0f", *notes: str, tone: Tone = "") -> Cell:
    """A value with its interval below it."""
    if found.value is None:
        return Cell("n/a", (found.reason, *notes) if found.reason else notes, None, {"": None}, "muted")
    low, high = found.ci95 or (None, None)
    lines = (interval(found.ci95, form), *notes) if found.ci95 else notes
    return Cell(
        f"{found.value:{form}}", lines, found.value, {"": found.value, "low": low, "high": high}, tone
    )


def interval(ends: tuple[float, float] | None, form: str) -> str:
    return "" if ends is None else f"{ends[0]:{form}} to {ends[1]:{form}}"


def to_markdown(table: Table) -> str:
    """A Markdown table with its title and text."""
    lines = [f"### {_one_line(table.title)}", ""]
    if table.text:
        lines += [_one_line(table.text), ""]
    rule = ["---:" if numeric else "---" for numeric in table.numeric]
    rows = [[_markdown(cell) for cell in row] for row in table.rows]
    heads = [_one_line(column) for column in table.columns]
    lines += [f"| {' | '.join(row)} |" for row in (heads, rule, *rows)]
    return "\n".join(lines) + "\n"


def _markdown(cell: Cell) -> str:
    notes = "; ".join(note for note in cell.notes if note)
    return _one_line(f"{cell.text} ({notes})" if notes else cell.text)


def _one_line(text: str) -> str:
    """Text that cannot break out of its cell: pipes and angle brackets escaped."""
    flat = " ".join(text.split())
    return flat.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def to_csv(table: Table) -> str:
    """One line a row; a cell with several values takes a column each: `ptdq`, `ptdq low`, `ptdq high`."""
    keys = [_keys([row[place] for row in table.rows]) for place in range(len(table.columns))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        f"{column} {key}".strip() for column, found in zip(table.columns, keys, strict=True) for key in found
    )
    for row in table.rows:
        writer.writerow(cell.data.get(key) for cell, found in zip(row, keys, strict=True) for key in found)
    return text.getvalue()


def _keys(cells: Sequence[Cell]) -> list[str]:
    """The names of all values of a column, the bare one first."""
    return list(dict.fromkeys(["", *(key for cell in cells for key in cell.data)]))
