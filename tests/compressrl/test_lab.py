"""The Lab: reproducible states and rollouts, honest counting, and continued training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from compressrl.errors import EnvironmentUnavailableError, PipelineError, UnknownNameError
from compressrl.lab import Lab
from compressrl.testing import TINY, tiny_policy
from compressrl.testing.algorithms import RandomSearch


def test_states_and_rollouts_repeat_with_the_seed_and_are_fresh_at_every_call():
    first, second, other = Lab(TINY, seed=1), Lab(TINY, seed=1), Lab(TINY, seed=2)
    states = first.collect(tiny_policy(), 60)
    assert states.shape == (60, 3)
    assert states.dtype == np.float32
    np.testing.assert_array_equal(states, second.collect(tiny_policy(), 60))
    assert not np.array_equal(states, first.collect(tiny_policy(), 60))
    assert not np.array_equal(states, other.collect(tiny_policy(), 60))
    assert Lab(TINY, seed=1).rollout(tiny_policy(), 3) == Lab(TINY, seed=1).rollout(tiny_policy(), 3)
    assert len({*first.rollout(tiny_policy(), 3).seeds, *first.rollout(tiny_policy(), 3).seeds}) == 6


def test_every_environment_step_is_counted():
    lab = Lab(TINY, algorithm=RandomSearch(), baseline=tiny_policy())
    lab.collect(tiny_policy(), 60)
    assert lab.environment_steps_used == 60
    records = lab.rollout(tiny_policy(), 3)
    assert lab.environment_steps_used == 60 + sum(records.lengths)
    lab.train(100)
    assert lab.environment_steps_used == 160 + sum(records.lengths)


def test_make_env_is_seeded():
    lab = Lab(TINY)
    assert lab.make_env(5).action_space.sample().tolist() == lab.make_env(5).action_space.sample().tolist()
    with pytest.raises(UnknownNameError):
        Lab("HalfCheeta-v5").make_env()


def test_a_policy_of_other_sizes_does_not_fit():
    Lab(TINY).check_fits(tiny_policy())
    with pytest.raises(EnvironmentUnavailableError) as error:
        Lab("InvertedPendulum-v5").check_fits(tiny_policy())
    message = str(error.value)
    assert f"takes 3 observations and gives 2 actions (trained for {TINY})" in message
    assert "InvertedPendulum-v5 has (4,) and (1,). Choose a fitting --env." in message


def test_training_goes_on_from_a_policy_by_its_algorithm():
    heard: list[str] = []
    lab = Lab(
        TINY,
        seed=3,
        baseline=tiny_policy(),
        algorithm=RandomSearch(),
        progress=lambda task, done, total, note="": heard.append(task),
    )
    seen: list[nn.Module] = []

    def adapt(actor: nn.Module) -> nn.Module:
        seen.append(actor)
        return actor

    start = tiny_policy()
    result = lab.train(200, start=start, adapt_actor=adapt)
    assert isinstance(seen[0], nn.Sequential)
    assert result.network[1].weight.shape == start.network[1].weight.shape
    assert not np.array_equal(result.layers[1].weight, start.layers[1].weight)
    again = Lab(TINY, seed=3, algorithm=RandomSearch()).train(200, start=start)
    np.testing.assert_array_equal(again.layers[1].weight, result.layers[1].weight)
    other = Lab(TINY, seed=4, algorithm=RandomSearch()).train(200, start=start)
    assert not np.array_equal(other.layers[1].weight, result.layers[1].weight)
    assert "training" in heard
    assert lab.baseline is not None, "the inner run changes nothing of the lab"
    assert lab.training.steps == 0


def test_training_without_an_algorithm_says_what_to_do():
    with pytest.raises(PipelineError, match=r"but the policy names none\. Give --algo"):
        Lab(TINY, baseline=tiny_policy()).train(10)
    with pytest.raises(PipelineError, match=r"that algorithm, 'sarsa', is not installed\. Give --algo"):
        Lab(TINY, baseline=replace(tiny_policy(), algorithm="sarsa")).train(10)
