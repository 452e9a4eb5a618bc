"""Retention of every policy under every method; what is missing or failed says so."""

from __future__ import annotations

from compressrl.study.grid import Subject
from compressrl.study.report import charts, tables
from compressrl.study.report.charts import Square
from compressrl.study.report.figures.figure import Figure, said
from compressrl.study.report.groups import Estimate, Group, policy_name
from compressrl.study.report.methods import Method
from compressrl.study.report.pooled import Pooled
from compressrl.study.report.tables import Cell, Table

TITLE = "Retention of every policy under every method"
DEAD = 0.5  # of the return
FAILED, NOT_RUN = "!", "·"


def figure(pooled: Pooled) -> Figure | None:
    """None where the study compresses nothing."""
    if not pooled.compressors:
        return None
    squares = [
        _square(pooled, subject, method, row, column)
        for row, subject in enumerate(pooled.subjects)
        for column, method in enumerate(pooled.compressors)
    ]
    names = [policy_name(subject) for subject in pooled.subjects]
    labels = [method.label for method in pooled.compressors]
    rows = tuple(
        (
            tables.word(policy_name(subject)),
            *(_cell(pooled, subject, method) for method in pooled.compressors),
        )
        for subject in pooled.subjects
    )
    table = Table("figure_heat_map", "Retention", ("policy", *labels), rows)
    picture = charts.heat(TITLE, names, labels, squares)
    colours = "In per cent of the baseline's return: dark is lost, yellow is kept."
    return Figure(TITLE, _text(pooled), (picture,), table, wide=True, in_numbers=True, colours=colours)


def _cell(pooled: Pooled, subject: Subject, method: Method) -> Cell:
    group = pooled.groups.get((subject, method))
    if group is None:
        return Cell(_why_empty(pooled, subject, method)[0], (), None, {"": None})
    notes = [_why_no_retention(group)] if group.kept.value is None else []
    return tables.estimate(Estimate(group.kept.value, group.kept.ci95), ".1%", *notes)


def _square(pooled: Pooled, subject: Subject, method: Method, row: int, column: int) -> Square:
    what = f"{policy_name(subject)}\n{method.label}"
    group = pooled.groups.get((subject, method))
    if group is None:
        text, why = _why_empty(pooled, subject, method)
        return Square(row, column, None, text, f"{what}\n{why}")
    kept = group.kept
    if kept.value is None:
        return Square(row, column, None, "n/a", f"{what}\nretention n/a: {_why_no_retention(group)}")
    interval = said(Estimate(kept.value, kept.ci95), ".1%")
    tip = f"{what}\nretention {interval}\nrepeats: {group.repeats}, pairs of episodes: {kept.pairs}"
    return Square(row, column, kept.value, f"{kept.value * 100:.0f}", tip)


def _why_empty(pooled: Pooled, subject: Subject, method: Method) -> tuple[str, str]:
    errors = pooled.failures.get((subject, method))
    return (FAILED, f"failed: {errors[0][:120]}") if errors else (NOT_RUN, "not run")


def _why_no_retention(group: Group) -> str:
    mean = group.mean_return("baseline").value
    return "a return is not a number" if mean is None else "the baseline earns nothing"


def _text(pooled: Pooled) -> str:
    kept = [(group.kept.value, group) for group in pooled.compressed if group.kept.value is not None]
    signs = f"“{FAILED}” failed, “{NOT_RUN}” not run."
    if not kept:
        why = (
            "No baseline earns a positive return"
            if pooled.compressed
            else "No compressed cell is finished yet"
        )
        return f"{why}. {signs}"
    dead = sum(value < DEAD for value, _ in kept)
    value, worst = min(kept, key=lambda pair: pair[0])
    return (
        f"{dead} of {len(kept)} compressed policies lose more than half of the return; the worst is "
        f"{worst.policy} under {worst.method.label} ({value:.1%}). {signs}"
    )
