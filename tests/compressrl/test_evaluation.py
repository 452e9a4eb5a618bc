"""Evaluation end to end on a tiny environment, with the real built-in plugins."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import compressrl
from compressrl import evaluation, pipeline, plugins
from compressrl.episodes import paired_rollout
from compressrl.errors import UsageError
from compressrl.measuring import workloads
from compressrl.policy import Policy
from compressrl.progress import silent
from compressrl.records import EvaluationReport, EvaluationRequest
from compressrl.testing import TINY, tiny_policy

SIDE_KEYS = {
    "return",
    "model",
    "latency_us",
    "energy",
    "memory_bytes",
    "runtime",
    "provenance",
    "readings",
    "control_step",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def report(folder: Path) -> EvaluationReport:
    tiny_policy().save(folder / "tiny.policy")
    return compressrl.evaluate(
        compressor="ptdq", policy=folder / "tiny.policy", episodes=4, seed=3, out=folder / "out",
        episodes_file=folder / "tables" / "episodes.csv",
    )  # fmt: skip


def test_json_has_the_stable_form(report: EvaluationReport, folder: Path) -> None:
    document = json.loads((folder / "out" / "report.json").read_text())
    assert document == report.to_json()
    assert document["schema"] == 1
    request = {"algorithm", "env_id", "compressor", "runtime", "episodes", "seeds", "policy"}
    assert request <= document["request"].keys()
    for side in (document["baseline"], document["compressed"]):
        assert side.keys() == SIDE_KEYS
        returns = {"mean", "std", "iqm", "per_episode", "episode_seeds", "episode_lengths"}
        assert returns <= side["return"].keys()
        sizes = {"parameters", "size_bytes", "sparse_bytes", "serialized_bytes", "bits", "nonzero_fraction"}
        assert sizes == side["model"].keys()
        assert {"p50", "p99", "mean", "runs"} <= side["latency_us"].keys()
        energy = {"joules_per_decision", "ci95", "kind", "source", "reason", "cpu_seconds_per_decision"}
        assert energy <= side["energy"].keys()
        assert {"library", "model", "runtime", "peak"} <= side["memory_bytes"].keys()
    assert {"value", "ci95", "margin", "non_inferior", "pairs"} <= document["retention"].keys()
    assert document["instrumentation"]["level"] == "full"
    assert document["instrumentation"]["overhead_ns_per_step"] > 0
    host = {"cpu", "cores", "python", "torch", "numpy", "mujoco", "gymnasium", "onnxruntime", "compressrl"}
    assert document["host"].keys() == host


def test_both_sides_run_the_same_episodes(report: EvaluationReport) -> None:
    seeds = tuple(evaluation.episode_seeds(3, 4))
    assert report.baseline.episodes.seeds == report.compressed.episodes.seeds == seeds
    assert report.retention.pairs == 4


def test_every_episode_comes_with_its_cost(report: EvaluationReport) -> None:
    for side in (report.baseline, report.compressed):
        assert tuple(cost.steps for cost in side.episodes.costs) == side.episodes.lengths
        assert all(cost.finished and cost.environment_seconds > 0 for cost in side.episodes.costs)


def test_the_episodes_are_in_the_file_that_was_asked_for(report: EvaluationReport, folder: Path) -> None:
    with (folder / "tables" / "episodes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for label, side in (("baseline", report.baseline), ("compressed", report.compressed)):
        mine = [row for row in rows if row["side"] == label]
        assert [float(row["return"]) for row in mine] == list(side.episodes.returns)
        assert all(float(row["policy_seconds"]) > 0 for row in mine)


def test_an_episodes_file_of_another_kind_is_refused_before_anything_is_done(folder: Path) -> None:
    with pytest.raises(UsageError, match="suffix"):
        compressrl.evaluate(compressor="ptdq", policy="missing.policy", episodes_file=folder / "runs.xlsx")


def test_what_was_measured_is_what_is_written(report: EvaluationReport, folder: Path) -> None:
    compressed = Policy.load(folder / "out" / "compressed.policy")
    assert compressed.provenance == report.compressed.policy_provenance
    assert compressed.form == "graph"
    assert Policy.load(folder / "out" / "baseline.policy").to_bytes() == tiny_policy().to_bytes()
    assert report.compressed.model.bits == 8
    assert report.baseline.model.bits == 32


def test_every_metric_is_real(report: EvaluationReport) -> None:
    for side in (report.baseline, report.compressed):
        assert side.latency.p50_us is not None
        assert 0 < side.latency.p50_us <= (side.latency.p99_us or 0)
        assert side.energy.kind != "unavailable"
        assert side.energy.cpu_seconds_per_decision is not None
        step = side.energy.details["control_step"]["cpu_seconds"]
        assert 0 < step["environment"] < step["both"]
        assert (side.memory.library or 0) > 1 << 20
        assert (side.control_step.total_us or 0) > (side.control_step.policy_us or 0) > 0


def test_same_seed_same_returns(report: EvaluationReport, folder: Path) -> None:
    again = compressrl.evaluate(compressor="ptdq", policy=folder / "tiny.policy", episodes=4, seed=3)
    other = compressrl.evaluate(compressor="ptdq", policy=folder / "tiny.policy", episodes=4, seed=4)
    assert again.compressed.episodes == report.compressed.episodes
    assert again.retention == report.retention
    assert other.baseline.episodes.returns != report.baseline.episodes.returns


PLAIN_PROFILER = """
    from compressrl import PluginEntry, hookimpl

    @hookimpl
    def compressrl_profilers():
        return [PluginEntry("resets", "", "counting:Resets")]

    class Resets:
        quantity, unit, count = "readings", "1", 0.0

        def available(self):
            return True, ""

        def read(self):
            Resets.count += 1
            return Resets.count
"""


def test_a_plain_profiler_counts_the_episodes_of_one_side(
    folder: Path, install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("counting", {"counting": "counting"}, {"counting": PLAIN_PROFILER})
    monkeypatch.setenv(plugins.BLOCK_VARIABLE, "profilers")
    done = compressrl.evaluate(
        compressor="ptdq", policy=folder / "tiny.policy", episodes=2, workers=3, instrumentation="full"
    )
    assert done.request.workers == 1
    for side in (done.baseline, done.compressed):
        [reading] = side.readings
        # At every step; twice at a reset (is there a meter, and the start); once after the last episode.
        assert reading.value == sum(side.episodes.lengths) + 2 * 2 + 1
        assert [cost.counters["readings_1"] for cost in side.episodes.costs] == list(side.episodes.lengths)


@pytest.mark.parametrize(("workers", "shared_out"), [(1, True), (2, False)])
def test_a_counter_of_the_machine_is_not_shared_out_among_parallel_episodes(
    folder: Path, workers: int, shared_out: bool
) -> None:
    request = EvaluationRequest("", TINY, "", "onnx", 2, workers=workers)
    made = workloads.create_profilers([])
    loaded = [workloads.load(label, tiny_policy(), "onnx") for label in ("baseline", "compressed")]
    done = paired_rollout.run(request, loaded, [1, 2], made, silent)
    assert done.episodes[0] == done.episodes[1]
    for cost in (*done.episodes[0].costs, *done.episodes[1].costs):
        assert ("energy_J" in cost.counters) == shared_out
        assert cost.cpu_seconds is not None
        assert cost.memory_peak_bytes is not None


def test_the_policy_that_is_read_is_not_replaced(folder: Path) -> None:
    path = folder / "again" / "compressed.policy"
    path.parent.mkdir()
    tiny_policy().save(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"compressed\.policy would be replaced"):
        compressrl.evaluate(compressor="ptsq", policy=path, episodes=1, out=path.parent)
    assert path.read_bytes() == before


def test_no_workers_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="--workers 0"):
        compressrl.evaluate(compressor="ptdq", policy=folder / "tiny.policy", workers=0)


def test_episode_seeds_are_a_prefix_of_longer_lists() -> None:
    assert evaluation.episode_seeds(0, 20)[:10] == evaluation.episode_seeds(0, 10)
    assert len(set(evaluation.episode_seeds(0, 1000))) == 1000
    assert evaluation.episode_seeds(0, 10) != evaluation.episode_seeds(1, 10)


def test_finished_evaluations_are_announced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[EvaluationReport] = []
    monkeypatch.setattr(
        plugins.registry(), "evaluation_finished", lambda report: heard.append(report) or ["x failed"]
    )
    report = compressrl.evaluate(compressor="ptdq", policy=folder / "tiny.policy", episodes=1)
    assert heard == [report]


def test_an_algorithm_without_a_policy_is_trained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    report = compressrl.evaluate(
        "ppo:n_steps=64", "ptdq", TINY, train_steps=256, episodes=1, instrumentation="time"
    )
    assert any(step.startswith("ppo") for step in report.baseline.policy_provenance)
    assert report.request.env_id == TINY


def test_options_of_a_profiler_reach_it(folder: Path) -> None:
    report = compressrl.evaluate(
        compressor="ptdq", policy=folder / "tiny.policy", episodes=1, profilers=["energy:watts_per_core=6"]
    )
    if report.baseline.energy.kind == "estimated":
        assert "6 W per core (as set)" in report.baseline.energy.source
    assert report.to_json()["request"]["profilers"] == ["energy:watts_per_core=6"]
    with pytest.raises(UsageError, match="watts"):
        compressrl.evaluate(
            compressor="ptdq", policy=folder / "tiny.policy", episodes=1, profilers=["energy:watts=6"]
        )


def test_no_episodes_and_no_policy_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="at least one"):
        compressrl.evaluate(compressor="ptdq", policy=folder / "tiny.policy", episodes=0)
    with pytest.raises(UsageError, match="Say which policy"):
        compressrl.evaluate(compressor="ptdq")


def test_no_number_in_json_is_nan(report: EvaluationReport) -> None:
    odd = replace(report, overhead_ns_per_step=float("nan"))
    assert odd.to_json()["instrumentation"]["overhead_ns_per_step"] is None
    json.dumps(odd.to_json(), allow_nan=False)


def test_random_return_is_the_random_policys() -> None:
    assert evaluation.random_return(TINY, [1, 2]) == evaluation.random_return(TINY, [1, 2])
    assert np.isfinite(evaluation.random_return(TINY, [1, 2]))


BROKEN_PROFILERS = """
    from typing import ClassVar
    from compressrl import PluginEntry, hookimpl

    @hookimpl
    def compressrl_profilers():
        return [PluginEntry(n, "", f"broken:{n.title()}") for n in ("memory", "latency", "energy")]

    class Memory:
        quantity: ClassVar[str] = "memory"
        unit: ClassVar[str] = "B"
        cumulative: ClassVar[bool] = False

        def available(self):
            return True, "some source"

        def read(self):
            return 1.0

        def measure(self, workloads):
            raise OSError("the sensor is gone")

    class Latency(Memory):
        quantity: ClassVar[str] = "latency"

        def measure(self, workloads):
            raise SystemExit(3)

    class Energy(Memory):
        quantity: ClassVar[str] = "energy"

        def measure(self, workloads):
            return []
"""


def test_a_profiler_that_fails_costs_its_quantity_and_not_the_evaluation(
    folder: Path,
    install: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    install("broken-profilers", {"broken": "broken"}, {"broken": BROKEN_PROFILERS})
    monkeypatch.setenv(plugins.BLOCK_VARIABLE, "profilers")
    done = compressrl.evaluate(compressor="ptdq", policy=folder / "tiny.policy", episodes=1)

    for side in (done.baseline, done.compressed):
        assert side.memory.peak is None
        assert side.memory.reason == "the profiler 'memory' failed: OSError: the sensor is gone"
        assert side.latency.p50_us is None
        assert side.latency.reason == "the profiler 'latency' failed: SystemExit: 3"
        assert (side.energy.joules_per_decision, side.energy.kind) == (None, "unavailable")
        assert side.energy.reason == "the profiler 'energy' failed: ValueError: 0 records for 2 workloads"
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == [f"warning: {s.reason}" for s in (side.energy, side.latency, side.memory)]


def test_a_profiler_that_fails_on_the_way_takes_no_episode_with_it() -> None:
    class Failing:
        quantity, unit = "wind", "m"

        def __init__(self) -> None:
            self.left = 3

        def available(self) -> tuple[bool, str]:
            return True, "vane"

        def read(self) -> float:
            self.left -= 1
            if self.left < 0:
                raise OSError("sensor is gone")
            return 1.0

    request = EvaluationRequest("", TINY, "", "onnx", 2)
    loaded = [workloads.load(label, tiny_policy(), "onnx") for label in ("baseline", "compressed")]
    done = paired_rollout.run(request, loaded, [1, 2], {"failing": Failing()}, silent)
    assert [len(side.returns) for side in done.episodes] == [2, 2]
    for (reading,) in done.readings:
        assert (reading.value, reading.reason) == (None, "OSError: sensor is gone")


@pytest.mark.parametrize(
    ("runtime", "compressor", "why"),
    [
        ("torch", "ptsq", "torch takes policies in network form, and 'ptsq' gives one in integer"),
        ("native", "ptdq", "native takes policies in network or integer form, and 'ptdq' gives one in graph"),
    ],
)
def test_a_runtime_that_cannot_take_the_result_is_refused_before_the_work(
    runtime: str, compressor: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "run", lambda *_: pytest.fail("compressed for nothing"))
    with pytest.raises(UsageError, match=why):
        compressrl.evaluate(policy=tiny_policy(), compressor=compressor, runtime=runtime, episodes=1)
