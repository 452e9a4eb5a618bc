"""The environments of one on-policy run, stepped by this process and, where there are cores, by others.

A process steps its share of the environments through a whole rollout, by the policy and the noise that it was
given before: none waits for another at a step.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
from collections.abc import Iterator, Sequence
from multiprocessing import connection
from typing import Any, NamedTuple

import numpy as np

from compressrl import environments, fresh_process
from compressrl.environments import Env
from compressrl.errors import EnvironmentFailedError, in_words
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.lab import Lab
from compressrl_algorithms.rollout_buffer import Rollout

_log = logging.getLogger("compressrl")


class Ended(NamedTuple):
    """A training episode that ended `step` steps into a rollout."""

    step: int
    episode_return: float
    length: int


class Group:
    """Environments stepped in turn, with one forward pass a step; each is reset as its episode ends.

    mask_D: 0 for an observation that is shown as zero, else 1
    """

    def __init__(self, envs: Sequence[Env], mask_D: Float32Array) -> None:
        self.envs, self.mask_D = envs, mask_D
        self.observations = np.stack([env.reset()[0] for env in envs]) * mask_D
        self.low, self.high = environments.action_bounds(envs[0])
        self.returns, self.lengths = np.zeros(len(envs)), np.zeros(len(envs), int)

    def collect(self, rollout: Rollout, mean_action: PolicyFunction, noise_TNA: Float32Array) -> list[Ended]:
        """Fill the rollout; returns the episodes that ended, each `step` counted in one environment."""
        ended = []
        for t, noise in enumerate(noise_TNA):
            rollout.observations[t] = self.observations
            rollout.actions[t] = actions = mean_action(self.observations) + noise
            # Only the environment sees the clipped action: the density is that of the sampled one.
            clipped = np.minimum(np.maximum(actions, self.low), self.high)
            for n, env in enumerate(self.envs):
                observation, reward, terminated, truncated, _ = env.step(clipped[n])
                rollout.next_observations[t, n] = self.observations[n] = observation * self.mask_D
                rollout.rewards[t, n] = reward
                rollout.terminated[t, n], rollout.truncated[t, n] = terminated, truncated
                self.returns[n] += reward
                self.lengths[n] += 1
                if terminated or truncated:
                    ended.append(Ended(t + 1, float(self.returns[n]), int(self.lengths[n])))
                    self.observations[n] = env.reset()[0] * self.mask_D
                    self.returns[n], self.lengths[n] = 0.0, 0
        return ended

    def close(self) -> None:
        for env in self.envs:
            env.close()


class Workers:
    """All environments of a run, one for each seed, shared out over processes, this one among them.

    processes: at most; one where no other can make the environment, which a warning says
    """

    def __init__(self, lab: Lab, seeds: Sequence[int], mask_D: Float32Array, processes: int = 1) -> None:
        shares = np.array_split(np.asarray(seeds), min(processes, len(seeds)))
        self.others = _start_others(lab.env_id, shares[1:], mask_D)
        mine = shares[0] if self.others else seeds
        self.group = Group([lab.make_env(int(seed)) for seed in mine], mask_D)
        self.count = len(seeds)

    def collect(self, rollout: Rollout, mean_action: PolicyFunction, noise_TNA: Float32Array) -> list[Ended]:
        """Fill the rollout; returns the episodes that ended, `step` counted over all environments.

        mean_action: to be pickled, where there are other processes
        Raises EnvironmentFailedError where one of these fails or dies.
        """
        ends = np.cumsum([len(self.group.envs), *(other.count for other in self.others)])[:-1].tolist()
        first, *rest = rollout.split(ends)
        mine, *theirs = np.split(noise_TNA, ends, axis=1)
        for other, noise in zip(self.others, theirs, strict=True):
            other.give(mean_action, noise)
        ended = self.group.collect(first, mean_action, mine)
        for other, part in zip(self.others, rest, strict=True):
            filled, more = other.take()
            part.fill(filled)
            ended += more
        return sorted((each._replace(step=each.step * self.count) for each in ended), key=lambda e: e.step)

    def close(self) -> None:
        self.group.close()
        for other in self.others:
            other.end()


class _Other:
    """A process with its share of the environments."""

    def __init__(self, env_id: str, seeds: np.ndarray, equipment: bytes) -> None:
        self.env_id, self.count = env_id, len(seeds)
        self.connection, self.process = fresh_process.converse(__name__, equipment, seeds)

    def give(self, mean_action: PolicyFunction, noise_TNA: Float32Array) -> None:
        with contextlib.suppress(BrokenPipeError):  # `take` sees its end
            self.connection.send((mean_action, noise_TNA))

    def take(self) -> Any:
        """What it has to say: that it is ready, then a rollout and its ended episodes, time and again."""
        try:
            said = self.connection.recv()
        except (EOFError, OSError):
            status = self.process.wait()
            raise EnvironmentFailedError(
                f"A process that steps {self.env_id} ended with exit status {status}, perhaps for want of "
                "memory."
            ) from None
        if isinstance(said, str):
            raise EnvironmentFailedError(said)
        return said

    def end(self) -> None:
        self.connection.close()
        fresh_process.end(self.process)


def _start_others(env_id: str, shares: Sequence[np.ndarray], mask_D: Float32Array) -> list[_Other]:
    """Processes that are ready; none where one of them cannot be."""
    others: list[_Other] = []
    try:
        equipment = pickle.dumps((env_id, environments.registration(env_id), mask_D)) if shares else b""
        others += [_Other(env_id, share, equipment) for share in shares]
        for other in others:
            other.take()
    except BaseException as error:  # what a third party's class raises
        for other in others:
            other.end()
        if not isinstance(error, Exception):
            raise
        _log.warning("warning: all environments are stepped in one process: %s", in_words(error))
        return []
    return others


def main(descriptor: int, equipment: bytes, seeds: np.ndarray) -> None:
    """In another process: say that it is ready, then step through a rollout as often as it is asked to."""
    logging.disable()  # the first process has said what there was to say
    parent = connection.Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        for answer in _answers(parent, equipment, seeds):
            parent.send(answer)


def _answers(parent: connection.Connection, equipment: bytes, seeds: np.ndarray) -> Iterator[Any]:
    """What `_Other.take` takes; the last one says what failed."""
    try:
        env_id, spec, mask_D = pickle.loads(equipment)
        environments.register(spec)
        group = Group([environments.make(env_id, int(seed)) for seed in seeds], mask_D)
    except (Exception, SystemExit) as error:  # environments are anybody's code
        yield in_words(error)
        return
    yield None
    while True:
        mean_action, noise_TNA = parent.recv()
        T, N, A = noise_TNA.shape
        rollout = Rollout.empty(T, N, len(mask_D), A)
        try:
            ended = group.collect(rollout, mean_action, noise_TNA)
        except (Exception, SystemExit) as error:
            yield in_words(error)
            return
        yield rollout, ended
