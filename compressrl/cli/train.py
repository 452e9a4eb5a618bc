"""`compressrl train`."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressrl import defaults, interrupts
from compressrl.cli import terminal, units
from compressrl.errors import EnvironmentFailedError, UsageError

if TYPE_CHECKING:
    from compressrl import many_runs


def seed_range(text: str) -> range:
    """`0..9`, both ends included."""
    first, _, last = text.partition("..")
    try:
        seeds = range(int(first), int(last) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds or seeds[0] < 0 or seeds[-1] > terminal.MAX_SEED:
        raise typer.BadParameter(f"{text!r} is not a range of seeds, e.g. 0..9.")
    return seeds


@terminal.reported
def train(
    algo: Annotated[str, typer.Option(help="Algorithm, with options: sac or sac:actor_lr=1e-3.")],
    env: Annotated[str, typer.Option(help="Gymnasium environment id.")] = defaults.ENVIRONMENT,
    steps: Annotated[
        int, typer.Option(parser=terminal.step_count, metavar="STEPS", help="Environment steps in all: 1e6.")
    ] = defaults.TRAINING_STEPS,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=terminal.MAX_SEED, help="Everything random derives from it; default: 0."),
    ] = None,
    seeds: Annotated[
        range | None,
        typer.Option(
            parser=seed_range, metavar="A..B", help="One run for each seed, side by side on all cores: 0..9."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run (of the runs: OUT/seed0 ...); one that holds an unfinished run goes on."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device of the networks: cpu or cuda.")] = "cpu",
    threads: Annotated[
        int,
        typer.Option(
            min=1, help="Cores of one run: for updates, evaluations, and environments (ppo:num_envs=8)."
        ),
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="The run's record as JSON on stdout.")] = False,
) -> None:
    """Train a policy; interrupted, the same command goes on from the last checkpoint."""
    from compressrl import many_runs, runs

    if seeds is not None:
        if seed is not None:
            raise UsageError("--seed is for one run and --seeds for several; leave one of them out.")
        folders = [out / f"seed{s}" if out else runs.default_folder(algo, env, s) for s in seeds]
        wanted = zip(seeds, folders, strict=True)
        words = runs.command(algo, env, steps, seeds, device=device, threads=threads)
        _train_all(
            [many_runs.Run(algo, env, steps, s, f, device, threads) for s, f in wanted],
            f"{words} --out {shlex.quote(str(out))}" if out else words,
            as_json,
        )
        return
    seed = seed or 0
    folder = out or runs.default_folder(algo, env, seed)
    words = runs.command(algo, env, steps, seed, device=device, threads=threads)
    words = f"{words} --out {shlex.quote(str(folder))}"
    with _going_on([folder], words), terminal.TerminalProgress() as progress:
        result = runs.train(
            algo, env, steps=steps, seed=seed, out=folder, device=device, threads=threads, progress=progress
        )
    if as_json:
        terminal.print_json({**result.record, "path": str(result.path)})
        return
    record = result.record
    mean, deviation = units.returned(record["return_mean"]), units.returned(record["return_std"])
    returns = f"[bold]{mean} ± {deviation}[/bold] return"
    effort = f"{record['steps']:,} steps in {record['seconds'] / 60:.0f} minutes"
    text = f"{returns} over {record['episodes']} episodes, after {effort}\n{result.path}"
    terminal.console().print(text, soft_wrap=True)


@contextlib.contextmanager
def _going_on(folders: list[Path], command: str) -> Iterator[None]:
    """Says how to go on with what stops in between, where there is something to go on with."""
    from compressrl.training import CHECKPOINT

    with interrupts.by_termination():
        try:
            yield
        except (KeyboardInterrupt, EnvironmentFailedError) as error:
            saved = [folder for folder in folders if (folder / CHECKPOINT).exists()]
            if saved and isinstance(error, EnvironmentFailedError):
                raise EnvironmentFailedError(f"{error} This goes on:\n  {command}") from error
            if saved:
                where = f"runs are in {saved[0].parent}" if len(folders) > 1 else f"run is in {saved[0]}"
                terminal.say(f"The {where}; this goes on:\n  {command}")
            raise


def _train_all(wanted: list[many_runs.Run], command: str, as_json: bool) -> None:
    from compressrl import many_runs

    with _going_on([run.folder for run in wanted], command), terminal.TerminalProgress() as progress:
        records = many_runs.train(wanted, progress=progress)
    if as_json:
        terminal.print_json(records)
        return
    for record in records:
        terminal.console().print(
            f"[bold]{units.returned(record['return_mean'])}[/bold] return  {record['path']}", soft_wrap=True
        )
    returns = [record["return_mean"] for record in records]
    mean, low, high = map(units.returned, (sum(returns) / len(returns), min(returns), max(returns)))
    terminal.console().print(f"mean {mean}, lowest {low}, highest {high}")
