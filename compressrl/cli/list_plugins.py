"""`compressrl list-plugins`."""

from __future__ import annotations

from typing import Annotated

import typer

from compressrl import plugins
from compressrl.cli import terminal


@terminal.reported
def list_plugins(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array on stdout.")] = False,
) -> None:
    """List every installed plugin: what it offers and which distribution it came with."""
    registry = plugins.registry()
    rows = [entry.to_json() for entry in registry.entries()] + [
        broken.to_json() for broken in registry.broken
    ]
    if as_json:
        terminal.print_json(rows)
        return
    from rich.table import Table

    table = Table("kind", "name", "summary", "from", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        summary = f"[red]not loaded:[/red] {row['broken']}" if "broken" in row else row["summary"]
        table.add_row(
            row["kind"], f"[bold]{row['name']}[/bold]", summary, f"{row['distribution']} {row['version']}"
        )
    terminal.console().print(table)
