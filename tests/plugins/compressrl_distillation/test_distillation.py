"""On-policy distillation in the tiny environment."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from compressrl.lab import Budget, Lab
from compressrl.networks.modules import Clip, Rescale
from compressrl.policy import Policy
from compressrl.testing.policies import states
from compressrl_distillation.distillation import Distillation, DistillationOptions, Distilled, one_thread

QUICK = {"states_per_round": 200, "check_episodes": 3, "batch_size": 64, "stop_margin": 0.0}


class Session:
    """A distillation of a teacher's network with noise on its weights."""

    def __init__(self, teacher: Policy, budget: Budget | None = None, noise: float = 0.5, **options) -> None:
        self.teacher, self.reports = teacher, []
        self.lab = Lab(teacher.env_id, baseline=teacher, budget=budget or Budget())
        self.lab.progress = lambda *report: self.reports.append(report)
        self.student = teacher.network
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.student.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=noise)
        self.weights = [parameter.detach().clone() for parameter in self.student.parameters()]
        self.options = DistillationOptions(**(QUICK | options))

    def as_policy(self) -> Policy:
        return self.teacher.with_network(self.student, "student")

    def run(self) -> Distilled:
        return self.begun().run()

    def begun(self) -> Distillation:
        start = self.lab.collect(self.teacher, 200)
        return Distillation(
            self.student, self.as_policy, self.teacher, start, self.lab, self.options, "distilling"
        )

    def error(self) -> float:
        """Mean action error on states that the student visits."""
        visited = Lab(self.teacher.env_id, seed=99).collect(self.as_policy(), 500)
        return float(np.abs(self.as_policy()(visited) - self.teacher(visited)).mean())

    def unchanged(self) -> bool:
        return all(torch.equal(a, b) for a, b in zip(self.student.parameters(), self.weights, strict=True))


@pytest.fixture
def session(capable: Policy) -> Callable[..., Session]:
    return lambda *args, **options: Session(capable, *args, **options)


def test_the_student_learns_to_act_as_the_teacher(session):
    one = session(rounds=3, steps_per_round=200, learning_rate=0.01, noise=1.0)
    before = one.error()
    done = one.run()
    assert one.error() < 0.3 * before
    assert (done.rounds, done.updates) == (3, 600)
    assert done.kept_round > 0


def test_a_saturated_student_learns_its_way_back(session):
    """A squared error would have no gradient left: tanh(12) is 1 in float32."""
    one = session(rounds=2, steps_per_round=200, learning_rate=0.1, noise=0.0)
    with torch.no_grad():
        last = [m for m in one.student if isinstance(m, nn.Linear)][-1]
        last.bias.copy_(torch.tensor([12.0, -12.0]))
    before = one.error()
    one.run()
    assert one.error() < 0.3 * before


def test_the_best_round_is_kept_not_the_last(session):
    one = session(rounds=2, steps_per_round=20, learning_rate=30.0, noise=0.0)
    assert one.run().kept_round == 0
    assert one.unchanged()
    assert not one.student.training


def test_the_return_is_that_of_the_student_that_is_kept(session):
    one = session(rounds=2, steps_per_round=50, learning_rate=0.01)
    done = one.run()
    replay = Lab(one.teacher.env_id)
    replay.collect(one.teacher, 200)
    seeds = [int(s) for s in replay.rng.integers(2**31, size=3)]
    assert replay.rollout(one.as_policy(), 3, seeds).mean_return == pytest.approx(done.check_return)


def test_the_same_seed_gives_the_same_student(session):
    actions = []
    for unrelated in (1, 2):
        torch.manual_seed(unrelated)
        one = session(rounds=1, steps_per_round=30)
        one.run()
        actions.append(one.as_policy()(states()))
    assert np.array_equal(*actions)


def test_no_seconds_left_means_no_update(session):
    assert session(Budget(seconds=0.0), rounds=5).run().updates == 0


def test_the_budget_of_environment_steps_is_kept(session):
    # Every round costs 200 states and three episodes of up to 25 steps.
    one = session(Budget(environment_steps=900), rounds=20, steps_per_round=5)
    done = one.run()
    before_distilling = 200
    assert 900 - 275 < one.lab.environment_steps_used - before_distilling <= 900
    assert done.rounds in (3, 4)


def test_the_proof_is_paid_from_the_budget_too(session):
    """It is up to 20 episodes of up to 25 steps: dearer than a round."""
    one = session(rounds=20, steps_per_round=100, learning_rate=0.01, stop_margin=0.2, environment_steps=700)
    done = one.run()
    assert done.stopped == "budget used up"
    assert one.lab.environment_steps_used - 200 <= 700


def test_seconds_that_end_before_the_first_update_are_no_divergence(session, caplog):
    one = session(rounds=2, seconds=60.0)
    distillation = one.begun()
    distillation._gather = lambda: setattr(distillation, "started", -1e9)
    assert distillation.run().stopped == "budget used up"
    assert "diverged" not in caplog.text


def test_no_rounds_leave_the_student_as_it_came(session):
    one = session(rounds=0)
    assert one.run().updates == 0
    assert one.unchanged()


def test_progress_is_reported_to_its_end(session):
    one = session(rounds=2, steps_per_round=100)
    one.run()
    counts = [report[1] for report in one.reports]
    assert counts == sorted(counts)
    task, done, total, note = one.reports[-1]
    assert (task, done, total) == ("distilling", 200, 200)
    assert "action error" in note


def test_errors_count_in_shares_of_the_action_range(capable: Policy):
    """The same policy in other action units gets the same updates."""
    students = []
    for factor in (1.0, 100.0):
        scale = Rescale(torch.full((2,), factor), torch.zeros(2))
        bounds = {"action_low": factor * capable.action_low, "action_high": factor * capable.action_high}
        teacher = replace(capable, **bounds).with_network(nn.Sequential(*capable.network, scale), "scaled")
        one = Session(capable, rounds=1, steps_per_round=20)
        student = nn.Sequential(*one.student, scale)
        options = {"lab": one.lab, "options": one.options, "task": "distilling"}
        Distillation(student, one.as_policy, teacher, states(200), **options).run()
        students.append([parameter.detach().clone() for parameter in one.student.parameters()])
    for first, second, start in zip(*students, one.weights, strict=True):
        assert torch.allclose(first, second, atol=1e-4)
        assert not torch.equal(first, start)


def test_a_clipped_output_is_taken(capable: Policy):
    """PPO's and TRPO's have no tanh."""
    *row, _, rescale = capable.network
    bounds = torch.from_numpy(capable.action_low.copy()), torch.from_numpy(capable.action_high.copy())
    teacher = capable.with_network(nn.Sequential(*row, rescale, Clip(*bounds)), "clipped")
    one = Session(teacher, rounds=2, steps_per_round=100, learning_rate=0.01, noise=1.0)
    before = one.error()
    one.run()
    assert one.error() < 0.3 * before


def test_one_thread_gives_the_threads_back():
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_the_options_limit_steps_and_seconds_too(session):
    assert session(seconds=0.0).run().stopped == "budget used up"
    few = session(environment_steps=900, rounds=20, steps_per_round=5)
    assert few.run().rounds in (3, 4)
    assert few.lab.environment_steps_used <= 1100


def test_it_stops_once_the_student_is_proven(session):
    one = session(rounds=20, steps_per_round=100, learning_rate=0.01, stop_margin=0.2)
    done = one.run()
    assert done.stopped == "as good as its teacher"
    assert done.rounds < 20
    proof = Lab(one.teacher.env_id)
    seeds = list(range(1000, 1030))
    returns = [proof.rollout(p, 30, seeds).mean_return for p in (one.as_policy(), one.teacher)]
    assert returns[0] > 0.8 * returns[1]


def test_a_margin_of_zero_never_stops_it(session):
    done = session(rounds=2, steps_per_round=50, learning_rate=0.01, noise=0.0).run()
    assert done.stopped == "all rounds done"


def test_one_that_only_loses_return_says_so(session, caplog):
    one = session(rounds=2, steps_per_round=50, learning_rate=1e3, noise=0.0)
    with caplog.at_level(logging.WARNING, logger="compressrl"):
        assert one.run().kept_round == 0
    assert "distilling made it worse in all of 2 rounds" in caplog.text
    assert one.unchanged()


def test_one_that_diverges_keeps_the_best_and_says_so(session, caplog):
    one = session(rounds=3, steps_per_round=50, learning_rate=1e38, noise=0.0)
    with caplog.at_level(logging.WARNING, logger="compressrl"):
        done = one.run()
    assert done.stopped == "diverged"
    assert "distilling diverged in round 1; the student of round 0 is kept" in caplog.text
    assert one.unchanged()
