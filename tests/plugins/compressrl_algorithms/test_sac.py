import math

import pytest
import torch
from torch.distributions import Normal
from torch.nn import functional

from compressrl_algorithms.elementwise import LOG_STD_MAX, LOG_STD_MIN
from compressrl_algorithms.sac import SAC


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def at_temperature(learner, alpha):
    learner.log_alpha.data.fill_(math.log(alpha) if alpha else -math.inf)
    return learner


@pytest.mark.parametrize("log_std", [-1.0, 3.0])
def test_the_actors_gradient_is_that_of_its_loss(learner_of, batch_of, gradient_taken_by, log_std):
    """SAC eq. 9 by autograd: log_std within its bounds, or beyond for some states."""
    learner, observation = learner_of(SAC, numbers="float32"), batch_of().observation
    with torch.no_grad():
        learner.log_std.bias.fill_(log_std)
        learner.log_std.weight.mul_(10)
    alpha, noise = 0.3, torch.randn(32, 2, generator=generator())
    at_temperature(learner, alpha)
    found = gradient_taken_by(lambda: learner._update_actor(observation, generator()))

    features = learner.actor[:-1](observation)
    loc, raw = learner.actor[-1](features), learner.log_std(features)
    assert ((raw > LOG_STD_MAX).any(), (raw < LOG_STD_MAX).any()) == (log_std > 2, True)
    u = loc + raw.clamp(LOG_STD_MIN, LOG_STD_MAX).exp() * noise
    normal = Normal(loc, raw.clamp(LOG_STD_MIN, LOG_STD_MAX).exp())
    log_prob = (normal.log_prob(u) - 2 * (math.log(2) - u - functional.softplus(-2 * u))).sum(dim=1)
    x = torch.cat([observation, u.tanh()], dim=1).expand(2, -1, -1)
    for index, (weight, bias) in enumerate(learner.critics.stack.layers()):
        x = torch.baddbmm(bias, x if index == 0 else x.relu(), weight.mT)
    loss = (alpha * log_prob - x.squeeze(2).amin(dim=0)).mean()
    hidden = torch.autograd.grad(loss, list(learner.actor[:-1].parameters()), retain_graph=True)
    last = [*learner.actor[-1].parameters(), *learner.log_std.parameters()]
    a, b, c, d = torch.autograd.grad(loss, last)
    expected = [*hidden, torch.cat([a, c]), torch.cat([b, d])]
    torch.testing.assert_close(
        found, torch.cat([part.t().flatten() for part in expected]), rtol=1e-4, atol=1e-6
    )


def test_entropy_of_samples_agrees_with_their_spread(learner_of):
    learner = learner_of(SAC)
    with torch.no_grad():
        learner.log_std.weight.zero_()
        learner.log_std.bias.fill_(-3.0)
        learner.actor[-1].weight.zero_()
        learner.actor[-1].bias.zero_()
        sample = learner.sample(torch.zeros(20_000, 3), generator())
    # Near zero tanh is the identity: the entropy is that of two narrow Gaussians.
    gaussian = 2 * (0.5 * math.log(2 * math.pi * math.e) - 3.0)
    assert -sample.log_prob.mean().item() == pytest.approx(gaussian, abs=0.02)
    assert sample.action.std(dim=0).tolist() == pytest.approx([math.exp(-3.0)] * 2, rel=0.03)


def test_target_is_the_soft_bellman_equation_with_the_lower_critic(learner_of, batch_of):
    learner, batch = learner_of(SAC), batch_of()
    with torch.no_grad():
        learner.critics.stack.vector.zero_()  # apart from their targets, which the equation uses
    target = at_temperature(learner, 0.3).bellman_target(batch, generator())
    with torch.no_grad():
        action, log_prob, _ = learner.sample(batch.next_observation, generator())
        first, second = learner.targets(batch.next_observation, action)
    expected = batch.reward + 0.99 * (torch.minimum(first, second) - 0.3 * log_prob)
    torch.testing.assert_close(target, expected)
    assert (first < second).any()
    assert (first > second).any()


def test_a_terminal_state_has_no_value_and_no_entropy(learner_of, batch_of):
    batch = batch_of(not_terminated=0.0)
    target = learner_of(SAC).bellman_target(batch, generator())
    torch.testing.assert_close(target, batch.reward)


def test_critics_descend_on_half_the_squared_error_of_both_and_nothing_else_moves(
    learner_of, batch_of, snapshot
):
    learner, batch = at_temperature(learner_of(SAC, critic_lr=1e-2, tau=0.0), 0.0), batch_of()
    others_changed = [snapshot(part) for part in (learner.actor, learner.log_std, learner.targets)]
    target = learner.bellman_target(batch, generator())
    error = (learner.critics(batch.observation, batch.action) - target).square().mean()
    losses = [float(learner.update(batch, generator(), hold_actor=True)["critic_loss"]) for _ in range(200)]
    assert losses[0] == pytest.approx(error.item())
    assert losses[-1] < 0.1 * losses[0]
    assert not any(changed() for changed in others_changed)


def test_the_actor_climbs_the_lower_critic_and_leaves_the_critics_alone(learner_of, batch_of, snapshot):
    learner, observation = learner_of(SAC, actor_lr=1e-2, temperature_lr=0.0), batch_of().observation
    at_temperature(learner, 0.0)
    learner.critics.stack.vector.data.mul_(2.0)  # so that actions matter
    critics_changed = snapshot(learner.critics)

    def value():
        with torch.no_grad():
            values = learner.critics(observation, learner.actor(observation).tanh())
            return values.amin(dim=0).mean().item()

    before = value()
    for _ in range(100):
        learner._update_actor(observation, generator())
    assert value() > before + 0.05
    assert not critics_changed()


def test_a_high_temperature_widens_the_actor(learner_of, batch_of):
    learner, observation = learner_of(SAC, actor_lr=1e-2, temperature_lr=0.0), batch_of().observation
    at_temperature(learner, 10.0)
    log_probs = [float(learner._update_actor(observation, generator(i))["log_prob"]) for i in range(100)]
    assert log_probs[-1] < log_probs[0] - 0.1


@pytest.mark.parametrize(("beyond", "direction"), [(1.0, 1), (-1.0, -1)])
def test_the_temperature_moves_so_that_the_entropy_nears_its_target(learner_of, batch_of, beyond, direction):
    learner, observation = learner_of(SAC), batch_of().observation
    assert learner.target_entropy == -2.0
    entropy = -learner.sample(observation, generator()).log_prob.mean().item()
    learner.target_entropy = entropy + beyond
    learner._update_actor(observation, generator())
    assert direction * learner.log_alpha.item() > 0


def test_targets_follow_slowly(learner_of, batch_of):
    learner = learner_of(SAC, tau=0.1)
    before = [p.clone() for p in learner.targets.parameters()]
    learner.update(batch_of(), generator())
    rows = zip(before, learner.targets.parameters(), learner.critics.parameters(), strict=True)
    for old, new, source in rows:
        torch.testing.assert_close(new, (0.9 * old + 0.1 * source).detach())
        assert not torch.equal(new, old)


def test_a_held_actor_stays_while_critics_and_targets_learn(learner_of, batch_of, snapshot):
    learner = learner_of(SAC)
    actor_changed, critics_changed, targets_changed = map(
        snapshot, (learner.actor, learner.critics, learner.targets)
    )
    values = learner.update(batch_of(), generator(), hold_actor=True)
    assert set(values) == {"critic_loss"}
    assert not actor_changed()
    assert learner.log_alpha.item() == 0.0
    assert critics_changed()
    assert targets_changed()


def test_a_warm_start_explores_near_the_policy(learner_of, batch_of):
    learner, observation = learner_of(SAC, warm=True), batch_of(500).observation
    with torch.no_grad():
        distance = (learner.explore(observation, generator()) - learner.actor(observation).tanh()).abs()
    assert 0.05 < distance.mean() < 0.15


def test_a_temperature_that_is_beyond_all_numbers_is_infinite(learner_of, batch_of):
    """So that training says that it diverged."""
    learner = learner_of(SAC)
    learner.log_alpha.data.fill_(1000.0)
    assert learner.update(batch_of(), generator())["temperature"] == math.inf
