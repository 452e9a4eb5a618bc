"""How long cells take: as long as those like them took, else as the study says."""

from __future__ import annotations

import functools
from collections.abc import Iterable

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
        self._seen: dict[tuple[str, ...], tuple[float, int]] = {}  # their sum and number
        for outcome in outcomes:
            self.learn(outcome)

    def learn(self, outcome: Outcome) -> None:
        if outcome.status == "done":
            for kind in _kinds(outcome.cell):
                total, count = self._seen.get(kind, (0.0, 0))
                self._seen[kind] = total + outcome.seconds, count + 1

    def seconds(self, cell: Cell) -> float | None:
        """None where nothing is known of such a cell."""
        for kind in _kinds(cell):
            if kind in self._seen:
                total, count = self._seen[kind]
                return total / count
        return self._table.get(cell.compressor or BASELINE) or self._of_stages(cell)

    def _of_stages(self, cell: Cell) -> float | None:
        known = [self._table.get(name, 0.0) for name in _names(cell.compressor)]
        return sum(known) if all(known) else None

    def measured(self, cell: Cell) -> bool:
        """Whether `seconds` stands on finished cells."""
        return any(kind in self._seen for kind in _kinds(cell))


def _kinds(cell: Cell) -> tuple[tuple[str, ...], ...]:
    names = _names(cell.compressor)
    return ("pipeline", cell.compressor, cell.env_id), (*names, cell.env_id), names


@functools.cache
def _names(compressor: str) -> tuple[str, ...]:
    if not compressor:
        return (BASELINE,)
    return tuple(plugins.parse(stage)[0] for stage in plugins.split(compressor))
