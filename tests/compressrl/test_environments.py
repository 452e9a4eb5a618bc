"""Making environments: what fits is seeded and cast, what does not says why."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from compressrl import environments
from compressrl.errors import (
    EnvironmentFailedError,
    EnvironmentUnavailableError,
    UnknownNameError,
    UsageError,
)
from compressrl.testing import TINY

ONE = spaces.Box(-1, 1, (1,), np.float32)
HALF_OPEN = spaces.Box(np.float32([-1, -1]), np.float32([1, np.inf]))


class Still(gymnasium.Env[np.ndarray, np.ndarray]):
    """Stands still, with any spaces; writes every observation into one array."""

    def __init__(self, observations: spaces.Space[Any] = ONE, actions: spaces.Space[Any] = ONE) -> None:
        self.observation_space, self.action_space = observations, actions
        self._state = np.zeros(ONE.shape, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._state[:] = 0
        return self._state, {}

    def step(self, action: np.ndarray):
        self._state += 0.1
        return self._state, 0.0, False, False, {}


def fail() -> gymnasium.Env[Any, Any]:
    raise ValueError("the simulator is out of order\nsecond line")


@pytest.fixture
def register() -> Iterator[Any]:
    """Register an environment for one test."""
    before = set(gymnasium.registry)

    def make(entry_point: Any, **kwargs: Any) -> str:
        name = f"Made{len(gymnasium.registry)}-v0"
        gymnasium.register(name, entry_point=entry_point, kwargs=kwargs, disable_env_checker=True)
        return name

    yield make
    for name in set(gymnasium.registry) - before:
        del gymnasium.registry[name]


@pytest.mark.parametrize("env_id", ["InvertedPendulum-v5", "Pendulum-v1", TINY])
def test_observations_are_flat_float32_within_their_space(env_id):
    env = environments.make(env_id, seed=0)
    observation, _ = env.reset(seed=0)
    assert observation.dtype == env.observation_space.dtype == np.float32
    assert env.observation_space.contains(observation)
    assert env.step(env.action_space.sample())[0].dtype == np.float32
    env.close()


def test_structured_boxes_are_flattened(register):
    box = spaces.Box(-1.0, 1.0, (2, 3), np.float64)
    env = environments.make(register(Still, observations=box))
    assert env.observation_space == spaces.Box(-1, 1, (6,), np.float32)


def test_the_seed_seeds_actions_and_the_first_episode():
    def beginning(seed: int) -> tuple[list[float], list[float]]:
        env = environments.make("InvertedPendulum-v5", seed)
        observation, _ = env.reset()
        return observation.tolist(), env.action_space.sample().tolist()

    assert beginning(3) == beginning(3)
    assert beginning(3)[0] != beginning(4)[0]
    assert beginning(3)[1] != beginning(4)[1]


def test_an_observation_is_kept_when_the_environment_reuses_its_array(register):
    env = environments.make(register(Still))
    first, _ = env.reset()
    env.step(np.zeros(1, np.float32))
    assert first.tolist() == [0]


@pytest.mark.filterwarnings("ignore:.*WARN:UserWarning")  # advice on wrappers and on ranges of spaces
def test_the_environment_passes_gymnasiums_checker_and_can_be_made_again_from_its_spec():
    env = environments.make("Pendulum-v1")
    check_env(env, skip_render_check=True)
    assert env.spec is not None
    again = gymnasium.make(env.spec)
    assert again.observation_space == env.observation_space
    assert again.reset(seed=1)[0].dtype == np.float32


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("HalfCheeta-v5", "HalfCheetah-v5"),
        ("halfcheetah-v5", "HalfCheetah-v5"),
        ("Pendulum-v11", "Pendulum-v1"),
    ],
)
def test_an_unknown_environment_suggests_the_nearest(typed, meant):
    with pytest.raises(UnknownNameError) as error:
        environments.make(typed)
    assert f"Unknown environment {typed!r}. Did you mean" in str(error.value)
    assert repr(meant) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "env_id", ["nowhere/Thing-v0", "Completely-v9", "", "Half Cheetah", "no_module:X-v0"]
)
def test_an_impossible_name_is_a_usage_error_of_one_line(env_id):
    with pytest.raises(UsageError) as error:
        environments.make(env_id)
    assert "\n" not in str(error.value)


def test_a_missing_dependency_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "Box2D", None)  # as if it were not installed, where it is
    with pytest.raises(EnvironmentUnavailableError, match=r"a dependency is missing: .*gymnasium\[box2d\]"):
        environments.make("BipedalWalker-v3")


def test_a_constructor_that_fails_is_told_in_one_line(register):
    name = register(fail)
    with pytest.raises(EnvironmentUnavailableError) as error:
        environments.make(name)
    assert str(error.value) == f"'{name}' cannot be made: the simulator is out of order"


class Broken(Still):
    """Fails in its `what`."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def reset(self, **given: Any):
        if self.what == "reset":
            raise OSError("the simulator\nis gone")
        return super().reset(**given)

    def step(self, action: np.ndarray):
        raise OSError("the simulator\nis gone")


@pytest.mark.parametrize("what", ["reset", "step"])
def test_an_environment_that_fails_is_named_with_its_reason_in_one_line(register, what):
    name = register(Broken, what=what)
    env = environments.make(name)

    def play() -> None:
        env.reset(seed=1)
        env.step(np.zeros(1, np.float32))

    with pytest.raises(EnvironmentFailedError) as error:
        play()
    assert str(error.value) == f"{name} has failed in its {what}: OSError: the simulator is gone."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"error": SystemExit(3)}, "SystemExit: 3"),
        ({"error": MemoryError()}, "There is not enough memory for it"),
        ({"error": UsageError("Wrong.")}, "Wrong"),
        (
            {"observation": np.zeros(2, np.float32)},
            "ValueError: its observation has the shape (2,), and its sp",
        ),
        ({"observation": None}, "ValueError: its observation has the shape (), and"),
        ({"reward": None}, "TypeError: "),
        ({"reward": "x"}, "ValueError: "),
    ],
)
def test_what_an_environment_gives_that_it_may_not_give_is_its_failure(register, given, said):
    class Odd(Still):
        def step(self, action: np.ndarray):
            if "error" in given:
                raise given["error"]
            return given.get("observation", self._state), given.get("reward", 1.0), False, False, {}

    env = environments.make(register(Odd))
    env.reset()
    with pytest.raises(EnvironmentFailedError, match=rf"-v0 has failed in its step: {re.escape(said)}"):
        env.step(np.zeros(1, np.float32))


def test_a_joint_that_is_locked_where_no_float32_number_is_has_the_nearest():
    box = spaces.Box(np.array([0.1, -1]), np.array([0.1, 1]), dtype=np.float64)
    low, high = environments.action_bounds(Still(actions=box))
    assert low.tolist() == [np.float32(0.1), -1]
    assert high.tolist() == [np.float32(0.1), 1]


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(1e-30, 1e6)), min_size=1, max_size=3))
def test_bounds_of_actions_are_within_the_space(bounds):
    low = np.array([start for start, _ in bounds])
    # Room for a float32 number or two.
    high = low + np.array([width for _, width in bounds]) + 4 * np.spacing(np.abs(low).astype(np.float32))
    lowest, highest = environments.action_bounds(Still(actions=spaces.Box(low, high, dtype=np.float64)))
    assert lowest.dtype == highest.dtype == np.float32
    for ours, theirs in ((lowest, low), (highest, high)):
        assert (np.abs(ours - theirs) <= np.spacing(np.abs(ours))).all()
    assert (low <= lowest).all()
    assert (highest <= high).all()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"actions": spaces.Discrete(2)}, "need a continuous one"),
        ({"actions": spaces.MultiBinary(2)}, "need a continuous one"),
        ({"actions": spaces.Dict({"a": ONE})}, "need a continuous one"),
        ({"actions": spaces.Box(-np.inf, np.inf, (2,), np.float32)}, "unbounded action space"),
        ({"actions": HALF_OPEN}, "unbounded action space"),
        ({"actions": spaces.Box(-3.4e38, 3.4e38, (2,), np.float32)}, "unbounded action space"),
        ({"actions": spaces.Box(-1, 1, (2, 2), np.float32)}, "actions of shape (2, 2)"),
        ({"observations": spaces.Dict({"a": ONE})}, "FlattenObservation"),
        ({"observations": spaces.Discrete(3)}, "FlattenObservation"),
        ({"observations": spaces.Box(-1, 1, (0,), np.float32)}, "has no observations (shape (0,))"),
        ({"actions": spaces.Box(-1, 1, (0,), np.float32)}, "has no actions (shape (0,))"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_spaces_that_policies_cannot_serve_are_refused(register, given, reason):
    name = register(Still, **given)
    with pytest.raises(EnvironmentUnavailableError) as error:
        environments.make(name)
    assert name in str(error.value)
    assert reason in str(error.value)
    assert str(error.value).count("\n") <= 1


def test_cartpole_is_refused_as_discrete():
    with pytest.raises(EnvironmentUnavailableError, match=r"CartPole-v1 has the action space Discrete\(2\)"):
        environments.make("CartPole-v1")
