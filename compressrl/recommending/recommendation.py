"""Search pipelines and runtimes for the version of a policy to ship."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from compressrl import defaults, evaluation, files, plugins, sources
from compressrl.episodes import paired_rollout
from compressrl.errors import CompressrlError, UsageError
from compressrl.measuring import host
from compressrl.policy import Policy
from compressrl.progress import Progress, silent
from compressrl.recommending import candidates as trying
from compressrl.recommending import choice, costs, halving, shipping
from compressrl.recommending.archive import Archive
from compressrl.recommending.arena import Arena
from compressrl.recommending.candidates import Trial
from compressrl.recommending.choice import OBJECTIVES, Objective, Variant
from compressrl.recommending.halving import Judge
from compressrl.recommending.report import Recommendation, RecommendationRequest
from compressrl.records import EvaluationRequest, Retention

TRIALS = "candidates"  # folder of the archive


def recommend(
    algorithm: str = "",
    env_id: str = "",
    *,
    policy: str | Path = "",
    min_retention: float = defaults.MIN_RETENTION,
    objective: Objective = "latency",
    episodes: int = defaults.SEARCH_EPISODES,
    candidates: Sequence[str] = (),
    runtimes: Sequence[str] = (),
    seed: int = 0,
    workers: int | None = None,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Recommendation:
    """Compress a policy by several pipelines and say which result to ship, in which runtime.

    algorithm:     plugin that learnt the policy, e.g. "sac"
    env_id:        Gymnasium id; default: the policy file's own, else HalfCheetah-v5
    policy:        a policy file; default: the installed policy sources are searched
    min_retention: share of the return that must be kept: the lower end of the 95 % interval counts
    objective:     what decides among those that keep it: "latency", "size", "energy" or "memory"
    episodes:      at most, of a candidate; on the same seeds as the original's. As many again, on fresh
                   seeds, must confirm the one to ship
    candidates:    pipelines to try; default: those that the installed compressors declare
    runtimes:      plugins to try; default: every installed one
    workers:       processes that run the episodes; None: one for each core that this process may use
    out:           folder for the policy to ship, its C file, the report and a picture; the candidates in it
                   are not compressed and played again. None writes nothing
    Raises the errors of `compressrl.errors`; everything is checked before anything long starts.
    """
    _check(min_retention, objective, episodes, runtimes, workers)
    found, failed = trying.find(candidates)
    original = sources.existing_policy(algorithm, env_id, policy)
    folder = files.make_folder(Path(out)) if out is not None else None
    if folder is not None:
        shipping.check(folder, TRIALS, str(policy))
    request = RecommendationRequest(
        algorithm=algorithm or original.algorithm,
        env_id=env_id or original.env_id,
        policy=str(policy),
        min_retention=min_retention,
        objective=objective,
        episodes=episodes,
        seed=seed,
        candidates=tuple(candidates),
        runtimes=tuple(runtimes) or _installed_runtimes(),
        workers=paired_rollout.worker_count(workers, ()),
    )
    random_return = _random_return(request)
    arena = _arena(original, request, algorithm, random_return, folder)
    trials, raised = halving.explore(arena, found, progress)
    judge = _judge(request, random_return, trials[0])
    latencies = costs.latencies(arena, trials, progress)
    trials = halving.halve(arena, trials, judge, costs.fastest(latencies), progress)
    variants = [Variant(t, each, latencies[t.label, each.runtime]) for t in trials for each in t.loaded]
    variants = costs.with_objective(arena, variants, objective, min_retention, progress)
    chosen, confirmations = _choose(arena, judge, variants, objective, progress)
    report = Recommendation(
        request=request,
        trials=tuple(trials),
        variants=tuple(variants),
        set_aside=(*failed, *raised),
        front=tuple(choice.front(variants, objective)),
        confirmations=confirmations,
        chosen=chosen,
        host=host.describe(),
    )
    return report if folder is None else shipping.write(report, folder, progress)


def _check(
    min_retention: float, objective: str, episodes: int, runtimes: Sequence[str], workers: int | None
) -> None:
    if not 0 < min_retention <= 1:
        raise UsageError(f"--min-retention {min_retention}: a share above 0, and at most 1.")
    if objective not in OBJECTIVES:
        raise UsageError(f"--objective {objective} is not known; choose one of {', '.join(OBJECTIVES)}.")
    if episodes < 2:
        raise UsageError(f"--episodes {episodes}: at least two are needed for an interval.")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: at least one process is needed.")
    for runtime in runtimes:
        plugins.create("runtime", runtime)


def _installed_runtimes() -> tuple[str, ...]:
    names = [registered.entry.name for registered in plugins.registry().entries("runtime")]
    return tuple(sorted(names, key=lambda name: name != defaults.RUNTIME))


def _random_return(request: RecommendationRequest) -> float:
    seeds = evaluation.episode_seeds(request.seed, request.episodes)
    return evaluation.random_return(request.env_id, seeds[: evaluation.RANDOM_EPISODES])


def _arena(
    original: Policy,
    request: RecommendationRequest,
    algorithm: str,
    random_return: float,
    folder: Path | None,
) -> Arena:
    # What random actions earn tells an environment from another one of the same name, say its next version.
    environment = (request.env_id, f"{random_return:.6g}")
    made_from = (hashlib.sha256(original.to_bytes()).hexdigest(), environment, request.seed)
    identity = repr((*made_from, request.algorithm, request.runtimes))
    trials = files.make_folder(folder / TRIALS) if folder is not None else None
    base = EvaluationRequest(
        algorithm=algorithm,
        env_id=request.env_id,
        compressor="",
        runtime="",
        episodes=request.episodes,
        seed=request.seed,
        instrumentation="time",
        workers=request.workers,
    )
    return Arena(original, base, request.runtimes, Archive(trials, identity))


def _judge(request: RecommendationRequest, random_return: float, original: Trial) -> Judge:
    """Raises CompressrlError where the original earns nothing that could be kept."""
    judge = Judge(request.min_retention, random_return, request.seed)
    if judge.retention(original.returns, original.returns).value is None:
        raise CompressrlError("The policy does no better than random actions: there is nothing to retain.")
    return judge


def _choose(
    arena: Arena, judge: Judge, variants: Sequence[Variant], objective: Objective, progress: Progress
) -> tuple[Variant | None, dict[str, Retention]]:
    """The best that fresh episodes confirm, while a compressed one is left; and what these episodes said."""
    seeds, said = arena.fresh_seeds(), dict[str, Retention]()
    reference: tuple[float, ...] = ()
    left = choice.ranked(choice.qualified(variants, judge.min_retention), objective)
    while any(variant.trial.candidate.stages for variant in left):
        best = left[0]
        task = f"confirming {best.trial.label} in {best.runtime}"
        reference = (
            reference or arena.play([variants[0].trial.loaded[0]], seeds, progress, "fresh episodes")[0]
        )
        kept = judge.retention(reference, arena.play([best.loaded], seeds, progress, task)[0])
        said[best.trial.label] = kept
        if kept.ci95 is not None and kept.ci95[0] >= judge.min_retention:
            return best, said
        left = [variant for variant in left if variant.trial is not best.trial]
    return None, said
