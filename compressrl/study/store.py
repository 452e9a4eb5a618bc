"""What became of the cells of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


from compressrl.study.grid import Cell

Status = Literal["done", "failed", "missing"]


@dataclass(frozen=True)
class Outcome:
    """A cell and what became of it.

    key:             16 hex digits: the cell, its policy file and the versions of what it uses
    status:          "missing" has no trained policy
    error:           why it failed; for a missing one, the command that trains the policy
    finished_at:     ISO 8601, UTC
    busy_neighbours: share of the time of the machine's other cores that was busy; None where unreadable
    report:          `EvaluationReport.to_json()`, of a done cell only
    """

    cell: Cell
    key: str
    status: Status
    error: str = ""
    seconds: float = 0.0
    finished_at: str = ""
    policy_sha256: str = ""
    busy_neighbours: float | None = None
    report: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
