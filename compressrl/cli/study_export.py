"""`compressrl study export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressrl.cli import study_status, terminal


@terminal.reported
def export(
    folder: Annotated[Path, typer.Argument(help="Folder of a study.")],
    to: Annotated[Path, typer.Option(help="File to write: FILE.parquet or FILE.csv.")],
) -> None:
    """Write all finished cells as one table, a row a cell."""
    from compressrl.study import cells_table
    from compressrl.study.store import Store

    cells_table.check(to)
    store = Store(folder)
    outcomes = store.outcomes()
    study_status.say_damaged(store)
    cells_table.write(to, outcomes)
    terminal.say(f"{len(outcomes)} cells: {to}")
