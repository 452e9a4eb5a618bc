"""How a study goes: a live line on a terminal, a plain line for every cell elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from compressrl.cli import terminal, units
from compressrl.study.estimates import Estimates

if TYPE_CHECKING:
    from compressrl.study.grid import Study
    from compressrl.study.running import Tally
    from compressrl.study.store import Outcome


class Display:
    """On stderr (`compressrl.study.running.Watch`)."""

    def __init__(self, study: Study, workers: int, tally: Tally) -> None:
        self._name = study.name
        self._workers = workers
        self._estimates = Estimates(study, tally.outcomes.values())
        self._left = self._time_left(tally)
        self._started = time.monotonic()
        self._console = terminal.console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def __call__(self, tally: Tally, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._estimates.learn(outcome)
            self._left = self._time_left(tally)
            self._say(tally, outcome)
        if self._console.is_terminal:
            self._live.update(self._picture(tally))

    def _say(self, tally: Tally, outcome: Outcome) -> None:
        failure = f": {outcome.error}" if outcome.status == "failed" else f" ({outcome.seconds:.0f} s)"
        line = f"{outcome.status}: {outcome.cell.label}{failure}"
        if self._console.is_terminal:
            if outcome.status == "failed":
                self._console.print(line, soft_wrap=True, markup=False)
            return
        terminal.say(f"[{self._elapsed:6.0f} s] {self._counts(tally)}, {self._rate(tally)}; {line}")

    def _picture(self, tally: Tally) -> Group:
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=tally.total, completed=len(tally.outcomes), width=30)
        row.add_row(self._name, bar, self._counts(tally))
        cells = [f"  running: {tally.left[key].cell.label}" for key in sorted(tally.running)]
        return Group(row, *(Text(line, style="dim") for line in (f"  {self._pace(tally)}", *cells)))

    def _counts(self, tally: Tally) -> str:
        failed = f", {tally.failed} failed" if tally.failed else ""
        return f"{tally.done}/{tally.total} done{failed}"

    def _pace(self, tally: Tally) -> str:
        if tally.left and not tally.running:
            return f"{len(tally.left)} run by another process, {self._rate(tally)}"
        return f"{len(tally.running)} running, {self._rate(tally)}"

    def _rate(self, tally: Tally) -> str:
        return f"{60 * tally.own / max(self._elapsed, 1e-9):.1f} cells/min, {self._left}"

    def _time_left(self, tally: Tally) -> str:
        known = [self._estimates.seconds(job.cell) for job in tally.left.values()]
        seconds = [s for s in known if s is not None]
        if len(seconds) < len(known):
            return "time left not known yet"
        return f"{units.duration(sum(seconds) / self._workers)} left"

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started
