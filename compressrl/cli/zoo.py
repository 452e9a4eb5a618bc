"""`compressrl zoo`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from compressrl import plugins
from compressrl.cli import terminal


@terminal.reported
def zoo(as_json: Annotated[bool, typer.Option("--json", help="One JSON array on stdout.")] = False) -> None:
    """List the trained policies that the installed policy sources offer."""
    rows: list[dict[str, Any]] = [
        dict(row)
        for source in plugins.registry().entries("policies")
        for row in plugins.create("policies", source.entry.name).list()
    ]
    if as_json:
        terminal.print_json(rows)
        return
    from rich.table import Table

    table = Table(
        "algorithm", "environment", "seed", "steps", "return", box=None, pad_edge=False, header_style="bold"
    )
    for row in rows:
        returns = f"{row['return_mean']:,.0f} ± {row['return_std']:,.0f}"
        table.add_row(row["algorithm"], row["env_id"], str(row["seed"]), f"{row['steps']:,}", returns)
    terminal.console().print(table)
