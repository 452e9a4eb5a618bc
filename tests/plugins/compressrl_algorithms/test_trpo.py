import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compressrl_algorithms.mlp_stack import MLPStack
from compressrl_algorithms.on_policy import ActorCritic
from compressrl_algorithms.rollout_buffer import Batch
from compressrl_algorithms.trpo import TRPO, Gaussian, conjugate_gradient, mean_kl, surrogate


@pytest.fixture
def make_agent(between):
    def make():
        torch.manual_seed(0)
        mean = nn.Sequential(nn.Linear(3, 4), between, nn.Linear(4, 2))
        return ActorCritic(mean, torch.tensor([-0.5, 0.2]), MLPStack((3, 1), 1))

    return make


def parameters(learner):
    return torch.cat([parameter.detach().flatten() for parameter in learner.parameters])


def policy_parameters(agent):
    return [*agent.mean.parameters(), agent.log_std]


def gaussian(agent, observations):
    return Gaussian(agent.mean(observations), agent.log_std)


def make_batch(agent, size=64):
    generator = torch.Generator().manual_seed(1)
    observations, noise = (torch.randn(size, n, generator=generator) for n in (3, 2))
    with torch.no_grad():
        actions = agent.mean(observations) + agent.log_std.exp() * noise
        log_probs = agent.log_prob(observations, actions)
    advantages = torch.randn(size, generator=generator)
    return Batch(observations, actions, log_probs, advantages, torch.zeros(size))


def snapshot(agent, observations):
    with torch.no_grad():
        return Gaussian(*(tensor.clone() for tensor in gaussian(agent, observations)))


def test_kl_is_that_of_torch(make_agent):
    agent = make_agent()
    observations = torch.randn(16, 3)
    old = snapshot(agent, observations)
    with torch.no_grad():
        for parameter in agent.parameters():
            parameter += 0.1
    new = gaussian(agent, observations)
    Normal = torch.distributions.Normal
    pair = Normal(old.mean, old.log_std.exp()), Normal(new.mean, new.log_std.exp())
    torch.testing.assert_close(mean_kl(old, new), torch.distributions.kl_divergence(*pair).sum(1).mean())


def test_fisher_vector_product_is_the_explicit_hessian_of_the_kl_times_the_vector(make_agent):
    agent = make_agent()
    learner = TRPO(cg_damping=0.3).learner(agent)
    observations = make_batch(agent).observations
    old = snapshot(agent, observations)
    kl = mean_kl(old, gaussian(agent, observations))
    order = policy_parameters(agent)
    gradients = torch.autograd.grad(kl, order, create_graph=True)
    learner.actor.learn(observations)

    def rows(vector):
        """The parts of a vector of the learner, each as the parameter that it belongs to."""
        *stacked, of_log_std = learner._parts(vector)
        if learner.actor.stack is None:
            return [*stacked, of_log_std]
        parts = []
        for weight, bias in learner.actor.stack._layers(stacked[0]):
            parts += [weight[0], bias[0, 0]]
        return [*parts, of_log_std]

    for seed in range(3):
        v = torch.randn(sum(learner.sizes), generator=torch.Generator().manual_seed(seed))
        along = sum((g * part).sum() for g, part in zip(gradients, rows(v), strict=True))
        expected = torch.autograd.grad(along, order, retain_graph=True)
        for found, row, part in zip(rows(learner.fisher_vector_product(v)), expected, rows(v), strict=True):
            torch.testing.assert_close(found.detach(), row + 0.3 * part, rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 12))
def test_conjugate_gradient_solves_the_system(seed, size):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    matrix = root @ root.T + np.eye(size)
    b = rng.normal(size=size)
    A = torch.from_numpy(matrix)
    x = conjugate_gradient(lambda v: A @ v, torch.from_numpy(b), iterations=3 * size)
    np.testing.assert_allclose(x.numpy(), np.linalg.solve(matrix, b), atol=1e-4)


def test_conjugate_gradient_of_a_zero_gradient_is_zero():
    assert conjugate_gradient(lambda v: v, torch.zeros(3), 10).tolist() == [0, 0, 0]


@pytest.mark.parametrize("max_kl", [0.001, 0.05, 1.0])
def test_a_step_improves_the_surrogate_within_the_trust_region(make_agent, max_kl):
    agent = make_agent()
    batch = make_batch(agent)
    old = snapshot(agent, batch.observations)
    step = TRPO(max_kl=max_kl).learner(agent).step(batch)
    with torch.no_grad():
        new = gaussian(agent, batch.observations)
        kl = mean_kl(old, new).item()
        advantages = (batch.advantages - batch.advantages.mean()) / batch.advantages.std(correction=0)
        ratios = (agent.log_prob(batch.observations, batch.actions) - batch.log_probs).exp()
        gain = (ratios * advantages).mean().item()  # it was the mean advantage, zero
    assert step.accepted
    assert kl == pytest.approx(step.kl, rel=1e-4)
    assert max_kl / 10 < kl <= max_kl * 1.0001
    assert gain == pytest.approx(step.surrogate, abs=1e-5)
    assert gain > 0


@pytest.mark.parametrize("failure", ["objective", "kl"])
def test_a_failed_line_search_restores_the_old_parameters_bit_for_bit(make_agent, failure):
    agent = make_agent()
    batch = make_batch(agent)
    learner = TRPO(line_search_steps=3, max_kl=1e6 if failure == "objective" else 1e-6).learner(agent)
    before = [parameter.detach().clone() for parameter in policy_parameters(agent)]
    direction = torch.ones_like(parameters(learner))
    # No step can reach this objective; no step of this length stays within this trust region.
    objective = 1e9 if failure == "objective" else -1e9
    with torch.no_grad():
        step = learner.line_search(batch, snapshot(agent, batch.observations), direction, objective)
    assert not step.accepted
    assert step.tried == 3
    for old, new in zip(before, policy_parameters(agent), strict=True):
        assert torch.equal(old, new)


def test_the_line_search_shrinks_until_the_step_fits(make_agent):
    agent = make_agent()
    batch = make_batch(agent)
    learner = TRPO(line_search_steps=20, line_search_shrink=0.5, max_kl=0.01).learner(agent)
    before = parameters(learner)
    direction = torch.ones_like(before)
    with torch.no_grad():
        step = learner.line_search(batch, snapshot(agent, batch.observations), direction, objective=-1e9)
    assert step.accepted
    assert step.tried > 1
    moved = parameters(learner) - before
    torch.testing.assert_close(moved, 0.5 ** (step.tried - 1) * direction, rtol=1e-3, atol=1e-5)


def test_the_step_follows_the_natural_gradient(make_agent):
    agent = make_agent()
    batch = make_batch(agent)
    learner = TRPO(cg_iterations=100, cg_damping=0.1, max_kl=1e-4).learner(agent)
    with torch.no_grad():
        now = Gaussian(learner.actor.learn(batch.observations), agent.log_std)
        here = surrogate(now, batch)
        g = -learner._vector(here.of_mean, here.of_log_std)
        fisher = torch.stack([learner.fisher_vector_product(row) for row in torch.eye(len(g))])
    before = parameters(learner)
    assert learner.step(batch).tried == 1
    taken = parameters(learner) - before
    assert 0.5 * taken @ fisher @ taken == pytest.approx(1e-4, rel=0.02)  # as long as the model allows
    assert torch.cosine_similarity(taken, torch.linalg.solve(fisher, g), dim=0) > 0.999
    assert torch.cosine_similarity(taken, g, dim=0) < 0.99
