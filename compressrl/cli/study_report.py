"""`compressrl study report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressrl.cli import terminal


@terminal.reported
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of the study.")],
    out: Annotated[
        Path | None, typer.Option(help="The page to write.", show_default="report.html in the folder")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Paths and verdicts as one JSON object.")] = False,
) -> None:
    """Write a study's report: one HTML page that works offline, Markdown, and a CSV file for every table."""
    from compressrl.study.report import writing

    written = writing.write(folder, out)
    if as_json:
        terminal.print_json(written.to_json())
        return
    for verdict in written.page.verdicts:
        terminal.console().print(f"[bold]{verdict.answer}[/bold]: {verdict.claim}", soft_wrap=True)
    terminal.say(
        f"Page: {written.html}\nMarkdown: {written.markdown}\n"
        f"Tables: {len(written.tables)} CSV files in {written.tables[0].parent}"
    )
