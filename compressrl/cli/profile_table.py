"""The profile of a policy as two tables: times with energy, and memory by stage."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from compressrl.cli import terminal, units
from compressrl.measuring.profiling import ProfileReport


def show(report: ProfileReport, console: Console | None = None) -> None:
    """Print every version in every runtime, what was left out, and why a figure is missing."""
    console = console or terminal.console()
    request = report.request
    subject = f"{request.algorithm or 'policy'} on {request.env_id}"
    console.print(f"\n[bold]{subject}[/bold]  ({_sizes(report)})", soft_wrap=True)
    console.print("Time and energy of a decision, the policies taking turns; ratio to the first")
    console.print(_times(report))
    console.print("Memory of a fresh process, stage by stage")
    console.print(_memory(report))
    for line in notes(report):
        console.print(f"[dim]{escape(line)}[/dim]", soft_wrap=True)


def notes(report: ProfileReport) -> list[str]:
    """What could not be loaded, and where a figure is not a plain measurement or missing, each once."""
    lines = [f"Not in {s.runtime} ({s.version}): {s.reason}" for s in report.skipped]
    for row in report.rows:
        measured = row.measured
        lines += (
            [f"Energy is {measured.energy.kind}: {measured.energy.reason}"] if measured.energy.reason else []
        )
        lines += [f"Memory: {measured.memory.reason}"] if measured.memory.reason else []
        lines += [f"Latency: {measured.latency.reason}"] if measured.latency.reason else []
    return list(dict.fromkeys(lines))


def _sizes(report: ProfileReport) -> str:
    names = {"baseline": "weights", "compressed": report.request.compressor}
    return ", ".join(f"{names[v]} {units.size(size.size_bytes)}" for v, size in report.models.items())


def _times(report: ProfileReport) -> Table:
    table = _table("p50 µs", "p99 µs", "ratio", "CPU time", "energy a decision")
    first = report.rows[0].measured.latency.p50_us
    for row in report.rows:
        latency, energy = row.measured.latency, row.measured.energy
        table.add_row(
            row.version,
            row.runtime,
            units.number(latency.p50_us),
            units.number(latency.p99_us),
            units.ratio(latency.p50_us, first),
            units.micro(energy.cpu_seconds_per_decision, "s"),
            units.energy(energy),
        )
    return table


def _memory(report: ProfileReport) -> Table:
    table = _table("library", "model", "runtime", "library's share", "peak")
    for row in report.rows:
        memory = row.measured.memory
        stages = (units.size(size) for size in (memory.library, memory.model, memory.runtime))
        share = units.share(memory.library_share)
        table.add_row(row.version, row.runtime, *stages, share, units.size(memory.peak))
    return table


def _table(*figures: str) -> Table:
    table = Table("policy", "in", *figures, box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0))
    for column in table.columns[2:]:
        column.justify = "right"
    return table
