"""One policy, float and compressed, in several runtimes: time, energy and memory side by side."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressrl import pipeline, plugins, sources
from compressrl.errors import CompressrlError, one_line
from compressrl.measuring import host, workloads
from compressrl.measuring.workloads import Loaded, Measured
from compressrl.networks import model_size
from compressrl.policy import Policy
from compressrl.progress import Progress, silent
from compressrl.records import SCHEMA, ModelSize, plain_json


@dataclass(frozen=True)
class ProfileRequest:
    """What is asked of a profile; the fields are those of `EvaluationRequest`.

    runtimes: plugins with options; all that are installed where none was named
    """

    algorithm: str
    env_id: str
    policy: str
    compressor: str
    runtimes: tuple[str, ...]
    seed: int
    profilers: tuple[str, ...]


@dataclass(frozen=True)
class ProfileRow:
    """One version of the policy ("baseline" or "compressed") in one runtime, measured."""

    version: str
    runtime: str
    measured: Measured

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "runtime": self.runtime,
            "latency_us": self.measured.latency.to_json(),
            "energy": asdict(self.measured.energy),
            "memory_bytes": self.measured.memory.to_json(),
        }


@dataclass(frozen=True)
class Skipped:
    """A version that a runtime cannot execute, and why."""

    version: str
    runtime: str
    reason: str


@dataclass(frozen=True)
class ProfileReport:
    """Rows were measured interleaved in one process (memory: each in fresh ones), so that they compare.

    models: by version, what the weights occupy
    rows:   every version in every runtime that can execute it, the baseline's first
    """

    request: ProfileRequest
    models: Mapping[str, ModelSize]
    rows: tuple[ProfileRow, ...]
    skipped: tuple[Skipped, ...]
    host: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The object that `compressrl profile --json` prints; plain JSON types only, no NaN."""
        document: dict[str, Any] = plain_json(
            {
                "schema": SCHEMA,
                "request": asdict(self.request),
                "models": {version: asdict(size) for version, size in self.models.items()},
                "rows": [row.to_json() for row in self.rows],
                "skipped": [asdict(skipped) for skipped in self.skipped],
                "host": dict(self.host),
            }
        )
        return document


def profile(
    algorithm: str = "",
    compressor: str = "",
    env_id: str = "",
    *,
    policy: str | Path = "",
    runtimes: Sequence[str] = (),
    seed: int = 0,
    profilers: Sequence[str] = (),
    progress: Progress = silent,
) -> ProfileReport:
    """Measure inference time, energy and memory of a policy in several runtimes, without rolling it out.

    algorithm:  plugin that learnt the policy, e.g. "sac"
    compressor: pipeline whose result is measured beside the policy, e.g. "qat"; "" measures the policy alone
    env_id:     Gymnasium id; default: the policy file's own, else HalfCheetah-v5
    policy:     a policy file; default: the installed policy sources are searched
    runtimes:   plugins with options; default: every installed one that can load the policy
    seed:       of the states that are recorded and of the compressor
    profilers:  options of installed profilers, e.g. ["memory:repeats=10"]; all of them measure
    Raises the errors of `compressrl.errors`; everything is checked before anything long starts.
    """
    stages = pipeline.parse(compressor) if compressor else []
    for runtime in runtimes:
        plugins.create("runtime", runtime)
    made = workloads.create_profilers(profilers)
    baseline = sources.existing_policy(algorithm, env_id, policy)
    request = ProfileRequest(
        algorithm=algorithm or baseline.algorithm,
        env_id=env_id or baseline.env_id,
        policy=str(policy),
        compressor=compressor,
        runtimes=tuple(runtimes or [r.entry.name for r in plugins.registry().entries("runtime")]),
        seed=seed,
        profilers=tuple(profilers),
    )
    lab = pipeline.lab_for(baseline, request.env_id, algorithm, seed, progress)
    versions = {"baseline": baseline}
    if stages:
        versions["compressed"] = pipeline.run(stages, baseline, lab)
    loaded, skipped = load_all(versions, request.runtimes)
    states = workloads.record_states(loaded[0].function, request.env_id, seed)
    measured = workloads.measure([each.workload(states, request.env_id) for each in loaded], made, progress)
    return ProfileReport(
        request=request,
        models={version: model_size.measure(policy) for version, policy in versions.items()},
        rows=tuple(
            ProfileRow(each.label, each.runtime, figures)
            for each, figures in zip(loaded, measured, strict=True)
        ),
        skipped=tuple(skipped),
        host=host.describe(),
    )


def load_all(versions: Mapping[str, Policy], runtimes: Sequence[str]) -> tuple[list[Loaded], list[Skipped]]:
    """Every version in every runtime, and what could not be loaded. Raises CompressrlError if none could."""
    loaded: list[Loaded] = []
    skipped: list[Skipped] = []
    for version, policy in versions.items():
        for runtime in runtimes:
            try:
                loaded.append(workloads.load(version, policy, runtime))
            except CompressrlError as error:
                skipped.append(Skipped(version, runtime, str(error)))
            except Exception as error:  # a runtime is anybody's code
                skipped.append(Skipped(version, runtime, one_line(error)))
                logging.getLogger("compressrl").debug("%s cannot be loaded", runtime, exc_info=error)
    if not loaded:
        reasons = "; ".join(f"{s.runtime}: {s.reason}" for s in skipped)
        raise CompressrlError(f"No runtime can load this policy. {reasons}")
    return loaded, skipped
