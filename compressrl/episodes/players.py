"""Processes that play the evaluation episodes of one training run, and live as long as it.

A few episodes are over before a process has started; one that is there already takes its share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pickle
from collections.abc import Iterator, Sequence
from multiprocessing import connection
from typing import Any

from compressrl import environments, fresh_process, rollout
from compressrl.errors import in_words, one_line
from compressrl.policy import Policy
from compressrl.records import EpisodeRecords
from compressrl.rollout import Episode

_log = logging.getLogger("compressrl")


class Players:
    """`processes` - 1 that start with the first evaluation, and the one that asks; a context that ends them.

    Where one of them cannot play (it cannot make the environment, fails or dies), all episodes are played
    here from then on, and an error surfaces as it would without others; a warning says why.
    """

    def __init__(self, env_id: str, processes: int = 1) -> None:
        self.env_id, self.wanted = env_id, processes - 1
        self.others: list[_Player] = []

    def play(self, policy: Policy, seeds: Sequence[int]) -> EpisodeRecords:
        """One episode for each seed; the same whoever plays it."""
        self.others += [_Player(self.env_id) for _ in range(self.wanted - len(self.others))]
        others = self.others[: len(seeds) - 1]
        mine, *shares = (list(seeds[first :: len(others) + 1]) for first in range(len(others) + 1))
        for other, share in zip(others, shares, strict=True):
            other.ask(policy, share)
        episodes = self._play_here(policy, mine)
        answers = [other.answer() for other in others]
        for played, share in zip(answers, shares, strict=True):
            episodes |= self._play_here(policy, share) if isinstance(played, str) else played
        if failures := [played for played in answers if isinstance(played, str)]:
            _log.warning("warning: evaluations are played in one process from now on: %s", failures[0])
            self.close()
        return rollout.collect(seeds, [episodes[seed] for seed in seeds])

    def _play_here(self, policy: Policy, seeds: Sequence[int]) -> dict[int, Episode]:
        with contextlib.closing(environments.make(self.env_id)) as env:
            return {seed: rollout.run_episode(policy, env, seed) for seed in seeds}

    def close(self) -> None:
        """End the others for good."""
        for other in self.others:
            other.end()
        self.others, self.wanted = [], 0

    def __enter__(self) -> Players:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Player:
    """Another process, which starts in the background."""

    def __init__(self, env_id: str) -> None:
        self.failure, equipment = "", b""
        try:
            equipment = pickle.dumps((env_id, environments.registration(env_id)))
        except Exception as error:  # what a third party's class raises
            self.failure = one_line(error)
        self.connection, self.process = fresh_process.converse(__name__, equipment)

    def ask(self, policy: Policy, seeds: Sequence[int]) -> None:
        try:
            self.connection.send((dataclasses.replace(policy), seeds))  # a fresh one holds no loaded graph
        except BrokenPipeError:
            pass  # `answer` sees its end
        except Exception as error:  # a policy of modules that cannot be pickled
            self.failure = one_line(error)

    def answer(self) -> dict[int, Episode] | str:
        """The episodes by their seeds, or why there are none."""
        if self.failure:
            return self.failure
        try:
            said: dict[int, Episode] | str = self.connection.recv()
        except (EOFError, OSError):
            return f"it ended with exit status {self.process.wait()}"
        return said

    def end(self) -> None:
        self.connection.close()
        fresh_process.end(self.process)


def main(descriptor: int, equipment: bytes) -> None:
    """In another process: play as often as it is asked to."""
    logging.disable()  # the first process says what there is to say
    parent = connection.Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        for answer in _answers(parent, equipment):
            parent.send(answer)


def _answers(parent: connection.Connection, equipment: bytes) -> Iterator[Any]:
    """What `_Player.answer` gives; the last one says what failed."""
    try:
        env_id, spec = pickle.loads(equipment)
        environments.register(spec)
        with contextlib.closing(environments.make(env_id)) as env:
            while True:
                policy, seeds = parent.recv()
                yield {seed: rollout.run_episode(policy, env, seed) for seed in seeds}
    except (Exception, SystemExit) as error:  # environments and policies are anybody's code
        yield in_words(error)
