"""The sections of a study's page, and what stands in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from compressrl.study.grid import Study
from compressrl.study.report import comparisons, overview
from compressrl.study.report.figures import costs, curves, fronts, heat_map, memory, returns, sweeps
from compressrl.study.report.figures.figure import Figure
from compressrl.study.report.pooled import Pooled, pool
from compressrl.study.report.reference import Reference
from compressrl.study.report.tables import Table
from compressrl.study.report.verdicts import Answer, Verdict, judge
from compressrl.study.store import Outcome

ANSWERS: dict[Answer, str] = {
    "holds": "that hold",
    "does not hold": "that do not",
    "cannot be told yet": "that cannot be told yet",
}


@dataclass(frozen=True)
class Section:
    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.paragraphs or self.facts or self.verdicts or self.tables or self.figures)


@dataclass(frozen=True)
class Page:
    title: str
    lead: str
    sections: tuple[Section, ...]
    footer: str

    @property
    def all_tables(self) -> list[Table]:
        """Every table, those behind the figures too."""
        return [
            table
            for section in self.sections
            for table in (*section.tables, *(figure.table for figure in section.figures))
        ]

    @property
    def figures(self) -> list[Figure]:
        return [figure for section in self.sections for figure in section.figures]

    @property
    def verdicts(self) -> list[Verdict]:
        return [verdict for section in self.sections for verdict in section.verdicts]


def build(study: Study, outcomes: Sequence[Outcome], reference: Reference) -> Page:
    """Everything that the page says about a study; cells without an outcome have not run yet."""
    pooled = pool(study.cells, outcomes)
    verdicts = tuple(judge(pooled, reference))
    sections = [
        _what_was_run(study, outcomes),
        Section(
            "verdicts",
            "Verdicts",
            verdicts=verdicts,
            paragraphs=_on_verdicts(reference),
        ),
        _compared(pooled, reference),
        Section("methods", "Methods", tables=(overview.method_table(pooled),) if pooled.compressed else ()),
        _drawn(pooled, reference),
        Section("memory", "Memory", figures=_present(memory.figure(pooled))),
        Section("curves", "Learning curves", figures=_present(curves.figure(curves.find(pooled.subjects)))),
        _open_ends(outcomes),
    ]
    return Page(
        title=f"Study: {study.name}",
        lead=_lead(study, outcomes, pooled, verdicts),
        sections=tuple(section for section in sections if not section.is_empty),
        footer=_footer(reference),
    )


def _present(*found: Figure | None) -> tuple[Figure, ...]:
    return tuple(figure for figure in found if figure is not None)


def _lead(study: Study, outcomes: Sequence[Outcome], pooled: Pooled, verdicts: Sequence[Verdict]) -> str:
    done = overview.counts(study, outcomes)["done"]
    parts = [f"{done} of {len(study.cells)} cells are done.", _most_and_least(pooled)]
    if verdicts:
        answers = Counter(verdict.answer for verdict in verdicts)
        found = ", ".join(f"{words}: {answers[answer]}" for answer, words in ANSWERS.items())
        parts.append(f"Published claims {found}.")
    return " ".join(parts)


def _most_and_least(pooled: Pooled) -> str:
    scored = [(overview.pooled_retention(pooled.of(method)).value, method) for method in pooled.compressors]
    kept = [(value, method.label) for value, method in scored if value is not None]
    if not kept:
        earn_nothing = "No baseline earns a positive return, of which a policy could keep a share."
        return earn_nothing if pooled.compressed else "No compressed policy has been measured yet."
    (least, worst), (most, best) = min(kept), max(kept)
    said = f"Over all policies, {best} keeps the most of the return ({most:.1%})"
    return f"{said}, {worst} the least ({least:.1%})." if worst != best else f"{said}."


def _what_was_run(study: Study, outcomes: Sequence[Outcome]) -> Section:
    counts = overview.counts(study, outcomes)
    facts = (
        "Cells: " + ", ".join(f"{count} {status}" for status, count in counts.items()),
        f"Grid: {len(study.subjects)} policies, {len(study.compressors)} compressors (with the baseline "
        f"against itself), runtimes {', '.join(study.runtimes)}, repeats: {study.repeats}, each of "
        f"{study.episodes} paired episodes",
    )
    return Section("run", "What was run", facts=(*facts, *overview.host_lines(outcomes)))


def _on_verdicts(reference: Reference) -> tuple[str, ...]:
    if not reference.claims:
        return ()
    return (
        f"What {reference.name} claims, and what our cells say of it. Shares are of trained policies, with "
        "their 95 % score interval. A claim cannot be told where that is too wide to decide.",
    )


def _compared(pooled: Pooled, reference: Reference) -> Section:
    found = (comparisons.returns(pooled, reference), comparisons.levels(pooled, reference))
    paragraphs = []
    versions = reference.other_versions(sorted({subject.env_id for subject in pooled.subjects}))
    if versions:
        pairs = ", ".join(f"{theirs} there and {ours} here" for ours, theirs in versions.items())
        paragraphs.append(
            f"Environments differ in version: {pairs}. Their returns are not the same quantity: compare how "
            "much is kept."
        )
    if reference.protocol:
        paragraphs.append(f"Protocol of {reference.name}: {reference.protocol}")
    best = comparisons.best_levels(pooled, reference)
    tables_ = tuple(table for table in (*found, best) if table is not None)
    title = "The tables of the paper" if reference.tables else "Returns"
    return Section("tables", title, tuple(paragraphs), tables=tables_ if pooled.subjects else ())


def _drawn(pooled: Pooled, reference: Reference) -> Section:
    found = _present(
        returns.figure(pooled),
        costs.figure(pooled),
        sweeps.figure(pooled, reference.kept_share),
        fronts.figure(pooled),
        heat_map.figure(pooled),
    )
    paragraphs = (reference.figures,) if reference.figures and found else ()
    return Section("figures", "Figures", paragraphs, figures=found)


def _open_ends(outcomes: Sequence[Outcome]) -> Section:
    found = (overview.missing_table(outcomes), overview.failed_table(outcomes))
    return Section("open", "Missing and failed", tables=tuple(table for table in found if table is not None))


def _footer(reference: Reference) -> str:
    return f"Compared with: {reference.citation}, {reference.url}." if reference.citation else ""
