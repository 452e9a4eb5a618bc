"""Recommendations for a tiny policy, with the real compressors, runtimes and profilers."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import compressrl
from compressrl import evaluation, pipeline, plugins
from compressrl.c_code import c_compiler
from compressrl.errors import CompressrlError, UnknownNameError, UsageError
from compressrl.policy import Policy
from compressrl.recommending import recommendation
from compressrl.recommending.report import Recommendation
from compressrl.testing import TINY, tiny_policy

FAILING = """
    from typing import ClassVar
    from compressrl import PluginEntry, hookimpl

    @hookimpl
    def compressrl_compressors():
        return [PluginEntry("burn", "", "failing:Burn")]

    class Burn:
        def compress(self, policy, lab):
            raise OSError("the chip is on fire")
"""
LOSSY = "ptsq:bits=2,bias_correction=true"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recommending") / "tiny.policy"
    tiny_policy().save(path)
    return path


def recommend(path: Path, **options: object) -> Recommendation:
    asked = {
        "candidates": ["ptsq", LOSSY],
        "runtimes": ["onnx"],
        "objective": "size",
        "episodes": 20,
    }
    return compressrl.recommend(policy=path, **(asked | options))


@pytest.fixture(scope="module")
def folder(path: Path) -> Path:
    return path.parent / "out"


@pytest.fixture(scope="module")
def report(path: Path, folder: Path) -> Recommendation:
    return recommend(path, runtimes=["onnx", "native", "torch"], out=folder)


def test_the_smallest_that_keeps_the_return_is_chosen_and_confirmed(report: Recommendation) -> None:
    assert report.chosen is not None
    assert report.chosen.trial.label == "ptsq"
    lost = next(trial for trial in report.trials if trial.label == LOSSY)
    assert lost.model.size_bytes < report.chosen.trial.model.size_bytes
    assert "keeps at most" in lost.dropped
    confirmed = report.confirmations["ptsq"]
    assert confirmed.pairs == 20
    assert confirmed.ci95 is not None
    assert confirmed.ci95[0] >= 0.97
    assert confirmed != report.chosen.trial.retention  # other episodes
    assert report.kept(report.chosen.trial) is confirmed


def test_every_version_is_timed_in_every_runtime_that_can_execute_it(report: Recommendation) -> None:
    found = {(v.trial.label, v.runtime) for v in report.variants}
    assert found == {
        ("original", "onnx"), ("original", "native"), ("original", "torch"),
        ("ptsq", "onnx"), ("ptsq", "native"), (LOSSY, "onnx"), (LOSSY, "native"),
    }  # fmt: skip
    assert all((v.latency.p50_us or 0) > 0 for v in report.variants)
    (skipped,) = report.trials[1].skipped
    assert (skipped.runtime, skipped.version) == ("torch", "ptsq")


def test_of_equal_sizes_the_faster_runtime_is_chosen(report: Recommendation) -> None:
    assert report.chosen is not None
    assert report.chosen.runtime == "native"  # 1 µs against 8


def test_the_policy_to_ship_is_the_chosen_one_and_so_is_its_c_file(
    report: Recommendation, folder: Path
) -> None:
    assert report.files.keys() == {"report", "policy", "c", "onnx", "picture"}
    shipped = Policy.load(report.files["policy"])
    assert shipped.to_bytes() == pipeline.compress(tiny_policy(), "ptsq").to_bytes()
    test = folder / "self_test"
    command = [*c_compiler.find(), "-O1", "-DPOLICY_SELF_TEST", report.files["c"], "-o", str(test), "-lm"]
    subprocess.run(command, check=True)
    subprocess.run([test], check=True, capture_output=True)
    assert Path(report.files["picture"]).read_bytes().startswith(b"\x89PNG")


def test_the_report_is_plain_json_and_a_file(report: Recommendation, folder: Path) -> None:
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document == json.loads((folder / "recommendation.json").read_text())
    assert document["request"]["env_id"] == TINY
    assert document["chosen"]["pipeline"] == "ptsq"
    assert document["closest"] is None
    original, ptsq, lost = document["candidates"]
    assert original["pipeline"] == ""
    assert original["retention"]["ci95"] == [1.0, 1.0]
    assert ptsq["confirmation"] == document["chosen"]["retention"]
    assert lost["confirmation"] is None
    on_front = {
        (c["pipeline"], v["runtime"]) for c in document["candidates"] for v in c["variants"] if v["on_front"]
    }
    assert on_front == {(row["pipeline"], row["runtime"]) for row in document["front"]}
    assert ("ptsq", "native") in on_front


@pytest.fixture
def copied(report: Recommendation, folder: Path, tmp_path: Path) -> Path:
    """A folder with the finished candidates of `report`."""
    shutil.copytree(folder / "candidates", tmp_path / "candidates")
    return tmp_path


def test_the_same_command_takes_what_is_there_and_gives_the_same(
    report: Recommendation, path: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compressed: list[str] = []
    monkeypatch.setattr(pipeline, "run", lambda stages, policy, lab: compressed.append(stages))
    again = recommend(path, runtimes=["onnx", "native", "torch"], out=copied)
    more = recommend(path, runtimes=["onnx", "native", "torch"], out=copied, episodes=40)
    assert compressed == []
    assert more.trials[1].returns[:20] == report.trials[1].returns
    assert len(more.trials[1].returns) == 40
    assert again.chosen is not None
    assert again.chosen.trial.label == "ptsq"
    for before, after in zip(report.trials, again.trials, strict=True):
        assert (before.returns, before.retention, before.seconds) == (
            after.returns,
            after.retention,
            after.seconds,
        )


@pytest.mark.parametrize("other", [{"seed": 1}, {"runtimes": ["native"]}])
def test_another_search_in_the_same_folder_starts_anew(path: Path, copied: Path, other: dict) -> None:
    kept = set((copied / "candidates").glob("*.json"))
    recommend(path, candidates=["ptsq"], episodes=2, out=copied, **other)
    assert len(set((copied / "candidates").glob("*.json")) - kept) == 2  # the original and ptsq


def test_an_environment_that_has_changed_under_its_name_starts_anew(
    path: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Returns of the former one would be set beside those of the new."""
    kept = set((copied / "candidates").glob("*.json"))
    earned = evaluation.random_return
    monkeypatch.setattr(evaluation, "random_return", lambda *given: 2 * earned(*given))
    recommend(path, candidates=["ptsq"], episodes=2, runtimes=["onnx", "native", "torch"], out=copied)
    assert len(set((copied / "candidates").glob("*.json")) - kept) == 2


def test_a_folder_with_other_files_is_left_as_it_is(path: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.c").write_text("mine")
    with pytest.raises(UsageError, match=r"holds policy\.c"):
        recommend(path, out=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["policy.c"]


def test_where_nothing_qualifies_the_closest_is_named_and_nothing_is_shipped(
    path: Path, tmp_path: Path
) -> None:
    (tmp_path / "chosen.policy").write_text("of an earlier search")
    (tmp_path / "recommendation.json").write_text("{}")
    report = recommend(path, candidates=[LOSSY], out=tmp_path)
    assert report.chosen is None
    assert report.closest is not None
    assert report.closest.label == LOSSY
    assert report.files.keys() == {"report", "picture"}
    assert not (tmp_path / "chosen.policy").exists()
    document = report.to_json()
    assert document["chosen"] is None
    assert document["closest"]["pipeline"] == LOSSY


def test_the_original_is_shipped_where_it_is_best(path: Path) -> None:
    report = recommend(path, objective="latency", candidates=["ptdq"])  # which takes longer in ONNX Runtime
    assert report.chosen is not None
    assert report.chosen.trial.label == "original"


def test_what_fresh_episodes_do_not_confirm_is_not_shipped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommendation.Arena, "fresh_seeds", lambda arena: [7])
    report = recommend(path)  # one episode has no interval
    assert report.confirmations["ptsq"].pairs == 1
    assert report.chosen is None
    assert report.closest is not None
    assert report.to_json()["candidates"][1]["confirmation"]["pairs"] == 1


def test_a_pipeline_that_raises_is_set_aside(path: Path, install: Callable[..., Path]) -> None:
    install("failing", {"failing": "failing"}, {"failing": FAILING})
    report = recommend(path, candidates=["burn", "ptsq"])
    (failed,) = report.set_aside
    assert failed.pipeline == "burn"
    assert "the chip is on fire" in failed.reason
    assert report.chosen is not None


def test_the_objective_memory_is_measured_of_what_may_be_shipped(path: Path) -> None:
    report = recommend(path, objective="memory", episodes=10)
    measured = {v.trial.label for v in report.variants if v.memory is not None}
    assert measured == {"original", "ptsq"}
    assert all((v.cost("memory") or 0) > 1 << 20 for v in report.variants if v.memory is not None)


def test_an_objective_without_figures_is_an_error_with_the_reason(
    path: Path, install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("nothing", {}, {})
    monkeypatch.setenv(plugins.BLOCK_VARIABLE, "profilers")
    with pytest.raises(CompressrlError, match="--objective latency: no profiler"):
        recommend(path, objective="latency", episodes=10)
    assert recommend(path, objective="size", episodes=10).chosen is not None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"min_retention": 0.0}, "--min-retention"),
        ({"min_retention": 1.01}, "--min-retention"),
        ({"objective": "beauty"}, "choose one of latency, size"),
        ({"episodes": 1}, "--episodes"),
        ({"workers": 0}, "--workers"),
        ({"runtimes": ["onyx"]}, "Did you mean 'onnx'"),
        ({"candidates": ["ptsk"]}, "Did you mean 'ptsq'"),
    ],
)
def test_wrong_requests_are_refused(path: Path, wrong: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        recommend(path, **wrong)


def test_a_policy_must_be_named_and_exist(path: Path) -> None:
    with pytest.raises(UsageError, match="Say which policy"):
        compressrl.recommend()
    with pytest.raises(UsageError, match="compressrl train"):
        compressrl.recommend("ppo", TINY)
    with pytest.raises(UnknownNameError):
        compressrl.recommend("sack")
