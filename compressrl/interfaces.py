"""The protocols that plugins implement: the smallest contracts that work.

A class that implements one is named by a `PluginEntry.target`. It is constructed with its options as
keyword arguments; a frozen dataclass gets its options from its fields (see `compressrl.options`), any other
class is constructed without arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

    from compressrl.lab import Lab
    from compressrl.policy import Policy

Float32Array = NDArray[np.float32]
PolicyFunction = Callable[[Float32Array], Float32Array]


class Algorithm(Protocol):
    """Learns a policy by interacting with an environment."""

    def train(self, lab: Lab) -> Policy:
        """Train for `lab.training.steps` environment steps and return the deterministic policy.

        Everything random derives from `lab.seed`: the same seed gives the same weights on one machine.
        Calls `lab.training` for checkpoints, learning curve and progress (see `compressrl.training`).
        """
        ...


class Compressor(Protocol):
    """Turns a policy into a smaller or faster one.

    A class may declare `takes: ClassVar[tuple[Form, ...]]` and `gives: ClassVar[Form]` (see
    `compressrl.policy.Form`); then a pipeline in an impossible order is refused before anything runs.
    For `compressrl recommend`: `candidates: ClassVar[tuple[str, ...]]`, the pipelines worth trying, and an
    attribute `trains: bool`, whether it learns (what does not is tried first).
    """

    def compress(self, policy: Policy, lab: Lab) -> Policy:
        """Return a new policy; the argument is immutable. Raises PipelineError on a form it cannot take."""
        ...


class Runtime(Protocol):
    """Executes the forward pass of a policy.

    A class may declare `takes: ClassVar[tuple[Form, ...]]`; then an evaluation whose pipeline ends in another
    form is refused before anything is compressed.
    """

    def load(self, policy: Policy) -> PolicyFunction:
        """Return a function (observation_size,) float32 -> (action_size,) float32, batch 1, one thread.

        Raises UsageError when this runtime cannot execute the policy's form.
        """
        ...


@runtime_checkable
class PreparingRuntime(Runtime, Protocol):
    """A runtime that converts a policy before it loads it (say, a float network to an ONNX graph).

    With it a policy is converted once, and every process that loads it spares the time and the libraries.
    """

    def prepare(self, policy: Policy) -> Policy:
        """Return the policy in the form that `load` takes without any library but the runtime's own."""
        ...


@runtime_checkable
class ReplaceableRuntime(Runtime, Protocol):
    """A runtime that not every machine has, with another one that `evaluate` takes in its place.

    Where runtimes are compared (`profile`, `recommend`, `doctor`), it is left out there, with the reason.
    """

    fallback: ClassVar[str]  # name of the other one

    def available(self) -> tuple[bool, str]:
        """(False, what is missing and what to do) where this machine cannot execute any policy in it."""
        ...


DEPLOYED_MODULE = "deployed.py"


@runtime_checkable
class DeployableRuntime(Runtime, Protocol):
    """A runtime whose policies can be deployed without this package.

    With it the memory profiler measures the process that would be deployed, not this package beside it.
    """

    def deploy(self, policy: Policy, folder: Path) -> None:
        """Write what is deployed into an existing folder: the module deployed.py and the files that it reads.

        deployed.py imports at its top what it needs, and nothing of this package. It has one function,
        `load(folder: str, observation_size: int, action_size: int)`, which returns a function of an
        observation, a memoryview (observation_size,) of format "f", that gives the action: action_size
        numbers. Raises UsageError for a policy that cannot be deployed so.
        """
        ...


class Profiler(Protocol):
    """Reads one quantity of this process or machine."""

    quantity: str  # "energy", "memory", "latency", ...
    unit: str  # "J", "B", "s", ...

    def available(self) -> tuple[bool, str]:
        """(True, source) or (False, reason and remedy), e.g. (False, "no powercap tree; run on Linux...")."""
        ...

    def read(self) -> float | None:
        """Counter (cumulative) or level, in `unit`; None where there is no meter, never 0.0 for unknown.

        Called at every environment step: must be cheap (about a microsecond) and must not raise.
        A level (memory) says so with a class attribute `cumulative = False`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """What `compressrl doctor` says of one source of a quantity on this machine.

    name:   the source, e.g. "powercap (RAPL)"
    usable: whether it can be read here and now
    why:    what it covers, or the reason why it cannot be read
    remedy: what to do about it, or how to use it; "" where there is nothing to do
    """

    name: str
    usable: bool
    why: str
    remedy: str = ""


@runtime_checkable
class DiagnosingProfiler(Profiler, Protocol):
    """A profiler that has several sources and can say of each whether this machine has it."""

    def diagnose(self) -> Sequence[Finding]:
        """One finding a source, the preferred first. For `compressrl doctor`; may take seconds."""
        ...


@runtime_checkable
class StepProfiler(Profiler, Protocol):
    """A profiler that gives a step loop a bare function: its layers would cost more than its counter."""

    def reader(self) -> Callable[[], float]:
        """Return a function that gives what `read` gives, and NaN for None.

        Asked for at every reset of an instrumented environment. The function must hold in a process that is
        forked later, and beside other readers of this profiler.
        """
        ...


@dataclass(frozen=True)
class Workload:
    """One side of a comparison, ready to be profiled: a policy in a runtime on recorded observations."""

    label: str  # "baseline" or "compressed"
    policy: Policy  # as the runtime has prepared it
    runtime_name: str
    runtime_target: str  # "package.module:Class", so that a fresh process can load it alone
    runtime_options: Mapping[str, Any]
    function: PolicyFunction
    observations: Float32Array  # (N, observation_size), states that the baseline visited
    env_id: str = ""  # Gymnasium id of the environment that they come from; "" where there is none


@runtime_checkable
class WorkloadProfiler(Profiler, Protocol):
    """A profiler with a measurement of its own: repeats, windows, subprocesses, interleaving."""

    def measure(self, workloads: Sequence[Workload]) -> list[Any]:
        """Measure all workloads interleaved; one record of `compressrl.records` for each, in order."""
        ...


class PolicySource(Protocol):
    """A collection of trained policies."""

    def list(self) -> Sequence[Mapping[str, Any]]:
        """One mapping a policy: algorithm, env_id, seed, steps, return_mean, return_std, episodes, path."""
        ...

    def find(self, algorithm: str, env_id: str) -> Path | None:
        """Path of the policy file for this cell (the best seed), or None."""
        ...


class StudySource(Protocol):
    """A study that ships with a plugin."""

    def path(self) -> Path:
        """Its TOML file (docs/studies.md)."""
        ...
