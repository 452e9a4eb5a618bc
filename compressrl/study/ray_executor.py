"""Cells as tasks of a Ray cluster, on one machine or many."""

from __future__ import annotations

import logging
import socket
import time
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from compressrl.errors import CompressrlError, UsageError, one_line
from compressrl.study import jobs
from compressrl.study.jobs import Job
from compressrl.study.store import Outcome

INSTALL = "pip install 'compressrl[ray]'"
CONNECT_SECONDS = 10.0
RETRIES = 2  # of a task whose process or node is lost


class RayExecutor:
    """One CPU for each cell; outcomes come to this process, which alone writes the store.

    Every node needs compressrl and the plugins of the study installed; policies travel with their cells.
    """

    def __init__(self, address: str, workers: int | None) -> None:
        """Join the cluster at this address; "" starts one on this machine, gone with this process.

        workers: cells at once; None: one for each CPU of the cluster
        Raises UsageError where Ray is not installed, CompressrlError where there is no such cluster.
        """
        try:
            import ray
        except ModuleNotFoundError as error:
            raise UsageError(f"--executor ray needs Ray. Install it with: {INSTALL}.") from error
        _check(address)
        self._ray: Any = ray
        self._workers = workers
        self._tasks: dict[Any, Job] = {}
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        place = {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # Ray's tips for its users
                ray.init(**place, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise CompressrlError(
                f"No Ray cluster at {address or 'this machine'}: {one_line(error)}."
            ) from error
        self._run = ray.remote(num_cpus=1, max_retries=RETRIES)(jobs.run)

    @property
    def free(self) -> int:
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        return min(cpus, self._workers or cpus) - len(self._tasks)

    @property
    def running(self) -> int:
        return len(self._tasks)

    def submit(self, job: Job) -> None:
        self._tasks[self._run.remote(job)] = job

    def finished(self, timeout: float) -> Iterator[Outcome]:
        if not self._tasks:
            time.sleep(timeout)  # another process runs what is left
            return
        ready, _ = self._ray.wait(list(self._tasks), timeout=timeout)
        for task in ready:
            job = self._tasks.pop(task)
            try:
                yield self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                yield job.failed(f"Ray lost it {RETRIES + 1} times: {one_line(error)}.")

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()


def _check(address: str) -> None:
    """Raise CompressrlError where nothing listens at host:port: Ray itself would try for minutes."""
    host, separator, port = address.rpartition(":")
    if "://" in address or not separator or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise CompressrlError(f"No Ray cluster at {address}: {error.strerror or error}.") from error
