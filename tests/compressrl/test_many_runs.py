"""Runs of many seeds, each in a real process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from compressrl import many_runs, runs
from compressrl.errors import CompressrlError, UsageError
from compressrl.many_runs import Run
from compressrl.training import CHECKPOINT, LEARNING_CURVE

ALGORITHM = "ddpg:hidden=8,batch_size=16,learning_starts=50"


def wanted(folder, seeds=(0, 1, 2), steps=300, algorithm=ALGORITHM):
    return [Run(algorithm, "Pendulum-v1", steps, seed, folder / f"seed{seed}", "cpu") for seed in seeds]


def curve(folder):
    rows = [line.split(",") for line in (folder / LEARNING_CURVE).read_text().splitlines()]
    return [(step, evaluated) for step, _, evaluated, _ in rows]  # but the seconds


@pytest.mark.slow
def test_each_run_is_what_its_seed_makes_alone(tmp_path):
    told = []
    records = many_runs.train(
        wanted(tmp_path), at_once=2, progress=lambda task, done, *_: told.append((task, done))
    )
    assert [record["seed"] for record in records] == [0, 1, 2]
    alone = runs.train(ALGORITHM, "Pendulum-v1", steps=300, seed=1, out=tmp_path / "alone")
    assert curve(tmp_path / "seed1") == curve(tmp_path / "alone") != curve(tmp_path / "seed2")
    assert records[1]["return_mean"] == alone.record["return_mean"]
    written = json.loads((tmp_path / "seed1" / runs.RECORD).read_text())
    assert records[1] == {**written, "path": str(tmp_path / "seed1" / runs.FINAL_POLICY)}
    assert {(f"seed {seed}", 300) for seed in range(3)} <= set(told)


@pytest.mark.slow
def test_runs_of_two_threads_are_half_as_many_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(many_runs, "available_cores", lambda: 2)
    under_way, most = [], []
    created, ended = many_runs._Trainer.__init__, many_runs._Trainer.end

    def begin(trainer, run, progress):
        under_way.append(run.seed)
        most.append(len(under_way))
        created(trainer, run, progress)

    def end(trainer):
        under_way.remove(trainer.run.seed)
        ended(trainer)

    monkeypatch.setattr(many_runs._Trainer, "__init__", begin)
    monkeypatch.setattr(many_runs._Trainer, "end", end)
    runs_of_two = [replace(run, threads=2) for run in wanted(tmp_path, (0, 1), steps=60)]
    assert [record["seed"] for record in many_runs.train(runs_of_two)] == [0, 1]
    assert max(most) == 1


def test_a_seed_that_fails_is_named_and_does_not_stop_the_others(tmp_path):
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0" / runs.RECORD).write_text("{}")
    with pytest.raises(UsageError, match=r"Seed 0 failed: .* finished run without its checkpoint"):
        many_runs.train(wanted(tmp_path, (0, 1)), at_once=1)
    assert (tmp_path / "seed1" / runs.RECORD).exists()


def test_a_process_that_dies_is_told(tmp_path, monkeypatch):
    def kill(trainer, progress):
        created(trainer, wanted(tmp_path, (3,), steps=10**8)[0], progress)
        trainer.process.kill()

    created = many_runs._Trainer.__init__
    monkeypatch.setattr(
        many_runs._Trainer, "__init__", lambda trainer, run, progress: kill(trainer, progress)
    )
    with pytest.raises(CompressrlError, match=r"^Seed 3 failed: its process ended with exit status -9"):
        many_runs.train(wanted(tmp_path, (3,)))


def test_a_run_whose_process_is_ended_saves_itself_and_says_so(tmp_path):
    def progress(task, done, *_):
        if done >= 200 and not ended.is_set():
            ended.set()
            os.kill(trainers[0].process.pid, signal.SIGTERM)

    ended, trainers, created = threading.Event(), [], many_runs._Trainer.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            many_runs._Trainer, "__init__", lambda self, *a: trainers.append(self) or created(self, *a)
        )
        with pytest.raises(
            CompressrlError, match="Seed 0 failed: it was interrupted, and goes on by the same"
        ):
            many_runs.train(wanted(tmp_path, (0,), steps=10**8), progress=progress)
    assert torch.load(tmp_path / "seed0" / CHECKPOINT, weights_only=True)["step"] >= 200


def test_what_is_wrong_for_all_is_said_before_anything_starts(tmp_path):
    with pytest.raises(UsageError, match="hiden"):
        many_runs.train(wanted(tmp_path, algorithm="ddpg:hiden=8"))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_saves_the_runs_under_way(tmp_path):
    def progress(task, done, *_):
        if done >= 200 and not interrupted.is_set():
            interrupted.set()
            os.kill(os.getpid(), signal.SIGINT)

    interrupted = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        many_runs.train(wanted(tmp_path, (0,), steps=10**8), progress=progress)
    saved = torch.load(tmp_path / "seed0" / CHECKPOINT, weights_only=True)
    assert saved["step"] >= 200


@pytest.mark.slow
def test_termination_saves_the_runs_also_where_ctrl_c_is_ignored(tmp_path):
    """As it is in what a batch script starts in the background."""
    words = [sys.executable, "-m", "compressrl", "train", "--algo", ALGORITHM, "--env", "Pendulum-v1"]
    words += ["--steps", "10000000", "--seeds", "0..0", "--out", str(tmp_path)]
    with subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    ) as parent:
        while not (tmp_path / "seed0" / LEARNING_CURVE).exists() and parent.poll() is None:
            time.sleep(0.1)
        parent.terminate()
        said = parent.communicate(timeout=60)[1]
    assert parent.returncode == 1
    assert "this goes on:" in said
    assert torch.load(tmp_path / "seed0" / CHECKPOINT, weights_only=True)["step"] > 0


@pytest.mark.slow
def test_runs_save_themselves_where_the_process_that_started_them_is_killed(tmp_path):
    words = [sys.executable, "-m", "compressrl", "train", "--algo", ALGORITHM, "--env", "Pendulum-v1"]
    words += ["--steps", "20000", "--seeds", "0..0", "--out", str(tmp_path)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as parent:
        while "seed 0: " not in parent.stderr.readline() and parent.poll() is None:
            pass
        parent.kill()
        said = parent.stderr.read()  # to its end: the run's process has it too
    assert 0 < torch.load(tmp_path / "seed0" / CHECKPOINT, weights_only=True)["step"] < 20_000
    assert "Traceback" not in said
