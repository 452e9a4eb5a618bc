import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compressrl_algorithms.on_policy import ActorCritic
from compressrl_algorithms.rollout_buffer import Batch
from compressrl_algorithms.trpo import (
    TRPO,
    Gaussian,
    conjugate_gradient,
    fisher_vector_product,
    gaussian,
    mean_kl,
    surrogate,
)


def make_agent():
    torch.manual_seed(0)
    mean = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return ActorCritic(mean, torch.tensor([-0.5, 0.2]), nn.Linear(3, 1))


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


def test_kl_is_that_of_torch():
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


def test_fisher_vector_product_is_the_explicit_hessian_of_the_kl_times_the_vector():
    agent = make_agent()
    learner = TRPO().learner(agent)
    observations = make_batch(agent).observations
    old = snapshot(agent, observations)
    names = [f"mean.{name}" for name, _ in agent.mean.named_parameters()] + ["log_std"]
    shapes = [parameter.shape for parameter in learner.flat.parameters]
    sizes = [shape.numel() for shape in shapes]

    def kl(vector):
        parts = torch.split(vector, sizes)
        values = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        mean = torch.func.functional_call(
            agent.mean,
            {n.removeprefix("mean."): v for n, v in values.items() if n != "log_std"},
            observations,
        )
        return mean_kl(old, Gaussian(mean, values["log_std"]))

    hessian = torch.autograd.functional.hessian(kl, learner.flat.vector.detach().clone())
    product = fisher_vector_product(agent, learner.flat, observations, damping=0.3)
    for seed in range(3):
        v = torch.randn(len(hessian), generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(product(v), hessian @ v + 0.3 * v, rtol=1e-4, atol=1e-5)


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
def test_a_step_improves_the_surrogate_within_the_trust_region(max_kl):
    agent = make_agent()
    batch = make_batch(agent)
    old = snapshot(agent, batch.observations)
    advantages = (batch.advantages - batch.advantages.mean()) / batch.advantages.std(correction=0)
    step = TRPO(max_kl=max_kl).learner(agent).step(batch)
    with torch.no_grad():
        kl = mean_kl(old, gaussian(agent, batch.observations)).item()
        gain = surrogate(agent, batch, advantages).item()  # it was the mean advantage, zero
    assert step.accepted
    assert kl == pytest.approx(step.kl, rel=1e-5)
    assert max_kl / 10 < kl <= max_kl
    assert gain == pytest.approx(step.surrogate, abs=1e-5)
    assert gain > 0


@pytest.mark.parametrize("failure", ["objective", "kl"])
def test_a_failed_line_search_restores_the_old_parameters_bit_for_bit(failure):
    agent = make_agent()
    batch = make_batch(agent)
    learner = TRPO(line_search_steps=3, max_kl=1e6 if failure == "objective" else 1e-6).learner(agent)
    before = [parameter.detach().clone() for parameter in agent.policy_parameters()]
    direction = torch.ones_like(learner.flat.vector.detach())
    # No step can reach this objective; no step of this length stays within this trust region.
    objective = 1e9 if failure == "objective" else -1e9
    step = learner.line_search(batch, batch.advantages, direction, objective)
    assert not step.accepted
    assert step.tried == 3
    for old, new in zip(before, agent.policy_parameters(), strict=True):
        assert torch.equal(old, new)


def test_the_line_search_shrinks_until_the_step_fits():
    agent = make_agent()
    batch = make_batch(agent)
    learner = TRPO(line_search_steps=20, line_search_shrink=0.5, max_kl=0.01).learner(agent)
    direction = torch.ones_like(learner.flat.vector.detach())
    before = learner.flat.vector.detach().clone()
    step = learner.line_search(batch, batch.advantages, direction, objective=-1e9)
    assert step.accepted
    assert step.tried > 1
    torch.testing.assert_close(
        learner.flat.vector - before, 0.5 ** (step.tried - 1) * direction, rtol=1e-3, atol=1e-5
    )


def test_the_step_follows_the_natural_gradient():
    agent = make_agent()
    batch = make_batch(agent)
    learner = TRPO(cg_iterations=100, cg_damping=0.1, max_kl=1e-4).learner(agent)
    advantages = (batch.advantages - batch.advantages.mean()) / batch.advantages.std(correction=0)
    gradients = torch.autograd.grad(surrogate(agent, batch, advantages), learner.flat.parameters)
    g = torch.cat([gradient.flatten() for gradient in gradients])
    product = fisher_vector_product(agent, learner.flat, batch.observations, 0.1)
    fisher = torch.stack([product(row) for row in torch.eye(len(g))])
    before = learner.flat.vector.detach().clone()
    assert learner.step(batch).tried == 1
    taken = learner.flat.vector.detach() - before
    assert 0.5 * taken @ fisher @ taken == pytest.approx(1e-4, rel=0.02)  # as long as the model allows
    assert torch.cosine_similarity(taken, torch.linalg.solve(fisher, g), dim=0) > 0.999
    assert torch.cosine_similarity(taken, g, dim=0) < 0.99
