"""The episodes of baseline and compressed policy: same seeds, same environment, all cores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import fmean

from compressrl import environments, plugins, rollout
from compressrl.episodes import episode_pool
from compressrl.episodes.episode_worker import Equipment, Stage
from compressrl.errors import one_line
from compressrl.instrument import InstrumentedEnv
from compressrl.interfaces import Float32Array, Profiler, WorkloadProfiler
from compressrl.measuring.workloads import Loaded
from compressrl.progress import Progress
from compressrl.records import EpisodeRecords, EvaluationRequest, Reading
from compressrl.rollout import Episode


@dataclass(frozen=True)
class RolledOut:
    """By side: its episodes, and what plain profilers counted meanwhile. For both: the wrapper's own cost."""

    episodes: list[EpisodeRecords]
    readings: list[tuple[Reading, ...]]
    overhead_ns_per_step: float


def worker_count(wanted: int | None, profilers: Iterable[Profiler]) -> int:
    """Processes that run episodes; 1 where a profiler's reading must cover the episodes of one side only."""
    if any(not isinstance(profiler, WorkloadProfiler) for profiler in profilers):
        return 1
    return wanted or episode_pool.available_cores()


def run(
    request: EvaluationRequest,
    loaded: Sequence[Loaded],
    seeds: Sequence[int],
    profilers: dict[str, Profiler],
    progress: Progress,
) -> RolledOut:
    """Both sides share the workers; with plain profilers, whose readings are of one side, each runs alone."""
    plain = {name: p for name, p in profilers.items() if not isinstance(p, WorkloadProfiler)}
    read = _step_profilers(request, profilers.values())
    episodes: list[EpisodeRecords] = []
    readings: list[tuple[Reading, ...]] = []
    with closing(InstrumentedEnv(environments.make(request.env_id), read, request.instrumentation)) as env:
        for sides in [[side] for side in loaded] if plain else [list(loaded)]:
            before = {name: _read(p)[0] for name, p in plain.items()}
            episodes += _play(_equipment(request, sides, seeds, read), env, sides, request.workers, progress)
            counted = tuple(_reading(name, profiler, before[name]) for name, profiler in plain.items())
            readings += [counted for _ in sides]
        return RolledOut(episodes, readings, env.overhead_ns_per_step)


def _step_profilers(request: EvaluationRequest, profilers: Iterable[Profiler]) -> list[Profiler]:
    """What the wrapper reads. A counter may be the whole machine's: parallel episodes cannot share it out."""
    alone = request.workers == 1
    return [p for p in profilers if alone or not getattr(p, "cumulative", True)]


def _equipment(
    request: EvaluationRequest, sides: Sequence[Loaded], seeds: Sequence[int], profilers: Sequence[Profiler]
) -> Equipment:
    return Equipment(
        env_id=request.env_id,
        spec=environments.registration(request.env_id),
        runtime=plugins.create("runtime", request.runtime),
        policies=[replace(side.shipped) for side in sides],  # a fresh one holds no loaded graph
        profilers=profilers,
        level=request.instrumentation,
        seeds=seeds,
    )


def _play(
    equipment: Equipment,
    env: InstrumentedEnv[Float32Array, Float32Array],
    sides: Sequence[Loaded],
    workers: int,
    progress: Progress,
) -> list[EpisodeRecords]:
    """Run the episodes of these sides, with progress for each that is finished."""
    seeds, count = equipment.seeds, len(equipment.seeds)
    returns: list[list[float]] = [[] for _ in sides]

    def show(number: int, episode: Episode) -> None:
        side = number // count
        returns[side].append(episode.total)
        note = f"return {fmean(returns[side]):.0f}"
        progress(f"{sides[side].label}: {count} episodes", len(returns[side]), count, note)

    stage = Stage(env, [side.function for side in sides], seeds)
    episodes = episode_pool.play_all(stage, equipment, workers, show)
    return [rollout.collect(seeds, episodes[n : n + count]) for n in range(0, len(episodes), count)]


def _reading(name: str, profiler: Profiler, before: float | None) -> Reading:
    available, reason = profiler.available()
    now, failure = _read(profiler) if available else (None, reason)
    value = now
    if getattr(profiler, "cumulative", True):
        value = None if now is None or before is None else now - before
    return Reading(name, profiler.quantity, profiler.unit, value, failure)


def _read(profiler: Profiler) -> tuple[float | None, str]:
    """A reading, or None and why: a profiler that fails takes no episode with it."""
    try:
        return profiler.read(), ""
    except Exception as error:
        return None, one_line(error)
