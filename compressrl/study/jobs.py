"""Running one cell, in whatever process."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from compressrl import evaluation
from compressrl.errors import in_words
from compressrl.measuring import host
from compressrl.policy import Policy
from compressrl.records import EvaluationReport
from compressrl.study import cores
from compressrl.study.grid import Cell
from compressrl.study.store import Outcome


@dataclass(frozen=True)
class Job:
    """A cell with everything that another process, or machine, needs to run it."""

    cell: Cell
    key: str
    policy: Policy
    policy_sha256: str
    versions: Mapping[str, str]

    def failed(self, error: str, seconds: float = 0.0) -> Outcome:
        """The outcome of a cell that could not be run."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Outcome(
            self.cell, self.key, "failed", error, seconds, now, self.policy_sha256, versions=self.versions
        )


def run(job: Job) -> Outcome:
    """Evaluate the cell on a core of its own; an error becomes its outcome."""
    load = _Load()
    started = time.monotonic()
    try:
        with cores.pinned():
            report = _evaluate(job)
    except (Exception, SystemExit) as error:  # compressors, environments and runtimes are anybody's code
        return job.failed(in_words(error), time.monotonic() - started)
    return Outcome(
        cell=job.cell,
        key=job.key,
        status="done",
        seconds=time.monotonic() - started,
        finished_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        policy_sha256=job.policy_sha256,
        busy_neighbours=load.neighbours(),
        report=report.to_json(),
        versions=job.versions,
    )


def _evaluate(job: Job) -> EvaluationReport:
    return evaluation.evaluate(
        algorithm="" if job.cell.policy else job.cell.algorithm,
        compressor=job.cell.compressor,
        env_id=job.cell.env_id,
        policy=job.policy,
        runtime=job.cell.runtime,
        episodes=job.cell.episodes,
        seed=job.cell.repeat,
        profilers=job.cell.profilers,
        workers=1,
    )


class _Load:
    """What the rest of the machine does from now on."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._others = _others_seconds()

    def neighbours(self) -> float | None:
        """Share of the other cores' time that was busy, 0-1; None on a single core, or without /proc/stat."""
        now, cores = _others_seconds(), os.cpu_count() or 1
        if now is None or self._others is None or cores < 2:
            return None
        possible = (time.monotonic() - self._started) * (cores - 1)
        return min(1.0, max(0.0, (now - self._others) / possible))


def _others_seconds() -> float | None:
    """CPU time of everything but this process and the children that it has waited for."""
    busy = host.busy_seconds()
    return None if busy is None else busy - sum(os.times()[:4])
