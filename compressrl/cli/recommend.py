"""`compressrl recommend`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from compressrl import defaults
from compressrl.cli import terminal

if TYPE_CHECKING:
    from compressrl.recommending.choice import Objective

NOTHING_QUALIFIES = 1


@terminal.reported
def recommend(
    algo: Annotated[str, typer.Option(help="Algorithm that learnt the policy: sac.")] = "",
    env: Annotated[
        str, typer.Option(help=f"Gymnasium id; default: {defaults.ENVIRONMENT}, or the policy's own.")
    ] = "",
    policy: Annotated[Path | None, typer.Option(help="Policy file; default: the zoo's.")] = None,
    min_retention: Annotated[
        float, typer.Option(help="Share of the return that must be kept.")
    ] = defaults.MIN_RETENTION,
    objective: Annotated[
        str, typer.Option(help="What decides among those that keep it: latency, size, energy, memory.")
    ] = "latency",
    episodes: Annotated[
        int,
        typer.Option(
            min=2, help="Most episodes of a candidate; the winner must pass as many again, on new seeds."
        ),
    ] = defaults.SEARCH_EPISODES,
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            help="Pipeline to try; default: those that the installed compressors suggest. Repeatable."
        ),
    ] = None,
    runtime: Annotated[
        list[str] | None, typer.Option(help="What may execute it; default: all. Repeatable.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=terminal.MAX_SEED, help="Everything random derives from it.")
    ] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that run episodes; default: one a core.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the policy to ship and the finished candidates; default: under runs/."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the front: FILE.svg or FILE.png.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also every candidate in a line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object on stdout.")] = False,
) -> None:
    """Search pipelines and runtimes for the version to ship. Exit code 1 where none keeps the return."""
    from compressrl.cli import recommend_table
    from compressrl.recommending import recommendation

    save_plot = terminal.picture(plot)
    folder = out or _default_folder(algo, policy, env, seed)
    try:
        with terminal.TerminalProgress() as progress:
            report = recommendation.recommend(
                algo, env, policy=policy or "", min_retention=min_retention,
                objective=cast("Objective", objective), episodes=episodes, candidates=candidates or (),
                runtimes=runtime or (), seed=seed, workers=workers, out=folder, progress=progress,
            )  # fmt: skip
    except KeyboardInterrupt:
        terminal.say(f"Finished candidates are in {folder}: the same command goes on from there.")
        raise
    save_plot(report.to_json())
    if as_json:
        terminal.print_json(report.to_json())
    else:
        recommend_table.show(report, verbose=verbose)
    if report.chosen is None:
        raise typer.Exit(NOTHING_QUALIFIES)


def _default_folder(algo: str, policy: Path | None, wanted: str, seed: int) -> Path:
    """The same for the same policy and seed, so that it finds what it has finished before."""
    subject, env = algo or "policy", wanted or defaults.ENVIRONMENT
    if policy:
        from compressrl.policy import Policy

        # Every training calls its policy final.policy.
        loaded = Policy.load(policy)
        subject, env = f"{policy.stem}-{loaded.digest()[:8]}", wanted or loaded.env_id
    words = (subject, env, f"seed{seed}")
    safe = "_".join("".join(c if c.isalnum() or c in ".=-" else "-" for c in word) for word in words)
    return Path("runs") / "recommend" / safe
