"""Profiles of a tiny policy in the real runtimes, with the real profilers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import compressrl
from compressrl import plugins
from compressrl.errors import CompressrlError, UnknownNameError, UsageError
from compressrl.measuring import workloads
from compressrl.measuring.profiling import ProfileReport
from compressrl.records import Memory
from compressrl.testing import TINY, tiny_policy

QUICK = ["memory:repeats=1", "energy:windows=2", "latency:runs=1000"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profiling") / "tiny.policy"
    tiny_policy().save(path)
    return path


@pytest.fixture(scope="module")
def report(path: Path) -> ProfileReport:
    return compressrl.profile(
        policy=path, compressor="ptdq", runtimes=["onnx", "torch"], profilers=QUICK, seed=1
    )


@pytest.mark.slow
def test_every_version_is_measured_in_every_runtime_that_can_load_it(report: ProfileReport) -> None:
    assert [(row.version, row.runtime) for row in report.rows] == [
        ("baseline", "onnx"),
        ("baseline", "torch"),
        ("compressed", "onnx"),
    ]
    (skipped,) = report.skipped
    assert (skipped.version, skipped.runtime) == ("compressed", "torch")
    assert "executes float networks" in skipped.reason


@pytest.mark.slow
def test_every_row_has_all_figures(report: ProfileReport) -> None:
    for row in report.rows:
        latency, energy, memory = row.measured.latency, row.measured.energy, row.measured.memory
        assert 0 < (latency.p50_us or 0) <= (latency.p99_us or 0)
        assert latency.runs == 1000
        assert (energy.cpu_seconds_per_decision or 0) > 0
        assert (memory.library or 0) > 1 << 20
        assert 0 < (memory.library_share or 0) < 1


@pytest.mark.slow
def test_the_library_of_torch_is_the_larger_one(report: ProfileReport) -> None:
    onnx, torch, _ = (row.measured.memory for row in report.rows)
    assert (torch.library or 0) > 3 * (onnx.library or 0)


@pytest.mark.slow
def test_models_are_those_that_ran(report: ProfileReport) -> None:
    assert {version: size.bits for version, size in report.models.items()} == {
        "baseline": 32,
        "compressed": 8,
    }


@pytest.mark.slow
def test_json_is_plain(report: ProfileReport) -> None:
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document.keys() == {"schema", "request", "models", "rows", "skipped", "host"}
    assert document["request"]["runtimes"] == ["onnx", "torch"]
    assert document["request"]["env_id"] == TINY
    row, measured = document["rows"][0], report.rows[0].measured
    assert row["latency_us"]["p50"] == measured.latency.p50_us
    assert row["memory_bytes"]["peak"] == measured.memory.peak
    assert row["memory_bytes"]["library_share"] == measured.memory.library_share
    assert row["energy"]["kind"] == measured.energy.kind


def test_the_share_is_of_what_comes_on_top_of_an_interpreter() -> None:
    assert Memory(80, 15, 5, 1000).library_share == 0.8
    assert replace(Memory(80, 15, 5, 1000), model=None).library_share is None


SPYING = """
    from typing import ClassVar
    from compressrl import PluginEntry, hookimpl

    SEEN = []

    @hookimpl
    def compressrl_profilers():
        return [PluginEntry("spy", "", "spying:Spy")]

    @hookimpl
    def compressrl_runtimes():
        return [PluginEntry("burning", "", "spying:Burning")]

    class Spy:
        quantity: ClassVar[str] = "latency"
        unit: ClassVar[str] = "s"

        def available(self):
            return True, "a clock"

        def read(self):
            return 1.0

        def measure(self, workloads):
            from compressrl.records import Latency

            SEEN.append(list(workloads))
            return [Latency(1.0, 2.0, 1.5, 10) for _ in workloads]

    class Burning:
        def load(self, policy):
            raise OSError("the chip is on fire")
"""


@pytest.fixture
def seen(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> list[list[workloads.Workload]]:
    """What a profiler that is the only one was given, call by call; `burning` is one more runtime."""
    install("spying", {"spying": "spying"}, {"spying": SPYING})
    monkeypatch.setenv(plugins.BLOCK_VARIABLE, "profilers")
    plugins.registry().entries("profiler")
    import spying

    calls: list[list[workloads.Workload]] = spying.SEEN
    return calls


def test_all_workloads_go_into_one_measurement_on_the_same_recorded_states(
    seen: list[list[workloads.Workload]], path: Path
) -> None:
    compressrl.profile(policy=path, compressor="ptdq", runtimes=["onnx", "torch"], seed=1)
    (workloads_,) = seen
    assert [w.runtime_name for w in workloads_] == ["onnx", "torch", "onnx"]
    states = workloads_[0].observations
    assert states.shape == (workloads.RECORDED_STATES, 3)
    assert np.unique(states, axis=0).shape[0] > workloads.RECORDED_STATES / 2
    assert all(w.observations is states for w in workloads_)
    actions = [w.function(states[0]) for w in workloads_]
    assert actions[0] == pytest.approx(actions[1], abs=1e-5)


def test_all_installed_runtimes_are_the_default_and_a_broken_one_is_named(
    seen: list[list[workloads.Workload]], path: Path
) -> None:
    report = compressrl.profile(policy=path)
    everything = {entry.entry.name for entry in plugins.registry().entries("runtime")}
    assert {"onnx", "torch", "burning"} <= everything
    assert {row.runtime for row in report.rows} | {s.runtime for s in report.skipped} == everything
    reasons = {s.runtime: s.reason for s in report.skipped}
    assert reasons["burning"] == "OSError: the chip is on fire"
    assert all(row.measured.memory.reason.startswith("no profiler") for row in report.rows)


def test_a_policy_that_no_runtime_loads_is_an_error_with_the_reasons(
    seen: list[list[workloads.Workload]], path: Path
) -> None:
    with pytest.raises(
        CompressrlError, match=r"No runtime can load this policy\. burning: OSError: the chip"
    ):
        compressrl.profile(policy=path, runtimes=["burning"])
    assert seen == []


def test_wrong_requests_are_refused_before_anything_is_measured(
    seen: list[list[workloads.Workload]], path: Path
) -> None:
    with pytest.raises(UnknownNameError, match="onyx"):
        compressrl.profile(policy=path, runtimes=["onyx"])
    with pytest.raises(UnknownNameError, match="ptdk"):
        compressrl.profile(policy=path, compressor="ptdk")
    with pytest.raises(UsageError, match="Say which policy"):
        compressrl.profile()
    with pytest.raises(UsageError, match="compressrl train"):
        compressrl.profile("ppo", env_id=TINY)
    assert seen == []
