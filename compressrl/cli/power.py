"""`--power-trace`: power sampled while a command runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from compressrl.cli import terminal
from compressrl.progress import Progress


@contextlib.contextmanager
def traced(path: Path | None, configured: Sequence[str], progress: Progress) -> Iterator[Progress]:
    """Sample power until the block is left, and write it to `path` however that comes; None: do nothing.

    configured: options of profilers, as of the command
    Yields the progress that the block reports to: the tasks of the trace come from it.
    Raises UsageError where the file cannot be written or there is no meter.
    """
    if path is None:
        yield progress
        return
    from compressrl import files
    from compressrl.measuring import power_trace, workloads

    files.check_target(path, [".csv"], "--power-trace")
    meter, source = power_trace.find_meter(workloads.create_profilers(configured).values())
    sampler = power_trace.PowerSampler(meter)

    def marked(task: str, done: float, total: float, note: str = "") -> None:
        sampler.mark(task)
        progress(task, done, total, note)

    try:
        with sampler:
            yield marked
    finally:
        trace = sampler.trace
        trace.write_csv(path)
        terminal.say(f"Power trace: {len(trace.tasks)} samples of {source}, in {path}")
