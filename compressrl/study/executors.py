"""What runs cells: the protocol, and the choice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from compressrl.study.jobs import Job
from compressrl.study.store import Outcome


class Executor(Protocol):
    """Runs cells elsewhere; a context manager that stops what is still running when it is left."""

    @property
    def free(self) -> int:
        """How many jobs it would start at once."""
        ...

    @property
    def running(self) -> int:
        """How many jobs it has."""
        ...

    def submit(self, job: Job) -> None:
        """Start a job; only while `free` is positive."""
        ...

    def finished(self, timeout: float) -> Iterator[Outcome]:
        """Outcomes that have arrived; where there is none, wait for one, at most `timeout` seconds."""
        ...
