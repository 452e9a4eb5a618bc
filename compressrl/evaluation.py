"""Baseline and compressed, on the same episode seeds, in one report."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from compressrl import (
    defaults,
    environments,
    files,
    pipeline,
    plugins,
    rollout,
    runs,
    sources,
    statistics,
)
from compressrl.episodes import episodes_table, paired_rollout
from compressrl.errors import UsageError
from compressrl.instrument import InstrumentedEnv
from compressrl.interfaces import Profiler
from compressrl.measuring import control_step, host, workloads
from compressrl.measuring.workloads import Loaded, Measured
from compressrl.networks import model_size
from compressrl.policy import Policy
from compressrl.progress import Progress, silent
from compressrl.records import ControlStep, EpisodeRecords, EvaluationReport, EvaluationRequest, Reading, Side

REPORT = "report.json"
BASELINE_POLICY = "baseline.policy"
COMPRESSED_POLICY = "compressed.policy"
RANDOM_EPISODES = 5


def evaluate(
    algorithm: str = "",
    compressor: str = "",
    env_id: str = "",
    *,
    policy: str | Path | Policy = "",
    runtime: str = defaults.RUNTIME,
    episodes: int = defaults.EPISODES,
    seed: int = 0,
    margin: float = 0.05,
    instrumentation: Literal["full", "light", "time"] = "full",
    profilers: Sequence[str] = (),
    workers: int | None = None,
    train_steps: int = defaults.TRAINING_STEPS,
    out: str | Path | None = None,
    episodes_file: str | Path | None = None,
    progress: Progress = silent,
) -> EvaluationReport:
    """Compress a trained policy and measure both versions side by side.

    algorithm:   plugin that learnt the policy, e.g. "sac"
    compressor:  pipeline, e.g. "qat" or "l2:ratio=0.5+ptsq"; "" sets the policy against itself: what then
                 differs is noise
    env_id:      Gymnasium id; default: the policy file's own, else HalfCheetah-v5
    policy:      a Policy or its file; default: the installed policy sources are searched, and where none has
                 this algorithm and environment, it is trained for `train_steps` environment steps
    runtime:     plugin that executes both policies
    episodes:    evaluation episodes a side; their seeds derive from `seed` and are the same for both
    margin:      share of the return that may be lost, for the non-inferiority verdict
    profilers:   options of installed profilers, e.g. ["energy:watts_per_core=6"]; all of them measure
    workers:     processes that run the episodes; None: one for each core that this process may use. The
                 returns do not depend on it
    instrumentation: level of the instrumented environment (`compressrl.instrument`)
    out:         folder for report.json and both policies; None writes nothing
    episodes_file: a .parquet or .csv file for the episodes of both sides
    Raises the errors of `compressrl.errors`; everything is checked before anything long starts.
    """
    if episodes < 1:
        raise UsageError(f"--episodes {episodes}: at least one episode is needed.")
    if episodes_file is not None:
        episodes_table.check(Path(episodes_file))
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: at least one process is needed.")
    stages = pipeline.parse(compressor) if compressor else []
    runtime = workloads.resolved(runtime)
    _refuse_runtime(runtime, stages)
    made = workloads.create_profilers(profilers)
    folder = files.make_folder(Path(out)) if out is not None else None
    if folder is not None:
        files.refuse_to_replace(policy, folder / COMPRESSED_POLICY)
    baseline = policy if isinstance(policy, Policy) else sources.find_policy(algorithm, env_id, policy)
    baseline = baseline or _train(algorithm, env_id, train_steps, seed, progress)
    request = EvaluationRequest(
        algorithm=algorithm or baseline.algorithm,
        env_id=env_id or baseline.env_id,
        compressor=compressor,
        runtime=runtime,
        episodes=episodes,
        seed=seed,
        policy="" if isinstance(policy, Policy) else str(policy),
        margin=margin,
        instrumentation=instrumentation,
        profilers=tuple(profilers),
        workers=paired_rollout.worker_count(workers, made.values()),
    )
    lab = pipeline.lab_for(baseline, request.env_id, algorithm, seed, progress)
    loaded = [workloads.load("baseline", baseline, runtime)]
    if folder is not None:
        baseline.save(folder / BASELINE_POLICY)
    started = time.monotonic()
    compressed = pipeline.run(stages, baseline, lab)
    spent = {"environment_steps": float(lab.environment_steps_used), "seconds": time.monotonic() - started}
    if folder is not None:
        compressed.save(folder / COMPRESSED_POLICY)
    loaded.append(workloads.load("compressed", compressed, runtime))
    report = _measure(request, loaded, made, spent, progress)
    if folder is not None:
        files.write_json_atomic(folder / REPORT, report.to_json())
    if episodes_file is not None:
        episodes_table.write(Path(episodes_file), report)
    for warning in plugins.registry().evaluation_finished(report):
        logging.getLogger("compressrl").warning("warning: %s", warning)
    return report


def episode_seeds(seed: int, episodes: int) -> list[int]:
    """The reset seeds of an evaluation; the first n are the same for every number of episodes >= n."""
    return [int(s) for s in np.random.default_rng([seed, 0xE9]).integers(2**31, size=episodes)]


def _refuse_runtime(runtime: str, stages: Sequence[pipeline.Stage]) -> None:
    """Raise UsageError where what the last stage gives is known, and the runtime takes another form."""
    takes = getattr(plugins.create("runtime", runtime), "takes", None)
    gives = getattr(stages[-1].compressor, "gives", None) if stages else None
    if takes is not None and gives is not None and gives not in takes:
        raise UsageError(
            f"The runtime {runtime} takes policies in {' or '.join(takes)} form, and {stages[-1].text!r} "
            f"gives one in {gives} form. Use --runtime {defaults.RUNTIME}."
        )


def _train(algorithm: str, env_id: str, steps: int, seed: int, progress: Progress) -> Policy:
    env_id = env_id or defaults.ENVIRONMENT
    return runs.train(algorithm, env_id, steps=steps, seed=seed, progress=progress).policy


def _measure(
    request: EvaluationRequest,
    loaded: Sequence[Loaded],
    profilers: dict[str, Profiler],
    spent: dict[str, float],
    progress: Progress,
) -> EvaluationReport:
    seeds = episode_seeds(request.seed, request.episodes)
    done = paired_rollout.run(request, loaded, seeds, profilers, progress)
    base, comp = done.episodes
    random = random_return(request.env_id, seeds[:RANDOM_EPISODES])
    steps = _control_steps(request, loaded, profilers)
    states = workloads.record_states(loaded[0].function, request.env_id, request.seed)
    measured = workloads.measure(
        [side.workload(states, request.env_id) for side in loaded], profilers, progress
    )
    sides = [
        _side(request, side, episodes, readings, figures, step)
        for side, episodes, readings, figures, step in zip(
            loaded, done.episodes, done.readings, measured, steps, strict=True
        )
    ]
    return EvaluationReport(
        request=request,
        baseline=sides[0],
        compressed=sides[1],
        retention=statistics.retention(
            base.returns, comp.returns, random_return=random, margin=request.margin, seed=request.seed
        ),
        overhead_ns_per_step=done.overhead_ns_per_step,
        spent=spent,
        host=host.describe(),
    )


def _control_steps(
    request: EvaluationRequest, loaded: Sequence[Loaded], profilers: dict[str, Profiler]
) -> list[ControlStep]:
    def instrumented() -> control_step.Env:
        env = environments.make(request.env_id)
        return InstrumentedEnv(env, list(profilers.values()), level=request.instrumentation)

    return control_step.measure([(side.function, instrumented()) for side in loaded], request.seed)


def _side(
    request: EvaluationRequest,
    side: Loaded,
    episodes: EpisodeRecords,
    readings: tuple[Reading, ...],
    measured: Measured,
    step: ControlStep,
) -> Side:
    return Side(
        policy_provenance=side.policy.provenance,
        runtime=request.runtime,
        episodes=episodes,
        iqm_return=statistics.iqm(episodes.returns),
        iqm_ci95=statistics.iqm_interval(episodes.returns, seed=request.seed),
        model=model_size.measure(side.policy),
        latency=measured.latency,
        energy=measured.energy,
        memory=measured.memory,
        readings=readings,
        control_step=step,
    )


def random_return(env_id: str, seeds: Sequence[int]) -> float:
    """Mean return of uniformly random actions: the zero of `Retention.above_random`."""
    env = environments.make(env_id, seed=seeds[0])
    space = env.action_space
    return rollout.run_episodes(lambda _: space.sample(), lambda: env, seeds).mean_return
