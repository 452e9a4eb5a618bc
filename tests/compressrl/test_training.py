"""A training session: checkpoints that resume, curves without doubles, and nothing lost by a failure."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compressrl.errors import CompressrlError, EnvironmentFailedError, TrainingDivergedError, UsageError
from compressrl.networks import layers
from compressrl.policy import Policy
from compressrl.testing import tiny_policy
from compressrl.training import BEST_POLICY, CHECKPOINT, LATEST_POLICY, LEARNING_CURVE, TrainingSession

FINGERPRINT = {"algorithm": "x", "env_id": "Tiny-v0", "rate": 1e-3, "hidden": "8x8", "limit": None}


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((3,), float(step)), "nested": [{"a": 1.5}, "text"]}


def policy(step: int) -> Policy:
    """A policy that tells the step at which it was made."""
    low = np.full(2, -1, np.float32)
    row = (layers.Linear(np.zeros((2, 3)), np.full(2, step)),)
    return Policy("Tiny-v0", "x", 3, low, -low, (f"step {step}",), layers=row)


def session(folder: Path | None, steps: int = 100, **fields: Any) -> TrainingSession:
    given = {"evaluation_every": 10, "checkpoint_every": 20, "fingerprint": FINGERPRINT} | fields
    return TrainingSession(steps=steps, folder=folder, **given)


def go(run: TrainingSession, first: int, last: int) -> None:
    """Environment steps first..last."""
    for step in range(first, last + 1):
        run.boundary(step, lambda step=step: policy(step), lambda step=step: state(step))


def made_at(path: Path) -> str:
    return Policy.load(path).provenance[0]


def curve(folder: Path) -> list[tuple[int, float]]:
    header, *rows = (folder / LEARNING_CURVE).read_text().splitlines()
    assert header == "step,seconds,evaluation_return_mean,training_return_mean"
    return [(int(row.split(",")[0]), float(row.split(",")[2])) for row in rows]


def test_a_new_run_begins_at_the_beginning(tmp_path):
    assert session(tmp_path).resume() is None
    assert session(None).resume() is None


def test_the_start_is_told_once_the_run_can_begin_or_go_on(tmp_path):
    told: list[str] = []
    run = session(tmp_path, steps=20, on_start=lambda: told.append("began"))
    run.resume()
    go(run, 1, 20)
    with pytest.raises(UsageError):
        session(tmp_path, fingerprint={"other": 1}, on_start=lambda: told.append("refused")).resume()
    session(tmp_path, steps=20, on_start=lambda: told.append("finished")).resume()
    session(tmp_path, steps=40, on_start=lambda: told.append("went on")).resume()
    assert told == ["began", "went on"]


def test_it_checkpoints_in_time_and_at_the_end(tmp_path):
    run, saved = session(tmp_path, steps=50), []
    for step in range(1, 51):
        run.boundary(step, lambda: policy(1), lambda step=step: saved.append(step) or state(step))
    assert saved == [20, 40, 50]
    assert (tmp_path / LATEST_POLICY).exists()


def test_policy_and_state_are_made_only_when_they_are_needed():
    def forbidden() -> Any:
        raise AssertionError

    session(None).boundary(20, forbidden, forbidden)
    session(None, steps=20).boundary(20, forbidden, forbidden)


def test_steps_that_jump_over_the_marks_do_not_miss_them(tmp_path):
    run, saved = session(tmp_path), []
    for step in range(7, 100, 7):
        run.boundary(step, lambda: policy(1), lambda step=step: saved.append(step) or state(step))
    assert saved == [21, 42, 63, 84]


def test_a_resumed_run_goes_on_where_the_checkpoint_was(tmp_path):
    values = iter([1, 5, 2, 3, 9.0])
    run = session(tmp_path, evaluate=lambda _: next(values))
    go(run, 1, 55)
    again = session(tmp_path, evaluate=lambda _: 4.0)
    found = again.resume()
    assert found is not None
    assert found["step"] == 40
    assert found["weights"].tolist() == [40, 40, 40]
    assert found["nested"] == [{"a": 1.5}, "text"]
    assert (again.best_return, again.best_step) == (5, 20)
    assert again.seconds >= 0
    # The evaluation at step 50 is behind the checkpoint: it will be made again.
    assert curve(tmp_path) == [(10, 1), (20, 5), (30, 2), (40, 3)]
    go(again, 41, 100)
    assert curve(tmp_path) == [(10, 1), (20, 5), (30, 2), (40, 3), *((s, 4) for s in range(50, 101, 10))]


def test_the_best_policy_is_of_steps_that_were_not_lost(tmp_path):
    values = iter([1, 2, 9.0])
    go(session(tmp_path, evaluate=lambda _: next(values)), 1, 35)
    assert made_at(tmp_path / BEST_POLICY) == "step 30"
    again = session(tmp_path, evaluate=lambda _: 0.0)
    again.resume()
    assert (again.best_return, again.best_step) == (2, 20)
    assert made_at(tmp_path / BEST_POLICY) == "step 20"


def test_a_best_policy_of_before_the_first_kept_evaluation_is_lost_with_it(tmp_path):
    run = session(tmp_path, evaluate=lambda _: 1.0, evaluation_every=25, checkpoint_every=20)
    go(run, 1, 30)
    assert made_at(tmp_path / BEST_POLICY) == "step 25"
    session(tmp_path).resume()
    assert not (tmp_path / BEST_POLICY).exists()


def test_an_interrupted_run_is_evaluated_where_an_uninterrupted_one_is(tmp_path):
    run = session(tmp_path, evaluate=lambda _: 1.0)
    go(run, 1, 26)
    run.save(26, lambda: policy(26), lambda: state(26))
    again = session(tmp_path, evaluate=lambda _: 1.0)
    again.resume()
    go(again, 27, 50)
    assert [step for step, _ in curve(tmp_path)] == [10, 20, 30, 40, 50]


def test_an_evaluation_that_was_interrupted_is_made_again(tmp_path):
    def interrupted(_: Policy) -> float:
        raise KeyboardInterrupt

    run = session(tmp_path, evaluate=interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(run, 1, 10)
    run.save(10, lambda: policy(10), lambda: state(10))
    again = session(tmp_path, evaluate=lambda _: 1.0)
    again.resume()
    go(again, 10, 20)
    assert [step for step, _ in curve(tmp_path)] == [10, 20]


def test_an_evaluation_that_is_made_up_for_is_in_the_checkpoint_too(tmp_path):
    def interrupted(_: Policy) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(session(tmp_path, 30, evaluate=interrupted, evaluation_every=30), 1, 30)
    session(tmp_path).save(30, lambda: policy(30), lambda: state(30))
    made_up = session(tmp_path, 30, evaluate=lambda _: 9.0, evaluation_every=30)
    made_up.resume()
    go(made_up, 30, 30)
    longer = session(tmp_path, 60, evaluate=lambda _: 1.0, evaluation_every=30)
    longer.resume()
    assert (longer.best_return, longer.best_step) == (9.0, 30)
    go(longer, 30, 60)
    assert curve(tmp_path) == [(30, 9), (60, 1)]
    assert made_at(tmp_path / BEST_POLICY) == "step 30"


def test_a_row_that_the_checkpoint_does_not_know_of_is_not_there_twice(tmp_path):
    """A process can be killed between the two."""
    run = session(tmp_path, 10, evaluate=lambda _: 1.0)
    run.save(10, lambda: policy(10), lambda: state(10))
    run._record_evaluation(10, policy(10), True)
    again = session(tmp_path, 10, evaluate=lambda _: 2.0)
    again.resume()
    go(again, 10, 10)
    assert curve(tmp_path) == [(10, 2)]


def test_ctrl_c_does_not_part_a_row_from_its_evaluation(tmp_path, monkeypatch):
    run = session(tmp_path, evaluate=lambda _: 1.0)
    write = run._write_curve
    monkeypatch.setattr(run, "_write_curve", lambda rows: write(rows) or os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        go(run, 1, 10)
    monkeypatch.undo()
    go(run, 10, 10)
    assert curve(tmp_path) == [(10, 1)]


def test_the_last_evaluation_of_a_run_is_made_once(tmp_path):
    evaluations = []
    run = session(tmp_path, steps=10, evaluate=lambda _: evaluations.append(1) or 1.0)
    go(run, 1, 10)
    go(run, 10, 10)
    again = session(tmp_path, steps=10, evaluate=lambda _: evaluations.append(1) or 1.0)
    again.resume()
    before = (tmp_path / CHECKPOINT).stat().st_mtime_ns
    go(again, 10, 10)
    assert len(evaluations) == 1
    assert (tmp_path / CHECKPOINT).stat().st_mtime_ns == before
    assert again.step == 10


def test_the_wall_time_of_earlier_parts_is_counted(tmp_path):
    run = session(tmp_path)
    run._started -= 1000
    go(run, 1, 20)
    again = session(tmp_path)
    again.resume()
    assert again.seconds >= 1000


def test_the_best_policy_is_kept_and_the_latest(tmp_path):
    values = iter([1, 7, 3, math.nan, 6])
    run = session(tmp_path, steps=50, evaluate=lambda _: next(values))
    go(run, 1, 50)
    assert made_at(tmp_path / BEST_POLICY) == "step 20"
    assert made_at(tmp_path / LATEST_POLICY) == "step 50"
    assert (run.best_return, run.best_step) == (7, 20)


def test_a_policy_that_has_not_learnt_is_in_the_curve_and_never_the_best(tmp_path):
    values = iter([9, 8, 2, 3])
    run = session(tmp_path, steps=40, evaluate=lambda _: next(values))
    for step in range(1, 41):
        run.boundary(
            step, lambda step=step: policy(step), lambda step=step: state(step), has_learnt=step > 20
        )
    assert [mean for _, mean in curve(tmp_path)] == [9, 8, 2, 3]
    assert (run.best_return, run.best_step) == (3, 40)
    assert made_at(tmp_path / BEST_POLICY) == "step 40"


def test_a_lucky_evaluation_is_confirmed_on_further_episodes(tmp_path):
    evaluations = iter([5, 9, 8, 6.5, 8.5])
    confirmed = {"step 10": 4, "step 20": 7, "step 30": 6, "step 50": 8}
    run = session(
        tmp_path, 50, evaluate=lambda _: next(evaluations), confirm=lambda p: confirmed.pop(p.provenance[0])
    )
    go(run, 1, 40)
    assert made_at(tmp_path / BEST_POLICY) == "step 20"
    assert (run.best_return, run.best_step) == (7, 20)
    assert confirmed == {"step 50": 8}
    go(run, 41, 50)
    assert (run.best_return, run.best_step) == (8, 50)
    assert [mean for _, mean in curve(tmp_path)] == [5, 9, 8, 6.5, 8.5]


def test_the_curve_of_a_run_that_never_reached_a_checkpoint_starts_anew(tmp_path):
    go(session(tmp_path, evaluate=lambda _: 1.0), 1, 15)
    again = session(tmp_path, evaluate=lambda _: 2.0)
    assert again.resume() is None
    go(again, 1, 20)
    assert curve(tmp_path) == [(10, 2), (20, 2)]


@pytest.mark.parametrize(
    ("change", "different"),
    [
        ({"rate": 1e-4}, "rate"),
        ({"env_id": "Hopper-v5", "hidden": "4"}, "env_id, hidden"),
        ({"limit": 3}, "limit"),
        ({"added": 1}, "added"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_left(tmp_path, change, different):
    go(session(tmp_path), 1, 20)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(UsageError) as error:
        session(tmp_path, fingerprint=FINGERPRINT | change).resume()
    assert str(error.value) == (
        f"{tmp_path / CHECKPOINT} is of another run (different: {different}). "
        "Choose another --out, or delete it."
    )
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_run_can_be_lengthened_but_not_cut(tmp_path):
    go(session(tmp_path, steps=40), 1, 40)
    assert session(tmp_path, steps=60).resume() is not None
    assert session(tmp_path, steps=40).resume() is not None
    with pytest.raises(UsageError, match="a run of 40 steps, more than 30"):
        session(tmp_path, steps=30).resume()


def test_a_run_whose_last_rollout_overshoots_its_steps_resumes(tmp_path):
    run = session(tmp_path, steps=30)
    run.boundary(32, lambda: policy(32), lambda: state(32))
    assert session(tmp_path, steps=30).resume()["step"] == 32


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_checkpoint_is_told_in_one_line(tmp_path, damage):
    go(session(tmp_path), 1, 20)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(
        UsageError, match=r"checkpoint\.pt is damaged\. Delete it to start anew, or .* --out\.$"
    ):
        session(tmp_path).resume()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("[enforce fail] can't allocate memory: you tried to"), "does not fit into memory"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_a_good_checkpoint_that_cannot_be_read_now_is_not_to_be_deleted(tmp_path, monkeypatch, error, told):
    def load(*_: Any, **__: Any) -> None:
        raise error

    go(session(tmp_path), 1, 20)
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(CompressrlError, match=told) as raised:
        session(tmp_path).resume()
    assert "delete" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_curve_is_told_in_one_line(tmp_path):
    go(session(tmp_path, evaluate=lambda _: 1.0), 1, 20)
    with (tmp_path / LEARNING_CURVE).open("a") as file:
        file.write("3x,1,2,3\n")
    with pytest.raises(UsageError, match=r"learning_curve\.csv is damaged .*'3x'") as raised:
        session(tmp_path).resume()
    assert "\n" not in str(raised.value)


def test_a_best_policy_that_was_not_written_is_not_the_best(tmp_path, monkeypatch):
    run = session(tmp_path, evaluate=lambda _: 5.0)
    go(run, 1, 5)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Policy, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            go(run, 6, 10)
    run.save(10, lambda: policy(10), lambda: state(10))
    again = session(tmp_path, evaluate=lambda _: 4.0)
    again.resume()
    go(again, 10, 20)
    assert (again.best_return, again.best_step) == (4.0, 10)
    assert made_at(tmp_path / BEST_POLICY) == "step 10"


@pytest.mark.parametrize("other", [{"weights": torch.zeros(3)}, torch.zeros(3)])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, other):
    torch.save(other, tmp_path / CHECKPOINT)
    with pytest.raises(UsageError, match=r"checkpoint\.pt is not a checkpoint of a training run\."):
        session(tmp_path).resume()


def test_a_checkpoint_never_runs_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "run").touch, ())

    torch.save({"state": Evil()}, tmp_path / CHECKPOINT)
    with pytest.raises(UsageError, match="is not a checkpoint"):
        session(tmp_path).resume()
    assert not (tmp_path / "run").exists()


# What stops a run.


def test_ctrl_c_while_the_run_is_saved_is_heard_at_the_end(tmp_path, caplog):
    """By a real signal, in the middle of the write, and twice: the second one is no news."""
    real = signal.getsignal(signal.SIGINT)

    def content(step: int) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return state(step)

    run = session(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.save(7, lambda: policy(7), lambda: content(7))
    assert made_at(tmp_path / LATEST_POLICY) == "step 7"
    assert session(tmp_path).resume()["step"] == 7
    assert [record.getMessage() for record in caplog.records] == ["saving the run first, a moment ..."]
    assert signal.getsignal(signal.SIGINT) is real is signal.default_int_handler


@pytest.mark.parametrize("stops", [KeyboardInterrupt, EnvironmentFailedError])
def test_what_stops_a_run_saves_it(tmp_path, stops):
    run = session(tmp_path)
    with (
        pytest.raises(stops) as raised,
        run.stoppable(lambda: run.save(7, lambda: policy(7), lambda: state(7))),
    ):
        raise stops("X has failed.")
    assert session(tmp_path).resume()["step"] == 7
    assert stops is KeyboardInterrupt or str(raised.value) == "X has failed. The run is saved at step 7."


def test_ctrl_c_again_does_not_keep_a_stopped_run_from_being_saved(tmp_path):
    run = session(tmp_path)

    def save() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        run.save(7, lambda: policy(7), lambda: state(7))

    with pytest.raises(KeyboardInterrupt), run.stoppable(save):
        raise KeyboardInterrupt
    assert session(tmp_path).resume()["step"] == 7


def test_a_defect_saves_nothing(tmp_path):
    run = session(tmp_path)
    with pytest.raises(ZeroDivisionError), run.stoppable(lambda: run.save(7, lambda: policy(7), dict)):
        _ = 1 / 0
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_failure_without_a_folder_promises_nothing():
    run = session(None)
    with pytest.raises(EnvironmentFailedError) as raised, run.stoppable(lambda: None):
        raise EnvironmentFailedError("X has failed.")
    assert str(raised.value) == "X has failed."


# Divergence.


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_files(tmp_path, value):
    run = session(tmp_path, evaluate=lambda _: 1.0)
    go(run, 1, 20)
    run.scalars(20, {"loss": 0.5})
    with pytest.raises(TrainingDivergedError) as error:
        run.scalars(25, {"loss": value, "entropy": 1.0})
    assert str(error.value) == (
        f"loss became NaN or infinite at step 25. The last good policy is {tmp_path / BEST_POLICY}. "
        "Try lower learning rates, in another --out: the same command repeats it."
    )
    run.close()
    assert session(tmp_path).resume()["step"] == 20


def test_the_message_promises_no_policy_where_none_is_kept(tmp_path):
    for folder in (tmp_path, None):
        with pytest.raises(TrainingDivergedError, match=r"^loss became NaN or infinite at step 5\. Try"):
            session(folder).scalars(5, {"loss": math.nan})


@pytest.mark.parametrize("evaluate", [None, lambda _: 1e9])
def test_a_policy_with_nan_is_neither_evaluated_nor_saved(tmp_path, evaluate):
    run = session(tmp_path, evaluate=lambda _: 1.0)
    go(run, 1, 20)
    run.evaluate = evaluate
    before = {p.name: p.read_bytes() for p in tmp_path.glob("*.p*")}
    weights = np.zeros((2, 3))
    weights[0, 0] = np.nan
    low = np.full(2, -1, np.float32)
    bad = Policy("Tiny-v0", "x", 3, low, -low, (), layers=(layers.Linear(weights, np.zeros(2)),))
    with pytest.raises(
        TrainingDivergedError, match=r"the policy became NaN or infinite at step 40\. The last"
    ):
        run.boundary(40, lambda: bad, lambda: state(40))
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.p*")} == before
    assert before.keys() == {CHECKPOINT, BEST_POLICY, LATEST_POLICY}


# Full disk.

FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from compressrl.errors import CompressrlError
from compressrl.testing import tiny_policy
from compressrl.training import TrainingSession

folder = Path(sys.argv[1])
run = TrainingSession(steps=100, folder=folder, fingerprint={"a": 1})
run.save(10, tiny_policy, lambda: {"step": 10, "w": torch.zeros(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    run.save(20, tiny_policy, lambda: {"step": 20, "w": torch.zeros(100_000)})
except CompressrlError as error:
    print(error)
print(run.resume()["step"])
"""


def test_a_full_disk_is_one_line_and_the_old_checkpoint_survives(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"{tmp_path / CHECKPOINT} cannot be written: File too large.\n10\n"
    assert result.stderr == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == [CHECKPOINT, LATEST_POLICY]


def test_a_full_device_while_checkpointing_is_named(tmp_path, monkeypatch):
    go(session(tmp_path), 1, 20)
    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: opened(Path("/dev/full") if a == ("wb",) else self, *a, **k)
    )
    with pytest.raises(
        CompressrlError, match=r"checkpoint\.pt cannot be written: No space left on device\.$"
    ):
        session(tmp_path).save(40, lambda: policy(40), lambda: state(40))
    monkeypatch.undo()
    assert session(tmp_path).resume()["step"] == 20


def test_a_state_that_cannot_be_stored_is_a_defect_not_a_full_disk(tmp_path):
    with pytest.raises(Exception, match="pickle"):
        session(tmp_path).save(1, lambda: policy(1), lambda: {"bad": lambda: 0})
    assert not (tmp_path / CHECKPOINT).exists()


# Progress and TensorBoard.


def test_progress_is_told_often_and_with_the_recent_returns():
    heard: list[tuple[float, float, str]] = []
    run = session(
        None, steps=1000, progress=lambda _, done, total, note="": heard.append((done, total, note))
    )
    run.episode(30, 10.0, 30)
    run.episode(60, 20.0, 30)
    for step in range(48, 1001, 48):
        run.boundary(step, tiny_policy, dict)
    run.boundary(1000, tiny_policy, dict)
    assert [done for done, _, _ in heard] == [144, 288, 432, 576, 720, 864, 1000]
    assert heard[0][1:] == (1000, "return 15")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: [(e.step, pytest.approx(e.value)) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_scalars_are_written_and_those_run_again_replaced(tmp_path):
    run = session(tmp_path, evaluate=lambda _: 3.0)
    run.resume()
    go(run, 1, 20)
    run.scalars(20, {"train/loss": 1.0})
    run.episode(25, 8.0, 5)
    run.scalars(25, {"train/loss": 2.0})
    run.close()
    assert scalars(tmp_path) == {
        "evaluation/return_mean": [(10, 3), (20, 3)],
        "train/loss": [(20, 1), (25, 2)],
        "train/episode_return": [(25, 8)],
        "train/episode_length": [(25, 5)],
    }
    again = session(tmp_path)
    again.resume()
    again.scalars(25, {"train/loss": 9.0})
    again.close()
    assert scalars(tmp_path)["train/loss"] == [(20, 1), (25, 9)]


def test_ctrl_c_does_not_cut_a_scalar_short(tmp_path, monkeypatch, caplog):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    written = []

    def add_scalar(writer: Any, name: str, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        written.append(name)

    monkeypatch.setattr(tensorboard.SummaryWriter, "add_scalar", add_scalar)
    run = session(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run.scalars(1, {"a": 1.0, "b": 2.0})
    assert written == ["a", "b"]
    assert not caplog.records
    run.close()


def test_without_tensorboard_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = session(tmp_path)
    run.scalars(1, {"loss": 1.0})
    run.episode(2, 1.0, 1)
    run.close()
    assert list(tmp_path.iterdir()) == []


def test_a_session_without_a_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = session(None, steps=30, evaluate=lambda _: 1.0)
    go(run, 1, 30)
    run.scalars(30, {"loss": 1.0})
    run.save(30, lambda: policy(30), lambda: state(30))
    run.close()
    assert list(tmp_path.iterdir()) == []
