"""What holds for SAC, TD3 and DDPG alike, in whole training runs of a few hundred steps."""

import weakref

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from compressrl.errors import (
    CompressrlError,
    OptionError,
    PipelineError,
    TrainingDivergedError,
    UsageError,
)
from compressrl.lab import Lab
from compressrl.networks.modules import Rescale
from compressrl.policy import Policy
from compressrl.testing import AlgorithmContract
from compressrl.training import CHECKPOINT, TrainingSession
from compressrl_algorithms import networks
from compressrl_algorithms.ddpg import DDPG
from compressrl_algorithms.kernel import fastest, kernel
from compressrl_algorithms.off_policy import Setup
from compressrl_algorithms.sac import SAC
from compressrl_algorithms.td3 import TD3

ALGORITHMS = pytest.mark.parametrize("algorithm", [SAC, TD3, DDPG], ids=lambda a: a.name)
SMALL = {"hidden": "16x16", "batch_size": 32, "learning_starts": 50}


class OneStep(gymnasium.Env):
    """Every step pays 1 and ends the episode: as its end, or as a mere time limit."""

    def __init__(self, terminates):
        self.observation_space = spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.terminates = terminates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, self.terminates, not self.terminates, {}


class Recorder(gymnasium.Env):
    """Episodes of 40 steps in a drifting state of three numbers; keeps the actions it was given."""

    actions: list = []

    def __init__(self):
        self.observation_space = spaces.Box(-3, 3, (3,), np.float32)
        self.action_space = spaces.Box(np.array([-1, -0.5], np.float32), np.array([0.5, 2], np.float32))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 3)
        return self.state.astype(np.float32), {}

    def step(self, action):
        self.actions.append(action)
        push = np.array([action[0], action[1], action[0] - action[1]])
        self.state = np.clip(0.9 * self.state + 0.3 * push + self.np_random.normal(0, 0.1, 3), -3, 3)
        return self.state.astype(np.float32), float(-np.abs(self.state).sum()), False, False, {}


class HalfBlind(Recorder):
    """The same, but the second of the three numbers is shown as zero."""

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        return observation * np.float32([1, 0, 1]), info

    def step(self, action):
        observation, *rest = super().step(action)
        return observation * np.float32([1, 0, 1]), *rest


class Broken(Recorder):
    """The same; once 70 actions were taken a reward is no number."""

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, np.nan if len(self.actions) == 70 else reward, *rest


class Blind(Recorder):
    """The same; from then on it sees nothing."""

    def step(self, action):
        observation, *rest = super().step(action)
        return np.full_like(observation, np.nan) if len(self.actions) >= 70 else observation, *rest


class Strict(OneStep):
    """Refuses actions that are not in its space, whose bounds are no float32 numbers."""

    def __init__(self):
        super().__init__(terminates=False)
        self.action_space = spaces.Box(-0.1, 0.3, (2,), np.float64)

    def step(self, action):
        assert self.action_space.contains(action)
        return super().step(action)


gymnasium.register("OffPolicyBlind-v0", Blind, max_episode_steps=40, disable_env_checker=True)
gymnasium.register("OffPolicyStrict-v0", Strict, disable_env_checker=True)
gymnasium.register("OffPolicyBroken-v0", Broken, max_episode_steps=40, disable_env_checker=True)
gymnasium.register("OffPolicyHalfBlind-v0", HalfBlind, max_episode_steps=40, disable_env_checker=True)
gymnasium.register("OffPolicyEnds-v0", OneStep, kwargs={"terminates": True}, disable_env_checker=True)
gymnasium.register("OffPolicyPauses-v0", OneStep, kwargs={"terminates": False}, disable_env_checker=True)
gymnasium.register("OffPolicyRecorder-v0", Recorder, max_episode_steps=40, disable_env_checker=True)


@pytest.fixture(autouse=True)
def recorded_actions():
    Recorder.actions = []
    return Recorder.actions


class TestSAC(AlgorithmContract):
    plugin, options, steps = SAC, SMALL, 150


class TestTD3(AlgorithmContract):
    plugin, options, steps = TD3, SMALL, 150


class TestDDPG(AlgorithmContract):
    plugin, options, steps = DDPG, SMALL, 150


def train(algorithm, *, env_id="OffPolicyRecorder-v0", seed=0, steps=200, options=None, **session):
    training = TrainingSession(steps=steps, **session)
    return algorithm(**{**SMALL, **(options or {})}).train(Lab(env_id, seed, training=training))


def weights(policy):
    return [p.detach() for p in policy.network.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@ALGORITHMS
def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(algorithm):
    torch.manual_seed(1)
    one = train(algorithm)
    torch.manual_seed(2)
    np.random.seed(2)
    state = torch.random.get_rng_state()
    assert same(one, train(algorithm))
    assert torch.equal(state, torch.random.get_rng_state())
    assert not same(one, train(algorithm, seed=1))
    assert not same(train(algorithm, steps=0), train(algorithm, steps=0, seed=1))


@ALGORITHMS
def test_updates_begin_after_the_random_steps_with_one_for_each_step(algorithm, tmp_path):
    untouched = train(algorithm, steps=0)
    train(algorithm, steps=51, folder=tmp_path / "first")
    assert checkpoint(tmp_path / "first")["updates"] == 1
    assert not same(
        untouched, train(algorithm, steps=52, folder=tmp_path)
    )  # TD3's actor moves with every second
    assert checkpoint(tmp_path)["updates"] == 2


@ALGORITHMS
def test_actions_are_random_first_and_always_within_the_action_space(algorithm, recorded_actions):
    policy = train(algorithm, steps=400, options={"learning_starts": 300})
    actions = np.array(recorded_actions)
    low, high = policy.action_low, policy.action_high
    assert (actions >= low - 1e-6).all()
    assert (actions <= high + 1e-6).all()
    np.testing.assert_allclose(actions[:300].mean(axis=0), (low + high) / 2, atol=0.15)
    np.testing.assert_allclose(actions[:300].std(axis=0), (high - low) / np.sqrt(12), rtol=0.15)
    extreme = policy(np.random.default_rng(0).normal(0, 100, (500, 3)).astype(np.float32))
    assert (extreme >= low).all()
    assert (extreme <= high).all()


def checkpoint(folder):
    return torch.load(folder / CHECKPOINT, weights_only=True)["state"]


def learnt_value(algorithm, env_id, folder):
    """What the critics say of the single state after training, gamma 0.5."""
    options = {"gamma": 0.5, "tau": 0.2, "critic_lr": 1e-2}
    if algorithm is SAC:
        options |= {"initial_temperature": 1e-8}  # no bonus for entropy: the plain value
    train(algorithm, env_id=env_id, steps=300, options=options, folder=folder)
    generator = torch.Generator().manual_seed(0)
    setup = Setup(networks.mlp([1, 16, 16, 1], generator), 1, 1, "cpu", False, generator)
    learner = algorithm(**SMALL).learner(setup)
    learner.load_state_dict(checkpoint(folder)["networks"])
    with torch.no_grad():
        return learner.critics(torch.zeros(9, 1), torch.linspace(-1, 1, 9)[:, None]).mean().item()


@ALGORITHMS
def test_values_are_bootstrapped_at_a_time_limit_but_not_at_the_end(algorithm, tmp_path):
    assert learnt_value(algorithm, "OffPolicyEnds-v0", tmp_path / "a") == pytest.approx(1.0, abs=0.15)
    assert learnt_value(algorithm, "OffPolicyPauses-v0", tmp_path / "b") == pytest.approx(2.0, abs=0.3)


@ALGORITHMS
def test_a_run_resumed_at_the_end_of_an_episode_is_the_uninterrupted_run(algorithm, tmp_path):
    train(algorithm, steps=120, folder=tmp_path)
    resumed = train(algorithm, steps=200, folder=tmp_path)
    assert same(resumed, train(algorithm, steps=200))
    state = checkpoint(tmp_path)
    assert (state["step"], state["updates"], state["replay"]["inserted"]) == (200, 150, 200)
    assert state["replay"]["rows"].shape == (200, 3 + 2 + 1 + 1 + 3)


@ALGORITHMS
def test_a_run_resumed_within_an_episode_begins_a_new_one(algorithm, tmp_path):
    train(algorithm, steps=130, folder=tmp_path)
    resumed = train(algorithm, steps=200, folder=tmp_path)
    assert not same(resumed, train(algorithm, steps=200))
    assert checkpoint(tmp_path)["updates"] == 150


def test_an_interrupted_run_is_saved_before_the_interrupt_goes_on(tmp_path, monkeypatch):
    step = Recorder.step

    def interrupted(self, action):
        if len(self.actions) == 77:
            raise KeyboardInterrupt
        return step(self, action)

    monkeypatch.setattr(Recorder, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(SAC, folder=tmp_path)
    assert checkpoint(tmp_path)["step"] == 77
    assert checkpoint(tmp_path)["replay"]["inserted"] == 77


def test_the_table_of_transitions_holds_actions_before_they_are_rescaled(tmp_path, recorded_actions):
    policy = train(DDPG, folder=tmp_path)
    action = checkpoint(tmp_path)["replay"]["rows"][:, 3:5].numpy()
    units = policy.action_low + (action + 1) / 2 * (policy.action_high - policy.action_low)
    np.testing.assert_allclose(units, np.array(recorded_actions), atol=1e-6)
    assert np.abs(action).max() <= 1


def test_a_transition_begins_where_the_last_one_ended_but_for_new_episodes(tmp_path):
    train(DDPG, folder=tmp_path)
    rows = checkpoint(tmp_path)["replay"]["rows"]
    goes_on = (rows[1:, :3] == rows[:-1, -3:]).all(dim=1)
    assert (~goes_on).nonzero().flatten().tolist() == [39, 79, 119, 159]


def start_policy(*widths):
    network = networks.mlp([3, *widths, 2], torch.Generator().manual_seed(7))
    rescale = Rescale(torch.tensor([0.75, 1.25]), torch.tensor([-0.25, 0.75]))
    low, high = np.array([-1, -0.5], np.float32), np.array([0.5, 2], np.float32)
    policy = Policy("OffPolicyRecorder-v0", "sac", 3, low, high, ("born",))
    return policy.with_network(nn.Sequential(*network, nn.Tanh(), rescale), "pruned")


OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


@ALGORITHMS
@pytest.mark.parametrize("widths", [(16, 16), (5, 3), (16, 8, 4)])
def test_a_warm_start_takes_over_the_policy_whatever_its_widths(algorithm, widths):
    start = start_policy(*widths)
    untrained = train(algorithm, start=start, steps=0)
    np.testing.assert_allclose(untrained(OBSERVATIONS), start(OBSERVATIONS), atol=1e-6)
    trained = train(algorithm, start=start, steps=300)
    assert [p.shape for p in weights(trained)] == [p.shape for p in weights(start)]
    assert not same(trained, start)
    assert trained.provenance[:2] == ("born", "pruned")


@ALGORITHMS
def test_a_warm_start_explores_near_the_policy_and_holds_it_until_the_critics_know(algorithm, tmp_path):
    start, seen = start_policy(16, 16), []
    # 300 steps: the first 30 are collected, the critics learn alone for 30 more.
    evaluation = {"evaluate": lambda policy: seen.append(policy) or 0.0, "evaluation_every": 30}
    train(algorithm, steps=300, start=start, folder=tmp_path, **evaluation)
    assert same(seen[0], start)
    assert same(seen[1], start)
    assert not same(seen[2], start)
    rows = checkpoint(tmp_path)["replay"]["rows"][:30].numpy()
    middle, half = (start.action_high + start.action_low) / 2, (start.action_high - start.action_low) / 2
    distance = np.abs(middle + half * rows[:, 3:5] - start(rows[:, :3])) / half
    assert 0.02 < distance.mean() < 0.2


class Doubled(nn.Linear):
    """A linear layer of an unknown type, as a fake quantizer would put in."""

    def forward(self, x):
        return super().forward(x) * 2


def double(actor):
    def doubled(layer):
        if type(layer) is not nn.Linear:
            return layer
        new = Doubled(layer.in_features, layer.out_features)
        new.load_state_dict(layer.state_dict())
        return new

    return nn.Sequential(*map(doubled, actor))


@ALGORITHMS
def test_an_adapted_actor_is_trained_and_deployed_with_its_own_modules(algorithm):
    untrained = train(algorithm, adapt_actor=double, steps=0)
    trained = train(algorithm, adapt_actor=double, steps=120)
    assert [type(m) for m in trained.network].count(Doubled) == 3
    assert not any(torch.equal(a, b) for a, b in zip(weights(trained), weights(untrained), strict=True))
    assert not trained.network.training
    plain = train(algorithm, steps=0)
    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(untrained), strict=True))


def test_a_policy_under_way_is_not_changed_by_the_steps_after_it():
    seen = []
    train(
        DDPG,
        adapt_actor=double,
        evaluate=lambda policy: seen.append((policy, weights(policy))) or 0.0,
        evaluation_every=60,
    )
    early, weights_then = seen[1]
    assert all(torch.equal(a, b) for a, b in zip(weights(early), weights_then, strict=True))
    assert not same(early, seen[-1][0])


def test_a_run_that_diverges_is_told(monkeypatch):
    """At the update that diverges, where the kernel gives a number; else with the next log."""
    monkeypatch.setattr("compressrl_algorithms.off_policy.LOG_EVERY_UPDATES", 50)
    at_once = kernel() is not None
    step = r"5\d\." if at_once else "100"
    with pytest.raises(TrainingDivergedError, match=rf"_loss.* became NaN or infinite at step {step}"):
        train(DDPG, options={"critic_lr": 1e30})


@pytest.mark.skipif(kernel() is None, reason="no C compiler")
def test_a_policy_says_what_was_multiplied_where_it_was_trained():
    for numbers, told in (("fastest", fastest()), ("float32", "float32")):
        policy = train(DDPG, options={"numbers": numbers})
        assert policy.provenance[-1] == f"ddpg: trained for 200 steps, seed 0, in {told}"


@pytest.mark.skipif(kernel() is None, reason="no C compiler")
@ALGORITHMS
@pytest.mark.parametrize("numbers", ["fastest", "float32", "bfloat16", "int16"])
def test_networks_multiply_in_the_numbers_that_are_asked_for(learner_of, algorithm, numbers):
    if numbers != "fastest" and kernel(numbers) is None:
        pytest.skip(f"this CPU does not multiply in {numbers}")
    learner = learner_of(algorithm, numbers=numbers)
    expected = fastest() if numbers == "fastest" else numbers
    for network in (learner.network, learner.critics):
        assert network.stack.numbers == expected


def test_numbers_that_nothing_here_multiplies_are_refused(monkeypatch):
    monkeypatch.setattr("compressrl_algorithms.off_policy.why_none", lambda _: "No C compiler.")
    assert train(DDPG, options={"numbers": "float32"}) is not None
    with pytest.raises(UsageError, match=r"numbers=int16 cannot be had here\. No C compiler\. Leave it out"):
        train(DDPG, options={"numbers": "int16"})


def test_a_resumed_run_does_not_hold_its_memory_twice(tmp_path):
    class Watching(TrainingSession):
        def resume(self):
            state = super().resume()
            self.rows = weakref.ref(state["replay"]["rows"])
            return state

        def boundary(self, *args, **kwargs):
            assert self.rows() is None
            super().boundary(*args, **kwargs)

    train(DDPG, folder=tmp_path)
    session = Watching(steps=210, folder=tmp_path)
    DDPG(**SMALL).train(Lab("OffPolicyRecorder-v0", 0, training=session))
    assert session.step == 210


@ALGORITHMS
def test_actions_are_within_a_space_of_float64(algorithm):
    """A good actor of it saturates: rates as high as this do so, too."""
    policy = train(algorithm, env_id="OffPolicyStrict-v0", options={"actor_lr": 0.1})
    far = np.float32([[-1e9], [1e9]])
    assert all(spaces.Box(-0.1, 0.3, (2,), np.float64).contains(action) for action in policy(far))
    assert policy.action_high.max() < 0.3


@ALGORITHMS
def test_an_actor_that_diverges_is_not_the_environments_fault(algorithm):
    """Whose losses may all be numbers until it is evaluated."""
    with pytest.raises(TrainingDivergedError, match=r"became NaN or infinite at step 5\d\."):
        train(algorithm, env_id="Pendulum-v1", options={"actor_lr": 1e30})


def test_an_observation_that_is_not_a_number_is_the_environments_fault():
    with pytest.raises(CompressrlError, match="OffPolicyBlind-v0 has given a reward or an observation that"):
        train(DDPG, env_id="OffPolicyBlind-v0")


def test_an_environment_that_gives_what_is_not_a_number_is_named(monkeypatch):
    monkeypatch.setattr("compressrl_algorithms.off_policy.LOG_EVERY_UPDATES", 50)
    with pytest.raises(CompressrlError, match="OffPolicyBroken-v0 has given a reward or an observation that"):
        train(DDPG, env_id="OffPolicyBroken-v0")


def test_the_first_network_is_evaluated_but_is_not_the_result(tmp_path):
    """However it does: standing still is hard to beat for a while."""
    returns = iter([5.0, 4.0, 1.0, 2.0])
    session = {"evaluate": lambda _: next(returns), "evaluation_every": 20, "folder": tmp_path}
    seen = []
    train(TD3, steps=80, options={"learning_starts": 50}, **session, confirm=lambda p: seen.append(p) or 1.0)
    assert [p.provenance[-1].split()[3] for p in seen] == ["60", "80"]


@ALGORITHMS
def test_what_is_not_read_might_as_well_not_be_shown(algorithm):
    seeing = train(algorithm, options={"observations": "0/2"})
    blind = train(algorithm, env_id="OffPolicyHalfBlind-v0")
    (first, *others), (first_of_blind, *others_of_blind) = weights(seeing), weights(blind)
    assert torch.equal(first[:, [0, 2]], first_of_blind[:, [0, 2]])
    assert all(torch.equal(a, b) for a, b in zip(others, others_of_blind, strict=True))
    assert not first[:, 1].any()
    assert first_of_blind[:, 1].any()


@ALGORITHMS
def test_what_a_policy_does_not_read_it_does_not_read_when_trained_further(algorithm):
    start = train(algorithm, options={"observations": "0/2"})
    further = train(algorithm, start=start)
    assert not weights(further)[0][:, 1].any()
    assert not torch.equal(weights(further)[0], weights(start)[0])
    less = weights(train(algorithm, start=start, options={"observations": "1-2"}))[0]
    assert less.any(dim=0).tolist() == [False, False, True]


def test_observations_cannot_be_left_out_behind_a_first_layer_that_mixes_them():
    start = train(SAC)
    start = start.with_network(nn.Sequential(nn.Tanh(), *start.network), "with another first layer")
    with pytest.raises(PipelineError, match="begins with a Tanh"):
        train(SAC, start=start, options={"observations": "0/2"})
    assert train(SAC, start=start)


def test_hidden_widths_that_cannot_be_read_are_told():
    with pytest.raises(OptionError, match="256x256"):
        train(SAC, options={"hidden": "256,256"})


@ALGORITHMS
def test_steps_of_which_none_would_learn_are_refused(algorithm):
    with pytest.raises(UsageError, match=rf"{algorithm.name} learns from step 51 on.*learning_starts=100"):
        algorithm(**SMALL).train(Lab("Pendulum-v1", training=TrainingSession(steps=50)))
