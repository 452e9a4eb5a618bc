"""`compressrl evaluate`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from compressrl import defaults
from compressrl.cli import power, terminal
from compressrl.errors import UsageError


@terminal.reported
def evaluate(
    compressor: Annotated[str, typer.Option(help="Pipeline: qat, or l2:ratio=0.5+ptsq.")],
    algo: Annotated[str, typer.Option(help="Algorithm that learnt the policy: sac.")] = "",
    env: Annotated[
        str, typer.Option(help=f"Gymnasium id; default: {defaults.ENVIRONMENT}, or the policy's own.")
    ] = "",
    policy: Annotated[Path | None, typer.Option(help="Policy file; default: the zoo's.")] = None,
    runtime: Annotated[str, typer.Option(help="What executes both policies.")] = defaults.RUNTIME,
    episodes: Annotated[int, typer.Option(min=1, help="Evaluation episodes a side.")] = defaults.EPISODES,
    seed: Annotated[
        int, typer.Option(min=0, max=terminal.MAX_SEED, help="Everything random derives from it.")
    ] = 0,
    margin: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the return that may be lost.")
    ] = 0.05,
    profiler: Annotated[
        list[str] | None, typer.Option(help="Options of a profiler: energy:watts_per_core=6. Repeatable.")
    ] = None,
    instrumentation: Annotated[
        Literal["full", "light", "time"],
        typer.Option(help="What is read at every step: all counters, all at every 64th, or the time."),
    ] = "full",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that run episodes; default: one a core.")
    ] = None,
    train_steps: Annotated[
        int,
        typer.Option(
            parser=terminal.step_count,
            metavar="STEPS",
            help="Where there is no policy, train one for so many steps (hours).",
        ),
    ] = defaults.TRAINING_STEPS,
    out: Annotated[
        Path | None, typer.Option(help="Folder for report and policies; default: under runs/.")
    ] = None,
    episodes_file: Annotated[
        Path | None, typer.Option(help="Write the episodes of both sides: FILE.parquet or FILE.csv.")
    ] = None,
    power_trace: Annotated[
        Path | None, typer.Option(help="Write power over time, sampled meanwhile: FILE.csv. Needs a meter.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the report: FILE.svg or FILE.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object on stdout.")] = False,
) -> None:
    """Compress a trained policy and measure both versions side by side."""
    from compressrl import evaluation
    from compressrl.cli import report_table

    if not compressor.strip():
        raise UsageError("--compressor is empty; `compressrl list-plugins` shows those there are.")
    save_plot = terminal.picture(plot)
    folder = out or _default_folder(algo, policy, env, compressor)
    try:
        with terminal.TerminalProgress() as bars, power.traced(power_trace, profiler or (), bars) as progress:
            report = evaluation.evaluate(
                algo, compressor, env, policy=policy or "", runtime=runtime, episodes=episodes, seed=seed,
                margin=margin, profilers=profiler or (), instrumentation=instrumentation, workers=workers,
                train_steps=train_steps, out=folder, episodes_file=episodes_file, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        if folder.is_dir() and any(folder.iterdir()):
            terminal.say(f"What is finished so far is in {folder}.")
        raise
    save_plot(report.to_json())
    if as_json:
        terminal.print_json(report.to_json())
        return
    report_table.show(report, folder)


def _default_folder(algo: str, policy: Path | None, env: str, compressor: str) -> Path:
    if policy and not env:
        from compressrl.policy import Policy

        env = Policy.load(policy).env_id
    words = (algo or (policy.stem if policy else "policy"), env or defaults.ENVIRONMENT, compressor)
    safe = "_".join("".join(c if c.isalnum() or c in ".+=-" else "-" for c in word) for word in words)
    return Path("runs") / "evaluate" / f"{time.strftime('%Y%m%d-%H%M%S')}_{safe}"
