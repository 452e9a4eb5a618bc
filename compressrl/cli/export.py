"""`compressrl export`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from compressrl.cli import terminal

if TYPE_CHECKING:
    from compressrl.export import Exported, Format


@terminal.reported
def export(
    policy: Annotated[Path, typer.Option(help="Policy file to export.")],
    out: Annotated[Path, typer.Option(help="File to write: policy.c, policy.onnx.")],
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="c (C99, no dependency) or onnx; default: as the file is called."),
    ] = None,
    env: Annotated[str, typer.Option(help="Gymnasium environment id; default: the policy's own.")] = "",
    episodes: Annotated[
        int,
        typer.Option(
            min=0, help="Episodes for the return that the file states; 0: none, and no environment."
        ),
    ] = 10,
    seed: Annotated[
        int, typer.Option(min=0, max=terminal.MAX_SEED, help="Everything random derives from it.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="What was written as JSON on stdout.")] = False,
) -> None:
    """Write a policy as a file that runs without this package: one C99 file, or ONNX."""
    from compressrl.export import export as write

    with terminal.TerminalProgress() as progress:
        written = write(
            policy,
            out,
            format=cast("Format | None", file_format),
            env_id=env,
            episodes=episodes,
            seed=seed,
            progress=progress,
        )
    if as_json:
        terminal.print_json(written.to_json())
        return
    terminal.console().print("\n".join(_lines(written)), soft_wrap=True)


def _lines(written: Exported) -> list[str]:
    lines = [f"[bold]{written.path}[/bold]  {written.size_bytes / 1024:,.1f} KiB of {written.format}"]
    if written.return_mean is not None:
        lines.append(
            f"Return {written.return_mean:,.1f} ± {written.return_std:,.1f} over {written.episodes} episodes"
        )
    if written.format == "c":
        m4 = written.cortex_m4
        lines.append(
            f"On a Cortex-M4: {m4.flash / 1024:,.1f} KiB of flash, {m4.ram / 1024:,.1f} KiB of RAM"
            if m4
            else "For its flash and RAM on a Cortex-M4, install arm-none-eabi-gcc (and newlib)."
        )
        path = shlex.quote(str(written.path))
        lines.append(f"Test it: cc -O3 -DPOLICY_SELF_TEST {path} -o self_test -lm && ./self_test")
    else:
        from compressrl.networks.onnx_graph import EXACT_INT8

        lines.append(
            "In ONNX Runtime, int8 on an x86 CPU without VNNI acts wrongly unless the session option "
            f"{'='.join(EXACT_INT8)} is set."
        )
    return lines
