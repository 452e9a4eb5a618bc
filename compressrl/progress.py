"""How long-running work says where it stands, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the state of one task."""

    def __call__(self, task: str, done: float, total: float, note: str = "") -> None:
        """`done` of `total` units of `task` are finished; `note` is a short status (loss, return)."""
        ...


def silent(task: str, done: float, total: float, note: str = "") -> None:
    """Nobody listens."""
