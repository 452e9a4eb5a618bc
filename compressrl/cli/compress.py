"""`compressrl compress`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressrl.cli import terminal


@terminal.reported
def compress(
    policy: Annotated[Path, typer.Option(help="Policy file to compress.")],
    compressor: Annotated[str, typer.Option(help="Pipeline: qat, or l2:ratio=0.5+ptsq.")],
    out: Annotated[Path, typer.Option(help="Where the compressed policy file goes.")],
    env: Annotated[str, typer.Option(help="Environment to visit; default: the policy's own.")] = "",
    seed: Annotated[
        int, typer.Option(min=0, max=terminal.MAX_SEED, help="Everything random derives from it.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Sizes and provenance as JSON on stdout.")] = False,
) -> None:
    """Compress a policy file by a pipeline and write the result, without measuring it."""
    from dataclasses import asdict

    from compressrl import files, pipeline
    from compressrl.networks import model_size
    from compressrl.policy import Policy

    files.refuse_to_replace(policy, out)
    original = Policy.load(policy)
    with terminal.TerminalProgress() as progress:
        result = pipeline.compress(original, compressor, out=out, env_id=env, seed=seed, progress=progress)
    before, after = model_size.measure(original), model_size.measure(result)
    if as_json:
        document = {"path": str(out), "provenance": list(result.provenance)}
        terminal.print_json({**document, "before": asdict(before), "after": asdict(after)})
        return
    terminal.console().print(
        f"[bold]{before.size_bytes / 1024:.1f} KiB -> {after.size_bytes / 1024:.1f} KiB[/bold] "
        f"({before.parameters:,} -> {after.parameters:,} parameters, {after.bits:.3g} bit)\n{out}",
        soft_wrap=True,
    )
