"""How long cells take: as long as those like them took, else as the study says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

from compressrl import plugins
from compressrl.study.grid import Cell, Study
from compressrl.study.store import Outcome

BASELINE = "baseline"


class Estimates:
    """Seconds of a cell on one core.

    By finished cells of the same pipeline and environment, or of the same compressors there, or of the same
    compressors anywhere; else by the study's table, which holds pipelines, or single compressors to add up.
    """

    def __init__(self, study: Study, outcomes: Iterable[Outcome] = ()) -> None:
        self._table = study.seconds
        self._seen: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for outcome in outcomes:
            self.learn(outcome)

    def learn(self, outcome: Outcome) -> None:
        if outcome.status == "done":
            for kind in _kinds(outcome.cell):
                self._seen[kind].append(outcome.seconds)

    def seconds(self, cell: Cell) -> float | None:
        """None where nothing is known of such a cell."""
        for kind in _kinds(cell):
            if kind in self._seen:
                return fmean(self._seen[kind])
        return self._table.get(cell.compressor or BASELINE) or self._of_stages(cell)

    def _of_stages(self, cell: Cell) -> float | None:
        known = [self._table.get(name, 0.0) for name in _names(cell)]
        return sum(known) if all(known) else None

    def measured(self, cell: Cell) -> bool:
        """Whether `seconds` stands on finished cells."""
        return any(kind in self._seen for kind in _kinds(cell))


def _kinds(cell: Cell) -> tuple[tuple[str, ...], ...]:
    names = _names(cell)
    return ("pipeline", cell.compressor, cell.env_id), (*names, cell.env_id), names


def _names(cell: Cell) -> tuple[str, ...]:
    if not cell.compressor:
        return (BASELINE,)
    return tuple(plugins.parse(stage)[0] for stage in plugins.split(cell.compressor))
