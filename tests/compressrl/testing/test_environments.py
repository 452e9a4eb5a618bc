import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from compressrl import Lab, environments, rollout
from compressrl.testing import TINY, RandomSearch, TinyEnv, tiny_policy
from compressrl.training import TrainingSession


@pytest.mark.filterwarnings("ignore:.*symmetric and normalized space.*:UserWarning")
def test_gymnasiums_checker_is_content():
    check_env(gymnasium.make(TINY, disable_env_checker=True).unwrapped)


def test_it_is_made_as_any_other():
    env = environments.make(TINY)
    assert isinstance(env.unwrapped, TinyEnv)
    assert (env.observation_space.shape, env.action_space.shape) == ((3,), (2,))
    assert not np.array_equal(env.action_space.low, -env.action_space.high)


def test_the_same_seed_gives_the_same_episode_and_another_seed_another():
    policy = tiny_policy()
    runs = [rollout.run_episodes(policy, lambda: environments.make(TINY), [seed]) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0].returns != runs[2].returns


def test_episodes_end_by_termination_and_by_truncation():
    trained = RandomSearch().train(Lab(TINY, 0, training=TrainingSession(steps=2000)))
    assert end_of_episode(tiny_policy()) == (True, False)
    assert end_of_episode(trained) == (False, True)


def end_of_episode(policy):
    env = environments.make(TINY)
    observation, _ = env.reset(seed=0)
    while True:
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        assert 0 < reward <= 1
        assert observation in env.observation_space
        if terminated or truncated:
            return terminated, truncated


def test_the_package_needs_neither_pytest_nor_torch_for_its_environment():
    code = (
        "import gymnasium, sys\n"
        f"gymnasium.make({TINY!r}).reset(seed=0)\n"
        "print(sorted({'pytest', 'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"
