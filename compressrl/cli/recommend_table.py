"""A recommendation as the table of its Pareto front, with a verdict in words."""

from __future__ import annotations

import math

from rich import box
from rich.console import Console
from rich.table import Table

from compressrl.cli import terminal, units
from compressrl.recommending.candidates import ORIGINAL, Trial
from compressrl.recommending.choice import METERED, Objective, Variant
from compressrl.recommending.report import Recommendation
from compressrl.records import Retention


def show(report: Recommendation, *, verbose: bool = False, console: Console | None = None) -> None:
    """Print the front, the chosen one marked, how many were tried and dropped, the verdict, and the files."""
    console = console or terminal.console()
    request = report.request
    subject = f"{request.algorithm or 'policy'} on {request.env_id}"
    console.print(f"\n[bold]{subject}[/bold]  (by {_objective(report)})", soft_wrap=True)
    console.print(_front(report))
    for line in (summary(report), *(details(report) if verbose else ())):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"[bold]{verdict(report)}[/bold]", soft_wrap=True)
    for what, path in report.files.items():
        console.print(f"{what}: {path}", soft_wrap=True, markup=False)


def summary(report: Recommendation) -> str:
    """How many were tried and what became of them."""
    dropped = sum(bool(trial.dropped) for trial in report.trials)
    tried = len(report.trials) - 1  # without the original
    parts = [f"{tried} pipelines tried in {len(report.request.runtimes)} runtimes"]
    parts += [f"{dropped} dropped early"] if dropped else []
    parts += [f"{len(report.set_aside)} set aside (--verbose says why)"] if report.set_aside else []
    return ", ".join(parts) + f"; {len(report.front)} of {len(report.variants)} variants on the Pareto front."


def details(report: Recommendation) -> list[str]:
    """Every candidate in a line, and what could not be tried."""
    lines = [f"  {trial.label}: {_story(report, trial)}" for trial in report.trials]
    return lines + [f"  {each.pipeline}: set aside. {each.reason}" for each in report.set_aside]


def verdict(report: Recommendation) -> str:
    """What to ship, in which runtime, and why; or what it would take."""
    chosen, minimum = report.chosen, f"{report.request.min_retention:.1%}"
    if chosen is None:
        return _nothing(report, minimum)
    article = "" if chosen.trial.candidate.stages else "the "
    parts = [f"Verdict: ship {article}{chosen.trial.label}, in {chosen.runtime}."]
    if chosen.trial.candidate.stages:
        kept = str(report.kept(chosen.trial))
        parts.append(f"It keeps {kept} of the return on episodes that the search has not seen.")
    else:
        by = f"better by {report.request.objective}"
        parts.append(f"Compression gains nothing: no version that keeps {minimum} is {by}.")
    if gains := _gains(report, chosen):
        parts.append(f"It is {' and '.join(gains)} than the original in {report.variants[0].runtime}.")
    return " ".join(parts)


def _gains(report: Recommendation, chosen: Variant) -> list[str]:
    """By size, time and the objective, beside the original in its first runtime."""
    unit = _energy_unit(report)[0]
    words: dict[Objective, tuple[str, str]] = {
        "size": ("smaller", "larger"),
        "latency": ("faster", "slower"),
        "energy": (f"lower in {unit}", f"higher in {unit}"),
        "memory": ("lighter in memory", "heavier in memory"),
    }
    axes: list[Objective] = ["size", "latency", report.request.objective]
    original = report.variants[0]
    costs = [(axis, original.cost(axis), chosen.cost(axis)) for axis in dict.fromkeys(axes)]
    return [units.times(was, now, *words[axis]) for axis, was, now in costs if was and now and was != now]


def _nothing(report: Recommendation, minimum: str) -> str:
    near = report.closest
    none = f"Verdict: ship the original; nothing is sure to keep {minimum} of the return."
    if near is None:
        return f"{none} No candidate could be tried."
    kept, needed = report.kept(near), report.episodes_needed(near)
    certain = 0.0 if kept.ci95 is None else max(0.0, kept.ci95[0])
    lower = f", or --min-retention {int(1000 * certain) / 1000:g}" if certain >= 0.001 else ""
    if needed is not None:
        return f"{none} Closest is {near.label} with {kept}: try --episodes {needed}{lower}."
    return f"{none} Closest is {near.label} with {kept}: more episodes will not do{lower}."


def _front(report: Recommendation) -> Table:
    """The front, below the original as it would run without any of this."""
    heads = {"energy": [_energy_unit(report)[1]], "memory": ["memory"]}.get(report.request.objective, [])
    columns = ("pipeline", "runtime", "retention %", "size", "p50 µs", *heads, "return")
    table = Table(*columns, box=box.SIMPLE_HEAD, header_style="bold", padding=0)
    table.columns[0].overflow = "fold"
    for column in table.columns[2:-1]:
        column.justify, column.no_wrap = "right", True
    original = report.variants[0]
    for variant in (*(() if original in report.front else (original,)), *report.front):
        kept = variant.trial.retention
        table.add_row(
            variant.trial.label,
            variant.runtime,
            "n/a" if kept is None else _interval(kept),
            units.size(variant.trial.model.size_bytes),
            units.number(variant.latency.p50_us),
            *_objective_cell(report, variant),
            _standing(report, variant),
            style="bold green" if variant is report.chosen else None,
        )
    return table


def _objective_cell(report: Recommendation, variant: Variant) -> list[str]:
    cost = variant.cost(report.request.objective)
    match report.request.objective:
        case "energy":
            return [units.number(None if cost is None else cost * 1e6)]
        case "memory":
            return [units.size(None if cost is None else int(cost))]
    return []


def _standing(report: Recommendation, variant: Variant) -> str:
    """What is known of the return, in a word."""
    low, high = variant.trial.interval
    minimum = report.request.min_retention
    if variant is report.chosen:
        return "ship"
    if variant.trial.label in report.confirmations and not _confirmed(report, variant.trial):
        return "unconfirmed"
    if low >= minimum:
        return "kept"
    return "lost" if high < minimum else "unsure"


def _confirmed(report: Recommendation, trial: Trial) -> bool:
    interval = report.kept(trial).ci95
    return interval is not None and interval[0] >= report.request.min_retention


def _story(report: Recommendation, trial: Trial) -> str:
    assert trial.retention is not None
    spent = "" if trial.label == ORIGINAL else f" ({trial.seconds:.0f} s, {trial.environment_steps:,} steps)"
    parts = [f"{trial.retention} over {trial.retention.pairs} episodes{spent}"]
    parts += [f"dropped: {trial.dropped}"] if trial.dropped else []
    if confirmed := report.confirmations.get(trial.label):
        parts.append(f"fresh episodes: {confirmed}")
    parts += [f"not in {' or '.join(s.runtime for s in trial.skipped)}"] if trial.skipped else []
    return "; ".join(parts)


def _objective(report: Recommendation) -> str:
    """The objective and, for energy, what its figures are."""
    if report.request.objective != "energy":
        return report.request.objective
    kinds = {variant.energy.kind for variant in report.variants if variant.energy is not None}
    return f"energy, {', '.join(sorted(kinds))}: {_energy_unit(report)[0]} a decision"


def _energy_unit(report: Recommendation) -> tuple[str, str]:
    """What stands for energy, and its column: an estimate ranks by the CPU time that it is made of."""
    kinds = {variant.energy.kind for variant in report.variants if variant.energy is not None}
    return ("energy", "µJ") if kinds <= set(METERED) else ("CPU time", "CPU µs")


def _interval(kept: Retention) -> str:
    """For a narrow column."""
    if kept.value is None or kept.ci95 is None:
        return "n/a"
    low, high = (f"{100 * end:.1f}" if math.isfinite(end) else "?" for end in kept.ci95)
    return f"{100 * kept.value:.1f} ({low}…{high})"
