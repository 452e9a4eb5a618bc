"""`compressrl profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressrl import defaults
from compressrl.cli import terminal


@terminal.reported
def profile(
    algo: Annotated[str, typer.Option(help="Algorithm that learnt the policy: sac.")] = "",
    env: Annotated[
        str, typer.Option(help=f"Gymnasium id; default: {defaults.ENVIRONMENT}, or the policy's own.")
    ] = "",
    policy: Annotated[Path | None, typer.Option(help="Policy file; default: the zoo's.")] = None,
    compressor: Annotated[
        str,
        typer.Option(help="Pipeline whose result is measured beside the policy: qat, or l2:ratio=0.5+ptsq."),
    ] = "",
    runtime: Annotated[
        list[str] | None, typer.Option(help="What executes the policy; default: all. Repeatable.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=terminal.MAX_SEED, help="Everything random derives from it.")
    ] = 0,
    profiler: Annotated[
        list[str] | None, typer.Option(help="Options of a profiler: memory:repeats=10. Repeatable.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the report: FILE.svg or FILE.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object on stdout.")] = False,
) -> None:
    """Measure time, energy and memory of a policy in several runtimes, without rolling it out."""
    from compressrl.cli import profile_table
    from compressrl.measuring import profiling

    save_plot = terminal.picture(plot)
    with terminal.TerminalProgress() as progress:
        report = profiling.profile(
            algo, compressor, env, policy=policy or "", runtimes=runtime or (), seed=seed,
            profilers=profiler or (), progress=progress,
        )  # fmt: skip
    save_plot(report.to_json())
    if as_json:
        terminal.print_json(report.to_json())
        return
    profile_table.show(report)
