"""Episodes shared out over the cores; what they give does not depend on how many processes run them.

This process runs episodes too, and the first ones alone: only where the rest is worth it are workers started.
They are fresh interpreters (`compressrl.fresh_process`) and import no more than the environment and the
runtime need. All take episodes from one queue. An episode that a worker did not deliver (it died, or failed)
is run here, where its error surfaces as it would without workers.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import time
from collections.abc import Callable
from multiprocessing import connection

from compressrl import fresh_process
from compressrl.episodes import episode_worker
from compressrl.episodes.episode_worker import NUMBER, Equipment, Queue, Stage
from compressrl.errors import one_line
from compressrl.rollout import Episode

WORTH_SECONDS = 1.0  # of episodes still to run; a worker needs half a second to start
BATCHES = 1024  # 4 KiB of numbers, which any pipe holds
_log = logging.getLogger("compressrl")


def available_cores() -> int:
    """Cores that this process may use; 1 where file descriptors cannot be handed on (Windows)."""
    if os.name != "posix":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def play_all(
    stage: Stage, equipment: Equipment, workers: int, on_episode: Callable[[int, Episode], None]
) -> list[Episode]:
    """All episodes of the stage, by number, run by at most `workers` processes, this one among them.

    equipment:  what the others make the same stage of; where they cannot, this process runs everything, and
                a warning says why
    on_episode: hears each finished episode with its number, in the order in which they arrive
    """
    finished: dict[int, Episode] = {}

    def finish(number: int, episode: Episode | None = None) -> None:
        finished[number] = episode = episode or stage.play(number)
        on_episode(number, episode)

    started = time.monotonic()
    for number in range(len(stage)):
        finish(number)
        left = range(number + 1, len(stage))
        if workers > 1 and (time.monotonic() - started) / len(finished) * len(left) > WORTH_SECONDS:
            _share(left, equipment, workers, finished, finish)
            break
    for number in sorted(set(range(len(stage))) - finished.keys()):
        finish(number)
    return [finished[number] for number in range(len(stage))]


def _share(
    numbers: range,
    equipment: Equipment,
    workers: int,
    finished: dict[int, Episode],
    finish: Callable[..., None],
) -> None:
    """Run these episodes together with workers; what a lost worker had taken is missing afterwards."""
    try:
        pickled = pickle.dumps(equipment)
    except Exception as error:  # what a third party's class raises
        _log.warning("warning: all episodes run in one process; no other can be given: %s", one_line(error))
        return
    with _Crew(pickled, numbers, min(workers, len(numbers)) - 1) as crew:
        for number in crew.queue.take():
            finish(number)
            crew.hear(finish)
        while crew.alive and not finished.keys() >= set(numbers):
            crew.hear(finish, wait=True)


class _Crew:
    """Worker processes on one queue; gone when the context is left, whatever they are doing."""

    def __init__(self, equipment: bytes, numbers: range, size: int) -> None:
        self.queue = _queue(numbers)
        started = [_start(self.queue) for _ in range(size)]
        self._processes = {receiver: process for receiver, _, process in started}
        for _, results, process in started:
            fresh_process.instruct(process, episode_worker.__name__, (self.queue, results, equipment))

    @property
    def alive(self) -> bool:
        """Whether a worker may still deliver something."""
        return bool(self._processes)

    def hear(self, finish: Callable[..., None], wait: bool = False) -> None:
        """Take in what workers have sent; `wait` until one of them has sent something or ended."""
        for receiver in connection.wait(list(self._processes), None if wait else 0):
            assert isinstance(receiver, connection.Connection)
            try:
                number, result = receiver.recv()
            except (EOFError, OSError):  # it ended
                self._bury(receiver)
                continue
            if isinstance(result, Episode):
                finish(number, result)
                continue
            _log.warning("warning: a worker process cannot go on, this process takes over: %s", result)
            if number is not None:
                finish(number)

    def _bury(self, receiver: connection.Connection) -> None:
        receiver.close()
        process = self._processes.pop(receiver)
        process.wait()  # it may have closed the pipe a moment before its end
        if status := fresh_process.end(process):
            _log.warning("warning: a worker process died (exit status %d); its episode is run again", status)

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for receiver, process in self._processes.items():
            fresh_process.end(process)
            receiver.close()
        os.close(self.queue.pipe)


def _queue(numbers: range) -> Queue:
    batch = 1 + len(numbers) // BATCHES
    pipe, write_end = os.pipe()
    os.write(write_end, b"".join(NUMBER.pack(first) for first in numbers[::batch]))
    os.close(write_end)  # so that an empty queue reads as ended
    return Queue(pipe, batch, numbers.stop)


def _start(queue: Queue) -> tuple[connection.Connection, int, subprocess.Popen[bytes]]:
    """A worker that waits for instructions: where results arrive, its descriptor to send them, itself."""
    receiver, sender = connection.Pipe(duplex=False)
    with sender:
        results = sender.fileno()
        return receiver, results, fresh_process.start([queue.pipe, results])
