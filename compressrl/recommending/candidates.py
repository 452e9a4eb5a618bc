"""What is tried: pipelines that plugins declare or that the user names, and what became of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compressrl import pipeline, plugins
from compressrl.errors import CompressrlError
from compressrl.measuring.profiling import Skipped
from compressrl.measuring.workloads import Loaded
from compressrl.pipeline import Stage
from compressrl.policy import Policy
from compressrl.records import ModelSize, Retention

ORIGINAL = "original"


@dataclass(frozen=True)
class Candidate:
    """A pipeline to try; the original policy has no stages."""

    pipeline: str = ""
    stages: tuple[Stage, ...] = ()

    @property
    def label(self) -> str:
        return self.pipeline or ORIGINAL

    @property
    def trainings(self) -> int:
        """How many stages train (`Compressor.trains`): the cost class of a candidate."""
        return sum(bool(getattr(stage.compressor, "trains", False)) for stage in self.stages)


@dataclass(frozen=True)
class SetAside:
    """A candidate that could not be tried, and why."""

    pipeline: str
    reason: str


@dataclass(frozen=True)
class Trial:
    """A candidate that was compressed, and what its episodes have shown so far.

    loaded:    in every runtime that can execute it; its episodes run in the first
    skipped:   runtimes that cannot
    seconds, environment_steps: what its compressors spent
    returns:   by episode, on the same seeds as the original's
    retention: of the episodes looked at; None before the first look
    dropped:   why it got no more episodes; "" for a finalist
    """

    candidate: Candidate
    policy: Policy
    model: ModelSize
    loaded: tuple[Loaded, ...]
    skipped: tuple[Skipped, ...]
    seconds: float
    environment_steps: int
    returns: tuple[float, ...] = ()
    retention: Retention | None = None
    dropped: str = ""

    @property
    def label(self) -> str:
        return self.candidate.label

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the retention; everything is possible where nothing is known."""
        kept = self.retention
        return (-math.inf, math.inf) if kept is None or kept.ci95 is None else kept.ci95


def find(named: Sequence[str]) -> tuple[list[Candidate], list[SetAside]]:
    """The original and these pipelines, or those that installed compressors declare; what trains least first.

    Raises the errors of `pipeline.parse` for a named one; a declared one that cannot be parsed is set aside.
    """
    found, failed = [Candidate()], []
    for text in dict.fromkeys(named or _declared()):
        try:
            found.append(Candidate(text, tuple(pipeline.parse(text))))
        except CompressrlError as error:
            if named:
                raise
            failed.append(SetAside(text, str(error)))
    return sorted(found, key=lambda candidate: candidate.trainings), failed


def _declared() -> list[str]:
    """What compressors declare as `candidates`; of one that cannot be loaded its name, which then fails."""
    declared: list[str] = []
    for registered in plugins.registry().entries("compressor"):
        try:
            declared += getattr(registered.load(), "candidates", ())
        except CompressrlError:
            declared.append(registered.entry.name)
    return declared
