"""The evaluation report as a table with a verdict in words."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from compressrl.cli import terminal, units
from compressrl.records import ControlStep, EvaluationReport, Reading, Side


def show(report: EvaluationReport, folder: Path, console: Console | None = None) -> None:
    """Print the four metrics side by side, the retention with its interval, and what it means."""
    console = console or terminal.console()
    request = report.request
    compressor = request.compressor or "against itself"
    console.print(
        f"\n[bold]{request.algorithm or 'policy'} on {request.env_id}, {compressor}[/bold]"
        f"  ({request.episodes} episodes a side, runtime {request.runtime})",
        soft_wrap=True,
    )
    console.print(_table(report))
    for line in (retention_line(report), *notes(report)):
        console.print(line, soft_wrap=True)
    console.print(f"[bold]{verdict(report)}[/bold]", soft_wrap=True)
    console.print(f"Report and policies: {folder}", soft_wrap=True)


def verdict(report: EvaluationReport) -> str:
    """The answer to "does it still do its job, and what is gained?", in a sentence or two."""
    kept, margin = report.retention, f"{report.retention.margin:.0%}"
    if not math.isfinite(kept.difference):
        return "Verdict: do not deploy it; an episode broke down, its return is not a number."
    if kept.value is None:
        return "Verdict: the baseline does no better than random actions; retention means nothing here."
    if kept.ci95 is None:
        few = "one episode says" if kept.pairs == 1 else "so few episodes that are all the same say"
        return f"Verdict: open; {few} nothing about the next. Try more --episodes."
    if kept.non_inferior:
        certain = f"with 95 % confidence it loses less than {margin} of the return"
        return f"Verdict: it still does its job; {certain}. {_gains(report)}"
    if kept.ci95[1] < 1 - kept.margin:
        return f"Verdict: do not deploy it; it loses more than {margin} of the return."
    return (
        f"Verdict: open; {kept.pairs} episodes cannot tell whether it loses less than {margin} of the "
        "return. Try more --episodes."
    )


def _gains(report: EvaluationReport) -> str:
    base, comp = report.baseline, report.compressed
    parts = [units.times(base.model.size_bytes, comp.model.size_bytes, "smaller", "larger")]
    if base.latency.p50_us and comp.latency.p50_us:
        parts.append(units.times(base.latency.p50_us, comp.latency.p50_us, "faster", "slower"))
    return f"It is {' and '.join(parts)} in the runtime {comp.runtime}."


def retention_line(report: EvaluationReport) -> str:
    kept = report.retention
    if kept.value is None:
        return "Retention: n/a"
    if kept.ci95 is None:
        pairs = "a single pair" if kept.pairs == 1 else f"{kept.pairs} pairs"
        return f"Retention: {kept.value:.1%} of the return in {pairs} of episodes"
    against = ""
    if kept.zero_return != 0:
        against = f", counted from the random policy's {units.returned(kept.zero_return)}"
    low, high = kept.ci95
    if not math.isfinite(low):
        return (
            f"Retention: {kept.value:.1%} of the return, and at most {high:.1%}{against}. There is no lower "
            "end: the baseline's own return may be nothing"
        )
    return f"Retention: {kept.value:.1%} of the return, 95 % interval {low:.1%} to {high:.1%}{against}"


def notes(report: EvaluationReport) -> list[str]:
    """Where a figure is not a plain measurement, or missing: why."""
    energy, memory, latency = report.compressed.energy, report.compressed.memory, report.compressed.latency
    lines = [f"Energy is {energy.kind}: {energy.reason}"] if energy.reason else []
    lines += [f"Memory: {memory.reason}"] if memory.reason else []
    lines += [f"Latency: {latency.reason}"] if latency.reason else []
    lines += [
        f"{reading.profiler}: {reading.reason}" for reading in report.compressed.readings if reading.reason
    ]
    return [f"[dim]{escape(line)}[/dim]" for line in lines]


def _table(report: EvaluationReport) -> Table:
    table = Table("", "baseline", "compressed", "change", header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    base, comp = report.baseline, report.compressed
    table.add_row(
        "return", _return(base), _return(comp), _change(base.episodes.mean_return, comp.episodes.mean_return)
    )
    table.add_row(
        "model size",
        units.size(base.model.size_bytes), units.size(comp.model.size_bytes),
        _change(base.model.size_bytes, comp.model.size_bytes),
    )  # fmt: skip
    for name in ("library", "model", "runtime", "peak"):
        before, after = getattr(base.memory, name), getattr(comp.memory, name)
        table.add_row(f"memory: {name}", units.size(before), units.size(after), _change(before, after))
    table.add_row(
        "inference p50 / p99",
        units.latency(base.latency),
        units.latency(comp.latency),
        _change(base.latency.p50_us, comp.latency.p50_us),
    )
    for part in ("policy", "environment", "instrumentation"):
        before, after = getattr(base.control_step, f"{part}_us"), getattr(comp.control_step, f"{part}_us")
        shares = _share(before, base.control_step), _share(after, comp.control_step)
        table.add_row(f"step: {part}", *shares, _change(before, after))
    before, after = base.energy.cpu_seconds_per_decision, comp.energy.cpu_seconds_per_decision
    table.add_row(
        "CPU time a decision", units.micro(before, "s"), units.micro(after, "s"), _change(before, after)
    )
    before, after = base.energy.joules_per_decision, comp.energy.joules_per_decision
    change = _change(before, after, comp.energy.below_resolution)
    table.add_row("energy a decision", units.energy(base.energy), units.energy(comp.energy), change)
    for reading, other in zip(base.readings, comp.readings, strict=True):
        change = _change(reading.value, other.value)
        cells = (_label(reading), units.reading(reading), units.reading(other))
        table.add_row(*map(escape, cells), change)
    return table


def _label(reading: Reading) -> str:
    # Two profilers may count the same quantity.
    same = reading.profiler == reading.quantity
    return reading.quantity if same else f"{reading.profiler}: {reading.quantity}"


def _return(side: Side) -> str:
    return f"{units.returned(side.episodes.mean_return)} ± {units.returned(side.episodes.std_return)}"


def _share(part: float | None, step: ControlStep) -> str:
    return "n/a" if part is None or not step.total_us else f"{part:.1f} µs, {part / step.total_us:.0%}"


def _change(before: float | None, after: float | None, below_resolution: bool | None = None) -> str:
    if below_resolution:
        return "below resolution"
    if before is None or after is None or before <= 0:
        return ""
    return f"x {after / before:.2f}"
