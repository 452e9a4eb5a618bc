import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compressrl_algorithms.normalization import CLIP, RewardScaler, RunningMoments


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    offset=st.floats(-1e3, 1e3),
    scale=st.floats(1e-3, 1e3),
)
def test_moments_do_not_depend_on_how_the_data_is_split(seed, sizes, offset, scale):
    samples = np.random.default_rng(seed).normal(offset, scale, size=(sum(sizes), 3))
    moments = RunningMoments((3,))
    for part in np.split(samples, np.cumsum(sizes)[:-1]):
        moments.update(part)
    assert moments.count == len(samples)
    np.testing.assert_allclose(moments.mean, samples.mean(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(moments.variance, samples.var(axis=0), rtol=1e-6, atol=1e-9)


def test_moments_are_the_identity_before_the_first_sample():
    moments = RunningMoments((2,))
    assert moments.mean.tolist() == [0, 0]
    np.testing.assert_allclose(moments.std, 1)


def test_moments_survive_a_checkpoint():
    moments, restored = RunningMoments((2,)), RunningMoments((2,))
    moments.update(np.random.default_rng(0).normal(3, 2, size=(10, 2)))
    buffer = io.BytesIO()
    torch.save(moments.state(), buffer)
    buffer.seek(0)
    restored.load(torch.load(buffer, weights_only=True))
    more = np.random.default_rng(1).normal(size=(5, 2))
    moments.update(more)
    restored.update(more)
    assert restored.count == moments.count == 15
    assert np.array_equal(restored.mean, moments.mean)
    assert np.array_equal(restored.variance, moments.variance)


def test_reward_scale_is_the_deviation_of_the_discounted_return():
    rng = np.random.default_rng(0)
    rewards, dones = rng.normal(size=(50, 2)), rng.random((50, 2)) < 0.1
    returns, running = [], np.zeros(2)
    for t in range(50):
        running = 0.9 * running + rewards[t]
        returns.append(running.copy())
        running[dones[t]] = 0.0
    scaler = RewardScaler(2, gamma=0.9)
    scaler.update(rewards[:20], dones[:20])  # an episode goes on over the border of two rollouts
    scaler.update(rewards[20:], dones[20:])
    np.testing.assert_allclose(scaler(rewards), rewards / np.std(returns), rtol=1e-5)


def test_rewards_keep_their_sign_and_are_clipped():
    scaler = RewardScaler(1, gamma=0.0)
    scaler.update(np.array([[1.0], [1.1]]), np.zeros((2, 1), bool))
    assert scaler(np.array([1e6, -1e6])).tolist() == [CLIP, -CLIP]
    assert scaler(np.array([0.01]))[0] == pytest.approx(0.01 / 0.05, rel=1e-3)
