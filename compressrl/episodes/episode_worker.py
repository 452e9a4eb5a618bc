"""What a process needs to run episodes for an evaluation, and the worker processes that do so."""

from __future__ import annotations

import logging
import os
import pickle
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from gymnasium.envs.registration import EnvSpec

from compressrl import environments, rollout
from compressrl.errors import in_words
from compressrl.instrument import InstrumentedEnv, Level
from compressrl.interfaces import Float32Array, PolicyFunction, Profiler, Runtime
from compressrl.policy import Policy
from compressrl.rollout import Episode

NUMBER = struct.Struct("<I")


@dataclass(frozen=True)
class Stage:
    """Policies and the environment in which they run: episode number n is of policy n // len(seeds)."""

    env: InstrumentedEnv[Float32Array, Float32Array]
    functions: Sequence[PolicyFunction]
    seeds: Sequence[int]

    def __len__(self) -> int:
        return len(self.functions) * len(self.seeds)

    def play(self, number: int) -> Episode:
        """Run an episode; it depends on its policy and seed, and not on those before it."""
        policy, episode = divmod(number, len(self.seeds))
        return rollout.run_episode(self.functions[policy], self.env, self.seeds[episode])


@dataclass(frozen=True)
class Equipment:
    """What another process makes its `Stage` of; can be pickled where its parts can.

    spec:     registration of the environment (`environments.registration`)
    policies: in the form that the runtime ships
    """

    env_id: str
    spec: EnvSpec | None
    runtime: Runtime
    policies: Sequence[Policy]
    profilers: Sequence[Profiler]
    level: Level
    seeds: Sequence[int]

    def set_up(self) -> Stage:
        environments.register(self.spec)
        env = InstrumentedEnv(environments.make(self.env_id), self.profilers, self.level)
        return Stage(env, [self.runtime.load(policy) for policy in self.policies], self.seeds)


@dataclass(frozen=True)
class Queue:
    """Episode numbers that several processes take from one pipe: a read is theirs alone.

    pipe:  read end; holds the first number of each batch, and nobody writes any more
    batch: how many numbers follow each other in a batch
    end:   one past the last number
    """

    pipe: int
    batch: int
    end: int

    def take(self) -> Iterator[int]:
        """Numbers until the queue is empty."""
        while first := os.read(self.pipe, NUMBER.size):
            (start,) = NUMBER.unpack(first)
            yield from range(start, min(start + self.batch, self.end))


def main(queue: Queue, results: int, equipment: bytes) -> None:
    """Run episodes until the queue is empty or the parent is gone; send (number, episode) for each.

    What fails is sent as (number, reason), or (None, reason) where nothing can be run at all; it ends the
    worker, and the parent runs the episode itself. Nothing is said on the terminal: the parent has run an
    episode before, and said what there was to say.
    """
    logging.disable()
    connection = Connection(results, readable=False)
    number = None
    try:
        stage = pickle.loads(equipment).set_up()
        for number in queue.take():
            connection.send((number, stage.play(number)))
    except BrokenPipeError:
        pass
    except (Exception, SystemExit) as error:  # environments, policies and runtimes are anybody's code
        connection.send((number, in_words(error)))
