import dataclasses
import json
import math
from dataclasses import dataclass, field

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from compressrl import fresh_process, options, plugins
from compressrl.errors import CompressrlError, OptionError, PipelineError, TrainingDivergedError, UsageError
from compressrl.lab import Lab
from compressrl.networks import modules
from compressrl.policy import Policy
from compressrl.testing import AlgorithmContract
from compressrl.training import TrainingSession
from compressrl_algorithms.on_policy import PolicyLearner, Training
from compressrl_algorithms.ppo import PPO
from compressrl_algorithms.rollout_buffer import Batch
from compressrl_algorithms.trpo import TRPO

ENV = "InvertedPendulum-v5"
SMALL = {"n_steps": 64, "hidden": "8x8", "value_epochs": 1}
BOTH = pytest.mark.parametrize("algorithm", [PPO(**SMALL, epochs=2), TRPO(**SMALL)], ids=["ppo", "trpo"])


def lab(seed=0, env_id=ENV, session=TrainingSession, **training):
    return Lab(env_id, seed, training=session(**training))


def weights(policy):
    return np.concatenate([layer.weight.ravel() for layer in policy.layers if layer.kind == "linear"])


def observations(size=4, count=32):
    return np.random.default_rng(0).normal(size=(count, size)).astype(np.float32)


class TestPPO(AlgorithmContract):
    plugin = PPO
    options = SMALL | {"epochs": 2, "warm_up": 1}


class TestTRPO(AlgorithmContract):
    plugin = TRPO
    options = SMALL | {"warm_up": 1}


@BOTH
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(algorithm):
    untrained, first, other = (
        algorithm.train(lab(seed, steps=n)) for seed, n in ((1, 0), (1, 300), (2, 300))
    )
    torch.manual_seed(99)
    np.random.seed(99)
    before = torch.get_rng_state()
    second = algorithm.train(lab(1, steps=300))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(weights(first), weights(second))
    assert np.array_equal(first.layers[0].mean, second.layers[0].mean)
    assert (weights(first) != weights(untrained)).mean() > 0.9
    assert (weights(first) != weights(other)).all()


@dataclass
class Recording(TrainingSession):
    """Remembers what a run told its session; `cut` interrupts the n-th update after it changed everything."""

    steps_seen: list[int] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    logged: list[dict] = field(default_factory=list)
    cut: int = 0

    def scalars(self, step, values):
        super().scalars(step, values)
        self.logged.append(dict(values))
        if len(self.logged) == self.cut:
            raise KeyboardInterrupt

    def episode(self, step, episode_return, length):
        super().episode(step, episode_return, length)
        self.lengths.append(length)

    def boundary(self, step, policy, state):
        super().boundary(step, policy, state)
        self.steps_seen.append(step)
        self.policies.append(policy())


@pytest.mark.parametrize(
    ("steps", "boundaries"), [(64, [64]), (150, [64, 150]), (192, [64, 128, 192]), (50, [50])]
)
def test_the_run_takes_exactly_its_steps_and_leaves_no_tiny_rollout(steps, boundaries):
    run = lab(session=Recording, steps=steps)
    TRPO(**SMALL).train(run)
    assert run.training.steps_seen == boundaries


@BOTH
def test_ctrl_c_in_an_update_saves_the_point_before_it(algorithm, tmp_path):
    run = lab(session=Recording, steps=300, folder=tmp_path, cut=3)
    with pytest.raises(KeyboardInterrupt):
        algorithm.train(run)
    assert run.training.steps_seen == [64, 128]
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 128
    latest = next(path for path in tmp_path.iterdir() if "latest" in path.name and path.is_file())
    assert np.array_equal(weights(Policy.load(latest)), weights(run.training.policies[-1]))


@BOTH
def test_a_run_resumes_where_it_was(algorithm, tmp_path):
    first = algorithm.train(lab(session=Recording, steps=128, folder=tmp_path))
    same = algorithm.train(lab(session=Recording, steps=128, folder=tmp_path))
    assert np.array_equal(weights(first), weights(same))
    assert np.array_equal(first.layers[0].std, same.layers[0].std)
    run = lab(session=Recording, steps=256, folder=tmp_path)
    longer = algorithm.train(run)
    assert run.training.steps_seen == [128, 192, 256]
    assert (weights(longer) != weights(first)).all()


@BOTH
def test_a_resumed_run_has_the_whole_state(algorithm, tmp_path):
    algorithm.train(lab(steps=128, folder=tmp_path))
    resumed = Training(algorithm, lab(steps=256, folder=tmp_path))
    saved = resumed.session.resume()
    fresh = as_text(resumed.state())
    resumed.load(saved)
    assert as_text(resumed.state()) == as_text(saved) != fresh
    # The optimiser goes on from the loaded weights, not from the fresh network's.
    (vector,) = resumed.critic.optimizer.param_groups[0]["params"]
    assert torch.equal(vector, nn.utils.parameters_to_vector(resumed.agent.value.parameters()))


def as_text(state):
    return json.dumps(state, default=torch.Tensor.tolist)


def test_a_policy_that_diverges_is_not_the_environments_fault():
    """Whose losses are still numbers."""

    class Bad(PolicyLearner):
        def improve(self, batch, remaining, rng):
            with torch.no_grad():
                agent.mean[0].weight[0, 0] = torch.nan
            return {}

    training = Training(PPO(**SMALL), lab(steps=300))
    agent, training.learner = training.agent, Bad()
    with pytest.raises(TrainingDivergedError, match=r"^the policy became NaN or infinite at step 64\."):
        training.run()


@BOTH
def test_the_checkpoint_of_other_options_is_refused(algorithm, tmp_path):
    fingerprint = options.as_dict(algorithm)
    algorithm.train(lab(steps=128, folder=tmp_path, fingerprint=fingerprint))
    with pytest.raises(UsageError, match="gamma"):
        algorithm.train(lab(steps=128, folder=tmp_path, fingerprint=fingerprint | {"gamma": 0.5}))


@BOTH
def test_the_policy_is_normalise_then_mean_then_clip(algorithm):
    training = Training(algorithm, lab(env_id="Pendulum-v1", steps=300))
    policy = training.run()
    moments = training.observation_moments
    assert moments.count == 300
    # Far out, so that both clips are at work.
    x = (observations(3) * 30).astype(np.float32)
    standardized = np.clip((x - moments.mean) / np.sqrt(moments.variance + 1e-8), -10, 10)
    with torch.no_grad():
        mean = training.agent.mean(torch.from_numpy(standardized).float()).numpy()
    np.testing.assert_allclose(policy(x), np.clip(mean * 1.0, -2, 2), rtol=1e-4, atol=1e-5)
    assert [layer.kind for layer in policy.layers] == [
        "standardize", "linear", "activation", "linear", "activation", "linear", "clip",
    ]  # fmt: skip


def sac_like():
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Linear(4, 5),
        nn.ReLU(),
        nn.Linear(5, 1),
        nn.Tanh(),
        modules.Rescale(torch.ones(1) * 3, torch.zeros(1)),
    )
    bound = np.full(1, 3.0, np.float32)
    return Policy(ENV, "sac", 4, -bound, bound, ()).with_network(network, "made")


@BOTH
@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_a_warm_start_reproduces_the_start(algorithm, kind):
    start = algorithm.train(lab(3, steps=300)) if kind == "own" else sac_like()
    warm = algorithm.train(lab(4, steps=0, start=start))
    np.testing.assert_allclose(warm(observations()), start(observations()), atol=1e-6)
    assert warm.provenance[:-1] == start.provenance


@BOTH
def test_after_a_warm_start_the_critic_learns_first(algorithm):
    start = algorithm.train(lab(3, steps=128))
    run = lab(4, session=Recording, steps=320, start=start)
    options.build(type(algorithm), "x", SMALL | {"warm_up": 3}).train(run)
    *kept, first, second = run.training.policies
    assert len(kept) == 3
    assert all(np.array_equal(weights(policy), weights(start)) for policy in kept)
    assert (weights(first) != weights(start)).all()
    assert (weights(second) != weights(first)).all()
    assert np.array_equal(second.layers[0].mean, start.layers[0].mean)
    losses = [entry["train/value_loss"] for entry in run.training.logged]
    assert all(math.isfinite(loss) for loss in losses)


def test_a_network_that_is_no_sequence_cannot_be_the_start():
    class Foreign(nn.Module):
        def forward(self, x):
            return x[:, :1]

    start = sac_like().with_network(Foreign(), "foreign")
    with pytest.raises(PipelineError, match="Foreign"):
        TRPO(**SMALL).train(lab(steps=128, start=start))


class HalfBlind(gymnasium.Wrapper):
    """The second and the last of four observations are shown as zero."""

    def reset(self, **arguments):
        observation, info = self.env.reset(**arguments)
        return observation * np.array([1, 0, 1, 0]), info

    def step(self, action):
        observation, *rest = self.env.step(action)
        return observation * np.array([1, 0, 1, 0]), *rest


gymnasium.register("OnPolicyHalfBlind-v0", lambda: HalfBlind(gymnasium.make(ENV)), disable_env_checker=True)


def not_reading(algorithm):
    return dataclasses.replace(algorithm, observations="0/2")


def arrays(policy):
    return [layer.weight for layer in policy.layers if layer.kind == "linear"]


@BOTH
@pytest.mark.parametrize("count", [1, 3])
def test_what_is_not_read_might_as_well_not_be_shown(algorithm, count):
    algorithm = dataclasses.replace(algorithm, num_envs=count)
    seeing = not_reading(algorithm).train(lab(steps=320))
    blind = algorithm.train(lab(steps=320, env_id="OnPolicyHalfBlind-v0"))
    (first, *others), (first_of_blind, *others_of_blind) = arrays(seeing), arrays(blind)
    assert np.array_equal(first[:, [0, 2]], first_of_blind[:, [0, 2]])
    assert all(np.array_equal(a, b) for a, b in zip(others, others_of_blind, strict=True))
    assert not first[:, [1, 3]].any()
    assert first_of_blind[:, [1, 3]].all()
    # Nor does its standardisation make anything of them: their range is none for a quantizer.
    assert not seeing.layers[0](observations() * 1e6)[:, [1, 3]].astype(np.float16).any()
    assert np.array_equal(seeing(observations()), seeing(observations() * np.float32([1, 1e3, 1, -1e3])))


@BOTH
@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_what_a_policy_does_not_read_it_does_not_read_when_trained_further(algorithm, kind):
    start = not_reading(algorithm).train(lab(3, steps=300)) if kind == "own" else sac_like()
    options = {"warm_up": 0} if kind == "own" else {"warm_up": 0, "observations": "0/2"}
    further = dataclasses.replace(algorithm, **options).train(lab(4, steps=300, start=start))
    assert arrays(further)[0].any(axis=0).tolist() == [True, False, True, False]
    assert not np.array_equal(arrays(further)[0], arrays(start)[0])
    less = dataclasses.replace(algorithm, warm_up=0, observations="1-2").train(lab(4, steps=300, start=start))
    seen = [False, kind == "foreign", True, False]
    assert arrays(less)[0].any(axis=0).tolist() == seen
    assert np.array_equal(less(observations()), less(np.where(seen, observations(), 7).astype(np.float32)))


class Marked(nn.Linear):
    """A layer that no file format knows, as a fake-quantized one."""


def mark(actor):
    for index, layer in enumerate(actor):
        if type(layer) is nn.Linear:
            marked = Marked(layer.in_features, layer.out_features)
            marked.load_state_dict(layer.state_dict())
            actor[index] = marked
    return actor


@BOTH
def test_the_adapted_network_is_trained_and_deployed(algorithm):
    given_networks = []

    def adapt(actor):
        given_networks.append([type(module) for module in actor])
        return mark(actor)

    plain = algorithm.train(lab(1, steps=300))
    adapted = algorithm.train(lab(1, steps=300, adapt_actor=adapt))
    assert given_networks == [[nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]]
    kinds = [type(module) for module in adapted.network]
    assert kinds == [modules.Standardize, Marked, nn.Tanh, Marked, nn.Tanh, Marked, modules.Clip]
    # The same function trained in torch as in numpy, up to rounding that training amplifies.
    np.testing.assert_allclose(act(adapted), plain(observations()), atol=0.05)


@BOTH
def test_a_policy_handed_out_does_not_learn_on(algorithm):
    actions = []

    class Session(Recording):
        def boundary(self, step, policy, state):
            super().boundary(step, policy, state)
            actions.append(act(self.policies[-1]))

    run = lab(1, session=Session, steps=300, adapt_actor=mark)
    algorithm.train(run)
    assert not np.array_equal(actions[0], actions[-1])
    assert all(np.array_equal(act(p), then) for p, then in zip(run.training.policies, actions, strict=True))


def act(policy):
    with torch.no_grad():
        return policy.network(torch.from_numpy(observations())).numpy()


def test_the_value_function_is_fitted_to_the_returns():
    training = Training(TRPO(value_epochs=200), lab())
    x = torch.from_numpy(observations(count=256))
    target = x[:, 0] * 2 + 3
    batch = Batch(x, x[:, :1], target, target, target)
    policy = [*training.agent.mean.parameters(), training.agent.log_std]
    before = [p.detach().clone() for p in policy]
    error = (training.agent.values(x) - target).square().mean().item()
    training.critic.fit(batch, np.random.default_rng(0))
    assert (training.agent.values(x) - target).square().mean().item() < 0.05 * error
    assert all(torch.equal(*pair) for pair in zip(before, policy, strict=True))


@BOTH
def test_several_environments(algorithm):
    run = lab(1, session=Recording, steps=300)
    three = options.build(type(algorithm), "x", SMALL | {"num_envs": 3}).train(run)
    assert run.training.steps_seen[-1] == 300
    one = algorithm.train(lab(1, steps=300))
    assert (weights(one) != weights(three)).all()


@pytest.fixture
def started(monkeypatch):
    """The processes that runs of two threads have started."""
    processes, start, before = [], fresh_process.start, torch.get_num_threads()
    monkeypatch.setattr(fresh_process, "start", lambda *a: processes.append(start(*a)) or processes[-1])
    torch.set_num_threads(2)
    yield processes
    torch.set_num_threads(before)


@BOTH
def test_a_second_thread_steps_half_of_the_environments(algorithm, started):
    several = dataclasses.replace(algorithm, num_envs=3)
    first, second = (several.train(lab(1, steps=300)) for _ in range(2))
    assert np.array_equal(weights(first), weights(second))
    assert [process.poll() is not None for process in started] == [True, True]


@BOTH
def test_one_environment_or_a_network_that_only_torch_knows_starts_no_process(algorithm, started):
    algorithm.train(lab(1, steps=64))
    dataclasses.replace(algorithm, num_envs=3).train(lab(1, steps=64, adapt_actor=mark))
    assert not started


@BOTH
def test_ctrl_c_ends_the_other_processes_and_the_run_goes_on(algorithm, started, tmp_path):
    several = dataclasses.replace(algorithm, num_envs=2)
    with pytest.raises(KeyboardInterrupt):
        several.train(lab(session=Recording, steps=300, folder=tmp_path, cut=3))
    assert [process.poll() is not None for process in started] == [True]
    run = lab(session=Recording, steps=300, folder=tmp_path)
    several.train(run)
    assert run.training.steps_seen == [128, 192, 300]


@BOTH
def test_acting_in_numpy_and_in_torch_is_the_same(algorithm):
    training = Training(algorithm, lab(1, steps=300))
    training.run()
    by_numpy = training._mean_action()(observations())
    training.agent.mean = nn.Sequential(training.agent.mean, Foreign())
    np.testing.assert_allclose(training._mean_action()(observations()), by_numpy, atol=1e-6)


class Foreign(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.slow
@BOTH
def test_learns_to_balance(algorithm):
    """Untrained it falls after about 30 steps; 1000 is the time limit."""
    trained = type(algorithm)().train(lab(0, steps=30_000))
    assert np.mean(lab().rollout(trained, 10).returns) >= 900


class Aim(gymnasium.Env):
    """Pays minus the distance from the point at 70 % of its action box, in widths of it."""

    def __init__(self, low, high):
        self.observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(np.float32(low), np.float32(high))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        low, high = self.action_space.low[0], self.action_space.high[0]
        missed = abs(action[0] - (low + 0.7 * (high - low))) / (high - low)
        return np.zeros(2, np.float32), -float(missed), False, False, {}


BOXES = {
    "OnPolicyFar-v0": ([10], [20]),
    "OnPolicyWide-v0": ([-1000], [1000]),
    "OnPolicyNarrow-v0": ([-0.001], [0.001]),
    "OnPolicyLocked-v0": ([-1, 0.5], [1, 0.5]),
}
for name, (low, high) in BOXES.items():
    kwargs = {"low": low, "high": high}
    gymnasium.register(name, Aim, kwargs=kwargs, max_episode_steps=20, disable_env_checker=True)


class Strict(Aim):
    """Refuses actions that are not in its space, whose bounds are no float32 numbers."""

    def __init__(self):
        super().__init__([-1], [1])
        self.action_space = gymnasium.spaces.Box(-0.1, 0.3, (1,), np.float64)

    def step(self, action):
        assert self.action_space.contains(action)
        return super().step(action)


gymnasium.register("OnPolicyStrict-v0", Strict, max_episode_steps=20, disable_env_checker=True)


@BOTH
def test_actions_are_within_a_space_of_float64(algorithm):
    policy = algorithm.train(lab(0, "OnPolicyStrict-v0", steps=128))
    far = np.float32([[-1e9, 1e9], [1e9, -1e9]])
    assert all(gymnasium.spaces.Box(-0.1, 0.3, (1,), np.float64).contains(action) for action in policy(far))


@BOTH
def test_the_first_actions_are_in_the_middle_of_their_box(algorithm):
    """Around zero, all of them would be cut to 10, and no action better than another."""
    untrained = algorithm.train(lab(0, "OnPolicyFar-v0", steps=0))
    assert untrained(np.zeros(2, np.float32)) == pytest.approx([15], abs=0.1)
    trained = type(algorithm)(n_steps=256).train(lab(0, "OnPolicyFar-v0", steps=8000))
    assert trained(np.zeros(2, np.float32)) == pytest.approx([17], abs=0.5)


@BOTH
def test_a_locked_joint_has_nothing_to_explore(algorithm):
    trained = algorithm.train(lab(0, "OnPolicyLocked-v0", steps=300))
    assert trained(np.zeros(2, np.float32))[1] == 0.5


@BOTH
@pytest.mark.parametrize("env_id", ["OnPolicyWide-v0", "OnPolicyNarrow-v0"])
def test_actions_out_of_reach_are_refused(algorithm, env_id):
    with pytest.raises(UsageError, match=rf"{algorithm.name} explores .* too far from .*RescaleAction"):
        algorithm.train(lab(0, env_id, steps=300))


def test_divergence_is_told():
    with pytest.raises(TrainingDivergedError, match="value_loss"):
        TRPO(**SMALL | {"value_learning_rate": 1e30}).train(lab(steps=300))


class Broken(gymnasium.RewardWrapper):
    """A reward is no number once the pole leans."""

    def reward(self, reward):
        return np.nan if abs(self.unwrapped.data.qpos[1]) > 0.1 else reward


gymnasium.register("OnPolicyBroken-v0", lambda: Broken(gymnasium.make(ENV)), disable_env_checker=True)


@BOTH
def test_an_environment_that_gives_what_is_not_a_number_is_named(algorithm):
    with pytest.raises(
        CompressrlError, match="OnPolicyBroken-v0 has given a reward or an observation that is"
    ):
        algorithm.train(lab(0, "OnPolicyBroken-v0", steps=300))


@pytest.mark.parametrize("option", ["ppo:target_kl=0", "ppo:max_gradient=0", "trpo:value_batch_size=1"])
def test_options_by_which_nothing_would_be_learnt_are_refused(option):
    with pytest.raises(OptionError, match=option.partition(":")[2].partition("=")[0]):
        plugins.create("algorithm", option)
