"""Making Gymnasium environments, with errors that say what to do."""

from __future__ import annotations

from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import DependencyNotInstalled, UnregisteredEnv
from gymnasium.utils import RecordConstructorArgs

from compressrl.errors import (
    CompressrlError,
    EnvironmentFailedError,
    EnvironmentUnavailableError,
    UnknownNameError,
    in_words,
)
from compressrl.interfaces import Float32Array

Env = gymnasium.Env[Float32Array, Float32Array]


class Float32Observations(
    gymnasium.ObservationWrapper[Float32Array, Float32Array, np.ndarray], RecordConstructorArgs
):
    """Casts observations to flat float32, as policies take them (MuJoCo gives float64).

    What the environment raises becomes an EnvironmentFailedError that names it.
    """

    def __init__(self, env: gymnasium.Env[np.ndarray, Float32Array]) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.ObservationWrapper.__init__(self, env)
        inner = env.observation_space
        assert isinstance(inner, spaces.Box)
        self.observation_space = spaces.Box(
            inner.low.astype(np.float32).ravel(), inner.high.astype(np.float32).ravel(), dtype=np.float32
        )
        self._shape, self._flat = inner.shape, len(inner.shape) == 1

    def observation(self, observation: np.ndarray) -> Float32Array:
        # A copy: an environment may write its next observation into the same array.
        cast = np.array(observation, dtype=np.float32)
        if cast.shape != self._shape:
            raise ValueError(f"its observation has the shape {cast.shape}, and its space {self._shape}")
        return cast if self._flat else cast.ravel()

    def step(self, action: Float32Array) -> tuple[Float32Array, float, bool, bool, dict[str, Any]]:
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
            return self.observation(observation), float(reward), terminated, truncated, info
        except (Exception, SystemExit) as error:  # environments are anybody's code
            raise self._failed("step", error) from error

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32Array, dict[str, Any]]:
        try:
            return super().reset(seed=seed, options=options)
        except (Exception, SystemExit) as error:
            raise self._failed("reset", error) from error

    def _failed(self, what: str, error: BaseException) -> EnvironmentFailedError:
        name = self.env.spec.id if self.env.spec else str(self.env)
        return EnvironmentFailedError(f"{name} has failed in its {what}: {in_words(error).rstrip('.')}.")


def make(env_id: str, seed: int | None = None) -> Env:
    """Make an environment with flat float32 observations and a continuous action space.

    Raises UnknownNameError (with suggestions) and EnvironmentUnavailableError (missing dependency,
    discrete or structured actions, structured observations, a constructor that fails).
    """
    try:
        # Gymnasium's checker is for those who write environments; it looks on at every step ever after.
        env = gymnasium.make(env_id, disable_env_checker=True)
    except UnregisteredEnv as error:
        raise _unknown(env_id) from error
    except (DependencyNotInstalled, ImportError) as error:
        raise EnvironmentUnavailableError(
            f"{env_id} cannot be made, a dependency is missing: {_first_line(error)}"
        ) from error
    except Exception as error:  # the constructor is anybody's code
        raise EnvironmentUnavailableError(f"{env_id!r} cannot be made: {_first_line(error)}") from error
    _check_spaces(env_id, env)
    env = Float32Observations(env)
    if seed is not None:
        env.action_space.seed(seed)
        env.reset(seed=seed)
    return env


def action_bounds(env: Env) -> tuple[Float32Array, Float32Array]:
    """Lowest and highest action, (A,) each, in float32 and within the space, which may have other numbers.

    Where no float32 number lies between its bounds, both are the nearest one.
    """
    box = cast(spaces.Box, env.action_space)
    low, high = box.low.astype(np.float32), box.high.astype(np.float32)
    lowest = np.where(low < box.low, np.nextafter(low, np.float32(np.inf)), low)
    highest = np.where(high > box.high, np.nextafter(high, -np.float32(np.inf)), high)
    empty = lowest > highest
    return np.where(empty, low, lowest), np.where(empty, low, highest)


def registration(env_id: str) -> EnvSpec | None:
    """How the id is registered, for another process: it may be so in this one only.

    None where Gymnasium does not know it, or not before the module is imported that the id names.
    """
    return gymnasium.registry.get(env_id.rpartition(":")[2])


def register(spec: EnvSpec | None) -> None:
    """What `registration` gave in another process."""
    if spec is not None:
        gymnasium.registry[spec.id] = spec


def refuse_infinite(env_id: str, step: int, *given: np.ndarray) -> None:
    """Raise CompressrlError where rewards or observations of up to `step` are not all finite numbers."""
    # In float64 no sum of finite float32 numbers overflows.
    if not all(np.isfinite(np.sum(array, dtype=np.float64)) for array in given):
        raise CompressrlError(
            f"{env_id} has given a reward or an observation that is NaN or infinite, by step {step}. "
            "Nothing can be learnt from that: mend the environment."
        )


def _check_spaces(env_id: str, env: gymnasium.Env[np.ndarray, Float32Array]) -> None:
    if not isinstance(env.action_space, spaces.Box):
        raise EnvironmentUnavailableError(
            f"{env_id} has the action space {env.action_space}; "
            "the algorithms and policies here need a continuous one (Box), e.g. HalfCheetah-v5."
        )
    if len(env.action_space.shape) != 1:
        raise EnvironmentUnavailableError(
            f"{env_id} has actions of shape {env.action_space.shape}; policies here give flat vectors. "
            "Register a version of it whose actions are flat."
        )
    with np.errstate(over="ignore"):
        widths = env.action_space.high.astype(np.float32) - env.action_space.low.astype(np.float32)
    if not np.isfinite(widths).all():  # the largest float32 numbers, which some take for no bounds, too
        raise EnvironmentUnavailableError(
            f"{env_id} has an unbounded action space; policies need finite bounds."
        )
    if not isinstance(env.observation_space, spaces.Box):
        raise EnvironmentUnavailableError(
            f"{env_id} has the observation space {env.observation_space}; policies here take flat vectors "
            "(Box). Register a version of it that is wrapped in gymnasium.wrappers.FlattenObservation."
        )
    for kind, space in (("actions", env.action_space), ("observations", env.observation_space)):
        if 0 in space.shape:
            raise EnvironmentUnavailableError(f"{env_id} has no {kind} (shape {space.shape}).")


def _unknown(env_id: str) -> UnknownNameError:
    hint = "Any id that gymnasium.make knows works; `module:Name-v0` imports the module first."
    # Gymnasium registers some eighty ids: the nearest ones help, the whole list would not.
    return UnknownNameError("environment", env_id, gymnasium.registry, hint, list_known=False)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
