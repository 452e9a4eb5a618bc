"""What a decision costs in each variant: time always, energy and memory where they decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from compressrl.errors import CompressrlError
from compressrl.measuring import workloads
from compressrl.measuring.workloads import Loaded
from compressrl.progress import Progress
from compressrl.recommending import choice
from compressrl.recommending.arena import Arena
from compressrl.recommending.candidates import Trial
from compressrl.recommending.choice import Objective, Variant
from compressrl.records import Latency


def _measure(arena: Arena, loaded: Sequence[Loaded], quantity: str, progress: Progress) -> list[Any]:
    """The record of this quantity for each, measured interleaved on states that the original visits."""
    profilers = {n: p for n, p in workloads.create_profilers(()).items() if p.quantity == quantity}
    env_id = arena.base.env_id
    states = workloads.record_states(arena.original, env_id, arena.base.seed)
    measured = workloads.measure([each.workload(states, env_id) for each in loaded], profilers, progress)
    return [getattr(figures, quantity) for figures in measured]


def latencies(arena: Arena, trials: Sequence[Trial], progress: Progress) -> dict[tuple[str, str], Latency]:
    """By label and runtime."""
    loaded = [each for trial in trials for each in trial.loaded]
    records = _measure(arena, loaded, "latency", progress)
    return {(each.label, each.runtime): record for each, record in zip(loaded, records, strict=True)}


def fastest(times: Mapping[tuple[str, str], Latency]) -> dict[str, float]:
    """By label, the inference time (p50) in the fastest runtime."""
    found: dict[str, float] = {}
    for (label, _), latency in times.items():
        p50 = float("inf") if latency.p50_us is None else latency.p50_us
        found[label] = min(p50, found.get(label, p50))
    return found


def with_objective(
    arena: Arena, variants: Sequence[Variant], objective: Objective, min_retention: float, progress: Progress
) -> list[Variant]:
    """Energy and memory take seconds a variant: measured only if asked for, of what may be shipped.

    Raises CompressrlError where the objective has no figure at all.
    """
    measured = list(variants)
    if objective in ("energy", "memory"):
        asked = choice.qualified(variants, min_retention)
        if not asked:
            return measured
        records = _measure(arena, [variant.loaded for variant in asked], objective, progress)
        measured = [replace(v, **{objective: record}) for v, record in zip(asked, records, strict=True)]
    if all(variant.cost(objective) is None for variant in measured):
        reason = getattr(measured[0], objective).reason
        raise CompressrlError(f"There is no figure for --objective {objective}: {reason}.")
    new = {(variant.trial.label, variant.runtime): variant for variant in measured}
    return [new.get((variant.trial.label, variant.runtime), variant) for variant in variants]
