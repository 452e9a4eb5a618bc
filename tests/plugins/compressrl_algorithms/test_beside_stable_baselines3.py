"""Our updates and the loop around them are those of Stable-Baselines3, where all randomness is the same."""

import gymnasium
import pytest
import stable_baselines3
import torch
from stable_baselines3.common import logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import nn

from compressrl.lab import Lab
from compressrl.training import TrainingSession
from compressrl_algorithms import networks
from compressrl_algorithms.ddpg import DDPG
from compressrl_algorithms.off_policy import Setup
from compressrl_algorithms.replay_buffer import Batch, ReplayBuffer
from compressrl_algorithms.sac import SAC
from compressrl_algorithms.td3 import TD3

ENVIRONMENT, BATCH, UPDATES, RATE = "Hopper-v5", 256, 40, 3e-4
OPTIONS = {"actor_lr": RATE, "critic_lr": RATE, "numbers": "float32"}


@pytest.fixture(scope="module")
def batches():
    """Drawn from transitions of random actions, some of which end the episode."""
    env = gymnasium.make(ENVIRONMENT)
    memory = ReplayBuffer(2000, env.observation_space.shape[0], env.action_space.shape[0])
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    for _ in range(memory.capacity):
        action = env.action_space.sample()
        successor, reward, terminated, truncated, _ = env.step(action)
        memory.add(observation, action, float(reward), terminated, successor)
        observation = env.reset()[0] if terminated or truncated else successor
    generator = torch.Generator().manual_seed(0)
    drawn = [Batch(*map(torch.clone, memory.sample(BATCH, generator))) for _ in range(UPDATES)]
    assert any((batch.not_terminated == 0).any() for batch in drawn)
    return drawn


def linears(module):
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def our_actor(learner):
    return [*linears(learner.network.hidden), *learner.network.heads]


def vector(parameters):
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


def their_weights(model):
    modules = [model.actor, *model.critic.q_networks]
    return [vector(part for layer in linears(module) for part in layer.parameters()) for module in modules]


def our_weights(learner):
    layers, count = learner.critics.stack.layers(), learner.critics.stack.count
    critics = [vector(part[n] for layer in layers for part in layer) for n in range(count)]
    return [vector(part for layer in our_actor(learner) for part in layer.parameters()), *critics]


@torch.no_grad()
def start_alike(learner, model):
    """Give our networks and targets the weights of theirs."""
    for ours, theirs in zip(our_actor(learner), linears(model.actor), strict=True):
        ours.load_state_dict(theirs.state_dict())
    for n, critic in enumerate(model.critic.q_networks):
        for (weight, bias), theirs in zip(learner.critics.stack.layers(), linears(critic), strict=True):
            weight[n], bias[n, 0] = theirs.weight, theirs.bias
    targets = {"targets": "critics", "target_critics": "critics", "target_actor": "network"}
    for target, source in targets.items():
        if hasattr(learner, target):
            networks.polyak(getattr(learner, target), getattr(learner, source), 1.0)


def pair(algorithm, their_class):
    """Our learner and their model, with the same weights."""
    arguments = {"learning_rate": RATE, "buffer_size": 1, "policy_kwargs": {"net_arch": [256, 256]}}
    model = their_class("MlpPolicy", ENVIRONMENT, device="cpu", seed=0, **arguments)
    model.set_logger(logger.configure(None, []))
    generator = torch.Generator().manual_seed(1)
    inputs, actions = model.observation_space.shape[0], model.action_space.shape[0]
    actor = networks.mlp([inputs, 256, 256, actions], generator)
    learner = algorithm.learner(Setup(actor, inputs, actions, "cpu", False, generator))
    start_alike(learner, model)
    return learner, model


def assert_they_stay_together(learner, model, batches):
    start = their_weights(model)
    for batch in batches:
        observation, action, reward, not_terminated, successor = batch
        dones = 1 - not_terminated[:, None]
        theirs = ReplayBufferSamples(observation, action, successor, dones, reward[:, None])
        model.replay_buffer.sample = lambda *_, theirs=theirs, **__: theirs
        model.train(1, BATCH)
        learner.update(batch, torch.Generator())
    for ours, theirs, before in zip(our_weights(learner), their_weights(model), start, strict=True):
        moved = (theirs - before).norm()
        assert moved > 0.1
        assert (ours - theirs).norm() < 1e-3 * moved


def test_sac(batches, monkeypatch):
    learner, model = pair(SAC(**OPTIONS), stable_baselines3.SAC)
    # They add it to 1 - tanh² in the logarithm, which ours needs not.
    model.actor.action_dist.epsilon = 0.0
    noise = []

    def rsample(self, shape=()):
        noise.append(torch.randn_like(self.loc))
        return self.loc + self.scale * noise[-1]

    monkeypatch.setattr(torch.distributions.Normal, "rsample", rsample)
    monkeypatch.setattr(learner, "_noise", lambda *_: noise.pop())  # theirs is for the actor first
    assert_they_stay_together(learner, model, batches)
    assert learner.log_alpha.item() == pytest.approx(model.log_ent_coef.item(), rel=1e-4)


def test_td3(batches, monkeypatch):
    learner, model = pair(TD3(**OPTIONS), stable_baselines3.TD3)
    noise = []

    def normal(self, mean, std):
        noise.append(torch.randn(self.shape))
        return self.copy_(mean + std * noise[-1])

    monkeypatch.setattr(torch.Tensor, "normal_", normal)
    monkeypatch.setattr(networks, "gaussian_like", lambda *_: noise.pop())
    # Their loss is twice ours, and so are its gradients: Adam's steps are the same.
    model.critic.optimizer.param_groups[0]["eps"] *= 2
    assert_they_stay_together(learner, model, batches)


def test_ddpg(batches):
    learner, model = pair(DDPG(**OPTIONS), stable_baselines3.DDPG)
    model.critic.optimizer.param_groups[0]["eps"] *= 2
    assert_they_stay_together(learner, model, batches)


class CountedResets(gymnasium.Wrapper):
    """Each reset is of a seed of its own, whoever asks."""

    resets = 0

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        return self.env.reset(seed=self.resets)


LOOP_ENVIRONMENT, STEPS, STARTS = "CountedResets-v0", 1500, 1000


@pytest.fixture
def loop_environment():
    def make():
        # So short that some episodes end by their time, others by a fall.
        return CountedResets(gymnasium.make(ENVIRONMENT, max_episode_steps=20))

    gymnasium.register(LOOP_ENVIRONMENT, make)
    yield
    del gymnasium.registry[LOOP_ENVIRONMENT]


class TheirLoop(stable_baselines3.SAC):
    """Their environment, replay memory and schedule around a learner of ours; draws as our loop does."""

    def host(self, learner, generator):
        self.learner, self.generator = learner, generator

    def _sample_action(self, learning_starts, action_noise=None, n_envs=1):
        if self.num_timesteps < learning_starts:
            action = torch.rand(self.action_space.shape, generator=self.generator)[None] * 2 - 1
        else:
            action = self.learner.explore(torch.from_numpy(self._last_obs).float(), self.generator)
        return action.numpy().copy(), action.numpy().copy()

    def train(self, gradient_steps, batch_size=64):
        assert gradient_steps == 1
        index = torch.randint(self.replay_buffer.size(), (BATCH,), generator=self.generator)
        drawn = self.replay_buffer._get_samples(index.numpy())
        not_terminated = 1 - drawn.dones.float()[:, 0]
        observation, successor = drawn.observations.float(), drawn.next_observations.float()
        batch = Batch(observation, drawn.actions, drawn.rewards[:, 0], not_terminated, successor)
        self.learner.update(batch, self.generator)


@pytest.mark.parametrize("algorithm", [SAC, TD3, DDPG], ids=lambda a: a.name)
def test_the_loop(algorithm, loop_environment, tmp_path):
    """To the last bit, evaluations and checkpoints on our side included."""
    evaluations = []

    def evaluate(policy):
        evaluations.append(policy)
        return 0.0

    every = {"evaluation_every": 200, "checkpoint_every": 200}
    session = TrainingSession(steps=STEPS, folder=tmp_path, evaluate=evaluate, **every)
    options = algorithm(learning_starts=STARTS)
    lab = Lab(LOOP_ENVIRONMENT, training=session)
    ours = options.train(lab)
    assert len(evaluations) == 8

    model = TheirLoop("MlpPolicy", LOOP_ENVIRONMENT, device="cpu", learning_starts=STARTS)
    inputs, actions = model.observation_space.shape[0], model.action_space.shape[0]
    weights = torch.Generator().manual_seed(lab.seed)
    actor = networks.mlp([inputs, 256, 256, actions], weights)
    learner = options.learner(Setup(actor, inputs, actions, "cpu", False, weights))
    model.host(learner, torch.Generator().manual_seed(lab.seed))
    model.learn(STEPS)
    assert model.replay_buffer.timeouts[:STEPS].sum() > 10
    assert model.replay_buffer.dones[:STEPS].sum() > model.replay_buffer.timeouts[:STEPS].sum() + 10
    for layer, theirs in zip(linears(ours.network), linears(learner.actor), strict=True):
        assert torch.equal(layer.weight, theirs.weight)
        assert torch.equal(layer.bias, theirs.bias)
