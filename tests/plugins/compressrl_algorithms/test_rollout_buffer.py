import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compressrl_algorithms.rollout_buffer import generalized_advantages


def slow_advantages(rewards, values, next_values, terminated, truncated, gamma, lam):
    """One environment, by the definition: the lambda-weighted mean of n-step advantages."""
    steps = len(rewards)
    result = np.zeros(steps)
    for t in range(steps):
        ends = [k for k in range(t, steps) if terminated[k] or truncated[k] or k == steps - 1]
        last = ends[0]
        n_step, discounted = [], 0.0
        for k in range(t, last + 1):
            discounted += gamma ** (k - t) * rewards[k]
            bootstrap = 0.0 if terminated[k] else gamma ** (k - t + 1) * next_values[k]
            n_step.append(discounted + bootstrap - values[t])
        weights = [(1 - lam) * lam**i for i in range(len(n_step) - 1)] + [lam ** (len(n_step) - 1)]
        result[t] = np.dot(weights, n_step)
    return result


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 30),
    envs=st.integers(1, 3),
    gamma=st.floats(0, 1),
    lam=st.floats(0, 1),
)
def test_gae_is_the_lambda_weighted_mean_of_n_step_advantages(seed, steps, envs, gamma, lam):
    rng = np.random.default_rng(seed)
    rewards, values, next_values = rng.normal(size=(3, steps, envs))
    terminated, truncated = rng.random((2, steps, envs)) < 0.15
    going_on = ~(terminated | truncated)[:-1]  # there the next observation is the next row's
    next_values[:-1] = np.where(going_on, values[1:], next_values[:-1])
    fast = generalized_advantages(rewards, values, next_values, terminated, truncated, gamma, lam)
    for n in range(envs):
        columns = (a[:, n] for a in (rewards, values, next_values, terminated, truncated))
        np.testing.assert_allclose(fast[:, n], slow_advantages(*columns, gamma, lam), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("terminated", "expected"), [(True, 1.0 - 3.0), (False, 1.0 + 0.9 * 10.0 - 3.0)])
def test_only_a_truncation_bootstraps(terminated, expected):
    flags = np.array([[terminated]]), np.array([[not terminated]])
    one = generalized_advantages(
        np.ones((1, 1)), np.full((1, 1), 3.0), np.full((1, 1), 10.0), *flags, 0.9, 0.95
    )
    assert one[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_the_next_episode_does_not_leak_into_this_one(kind):
    rewards, values, next_values = np.ones((3, 4, 1))
    flags = {"terminated": np.zeros((4, 1), bool), "truncated": np.zeros((4, 1), bool)}
    flags[kind][1] = True
    before = generalized_advantages(rewards, values, next_values, **flags, gamma=0.9, gae_lambda=0.9)
    rewards[2:] = 100.0
    after = generalized_advantages(rewards, values, next_values, **flags, gamma=0.9, gae_lambda=0.9)
    assert np.array_equal(before[:2], after[:2])
    assert (before[2:] != after[2:]).all()
