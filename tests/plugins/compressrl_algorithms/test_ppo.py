import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from compressrl_algorithms import elementwise
from compressrl_algorithms.minibatches import Minibatches
from compressrl_algorithms.mlp_stack import MLPStack
from compressrl_algorithms.on_policy import ActorCritic
from compressrl_algorithms.ppo import PPO
from compressrl_algorithms.rollout_buffer import Batch


@pytest.fixture
def agent(between):
    torch.manual_seed(0)
    mean = nn.Sequential(nn.Linear(3, 8), between, nn.Linear(8, 2))
    return ActorCritic(mean, torch.full((2,), -0.5), MLPStack((3, 1), 1))


def make_batch(agent, size, ratios=None, advantages=None):
    """A batch on which the agent's probability ratios are `ratios` (1 unless given)."""
    generator = torch.Generator().manual_seed(1)
    observations = torch.randn(size, 3, generator=generator)
    actions = torch.randn(size, 2, generator=generator)
    with torch.no_grad():
        log_probs = agent.log_prob(observations, actions)
    if ratios is not None:
        log_probs = log_probs - torch.tensor(ratios).log()
    if advantages is None:
        advantages = torch.randn(size, generator=generator).tolist()
    return Batch(observations, actions, log_probs, torch.tensor(advantages), torch.zeros(size))


def outcome_of(agent, batch, clip=0.2, entropy=0.0):
    with torch.no_grad():
        mean = agent.mean(batch.observations)
    return elementwise.clipped_surrogate(mean, agent.log_std, batch, clip, entropy)


def loss_by_autograd(mean, log_std, batch, clip, entropy):
    """Eq. 7 and the last term of eq. 9 as they stand."""
    log_probs = torch.distributions.Normal(mean, log_std.exp()).log_prob(batch.actions).sum(1)
    ratio = (log_probs - batch.log_probs).exp()
    advantages = (batch.advantages - batch.advantages.mean()) / batch.advantages.std(correction=0)
    clipped = ratio.clamp(1 - clip, 1 + clip) * advantages
    return -torch.minimum(ratio * advantages, clipped).mean() - entropy * log_std.sum()


@pytest.mark.parametrize(("clip", "entropy"), [(0.2, 0.0), (0.05, 0.1), (math.inf, 0.0)])
def test_the_gradients_are_those_of_the_loss(agent, clip, entropy):
    batch = make_batch(agent, 64, ratios=torch.linspace(0.5, 1.6, 64).tolist())
    mean = agent.mean(batch.observations).detach().requires_grad_(True)
    loss = loss_by_autograd(mean, agent.log_std, batch, clip, entropy)
    of_mean, of_log_std = torch.autograd.grad(loss, [mean, agent.log_std])
    found = outcome_of(agent, batch, clip, entropy)
    assert float(found.loss) == pytest.approx(loss.item(), rel=1e-4, abs=1e-6)
    torch.testing.assert_close(found.of_mean, of_mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.of_log_std, of_log_std, rtol=1e-4, atol=1e-6)


def test_what_is_not_a_number_is_told(agent):
    batch = make_batch(agent, 8)
    batch.actions[3, 0] = torch.nan
    assert math.isnan(outcome_of(agent, batch).loss)


def test_log_probability_is_that_of_torch(agent):
    batch = make_batch(agent, 16)
    reference = torch.distributions.Normal(agent.mean(batch.observations), agent.log_std.exp())
    expected = reference.log_prob(batch.actions).sum(1)
    torch.testing.assert_close(agent.log_prob(batch.observations, batch.actions), expected)


def test_no_gradient_where_the_ratio_has_left_the_clip_range_in_the_direction_of_its_advantage(agent):
    outside = make_batch(agent, 2, ratios=[1.5, 0.5], advantages=[1.0, -1.0])
    assert outcome_of(agent, outside).of_mean.abs().max() == 0.0


@pytest.mark.parametrize("ratios", [[0.5, 1.5], [1.1, 0.9], [1.0, 1.0]])
def test_gradient_elsewhere(agent, ratios):
    batch = make_batch(agent, 2, ratios=ratios, advantages=[1.0, -1.0])
    assert outcome_of(agent, batch).of_mean.abs().sum() > 1e-3


def test_clipped_surrogate_by_hand(agent):
    batch = make_batch(agent, 4, ratios=[1.5, 0.5, 1.5, 0.5], advantages=[1.0, 1.0, -1.0, -1.0])
    outcome = outcome_of(agent, batch)
    assert float(outcome.loss) == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8) / 4, rel=1e-4)
    assert float(outcome.clipped) == 1.0


def test_advantages_are_normalised_in_each_minibatch(agent):
    batch = make_batch(agent, 32)
    for part in (batch, Batch(*(tensor[:8] for tensor in batch))):
        scaled = part._replace(advantages=part.advantages * 1000 + 77)
        losses = [float(outcome_of(agent, b).loss) for b in (part, scaled)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=1e-5)


def test_kl_estimate_is_zero_for_the_same_policy_and_close_to_the_truth_for_another(agent):
    assert float(outcome_of(agent, make_batch(agent, 8)).approximate_kl) == pytest.approx(0, abs=1e-9)
    observations = torch.zeros(50_000, 3)
    with torch.no_grad():
        mean = agent.mean(observations)
        actions = mean + agent.log_std.exp() * torch.randn(
            mean.shape, generator=torch.Generator().manual_seed(0)
        )
        log_probs = agent.log_prob(observations, actions)
        agent.mean[-1].bias += 0.1
    batch = Batch(observations, actions, log_probs, torch.ones(50_000), torch.zeros(50_000))
    truth = (0.1**2 / (2 * agent.log_std.exp() ** 2)).sum().item()
    assert float(outcome_of(agent, batch).approximate_kl) == pytest.approx(truth, rel=0.05)


def test_entropy_bonus_widens_the_policy(agent):
    batch = make_batch(agent, 16)
    plain, bonus = (outcome_of(agent, batch, entropy=entropy).of_log_std for entropy in (0.0, 0.1))
    torch.testing.assert_close(plain - bonus, torch.full((2,), 0.1))


def test_passes_stop_when_the_policy_has_moved_too_far(agent):
    batch = make_batch(agent, 64)
    rng = np.random.default_rng(0)
    learner = PPO(batch_size=16, epochs=5, learning_rate=1e-2, target_kl=1e-4).learner(agent)
    stopped = learner.improve(batch, 1.0, rng)
    assert 1 <= stopped["train/policy_updates"] < 5
    assert stopped["train/kl"] > 1.5e-4
    learner = PPO(batch_size=16, epochs=5, learning_rate=1e-5, target_kl=1.0).learner(agent)
    fresh = batch._replace(log_probs=agent.log_prob(batch.observations, batch.actions).detach())
    assert learner.improve(fresh, 1.0, rng)["train/policy_updates"] == 20


def test_an_update_raises_the_probability_of_good_actions(agent):
    batch = make_batch(agent, 64)
    learner = PPO(batch_size=64, epochs=10, learning_rate=1e-2, target_kl=10.0).learner(agent)
    learner.improve(batch, 1.0, np.random.default_rng(0))
    change = agent.log_prob(batch.observations, batch.actions) - batch.log_probs
    assert torch.corrcoef(torch.stack([change, batch.advantages]))[0, 1] > 0.3


def test_learning_rate_is_annealed(agent):
    learner = PPO(learning_rate=1e-3).learner(agent)
    learner.improve(make_batch(agent, 64), 0.25, np.random.default_rng(0))
    assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(2.5e-4)


def test_the_gradient_is_clipped(agent):
    batch, moved = make_batch(agent, 64), []
    for max_gradient in (1e-9, 0.5):  # the first far below Adam's epsilon, so that its steps vanish
        learner = PPO(max_gradient=max_gradient, target_kl=10.0).learner(agent)
        before = agent.mean[0].weight.detach().clone()
        learner.improve(batch, 1.0, np.random.default_rng(0))
        moved.append((agent.mean[0].weight - before).abs().max().item())
    assert 0 < moved[0] < moved[1] / 100


def test_updates_are_those_of_torch(agent):
    """Whole passes, by the loss as it stands, torch's clipping and torch's Adam."""
    batch = make_batch(agent, 130)
    reference, before = copy.deepcopy(agent), copy.deepcopy(agent)
    parameters = [*reference.mean.parameters(), reference.log_std]
    optimizer = torch.optim.Adam(parameters, lr=1e-2, eps=1e-5)
    for _ in range(4):
        for part in map(Batch._make, Minibatches().draw(batch, 40, np.random.default_rng(3))):
            loss = loss_by_autograd(reference.mean(part.observations), reference.log_std, part, 0.2, 0.01)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 0.3)
            optimizer.step()
    options = {"batch_size": 40, "epochs": 1, "entropy": 0.01, "max_gradient": 0.3, "target_kl": 1e9}
    learner = PPO(learning_rate=1e-2, **options).learner(agent)
    for _ in range(4):
        learner.improve(batch, 1.0, np.random.default_rng(3))
    torch.testing.assert_close(agent.log_std, reference.log_std, rtol=1e-4, atol=1e-5)
    x = batch.observations
    torch.testing.assert_close(agent.mean(x), reference.mean(x), rtol=1e-4, atol=1e-5)
    assert (reference.mean(x) - before.mean(x)).abs().max() > 0.05
