import numpy as np
import pytest
import torch
from torch import nn

from compressrl_algorithms.on_policy import ActorCritic, minibatches
from compressrl_algorithms.ppo import PPO, ppo_loss
from compressrl_algorithms.rollout_buffer import Batch


@pytest.fixture
def agent():
    torch.manual_seed(0)
    mean = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    return ActorCritic(mean, torch.full((2,), -0.5), nn.Linear(3, 1))


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


def gradient_norm(agent, loss):
    parameters = agent.policy_parameters()
    gradients = torch.autograd.grad(loss, parameters)
    return sum(g.abs().sum().item() for g in gradients)


def test_log_probability_is_that_of_torch(agent):
    batch = make_batch(agent, 16)
    reference = torch.distributions.Normal(agent.mean(batch.observations), agent.log_std.exp())
    expected = reference.log_prob(batch.actions).sum(1)
    torch.testing.assert_close(agent.log_prob(batch.observations, batch.actions), expected)


def test_no_gradient_where_the_ratio_has_left_the_clip_range_in_the_direction_of_its_advantage(agent):
    outside = make_batch(agent, 2, ratios=[1.5, 0.5], advantages=[1.0, -1.0])
    assert gradient_norm(agent, ppo_loss(agent, outside, 0.2, 0.0).loss) == 0.0


@pytest.mark.parametrize("ratios", [[0.5, 1.5], [1.1, 0.9], [1.0, 1.0]])
def test_gradient_elsewhere(agent, ratios):
    batch = make_batch(agent, 2, ratios=ratios, advantages=[1.0, -1.0])
    assert gradient_norm(agent, ppo_loss(agent, batch, 0.2, 0.0).loss) > 1e-3


def test_clipped_surrogate_by_hand(agent):
    batch = make_batch(agent, 4, ratios=[1.5, 0.5, 1.5, 0.5], advantages=[1.0, 1.0, -1.0, -1.0])
    outcome = ppo_loss(agent, batch, 0.2, 0.0)
    assert outcome.loss.item() == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8) / 4, rel=1e-4)
    assert outcome.clipped.item() == 1.0


def test_advantages_are_normalised_in_each_minibatch(agent):
    batch = make_batch(agent, 32)
    for part in (batch, batch.select(torch.arange(8))):
        scaled = part._replace(advantages=part.advantages * 1000 + 77)
        losses = [ppo_loss(agent, b, 0.2, 0.0).loss for b in (part, scaled)]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-5)


def test_kl_estimate_is_zero_for_the_same_policy_and_close_to_the_truth_for_another(agent):
    assert ppo_loss(agent, make_batch(agent, 8), 0.2, 0.0).approximate_kl == 0.0
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
    assert ppo_loss(agent, batch, 0.2, 0.0).approximate_kl.item() == pytest.approx(truth, rel=0.05)


def test_entropy_bonus_widens_the_policy(agent):
    batch = make_batch(agent, 16)
    plain, bonus = (
        torch.autograd.grad(ppo_loss(agent, batch, 0.2, e).loss, agent.log_std)[0] for e in (0.0, 0.1)
    )
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
        before = learner.flat.vector.detach().clone()
        learner.improve(batch, 1.0, np.random.default_rng(0))
        moved.append((learner.flat.vector - before).abs().max().item())
    assert 0 < moved[0] < moved[1] / 100


@pytest.mark.parametrize(("count", "size"), [(64, 16), (65, 16), (31, 16), (5, 16), (1, 16)])
def test_minibatches_are_a_partition_without_tiny_parts(count, size):
    parts = list(minibatches(count, size, np.random.default_rng(0)))
    assert sorted(torch.cat(parts).tolist()) == list(range(count))
    assert all(len(part) >= min(size, count) for part in parts)
    assert all(len(part) < 2 * size for part in parts)
