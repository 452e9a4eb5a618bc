"""A whole study, pooled: what is finished of it, and what failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compressrl.study.grid import Cell, Subject
from compressrl.study.report.groups import Group, Report
from compressrl.study.report.methods import Method, methods
from compressrl.study.store import Outcome

Place = tuple[Subject, Method]


@dataclass(frozen=True)
class Pooled:
    """A study as the report sees it, in the study's order.

    groups:   what is finished, by (subject, method); the baseline against itself is among them
    failures: errors of the failed cells, likewise
    subjects, methods: all that the study asks for, finished or not
    """

    groups: Mapping[Place, Group]
    failures: Mapping[Place, Sequence[str]]
    subjects: tuple[Subject, ...]
    methods: tuple[Method, ...]

    @property
    def compressed(self) -> list[Group]:
        """All groups but the baseline against itself."""
        return [group for group in self.groups.values() if not group.method.is_baseline]

    @property
    def compressors(self) -> list[Method]:
        return [method for method in self.methods if not method.is_baseline]

    def of(self, method: Method) -> list[Group]:
        return [group for group in self.groups.values() if group.method == method]

    def of_all(self, methods: Sequence[Method]) -> list[Group]:
        return [group for method in methods for group in self.of(method)]

    def baseline(self, subject: Subject) -> Group | None:
        """A group whose baseline side stands for the policy: its comparison with itself, if there is one."""
        found = [group for group in self.groups.values() if group.subject == subject]
        return max(found, key=lambda group: (group.repeats, group.method.is_baseline), default=None)


def pool(cells: Sequence[Cell], outcomes: Sequence[Outcome]) -> Pooled:
    """Group the outcomes of a study's cells; repeats in their order."""
    found = methods((cell.compressor, cell.runtime) for cell in cells)
    by_text = {(method.compressor, method.runtime): method for method in found}
    reports: dict[Place, list[Report]] = defaultdict(list)
    failures: dict[Place, list[str]] = defaultdict(list)
    for outcome in sorted(outcomes, key=lambda outcome: outcome.cell.repeat):
        place = outcome.cell.subject, by_text[outcome.cell.compressor, outcome.cell.runtime]
        if outcome.report is not None:
            reports[place].append(outcome.report)
        elif outcome.status == "failed":
            failures[place].append(outcome.error)
    subjects = tuple(dict.fromkeys(cell.subject for cell in cells))
    places = [(subject, method) for subject in subjects for method in found if reports[subject, method]]
    groups: dict[Place, Group] = {}
    for subject, method in sorted(places, key=lambda place: not place[1].is_baseline):
        baseline = by_text.get(("", method.runtime))
        itself = groups.get((subject, baseline)) if baseline else None
        groups[subject, method] = Group(subject, method, tuple(reports[subject, method]), itself)
    return Pooled(groups, failures, subjects, tuple(found))
