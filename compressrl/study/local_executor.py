"""Cells in processes of this machine."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import connection
from types import TracebackType
from typing import IO

from compressrl import fresh_process
from compressrl.study import local_worker
from compressrl.study.jobs import Job
from compressrl.study.store import Outcome

ATTEMPTS = 2


class LocalExecutor:
    """Fresh interpreters, each with one thread (`compressrl.study.executors.Executor`).

    A process that dies (killed for memory, crashed in somebody's C code) is replaced and its cell run again,
    once; then the cell has failed.
    """

    def __init__(self, workers: int, log: IO[bytes]) -> None:
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._unstarted = workers
        self._log = log

    @property
    def free(self) -> int:
        return len(self._idle) + self._unstarted

    @property
    def running(self) -> int:
        return len(self._busy)

    def submit(self, job: Job) -> None:
        if not self._idle:
            self._idle.append(_Worker(self._log))
            self._unstarted -= 1
        self._give(self._idle.pop(), job, attempt=1)

    def finished(self, timeout: float) -> Iterator[Outcome]:
        ready = connection.wait([worker.connection for worker in self._busy], timeout)
        for worker in self._busy.copy():
            if worker.connection in ready or worker.process.poll() is not None:
                self._busy.remove(worker)
                outcome = self._receive(worker)
                if outcome is not None:
                    yield outcome

    def _receive(self, worker: _Worker) -> Outcome | None:
        """What a process has to say; None where its cell is run again."""
        try:
            outcome: Outcome = worker.connection.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        self._idle.append(worker)
        return outcome

    def _give(self, worker: _Worker, job: Job, attempt: int) -> None:
        worker.job, worker.attempt = job, attempt
        self._busy.append(worker)
        worker.send()

    def _bury(self, worker: _Worker) -> Outcome | None:
        reason = worker.reason()
        worker.end()
        if worker.attempt < ATTEMPTS:
            self._give(_Worker(self._log), worker.job, worker.attempt + 1)
            return None
        self._unstarted += 1
        return worker.job.failed(f"Its process died {ATTEMPTS} times: {reason}.")

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in (*self._idle, *self._busy):
            worker.end()


class _Worker:
    """One process, what it runs, and the connection to it."""

    job: Job
    attempt: int

    def __init__(self, log: IO[bytes]) -> None:
        self.connection, self.process = fresh_process.converse(local_worker.__name__, output=log)

    def send(self) -> None:
        # Where it has died, its connection reads as ended.
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(self.job)

    def reason(self) -> str:
        """How it ended, in words; it has."""
        status = self.process.wait()
        if status >= 0:
            return f"exit status {status}"
        name = signal.Signals(-status).name
        return f"killed by {name}" + (", perhaps for want of memory" if status == -signal.SIGKILL else "")

    def end(self) -> None:
        self.connection.close()
        fresh_process.end(self.process)
