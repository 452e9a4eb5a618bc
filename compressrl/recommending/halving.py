"""Successive halving: few episodes for every candidate, twice as many for those that may still be shipped.

After Jamieson & Talwalkar 2016 (arXiv 1502.07943); but where that keeps a fixed share, here a candidate is
dropped only when a paired 95 % interval rules it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from compressrl import defaults, statistics
from compressrl.errors import in_words
from compressrl.progress import Progress
from compressrl.recommending.arena import Arena
from compressrl.recommending.candidates import Candidate, SetAside, Trial
from compressrl.records import Retention

FIRST = defaults.EPISODES
TIE = 0.05  # costs that differ by less are equal: timing noise of a shared machine


@dataclass(frozen=True)
class Judge:
    """What counts as the job still done.

    random_return: mean return of random actions, see `statistics.retention`
    seed:          of the bootstrap
    """

    min_retention: float
    random_return: float
    seed: int

    def retention(self, original: Sequence[float], compressed: Sequence[float]) -> Retention:
        return statistics.retention(
            original,
            compressed,
            random_return=self.random_return,
            margin=1 - self.min_retention,
            seed=self.seed,
        )


def rungs(episodes: int) -> list[int]:
    """Episodes after which candidates are looked at, each twice the one before: 40 -> [10, 20, 40]."""
    found = [episodes]
    while found[0] // 2 >= FIRST:
        found.insert(0, found[0] // 2)
    return found


def explore(
    arena: Arena, candidates: Sequence[Candidate], progress: Progress
) -> tuple[list[Trial], list[SetAside]]:
    """Compress every candidate, in order, and play its first episodes; what raises is set aside."""
    trials, failed = [], []
    first = rungs(arena.base.episodes)[0]
    for number, candidate in enumerate(candidates):
        progress("candidates", number, len(candidates), candidate.label)
        within = _within(progress, number, len(candidates), candidate.label)
        try:
            trials += advance(arena, [arena.enter(candidate, within)], first, within)
        except Exception as error:  # a compressor, and the policy that it made, are anybody's code
            if not candidate.stages:
                raise
            failed.append(SetAside(candidate.pipeline, in_words(error)))
    progress("candidates", len(candidates), len(candidates))
    return trials, failed


def halve(
    arena: Arena,
    trials: Sequence[Trial],
    judge: Judge,
    microseconds: Mapping[str, float],
    progress: Progress,
) -> list[Trial]:
    """All trials, the original first, with as many episodes as were needed; see `Trial.dropped`.

    microseconds: by label, the inference time in the fastest runtime
    """
    done = list(trials)
    for count in rungs(arena.base.episodes):
        kept = advance(arena, [trial for trial in done if not trial.dropped], count, progress)
        baseline = kept[0].returns[:count]
        judged = [replace(t, retention=judge.retention(baseline, t.returns[:count])) for t in kept]
        reasons = [_why_not(trial, judged, judge.min_retention, microseconds) for trial in judged]
        now = {t.label: replace(t, dropped=reason) for t, reason in zip(judged, reasons, strict=True)}
        done = [now.get(trial.label, trial) for trial in done]
    return done


def advance(arena: Arena, trials: Sequence[Trial], count: int, progress: Progress) -> list[Trial]:
    """The trials with at least `count` returns each, archived."""

    def standing(trial: Trial) -> tuple[str, int]:
        return trial.loaded[0].runtime, min(len(trial.returns), count)

    advanced: dict[str, Trial] = {}
    for (_, start), group in groupby(sorted(trials, key=standing), key=standing):
        together, seeds = list(group), arena.seeds()[start:count]
        if not seeds:
            advanced |= {trial.label: trial for trial in together}
            continue
        sides = [trial.loaded[0] for trial in together]
        played = arena.play(sides, seeds, progress, f"episodes {start + 1} to {count}")
        for trial, returns in zip(together, played, strict=True):
            advanced[trial.label] = replace(trial, returns=trial.returns + returns)
            arena.archive.save(advanced[trial.label])
    return [advanced[trial.label] for trial in trials]


def _why_not(
    trial: Trial, trials: Sequence[Trial], min_retention: float, microseconds: Mapping[str, float]
) -> str:
    """Why this trial needs no more episodes, or ""; the first of all trials is the original."""
    if trial is trials[0]:  # what all others are compared with
        return ""
    assert trial.retention is not None
    seen, high = f"after {trial.retention.pairs} episodes", trial.interval[1]
    if trial.retention.value is None:
        return f"{seen} a return is not a number"
    if high < min_retention:
        return f"{seen} it keeps at most {high:.1%} of the return"
    if better := next((other for other in trials if _beats(other, trial, microseconds)), None):
        return f"{seen} {better.label} keeps more beyond doubt, and is neither larger nor slower"
    return ""


def _beats(other: Trial, trial: Trial, microseconds: Mapping[str, float]) -> bool:
    return (
        other.interval[0] > trial.interval[1]
        and other.model.size_bytes <= trial.model.size_bytes
        and microseconds[other.label] <= microseconds[trial.label] * (1 + TIE)
    )


def _within(progress: Progress, number: int, candidates: int, label: str) -> Progress:
    """What a pipeline reports, as the note of the candidates' own progress."""

    def report(task: str, done: float, total: float, note: str = "") -> None:
        progress("candidates", number, candidates, f"{label}: {task} {done:.0f}/{total:.0f}")

    return report
