"""`compressrl train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressrl import defaults
from compressrl.cli import terminal


@terminal.reported
def train(
    algo: Annotated[str, typer.Option(help="Algorithm, with options: sac or sac:learning_rate=1e-3.")],
    env: Annotated[str, typer.Option(help="Gymnasium environment id.")] = defaults.ENVIRONMENT,
    steps: Annotated[
        int, typer.Option(parser=terminal.step_count, metavar="STEPS", help="Environment steps in all: 1e6.")
    ] = defaults.TRAINING_STEPS,
    seed: Annotated[int, typer.Option(min=0, help="Everything random derives from it.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; one that holds an unfinished run goes on with it.")
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device of the networks: cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="The run's record as JSON on stdout.")] = False,
) -> None:
    """Train a policy; interrupted, the same command goes on from the last checkpoint."""
    from compressrl import runs

    folder = out or runs.default_folder(algo, env, seed)
    try:
        with terminal.TerminalProgress() as progress:
            result = runs.train(
                algo, env, steps=steps, seed=seed, out=folder, device=device, progress=progress
            )
    except KeyboardInterrupt:
        terminal.say(
            f"The run is in {folder}; go on with it:\n  {runs.command(algo, env, steps, seed)} --out {folder}"
        )
        raise
    if as_json:
        terminal.print_json({**result.record, "path": str(result.path)})
        return
    record = result.record
    returns = f"[bold]{record['return_mean']:.0f} ± {record['return_std']:.0f}[/bold] return"
    effort = f"{record['steps']:,} steps in {record['seconds'] / 60:.0f} minutes"
    text = f"{returns} over {record['episodes']} episodes, after {effort}\n{result.path}"
    terminal.console().print(text, soft_wrap=True)
