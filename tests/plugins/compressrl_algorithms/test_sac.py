import math

import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from compressrl_algorithms.sac import LOG_STD_MAX, LOG_STD_MIN, SAC, squash

ZERO = torch.tensor(0.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_log_probability_is_that_of_torchs_squashed_normal():
    g = generator()
    loc, log_std = torch.randn(64, 3, generator=g), torch.rand(64, 3, generator=g) * 3 - 2.5
    noise = torch.randn(64, 3, generator=g)
    u = loc + log_std.exp() * noise
    # In float64 and through the pre-tanh cache: torch's own inverse of tanh is not exact near ±1.
    normal = Normal(loc.double(), log_std.double().exp())
    reference = TransformedDistribution(normal, TanhTransform(cache_size=1))
    action = reference.transforms[0](u.double())
    ours = squash(loc, log_std, noise)
    torch.testing.assert_close(ours.action, action.float())
    torch.testing.assert_close(ours.log_prob, reference.log_prob(action).sum(1).float(), rtol=1e-4, atol=1e-4)


def test_log_probability_stays_finite_where_tanh_rounds_to_one():
    loc = torch.tensor([[60.0, -60.0]])
    sample = squash(loc, torch.full((1, 2), LOG_STD_MAX), torch.zeros(1, 2))
    assert sample.action.tolist() == [[1.0, -1.0]]
    assert math.isfinite(sample.log_prob.item())


@pytest.mark.parametrize("log_std", [-1.0, 3.0])
def test_the_actors_gradient_is_that_of_its_loss(learner_of, batch_of, gradient_taken_by, log_std):
    """SAC eq. 9 by autograd: log_std within its bounds, or beyond for some states."""
    learner, observation = learner_of(SAC, bfloat16=False), batch_of().observation
    with torch.no_grad():
        learner.log_std.bias.fill_(log_std)
        learner.log_std.weight.mul_(10)
    alpha, noise = torch.tensor(0.3), torch.randn(32, 2, generator=generator())
    found = gradient_taken_by(learner, lambda: learner._update_actor(observation, alpha, generator()))

    features = learner.actor[:-1](observation)
    loc, raw = learner.actor[-1](features), learner.log_std(features)
    assert ((raw > LOG_STD_MAX).any(), (raw < LOG_STD_MAX).any()) == (log_std > 2, True)
    action, log_prob, _ = squash(loc, raw.clamp(LOG_STD_MIN, LOG_STD_MAX), noise)
    x = torch.cat([observation, action], dim=1).expand(2, -1, -1)
    for index, (weight, bias) in enumerate(learner.critics.stack.layers()):
        x = torch.baddbmm(bias, x if index == 0 else x.relu(), weight.mT)
    loss = (alpha * log_prob - x.squeeze(2).amin(dim=0)).mean()
    hidden = torch.autograd.grad(loss, list(learner.actor[:-1].parameters()), retain_graph=True)
    last = [*learner.actor[-1].parameters(), *learner.log_std.parameters()]
    a, b, c, d = torch.autograd.grad(loss, last)
    expected = [*hidden, torch.cat([a, c]), torch.cat([b, d])]
    torch.testing.assert_close(found, torch.cat([part.flatten() for part in expected]), rtol=1e-4, atol=1e-6)


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
    target = learner.bellman_target(batch, torch.tensor(0.3), generator())
    with torch.no_grad():
        action, log_prob, _ = learner.sample(batch.next_observation, generator())
        first, second = learner.targets(batch.next_observation, action)
    expected = batch.reward + 0.99 * (torch.minimum(first, second) - 0.3 * log_prob)
    torch.testing.assert_close(target, expected)
    assert (first < second).any()
    assert (first > second).any()


def test_a_terminal_state_has_no_value_and_no_entropy(learner_of, batch_of):
    batch = batch_of(not_terminated=0.0)
    target = learner_of(SAC).bellman_target(batch, torch.tensor(0.3), generator())
    torch.testing.assert_close(target, batch.reward)


def test_critics_descend_on_half_the_squared_error_of_both_and_nothing_else_moves(
    learner_of, batch_of, snapshot
):
    learner, batch = learner_of(SAC, critic_lr=1e-2), batch_of()
    others_changed = [snapshot(part) for part in (learner.actor, learner.log_std, learner.targets)]
    target = learner.bellman_target(batch, ZERO, generator())
    error = (learner.critics(batch.observation, batch.action) - target).square().mean()
    losses = [learner._update_critics(batch, ZERO, generator()).item() for _ in range(200)]
    assert losses[0] == pytest.approx(error.item())
    assert losses[-1] < 0.1 * losses[0]
    assert not any(changed() for changed in others_changed)


def test_the_actor_climbs_the_lower_critic_and_leaves_the_critics_alone(learner_of, batch_of, snapshot):
    learner, observation = learner_of(SAC, actor_lr=1e-2), batch_of().observation
    learner.critics.stack.vector.data.mul_(2.0)  # so that actions matter
    critics_changed = snapshot(learner.critics)

    def value():
        with torch.no_grad():
            values = learner.critics(observation, learner.actor(observation).tanh())
            return values.amin(dim=0).mean().item()

    before = value()
    for _ in range(100):
        learner._update_actor(observation, ZERO, generator())
    assert value() > before + 0.05
    assert not critics_changed()


def test_a_high_temperature_widens_the_actor(learner_of, batch_of):
    learner, observation = learner_of(SAC, actor_lr=1e-2), batch_of().observation
    log_probs = [
        learner._update_actor(observation, torch.tensor(10.0), generator(i))[1].mean().item()
        for i in range(100)
    ]
    assert log_probs[-1] < log_probs[0] - 0.1


@pytest.mark.parametrize(("entropy", "direction"), [(-5.0, 1), (1.0, -1)])
def test_the_temperature_moves_so_that_the_entropy_nears_its_target(learner_of, entropy, direction):
    learner = learner_of(SAC)
    assert learner.target_entropy == -2.0
    learner._update_temperature(torch.full((8,), -entropy))
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
