"""`compressrl doctor`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from compressrl.cli import terminal

if TYPE_CHECKING:
    from compressrl.measuring.doctor import Examination, Examined

Row = tuple[str, str, bool | None, str, str]
MARKS = {True: "[green]yes[/green]", False: "[red]no[/red]", None: "-"}


@terminal.reported
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say which meters and runtimes this machine has, why not the others, and what to do about each."""
    from compressrl.measuring.doctor import examine

    examination = examine()
    if as_json:
        terminal.print_json(examination.to_json())
        return
    _show(examination)


def _show(examination: Examination) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "", "ok", "why, and what to do", box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"  # a command that is cut short cannot be copied
    shown = ""
    for group, name, good, why, remedy in _rows(examination):
        text = escape(why) + (f"\n[dim]→ {escape(remedy)}[/dim]" if remedy else "")
        table.add_row(
            "" if group == shown else f"[bold]{escape(group)}[/bold]", escape(name), MARKS[good], text
        )
        shown = group
    terminal.console().print(table)


def _rows(examination: Examination) -> Iterator[Row]:
    for examined in examination.profilers:
        yield from _findings(examined.quantity or examined.plugin.entry.name, [examined])
    yield from _findings("runtimes", examination.runtimes)
    for condition in examination.machine:
        yield "machine", condition.name, condition.good, condition.value, condition.remedy
    for broken in examination.broken:
        yield "plugins", broken.owner.entry_point, False, f"{broken.owner}: {broken.reason}", ""


def _findings(group: str, all_examined: Iterable[Examined]) -> Iterator[Row]:
    for examined in all_examined:
        for finding in examined.findings:
            yield group, finding.name, finding.usable, finding.why, finding.remedy
