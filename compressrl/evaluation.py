"""Baseline and compressed, on the same episode seeds, in one report."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compressrl import (
    defaults,
    environments,
    files,
    host,
    model_size,
    options,
    pipeline,
    plugins,
    rollout,
    runs,
    statistics,
)
from compressrl.errors import CompressrlError, PluginConflictError, UsageError, one_line
from compressrl.instrument import InstrumentedEnv
from compressrl.interfaces import (
    Float32Array,
    PolicyFunction,
    PreparingRuntime,
    Profiler,
    Runtime,
    Workload,
    WorkloadProfiler,
)
from compressrl.policy import Policy
from compressrl.progress import Progress, silent
from compressrl.records import (
    Energy,
    EpisodeRecords,
    EvaluationReport,
    EvaluationRequest,
    Latency,
    Memory,
    Reading,
    Side,
)

REPORT = "report.json"
BASELINE_POLICY = "baseline.policy"
COMPRESSED_POLICY = "compressed.policy"
PROFILED_STATES = 1000
RANDOM_EPISODES = 5


@dataclass(frozen=True)
class _Loaded:
    """A policy in a runtime: what is rolled out and profiled."""

    label: str
    policy: Policy
    shipped: Policy
    function: PolicyFunction


def evaluate(
    algorithm: str = "",
    compressor: str = "",
    env_id: str = "",
    *,
    policy: str | Path = "",
    runtime: str = defaults.RUNTIME,
    episodes: int = defaults.EPISODES,
    seed: int = 0,
    margin: float = 0.05,
    instrumentation: Literal["full", "light", "time"] = "full",
    profilers: Sequence[str] = (),
    train_steps: int = defaults.TRAINING_STEPS,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> EvaluationReport:
    """Compress a trained policy and measure both versions side by side.

    algorithm:   plugin that learnt the policy, e.g. "sac"
    compressor:  pipeline, e.g. "qat" or "l2:ratio=0.5+ptsq"
    env_id:      Gymnasium id; default: the policy file's own, else HalfCheetah-v5
    policy:      a policy file; default: the installed policy sources are searched, and where none has
                 this algorithm and environment, it is trained for `train_steps` environment steps
    runtime:     plugin that executes both policies
    episodes:    evaluation episodes a side; their seeds derive from `seed` and are the same for both
    margin:      share of the return that may be lost, for the non-inferiority verdict
    profilers:   options of installed profilers, e.g. ["energy:watts_per_core=6"]; all of them measure
    out:         folder for report.json and both policies; None writes nothing
    Raises the errors of `compressrl.errors`; everything is checked before anything long starts.
    """
    if episodes < 1:
        raise UsageError(f"--episodes {episodes}: at least one episode is needed.")
    stages = pipeline.parse(compressor)
    engine: Runtime = plugins.create("runtime", runtime)
    made = _profilers(profilers)
    folder = files.make_folder(Path(out)) if out is not None else None
    baseline = _find_policy(algorithm, env_id, str(policy), train_steps, seed, progress)
    request = EvaluationRequest(
        algorithm=algorithm or baseline.algorithm,
        env_id=env_id or baseline.env_id,
        compressor=compressor,
        runtime=runtime,
        episodes=episodes,
        seed=seed,
        policy=str(policy),
        margin=margin,
        instrumentation=instrumentation,
        profilers=tuple(profilers),
    )
    lab = pipeline.lab_for(baseline, request.env_id, algorithm, seed, progress)
    if folder is not None:
        baseline.save(folder / BASELINE_POLICY)
    started = time.monotonic()
    compressed = pipeline.run(stages, baseline, lab)
    spent = {"environment_steps": float(lab.environment_steps_used), "seconds": time.monotonic() - started}
    if folder is not None:
        compressed.save(folder / COMPRESSED_POLICY)
    loaded = [_load("baseline", baseline, engine), _load("compressed", compressed, engine)]
    report = _measure(request, loaded, made, spent, progress)
    if folder is not None:
        files.write_json_atomic(folder / REPORT, report.to_json())
    for warning in plugins.registry().evaluation_finished(report):
        logging.getLogger("compressrl").warning("warning: %s", warning)
    return report


def episode_seeds(seed: int, episodes: int) -> list[int]:
    """The reset seeds of an evaluation; the first n are the same for every number of episodes >= n."""
    return [int(s) for s in np.random.default_rng([seed, 0xE9]).integers(2**31, size=episodes)]


def _profilers(configured: Sequence[str]) -> dict[str, Profiler]:
    """Every installed profiler by name; one that cannot be made is warned of and set aside.

    Raises UnknownNameError and OptionError for one of `configured`, and PluginConflictError where two bring
    a measurement of the same quantity: one report holds one.
    """
    made: dict[str, Profiler] = {}
    for text in configured:
        made[plugins.parse(text)[0]] = plugins.create("profiler", text)
    measured: dict[str, plugins.Registered] = {}
    for registered in plugins.registry().entries("profiler"):
        name = registered.entry.name
        try:
            profiler = made.get(name) or plugins.create("profiler", name)
        except CompressrlError as error:
            logging.getLogger("compressrl").warning("warning: %s", error)
            continue
        made[name] = profiler
        if not isinstance(profiler, WorkloadProfiler):
            continue
        other = measured.setdefault(profiler.quantity, registered)
        if other is not registered:
            raise PluginConflictError(
                f"Two profilers measure {profiler.quantity}: {other.entry.name!r} of {other.owner} and "
                f"{registered.entry.name!r} of {registered.owner}. Block one with {plugins.BLOCK_VARIABLE}."
            )
    return made


def _find_policy(
    algorithm: str, env_id: str, path: str, train_steps: int, seed: int, progress: Progress
) -> Policy:
    if path:
        policy = Policy.load(path)
        if algorithm:
            plugins.registry().get("algorithm", plugins.parse(algorithm)[0])
        return policy
    if not algorithm:
        raise UsageError("Say which policy: an algorithm (--algo sac) or a policy file (--policy PATH).")
    env_id = env_id or defaults.ENVIRONMENT
    plugins.create("algorithm", algorithm)
    name, chosen_options = plugins.parse(algorithm)
    environments.make(env_id).close()
    for source in plugins.registry().entries("policies"):
        found = None if chosen_options else plugins.create("policies", source.entry.name).find(name, env_id)
        if found is not None:
            return Policy.load(found)
    return runs.train(algorithm, env_id, steps=train_steps, seed=seed, progress=progress).policy


def _load(label: str, policy: Policy, runtime: Runtime) -> _Loaded:
    shipped = runtime.prepare(policy) if isinstance(runtime, PreparingRuntime) else policy
    return _Loaded(label, policy, shipped, runtime.load(shipped))


def _measure(
    request: EvaluationRequest,
    loaded: Sequence[_Loaded],
    profilers: dict[str, Profiler],
    spent: dict[str, float],
    progress: Progress,
) -> EvaluationReport:
    seeds = episode_seeds(request.seed, request.episodes)
    rollouts = [_roll_out(request, side, seeds, profilers, progress) for side in loaded]
    base, comp = (episodes for episodes, _, _ in rollouts)
    random_return = _random_return(request.env_id, seeds[:RANDOM_EPISODES])
    sections, failed = _profile(request, loaded, profilers, progress)
    sides = [
        _side(
            request,
            side,
            episodes,
            readings,
            {quantity: records[i] for quantity, records in sections.items()},
            failed,
        )
        for i, (side, (episodes, readings, _)) in enumerate(zip(loaded, rollouts, strict=True))
    ]
    return EvaluationReport(
        request=request,
        baseline=sides[0],
        compressed=sides[1],
        retention=statistics.retention(
            base.returns, comp.returns, random_return=random_return, margin=request.margin, seed=request.seed
        ),
        overhead_ns_per_step=float(np.mean([overhead for _, _, overhead in rollouts])),
        spent=spent,
        host=host.describe(),
    )


def _roll_out(
    request: EvaluationRequest,
    side: _Loaded,
    seeds: Sequence[int],
    profilers: dict[str, Profiler],
    progress: Progress,
) -> tuple[EpisodeRecords, tuple[Reading, ...], float]:
    """Episodes, what plain profilers counted meanwhile, and the wrapper's own cost in ns per step."""
    env = InstrumentedEnv(
        environments.make(request.env_id), list(profilers.values()), level=request.instrumentation
    )
    before = {name: p.read() for name, p in profilers.items()}
    task = f"{side.label}: {len(seeds)} episodes"
    records = rollout.run_episodes(
        side.function,
        lambda: env,
        seeds,
        lambda done, mean: progress(task, done, len(seeds), f"return {mean:.0f}"),
    )
    readings = tuple(
        _reading(name, profiler, before[name])
        for name, profiler in profilers.items()
        if not isinstance(profiler, WorkloadProfiler)
    )
    return records, readings, env.overhead_ns_per_step


def _reading(name: str, profiler: Profiler, before: float | None) -> Reading:
    available, reason = profiler.available()
    now = profiler.read() if available else None
    value = now
    if getattr(profiler, "cumulative", True):
        value = None if now is None or before is None else now - before
    return Reading(name, profiler.quantity, profiler.unit, value, "" if available else reason)


def _profile(
    request: EvaluationRequest, loaded: Sequence[_Loaded], profilers: dict[str, Profiler], progress: Progress
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """By quantity: records of every profiler with a measurement of its own, one a side; why others failed."""
    runtime_name, _ = plugins.parse(request.runtime)
    registered = plugins.registry().get("runtime", runtime_name)
    engine = plugins.create("runtime", request.runtime)
    states = _recorded_states(request, loaded[0])
    workloads = [
        Workload(
            label=side.label,
            policy=side.shipped,
            runtime_name=runtime_name,
            runtime_target=registered.entry.target,
            runtime_options=options.as_dict(engine),
            function=side.function,
            observations=states,
        )
        for side in loaded
    ]
    able = {name: p for name, p in profilers.items() if isinstance(p, WorkloadProfiler)}
    sections: dict[str, list[Any]] = {}
    failed: dict[str, str] = {}
    for number, (name, profiler) in enumerate(able.items()):
        progress("profiling", number, len(able), name)
        try:
            sections[profiler.quantity] = _measured(profiler, workloads)
        except (Exception, SystemExit) as error:  # both policies and their returns are worth more
            failed[profiler.quantity] = f"the profiler {name!r} failed: {one_line(error)}"
            logging.getLogger("compressrl").warning("warning: %s", failed[profiler.quantity])
    progress("profiling", len(able), len(able))
    return sections, failed


def _measured(profiler: WorkloadProfiler, workloads: Sequence[Workload]) -> list[Any]:
    records = list(profiler.measure(workloads))
    if len(records) != len(workloads):
        raise ValueError(f"{len(records)} records for {len(workloads)} workloads")
    return records


def _recorded_states(request: EvaluationRequest, side: _Loaded) -> Float32Array:
    return rollout.visited_states(
        side.function,
        lambda: environments.make(request.env_id),
        PROFILED_STATES,
        np.random.default_rng(request.seed),
    )


def _side(
    request: EvaluationRequest,
    side: _Loaded,
    episodes: EpisodeRecords,
    readings: tuple[Reading, ...],
    sections: Mapping[str, Any],
    failed: Mapping[str, str],
) -> Side:
    def absent(quantity: str) -> str:
        return failed.get(quantity, "no profiler for this quantity is installed")

    return Side(
        policy_provenance=side.policy.provenance,
        runtime=request.runtime,
        episodes=episodes,
        iqm_return=statistics.iqm(episodes.returns),
        model=model_size.measure(side.policy),
        latency=sections.get("latency", Latency(reason=absent("latency"))),
        energy=sections.get("energy", Energy(None, None, "unavailable", "", reason=absent("energy"))),
        memory=sections.get("memory", Memory(None, None, None, None, reason=absent("memory"))),
        readings=readings,
    )


def _random_return(env_id: str, seeds: Sequence[int]) -> float:
    """Mean return of uniformly random actions: the zero of `Retention.above_random`."""
    env = environments.make(env_id, seed=seeds[0])
    space = env.action_space
    return rollout.run_episodes(lambda _: space.sample(), lambda: env, seeds).mean_return
