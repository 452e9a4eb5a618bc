"""What is measured, as frozen records: the unit is in every field's name or docstring.

`EvaluationReport.to_json` is the stable output of `compressrl evaluate --json` (schema 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean, pstdev
from typing import Any, Literal

from compressrl.measuring.step_costs import EpisodeCost

EnergyKind = Literal["measured", "attributed", "estimated", "simulated", "unavailable"]
SCHEMA = 1


@dataclass(frozen=True)
class EpisodeRecords:
    """N evaluation episodes of one policy.

    seeds:          reset seed of each episode
    returns:        undiscounted sum of rewards
    lengths:        environment steps
    action_changes: mean absolute action change per step, in the environment's action units (smoothness)
    costs:          what each episode cost, where it ran in an instrumented environment, else ()
    """

    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    action_changes: tuple[float, ...]
    # Not compared: the same episodes cost no two times alike.
    costs: tuple[EpisodeCost, ...] = field(default=(), compare=False)

    @property
    def mean_return(self) -> float:
        return fmean(self.returns)

    @property
    def std_return(self) -> float:
        """Population standard deviation over episodes; NaN where a return is not a finite number."""
        # pstdev itself raises AttributeError there (seen with Python 3.11).
        return pstdev(self.returns) if all(map(math.isfinite, self.returns)) else math.nan


@dataclass(frozen=True)
class ModelSize:
    """What the weights occupy.

    parameters:       weights and biases, counted
    size_bytes:       their packed size, with scales (int8 = 1 byte, 4 bit = half a byte a weight)
    sparse_bytes:     the same with each matrix in its smallest encoding: a bitmap of the non-zero entries and
                      these; compressed rows or columns with 32-bit pointers and 16-bit indices; or dense.
                      Equal to size_bytes where dense is smallest. No runtime here computes on it
    serialized_bytes: length of the ONNX file
    bits:             width of a weight, mean over the weight matrices
    nonzero_fraction: share of weight-matrix entries that are not zero
    """

    parameters: int
    size_bytes: int
    sparse_bytes: int
    serialized_bytes: int
    bits: float
    nonzero_fraction: float


@dataclass(frozen=True)
class Latency:
    """Time of one decision at batch 1, microseconds, over `runs` timed calls; None with a reason."""

    p50_us: float | None = None
    p99_us: float | None = None
    mean_us: float | None = None
    runs: int = 0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "p50": self.p50_us,
            "p99": self.p99_us,
            "mean": self.mean_us,
            "runs": self.runs,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Energy:
    """Energy of one decision.

    joules_per_decision: None where kind is "unavailable"
    ci95:     95 % interval of it; for kind "estimated", the range that the watts per core allow
    kind:     measured (a meter, this process nearly alone), attributed (a meter, by share of CPU time),
              estimated (CPU seconds x watts), simulated (a fake meter), unavailable
    source:   meter and zones, or the model with its watts
    reason:   why no better meter was used, and the remedy
    cpu_seconds_per_decision: process CPU time of all threads, measured
    below_resolution: the interval of compressed minus baseline holds zero; None for the baseline itself
    details:  windows, ticks, counter period, gross and net, workload
    """

    joules_per_decision: float | None
    ci95: tuple[float, float] | None
    kind: EnergyKind
    source: str
    reason: str = ""
    cpu_seconds_per_decision: float | None = None
    below_resolution: bool | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Memory:
    """Bytes by stage of a fresh process that runs the policy; None with a reason where unreadable.

    library: imports of the runtime over a bare interpreter
    model:   loading the policy
    runtime: what 1000 inferences add
    peak:    highest resident set of the whole process
    """

    library: int | None
    model: int | None
    runtime: int | None
    peak: int | None
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def library_share(self) -> float | None:
        """The library's part, 0-1, of library + model + runtime: of all that is on top of an interpreter."""
        if self.library is None or self.model is None or self.runtime is None:
            return None
        return self.library / (self.library + self.model + self.runtime)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "library_share": self.library_share}


@dataclass(frozen=True)
class Retention:
    """Compressed return over baseline return, paired by episode seed.

    value:        ratio of means above `zero_return`; None where the baseline's mean is not above it, or
                  a return is not finite
    ci95:         paired bootstrap interval of `value`; None for a single pair, and for a few without spread
    margin:       share of the return that may be lost
    non_inferior: the interval's lower end is above 1 - margin
    pairs:        episodes
    zero_return:  return that counts as nothing kept: 0, or the random policy's mean return where the
                  baseline's mean return is not positive
    above_random, above_random_ci95: the same ratio with the random policy's mean return as zero
    probability_of_improvement: share of pairs in which the compressed policy did better (ties count half)
    probability_of_improvement_ci95: its score interval (Wilson 1927); None for a single pair
    difference, difference_ci95: compressed minus baseline mean return
    """

    value: float | None
    ci95: tuple[float, float] | None
    margin: float
    non_inferior: bool
    pairs: int
    zero_return: float
    above_random: float | None
    above_random_ci95: tuple[float, float] | None
    probability_of_improvement: float
    probability_of_improvement_ci95: tuple[float, float] | None
    difference: float
    difference_ci95: tuple[float, float] | None

    def __str__(self) -> str:
        if self.value is None:
            return "n/a"
        if self.ci95 is None:
            return f"{self.value:.1%}"
        low, high = (f"{end:.1%}" if math.isfinite(end) else "nobody knows" for end in self.ci95)
        return f"{self.value:.1%} ({low} to {high})"


@dataclass(frozen=True)
class ControlStep:
    """Where the time of a control step goes, microseconds; None where it was not measured.

    policy_us:          from step to step: the policy in its runtime and the loop that calls it; median
    environment_us:     the environment's step; median
    instrumentation_us: what reading the counters adds, `InstrumentedEnv.overhead_ns_per_step`
    steps:              how many were taken
    """

    policy_us: float | None = None
    environment_us: float | None = None
    instrumentation_us: float | None = None
    steps: int = 0

    @property
    def total_us(self) -> float | None:
        if self.policy_us is None or self.environment_us is None or self.instrumentation_us is None:
            return None
        return self.policy_us + self.environment_us + self.instrumentation_us


@dataclass(frozen=True)
class Reading:
    """What a third-party profiler counted during one side's episodes: a difference, or a last level."""

    profiler: str
    quantity: str
    unit: str
    value: float | None
    reason: str = ""


@dataclass(frozen=True)
class Side:
    """Everything measured on one policy."""

    policy_provenance: tuple[str, ...]
    runtime: str
    episodes: EpisodeRecords
    iqm_return: float
    iqm_ci95: tuple[float, float] | None
    model: ModelSize
    latency: Latency
    energy: Energy
    memory: Memory
    readings: tuple[Reading, ...] = ()
    control_step: ControlStep = ControlStep()

    def to_json(self) -> dict[str, Any]:
        episodes = self.episodes
        return {
            "return": {
                "mean": episodes.mean_return,
                "std": episodes.std_return,
                "iqm": self.iqm_return,
                "iqm_ci95": self.iqm_ci95,
                "per_episode": list(episodes.returns),
                "episode_seeds": list(episodes.seeds),
                "episode_lengths": list(episodes.lengths),
                "action_change_per_step": fmean(episodes.action_changes),
            },
            "model": asdict(self.model),
            "latency_us": self.latency.to_json(),
            "energy": asdict(self.energy),
            "memory_bytes": self.memory.to_json(),
            "control_step": asdict(self.control_step),
            "runtime": self.runtime,
            "provenance": list(self.policy_provenance),
            "readings": [asdict(r) for r in self.readings],
        }


@dataclass(frozen=True)
class EvaluationRequest:
    """What is asked of an evaluation; every option of `compressrl evaluate` that shapes its result.

    algorithm:  plugin with options, e.g. "sac"; may be "" with `policy`
    env_id:     Gymnasium id; "" takes the policy file's own
    compressor: pipeline, e.g. "l2:ratio=0.5+ptsq"
    runtime:    plugin with options
    episodes:   evaluation episodes on each side
    seed:       episode seeds, calibration and fine-tuning derive from it
    policy:     path of a policy file; "" searches the policy sources, and trains where they have none
    margin:     share of the return that may be lost, decided before looking
    profilers:  options of profilers, e.g. ("energy:watts_per_core=6",)
    instrumentation: level of the instrumented environment: full, light, time
    workers:    processes that run the episodes
    """

    algorithm: str
    env_id: str
    compressor: str
    runtime: str
    episodes: int = 10
    seed: int = 0
    policy: str = ""
    margin: float = 0.05
    instrumentation: Literal["full", "light", "time"] = "full"
    profilers: tuple[str, ...] = ()
    workers: int = 1


@dataclass(frozen=True)
class EvaluationReport:
    """Baseline and compressed, side by side."""

    request: EvaluationRequest
    baseline: Side
    compressed: Side
    retention: Retention
    overhead_ns_per_step: float
    spent: Mapping[str, float]  # what the compressors spent: environment_steps, seconds
    host: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints; plain JSON types only, no NaN."""
        request = asdict(self.request)
        seeds = list(self.baseline.episodes.seeds)
        document = {
            "schema": SCHEMA,
            "request": {**request, "seeds": seeds},
            "baseline": self.baseline.to_json(),
            "compressed": self.compressed.to_json(),
            "retention": asdict(self.retention),
            "instrumentation": {
                "level": self.request.instrumentation,
                "overhead_ns_per_step": self.overhead_ns_per_step,
            },
            "spent": dict(self.spent),
            "host": dict(self.host),
        }
        plain: dict[str, Any] = plain_json(document)
        return plain


def plain_json(value: Any) -> Any:
    """Plain JSON types: tuples to lists, NaN and infinities to None: JSON has neither."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
