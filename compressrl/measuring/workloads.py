"""Policies in runtimes, ready to run, and the measurements that profilers take of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compressrl import environments, options, plugins, rollout
from compressrl.errors import CompressrlError, PluginConflictError, UsageError, one_line
from compressrl.interfaces import (
    Float32Array,
    PolicyFunction,
    PreparingRuntime,
    Profiler,
    ReplaceableRuntime,
    Runtime,
    Workload,
    WorkloadProfiler,
)
from compressrl.policy import Policy
from compressrl.progress import Progress
from compressrl.records import Energy, Latency, Memory

RECORDED_STATES = 1000
RECORDS: Mapping[str, type[Any]] = {"latency": Latency, "energy": Energy, "memory": Memory}  # by quantity


@dataclass(frozen=True)
class Loaded:
    """A policy in a runtime: what is rolled out and profiled.

    label:   "baseline" or "compressed"
    shipped: the policy in the form that the runtime ships
    runtime: as the user wrote it, with options
    """

    label: str
    policy: Policy
    shipped: Policy
    runtime: str
    function: PolicyFunction

    def workload(self, observations: Float32Array, env_id: str) -> Workload:
        """What profilers are given; observations (N, observation_size) of that environment."""
        name, _ = plugins.parse(self.runtime)
        return Workload(
            label=self.label,
            policy=self.shipped,
            runtime_name=name,
            runtime_target=plugins.registry().get("runtime", name).entry.target,
            runtime_options=options.as_dict(plugins.create("runtime", self.runtime)),
            function=self.function,
            observations=observations,
            env_id=env_id,
        )


@dataclass(frozen=True)
class Measured:
    """What the profilers say of one workload; a record without figures says why in its `reason`."""

    latency: Latency
    energy: Energy
    memory: Memory


def resolved(runtime: str) -> str:
    """The runtime, or where this machine lacks it the one in its place, with a warning."""
    engine = plugins.create("runtime", runtime)
    if not isinstance(engine, ReplaceableRuntime) or not (reason := missing(engine)):
        return runtime
    logging.getLogger("compressrl").warning(
        "warning: the runtime %s cannot be used here, %s takes its place: %s",
        runtime,
        engine.fallback,
        reason,
    )
    return engine.fallback


def missing(engine: Runtime) -> str:
    """What this machine lacks for the runtime, "" where it has it."""
    usable, reason = engine.available() if isinstance(engine, ReplaceableRuntime) else (True, "")
    return "" if usable else reason


def load(label: str, policy: Policy, runtime: str) -> Loaded:
    """Load a policy in a runtime, given as `name:key=value`. Raises UsageError where it cannot execute it."""
    engine: Runtime = plugins.create("runtime", runtime)
    if reason := missing(engine):
        raise UsageError(reason)
    shipped = engine.prepare(policy) if isinstance(engine, PreparingRuntime) else policy
    return Loaded(label, policy, shipped, runtime, engine.load(shipped))


def record_states(act: PolicyFunction, env_id: str, seed: int) -> Float32Array:
    """Observations (RECORDED_STATES, observation_size) that this policy acts on: what is profiled on."""
    return rollout.visited_states(
        act, lambda: environments.make(env_id), RECORDED_STATES, np.random.default_rng(seed)
    )


def create_profilers(configured: Sequence[str]) -> dict[str, Profiler]:
    """Every installed profiler by name; one that cannot be made, or read, is warned of and set aside.

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
            try_out(profiler, registered)
        except CompressrlError as error:
            logging.getLogger("compressrl").warning("warning: %s", error)
            made.pop(name, None)
            continue
        made[name] = profiler
        if not isinstance(profiler, WorkloadProfiler):
            continue
        other = measured.setdefault(profiler.quantity, registered)
        if other is not registered:
            one, two = (
                f"{plugins.BLOCK_VARIABLE}=profiler:{each.entry.name}" for each in (other, registered)
            )
            raise PluginConflictError(
                f"Two profilers measure {profiler.quantity}: {other.entry.name!r} of {other.owner} and "
                f"{registered.entry.name!r} of {registered.owner}. Block one: {one} or {two}."
            )
    return made


def try_out(profiler: Profiler, registered: plugins.Registered) -> None:
    """Raise CompressrlError, naming the owner, where the profiler could not take part in an evaluation."""
    try:
        if not isinstance(profiler.quantity, str) or not isinstance(profiler.unit, str):
            raise TypeError("its quantity and unit are not texts")
        profiler.available()
        profiler.read()
        if isinstance(profiler, WorkloadProfiler) and profiler.quantity not in RECORDS:
            raise TypeError(f"measure() is for {', '.join(RECORDS)}; without it, read() is counted")
    except (Exception, SystemExit) as error:
        raise CompressrlError(
            f"The profiler {registered.entry.name!r} of {registered.owner} is left out: {one_line(error)}."
        ) from error


def measure(
    workloads: Sequence[Workload], profilers: Mapping[str, Profiler], progress: Progress
) -> list[Measured]:
    """Let every profiler with a measurement of its own measure all workloads together, interleaved.

    A profiler that fails is warned of, and its quantity has no figure for any workload.
    """
    able = {name: p for name, p in profilers.items() if isinstance(p, WorkloadProfiler)}
    records: dict[str, list[Any]] = {}
    failed: dict[str, str] = {}
    for number, (name, profiler) in enumerate(able.items()):
        progress("profiling", number, len(able), name)
        try:
            records[profiler.quantity] = _one_each(profiler, workloads)
        except (Exception, SystemExit) as error:  # what else was measured is worth more
            failed[profiler.quantity] = f"the profiler {name!r} failed: {one_line(error)}"
            logging.getLogger("compressrl").warning("warning: %s", failed[profiler.quantity])
    progress("profiling", len(able), len(able))
    return [
        _measured({quantity: row[index] for quantity, row in records.items()}, failed)
        for index in range(len(workloads))
    ]


def _one_each(profiler: WorkloadProfiler, workloads: Sequence[Workload]) -> list[Any]:
    records = list(profiler.measure(workloads))
    if len(records) != len(workloads):
        raise ValueError(f"{len(records)} records for {len(workloads)} workloads")
    wanted = RECORDS[profiler.quantity]
    for record in records:
        if not isinstance(record, wanted):
            raise TypeError(
                f"its records are {type(record).__name__}, not compressrl.records.{wanted.__name__}"
            )
    return records


def _measured(records: Mapping[str, Any], failed: Mapping[str, str]) -> Measured:
    def absent(quantity: str) -> str:
        return failed.get(quantity, "no profiler for this quantity is installed")

    return Measured(
        latency=records.get("latency", Latency(reason=absent("latency"))),
        energy=records.get("energy", Energy(None, None, "unavailable", "", reason=absent("energy"))),
        memory=records.get("memory", Memory(None, None, None, None, reason=absent("memory"))),
    )
