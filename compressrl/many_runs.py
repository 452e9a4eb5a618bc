"""Training runs of one algorithm in one environment with many seeds, side by side.

One process for each, and not their networks stacked in one: the processor multiplies at its peak within one
run already, and a second run's weights would only push the first one's out of the cache.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from compressrl import environments, fresh_process, interrupts, plugins, runs
from compressrl.episodes.episode_pool import available_cores
from compressrl.errors import CompressrlError, EnvironmentFailedError, UsageError, in_words
from compressrl.progress import Progress, silent


@dataclass(frozen=True)
class Run:
    """One seed's run: what a process is told to do."""

    algorithm: str
    env_id: str
    steps: int
    seed: int
    folder: Path
    device: str
    threads: int = 1


def train(
    wanted: Sequence[Run], *, at_once: int | None = None, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Train all, `at_once` of them at a time (as many as cores hold); their records, with the policy's path.

    Each run is what `runs.train` makes of its seed alone, resumable by itself. One that fails does not keep
    the others from their end. Ctrl-C is passed on: each run under way is saved before KeyboardInterrupt. Runs
    save themselves too where this process is killed.
    Raises CompressrlError that names the seeds that failed, with the first one's reason.
    """
    plugins.create("algorithm", wanted[0].algorithm)  # what is wrong for all is said once
    environments.make(wanted[0].env_id).close()
    at_once = at_once or max(1, available_cores() // wanted[0].threads)
    waiting, busy = list(wanted), list[_Trainer]()
    results: dict[int, dict[str, Any] | CompressrlError] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < at_once:
                busy.append(_Trainer(waiting.pop(0), progress))
            ready = connection.wait([each.connection for each in busy])
            for trainer in [each for each in busy if each.connection in ready]:
                result = trainer.hear()
                if result is not None:
                    busy.remove(trainer)
                    trainer.end()
                    results[trainer.run.seed] = result
    finally:
        with interrupts.held_back("saving the runs"):
            for trainer in busy:
                trainer.process.send_signal(signal.SIGTERM)  # a batch system's shell may have SIGINT ignored
            for trainer in busy:
                trainer.end()
    return _records(wanted, results)


def _records(
    wanted: Sequence[Run], results: dict[int, dict[str, Any] | CompressrlError]
) -> list[dict[str, Any]]:
    failed = {seed: result for seed, result in results.items() if isinstance(result, CompressrlError)}
    if failed:
        seeds, first = ", ".join(map(str, sorted(failed))), failed[min(failed)]
        raise type(first)(f"Seed {seeds} failed: {first}") from first
    return [result for run in wanted if isinstance(result := results[run.seed], dict)]


class _Trainer:
    """The process of one run, and what it says."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self.run, self.progress = run, progress
        self.connection, self.process = fresh_process.converse(__name__, run)

    def hear(self) -> dict[str, Any] | CompressrlError | None:
        """Pass progress on; a record or an error is the end."""
        try:
            said: Any = self.connection.recv()
        except (EOFError, OSError):
            return CompressrlError(f"its process ended with exit status {self.process.wait()}.")
        if isinstance(said, tuple):
            self.progress(f"seed {self.run.seed}", *said)
            return None
        result: dict[str, Any] | CompressrlError = said
        return result

    def end(self) -> None:
        """Let it save its run."""
        self.process.wait()
        fresh_process.end(self.process)
        self.connection.close()


def main(descriptor: int, run: Run) -> None:
    """In the process: train, and say how it goes."""
    parent = connection.Connection(descriptor)

    def progress(task: str, done: float, total: float, note: str = "") -> None:
        try:
            parent.send((done, total, note))
        except OSError:  # nobody is there any more to interrupt this run
            raise KeyboardInterrupt from None

    with contextlib.suppress(OSError), interrupts.by_termination():
        parent.send(_train(run, progress))


def _train(run: Run, progress: Progress) -> dict[str, Any] | CompressrlError:
    """The run's record, or why there is none."""
    try:
        result = runs.train(
            run.algorithm, run.env_id, steps=run.steps, seed=run.seed, out=run.folder, device=run.device,
            threads=run.threads, progress=progress,
        )  # fmt: skip
    except KeyboardInterrupt:
        return CompressrlError("it was interrupted, and goes on by the same command.")
    except EnvironmentFailedError as error:
        return error
    except UsageError as error:
        return UsageError(str(error))
    except Exception as error:  # the algorithm is anybody's code
        return CompressrlError(in_words(error))
    return {**result.record, "path": str(result.path)}
