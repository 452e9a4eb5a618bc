"""A study's grid: which evaluations it consists of."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Subject:
    """A policy that is compressed: the policy sources' one of this cell, or a file.

    policy: path of a policy file; "" means the one that is found for this algorithm and environment
    """

    algorithm: str
    env_id: str
    policy: str = ""


@dataclass(frozen=True)
class Cell:
    """One evaluation.

    algorithm:  as in `Subject`
    compressor: pipeline; "" is the baseline against itself, the noise floor of all other cells
    runtime:    plugin with options
    repeat:     0, 1, ...; the seed of the compression and of the evaluation's episodes
    episodes:   evaluation episodes a side
    profilers:  options of profilers, e.g. ("energy:watts_per_core=6",)
    policy:     as in `Subject`
    """

    algorithm: str
    env_id: str
    compressor: str
    runtime: str
    repeat: int
    episodes: int
    profilers: tuple[str, ...] = ()
    policy: str = ""

    @property
    def subject(self) -> Subject:
        return Subject(self.algorithm, self.env_id, self.policy)

    @property
    def label(self) -> str:
        """For a person: `sac HalfCheetah-v5 l1:ratio=0.05 onnx #3`."""
        words = (self.algorithm, self.env_id, self.compressor or "baseline", self.runtime)
        return f"{' '.join(words)} #{self.repeat}"

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Cell:
        return cls(**{**document, "profilers": tuple(document["profilers"])})


@dataclass(frozen=True)
class Study:
    """Subjects x runtimes x compressors x repeats.

    compressors:    pipelines; the first is "", the baseline
    training_steps: environment steps of the command that trains a missing policy
    seconds:        what a cell takes on one core, as once measured: by pipeline, compressor, or "baseline"
    reference:      path of a file with published values to set beside the study's; "" for none
    """

    name: str
    subjects: tuple[Subject, ...]
    compressors: tuple[str, ...]
    runtimes: tuple[str, ...]
    repeats: int
    episodes: int
    profilers: tuple[str, ...] = ()
    training_steps: int = 1_000_000
    seconds: Mapping[str, float] = field(default_factory=dict)
    reference: str = ""

    @functools.cached_property
    def cells(self) -> tuple[Cell, ...]:
        """In the order in which they are run: the first repeat of everything comes first."""
        return tuple(
            Cell(s.algorithm, s.env_id, compressor, runtime, repeat, self.episodes, self.profilers, s.policy)
            for repeat in range(self.repeats)
            for s in self.subjects
            for runtime in self.runtimes
            for compressor in self.compressors
        )

    @property
    def algorithms(self) -> tuple[str, ...]:
        return _unique(s.algorithm for s in self.subjects)

    @property
    def environments(self) -> tuple[str, ...]:
        return _unique(s.env_id for s in self.subjects)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Study:
        tuples = {key: tuple(document[key]) for key in ("compressors", "runtimes", "profilers")}
        subjects = tuple(Subject(**subject) for subject in document["subjects"])
        return cls(**{**document, **tuples, "subjects": subjects})


def _unique(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))
