"""Training runs, by a small algorithm that arrives like any third party's."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import compressrl
from compressrl import rollout, runs
from compressrl.environments import make
from compressrl.episodes import players
from compressrl.episodes.players import Players
from compressrl.errors import CompressrlError, OptionError, UnknownNameError, UsageError
from compressrl.policy import Policy
from compressrl.testing import TINY
from compressrl.training import BEST_POLICY, CHECKPOINT, LATEST_POLICY, LEARNING_CURVE

DECLARATION = """
    from compressrl import PluginEntry, hookimpl

    @hookimpl
    def compressrl_algorithms():
        return [
            PluginEntry("search", "", "compressrl.testing.algorithms:RandomSearch"),
            PluginEntry("failing", "", "searching:Failing"),
            PluginEntry("worsening", "", "searching:Worsening"),
        ]

    class Failing:
        def train(self, lab):
            import torch
            from compressrl.testing import tiny_policy

            lab.training.resume()
            lab.training.save(5, tiny_policy, lambda: {"w": torch.zeros(1)})
            raise KeyboardInterrupt

    class Worsening:
        def train(self, lab):
            from compressrl.runs import CURVE_SEEDS
            from compressrl.testing import tiny_policy

            def quality(policy):
                return lab.rollout(policy, 0, CURVE_SEEDS).mean_return

            session = lab.training
            session.resume()
            *_, worse, better = sorted((tiny_policy(seed=seed) for seed in range(4)), key=quality)
            session.boundary(session.steps // 2, lambda: better, dict)
            session.boundary(session.steps, lambda: worse, dict)
            return worse
"""


@pytest.fixture(autouse=True)
def _algorithms(install):
    install("searching", {"searching": "searching"}, {"searching": DECLARATION})


def train(folder: Path, steps: int = 300, **given: Any) -> runs.TrainingResult:
    return runs.train(
        **{"algorithm": "search:hidden=4", "env_id": TINY, "steps": steps, "out": folder} | given
    )


def test_a_run_leaves_a_complete_record_and_every_file(tmp_path):
    result = train(tmp_path, seed=7)
    record = json.loads((tmp_path / runs.RECORD).read_text())
    assert record == result.record
    assert record["command"] == (f"compressrl train --algo search:hidden=4 --env {TINY} --steps 300 --seed 7")
    known = {"algorithm", "env_id", "seed", "steps", "episodes", "device", "compressrl"}
    assert {key: record[key] for key in known} == {
        "algorithm": result.policy.algorithm,
        "env_id": TINY,
        "seed": 7,
        "steps": 300,
        "episodes": 20,
        "device": "cpu",
        "compressrl": compressrl.__version__,
    }
    assert record["seconds"] > 0
    assert record["learning_curve"] == LEARNING_CURVE
    assert 0 < record["selected_at_step"] <= 300
    files = {BEST_POLICY, LATEST_POLICY, CHECKPOINT, LEARNING_CURVE, runs.FINAL_POLICY, runs.RECORD}
    assert files <= {p.name for p in tmp_path.iterdir()}
    assert result.path == tmp_path / runs.FINAL_POLICY
    assert Policy.load(result.path).to_bytes() == result.policy.to_bytes()


def test_the_recorded_return_is_that_of_the_policy_on_seeds_of_its_own(tmp_path):
    result = train(tmp_path)
    again = rollout.run_episodes(result.policy, lambda: make(TINY), runs.FINAL_SEEDS)
    assert result.record["return_mean"] == pytest.approx(again.mean_return, abs=0.006)
    assert result.record["return_std"] == pytest.approx(again.std_return, abs=0.006)
    every = [*runs.FINAL_SEEDS, *runs.CURVE_SEEDS, *runs.SELECTION_SEEDS]
    assert len(set(every)) == len(every)


def test_the_policy_of_the_best_evaluation_is_the_result(tmp_path):
    result = train(tmp_path, algorithm="worsening")
    rows = [line.split(",") for line in (tmp_path / LEARNING_CURVE).read_text().splitlines()[1:]]
    means = {int(row[0]): float(row[2]) for row in rows}
    assert means[150] > means[300]
    assert result.record["selected_at_step"] == 150
    assert result.policy.provenance != Policy.load(tmp_path / LATEST_POLICY).provenance
    on_curve_seeds = rollout.run_episodes(result.policy, lambda: make(TINY), runs.CURVE_SEEDS).mean_return
    assert on_curve_seeds == pytest.approx(max(means.values()), abs=0.006)


def test_the_best_evaluation_must_hold_on_further_episodes(tmp_path, monkeypatch):
    played, play = [], Players.play
    monkeypatch.setattr(Players, "play", lambda *a: played.append(a[2]) or play(*a))
    train(tmp_path, algorithm="worsening")
    assert runs.SELECTION_SEEDS in played


def test_the_same_command_again_is_the_same_run(tmp_path):
    first = train(tmp_path)
    curve = (tmp_path / LEARNING_CURVE).read_text()
    again = train(tmp_path)
    assert again.policy.to_bytes() == first.policy.to_bytes()
    assert (tmp_path / LEARNING_CURVE).read_text() == curve
    assert again.record["return_mean"] == first.record["return_mean"]


def test_another_seed_is_another_policy(tmp_path):
    one, other = train(tmp_path / "one", seed=1), train(tmp_path / "other", seed=2)
    again = train(tmp_path / "again", seed=1)
    assert one.policy.to_bytes() == again.policy.to_bytes()
    assert one.policy.to_bytes() != other.policy.to_bytes()


def test_the_last_scalars_reach_the_disk(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    before = set(threading.enumerate())
    train(tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    steps = [event.step for event in events.Scalars("evaluation/return_mean")]
    assert [f"{step}" for step in steps] == [
        line.split(",")[0] for line in (tmp_path / LEARNING_CURVE).read_text().splitlines()[1:]
    ]
    assert set(threading.enumerate()) <= before, "the writer is closed"


def test_more_steps_go_on_and_fewer_are_refused(tmp_path):
    train(tmp_path, steps=200)
    longer = train(tmp_path, steps=300)
    assert longer.record["steps"] == 300
    assert [int(r.split(",")[0]) for r in (tmp_path / LEARNING_CURVE).read_text().splitlines()[1:]][-1] == 300
    with pytest.raises(UsageError, match="a run of 300 steps, more than 200"):
        train(tmp_path, steps=200)


def test_a_longer_run_that_was_cut_short_in_its_last_evaluation_is_finished(tmp_path, monkeypatch):
    train(tmp_path, steps=200)
    record = runs._record

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "_record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, steps=300)
    monkeypatch.setattr(runs, "_record", record)
    finished = train(tmp_path, steps=300)
    assert finished.record["steps"] == 300
    assert json.loads((tmp_path / runs.RECORD).read_text()) == finished.record


def test_what_is_damaged_of_a_finished_run_is_made_again(tmp_path):
    first = train(tmp_path)
    for name, damage in ((runs.FINAL_POLICY, b"?"), (runs.RECORD, b'{"steps": '), (runs.RECORD, b"[]")):
        (tmp_path / name).write_bytes(damage)
        again = train(tmp_path)
        assert again.policy.to_bytes() == first.policy.to_bytes()
        assert again.record["return_mean"] == first.record["return_mean"]
        assert json.loads((tmp_path / runs.RECORD).read_text())["steps"] == 300
        assert Policy.load(tmp_path / runs.FINAL_POLICY).to_bytes() == first.policy.to_bytes()


def test_a_curve_of_another_encoding_is_told_in_one_line(tmp_path):
    train(tmp_path)
    (tmp_path / LEARNING_CURVE).write_bytes(b"\xff\xfe\n1,2\n")
    with pytest.raises(UsageError, match=r"learning_curve\.csv is damaged"):
        train(tmp_path)


def test_the_record_tells_the_steps_that_were_made(tmp_path):
    """Three environments take 102 in turn, not 100."""
    algorithm = "ppo:num_envs=3,n_steps=50,hidden=8"
    result = train(tmp_path, algorithm=algorithm, steps=100)
    assert result.record["steps"] == 102
    assert result.record["command"].endswith("--steps 100 --seed 0")
    assert (tmp_path / LEARNING_CURVE).read_text().splitlines()[-1].startswith("102,")
    assert "for 102 steps" in Policy.load(tmp_path / LATEST_POLICY).provenance[-1]
    before = (tmp_path / runs.RECORD).read_bytes()
    assert train(tmp_path, algorithm=algorithm, steps=100).record == result.record
    assert (tmp_path / runs.RECORD).read_bytes() == before


def test_a_run_that_starts_anew_has_no_part_of_another(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_commit", lambda: "first")
    train(tmp_path, steps=100)
    (tmp_path / CHECKPOINT).unlink()
    (tmp_path / runs.RECORD).unlink()
    monkeypatch.setattr(runs, "_commit", lambda: "second")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, algorithm="failing", steps=100)
    assert not (tmp_path / BEST_POLICY).exists()
    assert not (tmp_path / runs.FINAL_POLICY).exists()
    assert (tmp_path / runs.COMMITS).read_text() == "second\n"


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_one_device_has_one_name(tmp_path, device):
    first = train(tmp_path, steps=100, device=device)
    assert first.record["device"] == "cpu"
    assert train(tmp_path, steps=200, device="cpu").record["steps"] == 200


def test_an_environment_whose_returns_are_not_numbers_is_named(tmp_path, monkeypatch):
    play = Players.play

    def of_seeds(several: Players, policy: Policy, seeds: Any) -> Any:
        records = play(several, policy, seeds)
        if seeds != runs.FINAL_SEEDS:
            return records
        return dataclasses.replace(records, returns=(math.nan, *records.returns[1:]))

    monkeypatch.setattr(Players, "play", of_seeds)
    with pytest.raises(CompressrlError, match=rf"{TINY} has given .* NaN or infinite, by step 100\. Nothing"):
        train(tmp_path, steps=100)


def test_with_threads_evaluations_are_played_by_as_many_processes(tmp_path, monkeypatch):
    """And are the same."""
    started, start = [], players._Player
    monkeypatch.setattr(players, "_Player", lambda env_id: started.append(start(env_id)) or started[-1])
    before = torch.get_num_threads()
    try:
        one, two = (train(tmp_path / str(n), algorithm="worsening", threads=n) for n in (1, 2))
    finally:
        torch.set_num_threads(before)
    [other] = started
    assert other.process.returncode is not None
    first, second = ((tmp_path / n / LEARNING_CURVE).read_text().splitlines()[1:] for n in "12")
    assert [row.split(",")[2] for row in first] == [row.split(",")[2] for row in second]
    assert one.record["return_mean"] == two.record["return_mean"]


def test_a_checkpoint_of_another_format_is_refused(tmp_path, monkeypatch):
    train(tmp_path, steps=100)
    monkeypatch.setattr(runs, "CHECKPOINT_FORMAT", -1)
    with pytest.raises(UsageError, match=r"of another run \(different: checkpoint format\)"):
        train(tmp_path, steps=200)


def test_a_checkpoint_of_another_kind_of_device_is_refused(tmp_path):
    """Its optimisers hold the same parameters in other pieces."""
    train(tmp_path, steps=100)
    saved = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    saved["fingerprint"]["device"] = "cuda"
    torch.save(saved, tmp_path / CHECKPOINT)
    with pytest.raises(UsageError, match=r"of another run \(different: device\)"):
        train(tmp_path, steps=200)


@pytest.mark.parametrize(
    ("change", "different"),
    [
        ({"seed": 1}, "seed"),
        ({"algorithm": "search:hidden=5"}, "hidden"),
        ({"env_id": "Pendulum-v1"}, "env_id"),
    ],
)
def test_another_run_in_the_same_folder_is_refused_and_nothing_changes(tmp_path, change, different):
    train(tmp_path, steps=100)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(UsageError, match=rf"of another run \(different: .*{different}"):
        train(tmp_path, steps=100, **change)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_an_environment_that_has_changed_under_its_name_is_another_run(tmp_path, monkeypatch):
    train(tmp_path, steps=100)
    spaces = runs._spaces(TINY)
    assert spaces["observation size"] == make(TINY).observation_space.shape[0]
    for change in ({"observation size": 9}, {"action low": [-7.0]}, {"action high": [7.0]}):
        monkeypatch.setattr(runs, "_spaces", lambda env_id, change=change: spaces | change)
        with pytest.raises(UsageError, match=rf"another run \(different: {next(iter(change))}\)"):
            train(tmp_path, steps=100)


def test_two_processes_in_one_folder_are_one_too_many(tmp_path):
    """The other one is a real process: locks are the kernel's, and of processes."""
    program = "import sys; from pathlib import Path; from compressrl import files\n"
    program += "with files.alone_in(Path(sys.argv[1])): print(flush=True); input()"
    words = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UsageError, match="Another process is at work in"):
            train(tmp_path, steps=100)
        assert not (tmp_path / LEARNING_CURVE).exists()
        other.stdin.close()
        other.wait()
        assert train(tmp_path, steps=100).path.exists()


def test_commits_and_record_are_of_what_was_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_commit", lambda: "first")
    assert train(tmp_path, steps=100).record["commits"] == ["first"]
    monkeypatch.setattr(runs, "_commit", lambda: "second")
    with pytest.raises(UsageError, match="another run"):
        train(tmp_path, steps=100, seed=1)
    before = (tmp_path / runs.RECORD).read_text()
    again = train(tmp_path, steps=100, threads=2)
    assert (tmp_path / runs.RECORD).read_text() == before, "no step was trained"
    assert again.record == json.loads(before)
    assert (tmp_path / runs.COMMITS).read_text() == "first\n"
    assert train(tmp_path, steps=200).record["commits"] == ["first", "second"]


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    left = tmp_path / f".{CHECKPOINT}.{'0123456789abcdef'}.tmp"
    left.write_bytes(b"half")
    mine = tmp_path / ".notes.tmp"
    mine.write_text("mine")
    train(tmp_path, steps=100)
    assert not left.exists()
    assert mine.exists()


def test_a_finished_run_without_its_checkpoint_is_not_overwritten(tmp_path):
    train(tmp_path, steps=100)
    (tmp_path / CHECKPOINT).unlink()
    before = (tmp_path / runs.FINAL_POLICY).read_bytes()
    with pytest.raises(UsageError, match="a finished run without its checkpoint"):
        train(tmp_path, steps=100)
    assert (tmp_path / runs.FINAL_POLICY).read_bytes() == before


def test_an_interrupted_run_keeps_what_it_saved(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, algorithm="failing")
    assert {CHECKPOINT, LATEST_POLICY} <= {p.name for p in tmp_path.iterdir()}
    assert not (tmp_path / runs.RECORD).exists()


@pytest.mark.parametrize(
    ("given", "error", "reason"),
    [
        ({"algorithm": "serch"}, UnknownNameError, "Did you mean 'search'"),
        ({"algorithm": "search:hidden=0"}, OptionError, "it takes >= 1"),
        ({"env_id": "Pendulum-v7"}, UnknownNameError, "Did you mean"),
        ({"env_id": "CartPole-v1"}, UsageError, "continuous"),
        ({"device": "cuda:77"}, UsageError, "The device 'cuda:77' cannot be used: "),
        ({"device": "meta"}, UsageError, "The device 'meta' cannot be used: "),
        ({"device": "abacus"}, UsageError, "The device 'abacus' cannot be used: "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, given, error, reason):
    folder = tmp_path / "new"
    with pytest.raises(error) as raised:
        train(folder, **given)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=r"cannot be written: .* Choose another --out"):
        train(tmp_path / "file" / "run")


def test_the_default_folder_is_one_folder_for_any_environment():
    assert runs.default_folder("sac", TINY, 3) == Path("runs/train/sac_compressrl.testing-Tiny-v0_seed3")
    assert runs.default_folder("sac", "ns/Env-v0", 0).parent == Path("runs/train")
    other = runs.default_folder("sac:learning_rate=1e-3,hidden=8x8", "Hopper-v5", 0)
    assert other == Path("runs/train/sac-learning_rate=1e-3-hidden=8x8_Hopper-v5_seed0")


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert runs._commit() == ""


def test_progress_reaches_the_end(tmp_path):
    heard: list[tuple[str, float, float]] = []
    train(tmp_path, progress=lambda task, done, total, note="": heard.append((task, done, total)))
    assert ("training", 300, 300) in heard
