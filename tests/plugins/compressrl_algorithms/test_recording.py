"""Repeated updates are those that Python makes, to the last bit."""

import threading

import numpy as np
import pytest
import torch

from compressrl.lab import Lab
from compressrl.testing import TINY
from compressrl_algorithms import elementwise, recording
from compressrl_algorithms.ddpg import DDPG
from compressrl_algorithms.kernel import kernel, scratch
from compressrl_algorithms.on_policy import Training, ValueLearner
from compressrl_algorithms.ppo import PPO
from compressrl_algorithms.recording import Recording, Repeater
from compressrl_algorithms.replay_buffer import ReplayBuffer
from compressrl_algorithms.rollout_buffer import Batch
from compressrl_algorithms.sac import SAC
from compressrl_algorithms.td3 import TD3

pytestmark = pytest.mark.skipif(kernel() is None, reason="no C compiler")
ALGORITHMS = pytest.mark.parametrize("algorithm", [SAC, TD3, DDPG], ids=lambda a: a.name)


@pytest.fixture
def replay():
    """Fifty transitions."""
    rng, buffer = np.random.default_rng(0), ReplayBuffer(50, 3, 2)
    for n in range(50):
        buffer.add(*rng.standard_normal((3, 3), np.float32)[[0]], rng.random(2, np.float32), 1.0, n % 9 == 0,
                   rng.standard_normal(3, np.float32))  # fmt: skip
    return buffer


@pytest.fixture
def count(monkeypatch):
    """calls = count(learner, "method"): a list that grows with each call that Python makes."""

    def watch(owner, name):
        calls, method = [], getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: calls.append(name) or method(*a, **k))
        return calls

    return watch


def plainly(update, *given, **flags):
    return update(*given, **flags)


def updated(learner, replay, updates=14, held=5):
    """The values of so many updates, the first ones of the critics alone."""
    generator, values = torch.Generator().manual_seed(1), []
    for n in range(updates):
        batch = replay.sample(16, generator)
        values.append(dict(learner.update(batch, generator, hold_actor=n < held)))
    return values


@ALGORITHMS
def test_they_are_the_same_updates(algorithm, learner_of, replay, count):
    learner, other = learner_of(algorithm), learner_of(algorithm)
    other.repeater = plainly
    targets = count(learner, "bellman_target")
    assert updated(learner, replay) == updated(other, replay)
    pairs = zip(learner.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs)
    assert len(targets) < 14 - 4


@ALGORITHMS
def test_exploration_is_the_same(algorithm, learner_of, count):
    learner, observation, repeater = learner_of(algorithm), torch.empty(1, 3), Repeater()
    ours, theirs = (torch.Generator().manual_seed(2) for _ in range(2))
    drawn = count(learner, "explore")

    def explore(observation, generator):
        return {"action": learner.explore(observation, generator)}

    for n in range(6):
        observation.fill_(n / 10)
        action = repeater(explore, observation, ours)["action"]
        assert torch.equal(action, learner.explore(observation, theirs))
    assert len(drawn) == 6 + 2  # ours were a plain one, a noted one and repeats


@pytest.mark.parametrize("rows", [96, 100])  # parts of one size, and of two
def test_updates_from_minibatches_are_the_same_while_the_rate_falls(rows, count):
    rng = np.random.default_rng(0)
    batch = Batch(*(torch.from_numpy(rng.standard_normal(shape, np.float32)) for shape in
                    [(rows, 3), (rows, 2), rows, rows, rows]))  # fmt: skip
    ends = []
    for plain in (False, True):
        agent = Training(PPO(hidden="16x16"), Lab(TINY)).agent
        options = PPO(batch_size=32, value_batch_size=24, epochs=3, target_kl=1e9)
        policy, value = options.learner(agent), ValueLearner(agent, options)
        if plain:
            policy.repeater = value.repeater = plainly
        judged, rng = count(policy, "_judge"), np.random.default_rng(1)
        said = [(policy.improve(batch, left, rng), value.fit(batch, rng)) for left in (1.0, 0.5, 0.1)]
        ends.append((said, {name: part.tolist() for name, part in agent.state_dict().items()}, len(judged)))
    (said, state, calls), (expected, expected_state, all_calls) = ends
    assert (said, state) == (expected, expected_state)
    assert calls < all_calls / 3


def test_what_else_happens_in_an_update_is_not_lost(learner_of, replay, count):
    """It is carried out each time, with the right result."""
    learner, other = learner_of(DDPG), learner_of(DDPG)
    other.repeater = plainly
    for each in (learner, other):
        plain = each.bellman_target
        each.bellman_target = lambda batch, generator, plain=plain: plain(batch, generator).clamp(-1, 1)
    targets = count(learner, "bellman_target")
    assert updated(learner, replay) == updated(other, replay)
    assert len(targets) == 14
    [known] = learner.repeater.known.values()
    assert set(known.rows.values()) == {None}  # it is not tried again each time


@pytest.mark.parametrize(
    "reads", [lambda x: x.item(), lambda x: float(x), lambda x: bool(x > 0)], ids=["item", "float", "bool"]
)
def test_numbers_that_python_reads_from_tensors_are_not_repeated(reads):
    with Recording() as noted:
        reads(torch.empty(()))
    assert noted.row({}) is None


@pytest.mark.parametrize(
    "makes", [lambda: torch.tensor(3.0), lambda: torch.from_numpy(np.ones(1)) + 0, lambda: torch.rand(1)],
    ids=["tensor", "numpy", "rand"],
)  # fmt: skip
def test_what_python_or_torch_puts_into_tensors_is_not_repeated(makes):
    with Recording() as noted:
        makes()
    assert noted.row({}) is None


def test_values_that_python_computes_are_not_repeated():
    loss = torch.zeros(1, 2)
    with Recording() as noted:
        value = elementwise.value_loss(loss)[0]
    assert noted.row({"loss": value})() == {"loss": value}
    assert noted.row({"loss": value + 1}) is None


def test_another_batch_is_not_taken_for_the_first(learner_of, batch_of, replay):
    learner, other, generator = learner_of(DDPG), learner_of(DDPG), torch.Generator()
    other.repeater = plainly
    for each in (learner, other):
        generator.manual_seed(1)
        for rows in (16, 16, 16, 8, 16, 8):
            each.update(replay.sample(rows, generator), generator)
        each.update(batch_of(), generator)
    assert torch.equal(learner.critics.stack.vector, other.critics.stack.vector)


def test_batches_that_are_new_each_time_are_not_kept(learner_of, batch_of):
    learner, generator = learner_of(DDPG), torch.Generator()
    for _ in range(3 * recording.MOST_KNOWN):
        learner.update(batch_of(), generator)
    assert len(learner.repeater.known) <= recording.MOST_KNOWN


def test_the_memory_that_calls_work_in_is_kept():
    """It may be outgrown elsewhere before they are repeated."""
    scratch(8)  # there is some
    with Recording() as noted:
        address = scratch(8)
    assert [memory.data_ptr() for memory in noted.kept] == [address]


def test_another_threads_calls_are_not_noted():
    loss = torch.zeros(1, 2)
    with Recording() as noted:
        thread = threading.Thread(target=elementwise.value_loss, args=(loss,))
        thread.start()
        thread.join()
    assert noted.calls == []


def test_a_recording_that_is_interrupted_ends(learner_of, replay):
    learner, generator = learner_of(DDPG), torch.Generator()
    batch = replay.sample(16, generator)
    learner.update(batch, generator)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learner.repeater(interrupted, batch, generator)
    assert recording._current() is None
