"""The tables of published results, made again from our cells, theirs beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compressrl.study.grid import Subject
from compressrl.study.report import tables
from compressrl.study.report.groups import Group, algorithm_name
from compressrl.study.report.methods import Method
from compressrl.study.report.pooled import Pooled
from compressrl.study.report.reference import Reference, ReferenceTable
from compressrl.study.report.tables import Cell, Table
from compressrl.study.report.verdicts import best, survives

NONE_KEEPS = Cell("none keeps enough", data={"": None}, tone="bad")
NOT_MEASURED = Cell("not measured", value=None, data={"": None}, tone="muted")


def returns(pooled: Pooled, reference: Reference) -> Table:
    """Average return of the baseline and of every method without a level."""
    published = reference.table("returns", "Average return")
    chosen = [method for method in pooled.compressors if method.level is None]
    rows = [_returns_row(pooled, published, subject, chosen) for subject in pooled.subjects]
    return Table(
        "returns",
        published.title,
        ("algorithm", "environment", "baseline", *(method.label for method in chosen)),
        tuple(rows),
        _returns_text(pooled, published, chosen, reference.kept_share),
    )


def _returns_row(
    pooled: Pooled, published: ReferenceTable, subject: Subject, chosen: Sequence[Method]
) -> tuple[Cell, ...]:
    theirs = published.at(subject.algorithm, subject.env_id)
    group = pooled.baseline(subject)
    baseline = _return_cell(group, "baseline", theirs.get("baseline"))
    cells = [_return_cell(pooled.groups.get((subject, m)), "compressed", theirs.get(m.name)) for m in chosen]
    return *_names(subject), baseline, *cells


def _names(subject: Subject) -> tuple[Cell, Cell]:
    return tables.word(algorithm_name(subject)), tables.word(subject.env_id)


def _return_cell(group: Group | None, side: str, published: float | None) -> Cell:
    """Mean return with its interval, the retention of the compressed, and the published return."""
    theirs = () if published is None else (f"paper {published:,.0f}",)
    extra: Mapping[str, tables.Value] = {} if published is None else {"published": published}
    if group is None:
        return Cell("not measured", theirs, None, {"": None, **extra}, "muted")
    kept = _kept(group) if side == "compressed" else Cell("")
    cell = tables.estimate(group.mean_return(side), ",.0f", *kept.notes, *theirs)
    return Cell(cell.text, cell.notes, cell.value, {**cell.data, **kept.data, **extra}, cell.tone)


def _kept(group: Group) -> Cell:
    """The retention with its interval, as a note and as data; nothing where it is not known."""
    value, ends = group.kept.value, group.kept.ci95
    if value is None:
        return Cell("")
    low, high = ends or (None, None)
    said = f"keeps {value:.1%}" + (f" ({tables.interval(ends, '.1%')})" if ends else "")
    return Cell("", (said,), data={"retention": value, "retention low": low, "retention high": high})


def _returns_text(
    pooled: Pooled, published: ReferenceTable, chosen: Sequence[Method], kept_share: float
) -> str:
    groups = [group for method in chosen for group in pooled.of(method)]
    kept = sum(survives(group, kept_share) for group in groups)
    found = (
        f"{kept} of our {len(groups)} compressed policies keep at least {kept_share:.0%} of the return."
        if groups
        else "None of these cells is finished."
    )
    theirs = ", the retention, and the published return" if published.values else " and the retention"
    return f"{found} Below a mean: its 95 % interval{theirs}. {published.note}".rstrip()


def levels(pooled: Pooled, reference: Reference) -> Table | None:
    """The highest level of each sweep that keeps enough of the return; None where nothing was swept."""
    families = list(dict.fromkeys(m.family for m in pooled.compressors if m.level is not None))
    if not families:
        return None
    published = reference.table(
        "levels", f"The highest level that keeps {reference.kept_share:.0%} of the return"
    )
    rows = [
        _levels_row(pooled, published, subject, families, reference.kept_share) for subject in pooled.subjects
    ]
    theirs = (
        ", the levels that were measured, and the published one"
        if published.values
        else " and the levels that were measured"
    )
    text = (
        f"Below a level: what it keeps{theirs}. A level counts "
        f"when the mean return over all episodes is at least {reference.kept_share:.0%} of the baseline's. "
        "“Return at it” is that of the highest level that counts, in whatever sweep."
    )
    columns = ("algorithm", "environment", "baseline", "return at it", *families)
    return Table("levels", published.title, columns, tuple(rows), f"{text} {published.note}".rstrip())


def _levels_row(
    pooled: Pooled, published: ReferenceTable, subject: Subject, families: Sequence[str], kept_share: float
) -> tuple[Cell, ...]:
    theirs = published.at(subject.algorithm, subject.env_id)
    baseline = _return_cell(pooled.baseline(subject), "baseline", theirs.get("baseline"))
    swept = _swept(pooled, subject)
    winner, kept = best(swept, "level", kept_share), theirs.get("kept")
    alive = NONE_KEEPS if swept and winner is None else _return_cell(winner, "compressed", kept)
    sweeps = ([group for group in swept if group.method.family == family] for family in families)
    return *_names(subject), baseline, alive, *(_level_cell(sweep, theirs, kept_share) for sweep in sweeps)


def _swept(pooled: Pooled, subject: Subject) -> list[Group]:
    """The finished levels of all sweeps on one policy, lowest first."""
    found = (group for group in pooled.compressed if group.subject == subject)
    return sorted((g for g in found if g.method.level is not None), key=lambda g: g.method.level or 0.0)


def _level_cell(sweep: Sequence[Group], theirs: Mapping[str, Any], kept_share: float) -> Cell:
    name = sweep[0].method.name if sweep else ""
    published = theirs.get(name)
    notes = () if published is None else (f"paper {published:.2f}",)
    extra = {} if published is None else {"published": published}
    if not sweep:
        return Cell("not measured", notes, None, {"": None, **extra}, "muted")
    measured = f"of {len(sweep)} from {sweep[0].method.level:g} to {sweep[-1].method.level:g}"
    winner = best(sweep, "level", kept_share)
    if winner is None or winner.method.level is None:
        return Cell("none", (measured, *notes), 0.0, {"": 0.0, **extra}, "bad")
    level, kept = winner.method.level, winner.kept.value
    lines = (f"keeps {kept:.1%}", measured, *notes)
    return Cell(f"{level:.2f}", lines, level, {"": level, "retention": kept, **extra})


def best_levels(pooled: Pooled, reference: Reference) -> Table | None:
    """The best method of all sweeps for each policy; None where nothing was swept."""
    if all(method.level is None for method in pooled.compressors):
        return None
    published = reference.table("best", "The best of the swept methods")
    rows = []
    for subject in pooled.subjects:
        swept = _swept(pooled, subject)
        winner = best(swept, "level", reference.kept_share)
        ours = NOT_MEASURED if not swept else _winner_cell(winner)
        theirs = (_published(published, subject),) if published.values else ()
        rows.append((*_names(subject), ours, *theirs))
    columns = ("algorithm", "environment", "ours", *([reference.name] if published.values else []))
    return Table("best_levels", published.title, columns, tuple(rows), published.note)


def _published(published: ReferenceTable, subject: Subject) -> Cell:
    """The published method."""
    theirs = published.at(subject.algorithm, subject.env_id) or ""
    return tables.word(theirs.replace(":", " ") if theirs else "n/a", "" if theirs else "muted")


def _winner_cell(winner: Group | None) -> Cell:
    if winner is None:
        return NONE_KEEPS
    kept, label = winner.kept.value, winner.method.label
    return Cell(label, (f"keeps {kept:.1%}",), label, {"": label, "retention": kept})
