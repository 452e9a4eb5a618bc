"""Running what is left of a study, beside others who may do the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from compressrl.study import cell_cache
from compressrl.study.claims import Claims
from compressrl.study.executors import Executor
from compressrl.study.jobs import Job
from compressrl.study.store import Outcome, Store

POLL_SECONDS = 1.0


@dataclass
class Tally:
    """Where a run stands.

    outcomes: of cells that have one, whoever ran them
    reused:   how many of them were taken from another study
    own:      how many of them this process has run
    left:     cells without an outcome, by key
    running:  keys of those of them that this process is running
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    reused: int = 0
    own: int = 0
    left: dict[str, Job] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)

    @property
    def total(self) -> int:
        return len(self.outcomes) + len(self.left)

    @property
    def failed(self) -> int:
        return sum(outcome.status == "failed" for outcome in self.outcomes.values())

    @property
    def done(self) -> int:
        return len(self.outcomes) - self.failed


class Watch(Protocol):
    """Hears how a run goes."""

    def __call__(self, tally: Tally, outcome: Outcome | None) -> None:
        """`outcome` has arrived; None: time has gone by."""
        ...


def stand(store: Store, jobs: Iterable[Job]) -> Tally:
    """What has been done of these jobs, here or by another study; damaged files are set aside."""
    tally = Tally()
    for job in jobs:
        if outcome := store.read(job.key):
            tally.outcomes[job.key] = outcome
        else:
            tally.left[job.key] = job
    return tally


def reuse(store: Store, tally: Tally, *, copy: bool) -> None:
    """Count what other studies on this machine have finished; `copy` takes it over."""
    for key, job in list(tally.left.items()):
        if outcome := cell_cache.take(store, job) if copy else cell_cache.peek(job):
            del tally.left[key]
            tally.outcomes[key] = outcome
            tally.reused += 1


@contextmanager
def failures_taken_back(store: Store, tally: Tally, jobs: Iterable[Job]) -> Iterator[Tally]:
    """Forget the outcomes of failed cells meanwhile; the new tally has them, and no others, left.

    One that has no new outcome by the end gets its old one back: still failed, and found again.
    """
    failed = {key: outcome for key, outcome in tally.outcomes.items() if outcome.status == "failed"}
    for key in failed:
        store.path(key).unlink(missing_ok=True)
    kept = {key: outcome for key, outcome in tally.outcomes.items() if key not in failed}
    again = Tally(outcomes=kept, left={job.key: job for job in jobs if job.key in failed})
    try:
        yield again
    finally:
        for key, outcome in failed.items():
            if key in again.left and store.read(key) is None:
                store.write(outcome)


def run(store: Store, tally: Tally, executor: Executor, watch: Watch) -> None:
    """Run all that is left; returns when every cell has an outcome.

    A cell that another process has claimed is waited for, and run here should that process end without it.
    """
    with Claims(store.folder) as claims:
        runner = _Runner(store, tally, executor, claims)
        while tally.left:
            for outcome in itertools.chain(runner.fill(), runner.collect()):
                watch(tally, outcome)
            watch(tally, None)


@dataclass
class _Runner:
    store: Store
    tally: Tally
    executor: Executor
    claims: Claims

    def fill(self) -> Iterator[Outcome]:
        """Start what can be started; gives what others have finished meanwhile."""
        for key, job in list(self.tally.left.items()):
            if not self.executor.free:
                break
            if key in self.tally.running or not self.claims.take(key):
                continue
            # Only now: whoever had the claim may just have finished.
            if outcome := self.store.read(key):
                self.claims.release(key)
                yield self._arrived(outcome)
            else:
                self.executor.submit(job)
                self.tally.running.add(key)

    def collect(self) -> Iterator[Outcome]:
        """Store and give what has arrived from the executor."""
        for outcome in self.executor.finished(POLL_SECONDS):
            self.store.write(outcome)
            cell_cache.keep(self.store, outcome)
            self.claims.release(outcome.key)
            self.tally.running.remove(outcome.key)
            self.tally.own += 1
            yield self._arrived(outcome)

    def _arrived(self, outcome: Outcome) -> Outcome:
        del self.tally.left[outcome.key]
        self.tally.outcomes[outcome.key] = outcome
        return outcome
