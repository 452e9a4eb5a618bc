"""`compressrl list-plugins`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from compressrl import plugins
from compressrl.cli import terminal
from compressrl.errors import UnknownNameError


@terminal.reported
def list_plugins(
    name: Annotated[str, typer.Argument(help="Show the options of this plugin, e.g. qat.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array on stdout.")] = False,
) -> None:
    """List every installed plugin: what it offers and which distribution it came with."""
    registry = plugins.registry()
    if name:
        _show_options(registry, name, as_json)
        return
    rows = [e.to_json() for e in registry.entries()] + [broken.to_json() for broken in registry.broken]
    if as_json:
        terminal.print_json(rows)
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("kind", "name", "summary", "from", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        broken = "broken" in row
        summary = f"[red]not loaded:[/red] {escape(row['broken'])}" if broken else escape(row["summary"])
        origin = f"{row['distribution']} {row['version']}"
        table.add_row(row["kind"], f"[bold]{row['name']}[/bold]", summary, origin)
    terminal.console().print(table)


def _show_options(registry: plugins.Registry, name: str, as_json: bool) -> None:
    from compressrl import options

    found = [e for e in registry.entries() if e.entry.name == name]
    if not found:
        raise UnknownNameError("plugin", name, [e.entry.name for e in registry.entries()])
    rows: list[dict[str, Any]] = [
        {"kind": e.kind, "option": f.name, "takes": f.allowed, "default": f.default, "help": f.option.help}
        for e in found
        for f in options.describe(e.load())
    ]
    if as_json:
        terminal.print_json(rows)
        return
    from rich.markup import escape
    from rich.table import Table

    console = terminal.console()
    for entry in found:
        console.print(
            f"[bold]{entry.entry.name}[/bold] ({entry.kind}): {escape(entry.entry.summary)}", soft_wrap=True
        )
    table = Table("option", "takes", "default", "meaning", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(row["option"], row["takes"], str(row["default"]), row["help"])
    if rows:
        console.print(table)
        console.print(
            f"Write {name}:{rows[0]['option']}={rows[0]['default']} and separate several by commas."
        )
