"""What a search found, as frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from compressrl.recommending.candidates import SetAside, Trial
from compressrl.recommending.choice import Objective, Variant, closest, episodes_needed
from compressrl.records import SCHEMA, Retention, plain_json


@dataclass(frozen=True)
class RecommendationRequest:
    """What is asked for.

    candidates:    pipelines; () for those that plugins declare
    runtimes:      plugins with options; the first that can execute a policy runs its episodes
    min_retention: share of the return that must be kept
    episodes:      of a finalist in the search, and once more, on fresh seeds, of the one to ship
    """

    algorithm: str
    env_id: str
    policy: str
    min_retention: float
    objective: Objective
    episodes: int
    seed: int
    candidates: tuple[str, ...]
    runtimes: tuple[str, ...]
    workers: int


@dataclass(frozen=True)
class Recommendation:
    """All that was tried, and what to ship.

    trials:        the original first; each was compressed and played
    variants:      every trial in every runtime that can execute it, timed interleaved in one process
    front:         the variants that no other one equals or betters in everything
    confirmations: by pipeline, the retention on fresh episode seeds, in the runtime to ship in
    chosen:        None where no compressed candidate qualifies
    files:         what was written to ship, by what it is
    """

    request: RecommendationRequest
    trials: tuple[Trial, ...]
    variants: tuple[Variant, ...]
    set_aside: tuple[SetAside, ...]
    front: tuple[Variant, ...]
    confirmations: Mapping[str, Retention]
    chosen: Variant | None
    host: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)

    def kept(self, trial: Trial) -> Retention:
        """The retention on fresh seeds where there is one, else that of the search."""
        kept = self.confirmations.get(trial.label, trial.retention)
        assert kept is not None
        return kept

    @property
    def closest(self) -> Trial | None:
        """What comes closest where nothing is chosen."""
        return None if self.chosen else closest(self.trials, self.kept)

    def episodes_needed(self, trial: Trial) -> int | None:
        """See `choice.episodes_needed`."""
        return episodes_needed(self.kept(trial), self.request.min_retention)

    def to_json(self) -> dict[str, Any]:
        """The object that `compressrl recommend --json` prints; plain JSON types only, no NaN."""
        chosen, near = self.chosen, self.closest
        document: dict[str, Any] = plain_json(
            {
                "schema": SCHEMA,
                "request": asdict(self.request),
                "candidates": [self._candidate(trial) for trial in self.trials],
                "set_aside": [asdict(each) for each in self.set_aside],
                "front": [_name(variant) for variant in self.front],
                "chosen": chosen and {**_name(chosen), "retention": asdict(self.kept(chosen.trial))},
                "closest": near
                and {
                    "pipeline": near.candidate.pipeline,
                    "retention": asdict(self.kept(near)),
                    "episodes_needed": self.episodes_needed(near),
                },
                "files": dict(self.files),
                "host": dict(self.host),
            }
        )
        return document

    def _candidate(self, trial: Trial) -> dict[str, Any]:
        confirmed, kept = self.confirmations.get(trial.label), trial.retention
        return {
            "pipeline": trial.candidate.pipeline,
            "trainings": trial.candidate.trainings,
            "seconds": trial.seconds,
            "environment_steps": trial.environment_steps,
            "model": asdict(trial.model),
            "retention": kept and asdict(kept),
            "confirmation": confirmed and asdict(confirmed),
            "dropped": trial.dropped,
            "variants": [self._variant(v) for v in self.variants if v.trial is trial],
            "skipped": [{"runtime": skipped.runtime, "reason": skipped.reason} for skipped in trial.skipped],
        }

    def _variant(self, variant: Variant) -> dict[str, Any]:
        return {
            "runtime": variant.runtime,
            "latency_us": variant.latency.to_json(),
            "energy": variant.energy and asdict(variant.energy),
            "memory_bytes": variant.memory and variant.memory.to_json(),
            "on_front": variant in self.front,
        }


def _name(variant: Variant) -> dict[str, str]:
    return {"pipeline": variant.trial.candidate.pipeline, "runtime": variant.runtime}
