"""`compressrl study`: the grid of evaluations, run, continued and exported."""

from __future__ import annotations

import typer

from compressrl.cli import study_export, study_report, study_run, study_status

app = typer.Typer(
    help="A grid of evaluations: run it on all cores or machines, go on with it, report it, export it.",
    no_args_is_help=True,
)
app.command("run")(study_run.run)
app.command("status")(study_status.status)
app.command("retry")(study_run.retry)
app.command("report")(study_report.report)
app.command("export")(study_export.export)
