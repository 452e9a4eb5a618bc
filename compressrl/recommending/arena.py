"""Where candidates are compressed and play their episodes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from compressrl import evaluation, pipeline
from compressrl.episodes import paired_rollout
from compressrl.measuring import profiling
from compressrl.measuring.workloads import Loaded
from compressrl.networks import model_size
from compressrl.policy import Policy
from compressrl.progress import Progress
from compressrl.recommending.archive import Archive, Saved
from compressrl.recommending.candidates import Candidate, Trial
from compressrl.records import EvaluationRequest


@dataclass(frozen=True)
class Arena:
    """Compresses one policy, and plays episodes on the seeds of one search.

    base:     of all episodes: algorithm, environment, seed, how many at most, workers
    runtimes: to be tried, the one that episodes run in first
    """

    original: Policy
    base: EvaluationRequest
    runtimes: tuple[str, ...]
    archive: Archive

    def enter(self, candidate: Candidate, progress: Progress) -> Trial:
        """Compress, or take what the archive has. Raises CompressrlError where that fails."""
        made = self.archive.load(candidate) or self._compress(candidate, progress)
        loaded, skipped = profiling.load_all({candidate.label: made.policy}, self.runtimes)
        return Trial(
            candidate=candidate,
            policy=made.policy,
            model=model_size.measure(made.policy),
            loaded=tuple(loaded),
            skipped=tuple(skipped),
            seconds=made.seconds,
            environment_steps=made.environment_steps,
            returns=made.returns,
        )

    def seeds(self) -> list[int]:
        """Of the search. An evaluation with the same seed draws the same."""
        return evaluation.episode_seeds(self.base.seed, self.base.episodes)

    def fresh_seeds(self) -> list[int]:
        """As many that the search has not seen."""
        return evaluation.episode_seeds(self.base.seed, 2 * self.base.episodes)[self.base.episodes :]

    def play(
        self, sides: Sequence[Loaded], seeds: Sequence[int], progress: Progress, task: str = "episodes"
    ) -> list[tuple[float, ...]]:
        """Returns of these episodes, side by side; all sides are in one runtime and share the workers."""
        request = replace(self.base, runtime=sides[0].runtime)
        total = _summed(progress, task, len(sides) * len(seeds))
        done = paired_rollout.run(request, sides, seeds, {}, total)
        return [episodes.returns for episodes in done.episodes]

    def _compress(self, candidate: Candidate, progress: Progress) -> Saved:
        base = self.base
        lab = pipeline.lab_for(self.original, base.env_id, base.algorithm, base.seed, progress)
        started = time.monotonic()
        policy = pipeline.run(list(candidate.stages), self.original, lab)
        return Saved(policy, time.monotonic() - started, lab.environment_steps_used, ())


def _summed(progress: Progress, name: str, episodes: int) -> Progress:
    """One task for the episodes of all sides."""
    finished: dict[str, float] = {}

    def report(task: str, done: float, total: float, note: str = "") -> None:
        finished[task] = done
        progress(name, sum(finished.values()), episodes)

    return report
