import pytest
import torch
from torch import nn

from compressrl_algorithms.ddpg import DDPG


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_target_is_the_bellman_equation_at_the_target_actors_action(learner_of, batch_of):
    learner, batch = learner_of(DDPG, gamma=0.9), batch_of()
    with torch.no_grad():
        learner.actor[0].weight.zero_()  # apart from its target, which the equation uses
        action = learner.target_actor(batch.next_observation).tanh()
        (value,) = learner.target_critics(batch.next_observation, action)
    torch.testing.assert_close(learner.bellman_target(batch, generator()), batch.reward + 0.9 * value)


def test_a_terminal_state_has_no_value(learner_of, batch_of):
    batch = batch_of(not_terminated=0.0)
    torch.testing.assert_close(learner_of(DDPG).bellman_target(batch, generator()), batch.reward)


def test_the_critic_descends_on_the_bellman_error_and_nothing_else_moves(learner_of, batch_of, snapshot):
    learner, batch = learner_of(DDPG, critic_lr=1e-2), batch_of()
    others_changed = [snapshot(learner.actor), snapshot(learner.target_critics)]
    error = learner.critics(batch.observation, batch.action) - learner.bellman_target(batch, generator())
    losses = [float(learner.update_critics(batch, generator())) for _ in range(200)]
    assert losses[0] == pytest.approx(0.5 * error.square().mean().item())
    assert losses[-1] < 0.1 * losses[0]
    assert not any(changed() for changed in others_changed)


def test_the_actor_climbs_the_critic_and_leaves_it_alone(learner_of, batch_of, snapshot):
    learner, observation = learner_of(DDPG, actor_lr=1e-2), batch_of().observation
    critics_changed = snapshot(learner.critics)
    losses = [float(learner.update_actor(observation)) for _ in range(100)]
    assert losses[-1] < losses[0] - 0.05
    assert not critics_changed()


def test_the_actors_gradient_is_that_of_the_mean_value(learner_of, batch_of, gradient_taken_by):
    learner, observation = learner_of(DDPG, numbers="float32"), batch_of().observation
    found = gradient_taken_by(lambda: learner.update_actor(observation))
    by_modules = nn.Sequential(learner.actor)
    action = by_modules(observation).tanh()
    x = torch.cat([observation, action], dim=1)
    for index, (weight, bias) in enumerate(learner.critics.stack.layers()):
        x = (x if index == 0 else x.relu()) @ weight[0].T + bias[0]
    expected = torch.autograd.grad(-x.mean(), list(by_modules.parameters()))
    torch.testing.assert_close(found, torch.cat([part.t().flatten() for part in expected]))


def test_both_targets_follow_slowly(learner_of, batch_of):
    learner = learner_of(DDPG, tau=0.1)
    pairs = [(learner.target_actor, learner.network), (learner.target_critics, learner.critics)]
    before = [[p.clone() for p in target.learnt()] for target, _ in pairs]
    learner.update(batch_of(), generator())
    for olds, (target, source) in zip(before, pairs, strict=True):
        for old, new, learnt in zip(olds, target.learnt(), source.learnt(), strict=True):
            torch.testing.assert_close(new, (0.9 * old + 0.1 * learnt).detach())
            assert not torch.equal(new, old)


def test_a_held_actor_stays_while_the_critic_learns(learner_of, batch_of, snapshot):
    learner = learner_of(DDPG)
    actor_changed, critics_changed = snapshot(learner.actor), snapshot(learner.critics)
    learner.update(batch_of(), generator(), hold_actor=True)
    assert not actor_changed()
    assert critics_changed()


def test_exploration_noise_has_the_stated_spread_and_stays_in_bounds(learner_of, batch_of):
    learner, observation = learner_of(DDPG, exploration_noise=0.1), batch_of(5000).observation
    with torch.no_grad():
        noise = learner.explore(observation, generator()) - learner.actor(observation).tanh()
        wild = learner_of(DDPG, exploration_noise=3.0).explore(observation, generator())
    assert noise.std().item() == pytest.approx(0.1, rel=0.05)
    assert wild.abs().max().item() == 1.0
