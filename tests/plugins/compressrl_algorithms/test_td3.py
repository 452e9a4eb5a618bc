import pytest
import torch

from compressrl_algorithms.td3 import TD3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("delay", [2, 3])
def test_actor_and_targets_move_with_every_second_update_only(learner_of, batch_of, snapshot, delay):
    learner, moved = learner_of(TD3, policy_delay=delay), []
    for _ in range(6):
        changed = [snapshot(part) for part in (learner.actor, learner.target_actor, learner.target_critics)]
        critics_changed = snapshot(learner.critics)
        learner.update(batch_of(), generator())
        moved.append([each() for each in changed])
        assert critics_changed()
    assert moved == [[(update + 1) % delay == 0] * 3 for update in range(6)]


def test_the_delay_survives_a_checkpoint(learner_of, batch_of, snapshot):
    learner, resumed = learner_of(TD3), learner_of(TD3)
    learner.update(batch_of(), generator())
    resumed.load_state_dict(learner.state_dict())
    actor_changed = snapshot(resumed.actor)
    resumed.update(batch_of(), generator())
    assert actor_changed()


@pytest.fixture
def target_noise(learner_of):
    """What the smoothing adds to the target actor's action, over 5000 states."""

    def measure(**options):
        learner, observation = learner_of(TD3, **options), torch.randn(5000, 3, generator=generator(3))
        with torch.no_grad():
            return learner.target_action(observation, generator()) - learner.target_actor(observation).tanh()

    return measure


def test_the_targets_action_is_smoothed_by_noise_of_the_stated_spread(target_noise):
    noise = target_noise(target_noise=0.1)
    assert noise.std().item() == pytest.approx(0.1, rel=0.05)
    assert abs(noise.mean().item()) < 0.01


def test_the_noise_is_clipped(target_noise):
    noise = target_noise(target_noise=0.2, target_noise_clip=0.25)
    assert noise.abs().max().item() == pytest.approx(0.25, abs=1e-6)


def test_the_smoothed_action_stays_in_bounds(learner_of, batch_of):
    learner = learner_of(TD3, target_noise=2.0, target_noise_clip=5.0)
    action = learner.target_action(batch_of(1000).observation, generator())
    assert action.abs().max().item() == 1.0


def test_the_target_takes_the_lower_critic(learner_of, batch_of):
    learner, batch = learner_of(TD3, target_noise=0.0), batch_of()
    with torch.no_grad():
        action = learner.target_actor(batch.next_observation).tanh()
        first, second = learner.target_critics(batch.next_observation, action)
        # On one level, so that each of them is the lower one somewhere.
        learner.target_critics.stack.layers()[-1].bias[0] += (second - first).mean()
        first, second = learner.target_critics(batch.next_observation, action)
    expected = batch.reward + 0.99 * torch.minimum(first, second)
    torch.testing.assert_close(learner.bellman_target(batch, generator()), expected)
    assert (first < second).any()
    assert (first > second).any()


def test_the_actor_climbs_the_first_critic(learner_of, batch_of):
    learner, observation = learner_of(TD3), batch_of().observation
    with torch.no_grad():
        first, _ = learner.critics(observation, learner.network(observation).tanh())
    assert float(learner.update_actor(observation)) == pytest.approx(-first.mean().item(), rel=1e-5)
