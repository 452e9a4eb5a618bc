"""`compressrl study run` and `study retry`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from compressrl.cli import study_status, terminal
from compressrl.errors import UsageError

if TYPE_CHECKING:
    from compressrl.study.executors import Executor
    from compressrl.study.grid import Study
    from compressrl.study.planning import Plan
    from compressrl.study.running import Tally
    from compressrl.study.store import Store

Workers = Annotated[int | None, typer.Option(min=1, help="Cells at once; default: one a core.")]
Engine = Annotated[Literal["local", "ray"], typer.Option(help="What runs the cells.")]
Address = Annotated[
    str, typer.Option(help="Ray cluster to join: auto, or host:port. Default: a new one here.")
]


@terminal.reported
def run(
    study: Annotated[str, typer.Argument(help="STUDY.toml, or the name of an installed study: paper.")],
    quick: Annotated[bool, typer.Option("--quick", help="The study's thinned version.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many cells and how long.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="The study's folder; default: runs/study/<its name>.")
    ] = None,
    workers: Workers = None,
    executor: Engine = "local",
    address: Address = "",
    as_json: study_status.AsJson = False,
) -> None:
    """Run every cell that has no result yet. Interrupted, the same command goes on."""
    from compressrl.study import definition, planning, running
    from compressrl.study.store import Store

    path = definition.find(study)
    asked = definition.read(path, quick=quick)
    plan = planning.plan(asked)
    store = Store(out or Path("runs") / "study" / asked.name)
    if not dry_run:
        store.create(asked, path.read_text())
    tally = running.stand(store, plan.jobs)
    running.reuse(store, tally, copy=not dry_run)
    study_status.say_damaged(store)
    if dry_run:
        study_status.show(asked, plan, tally, store, _count(workers), as_json)
        return
    _run(store, asked, plan, tally, (executor, address, workers), as_json)


@terminal.reported
def retry(
    folder: Annotated[Path, typer.Argument(help="Folder of a study.")],
    workers: Workers = None,
    executor: Engine = "local",
    address: Address = "",
    as_json: study_status.AsJson = False,
) -> None:
    """Run the failed cells of a study again, and nothing else."""
    from compressrl.study import planning, running
    from compressrl.study.store import Store

    store = Store(folder)
    study = store.study()
    plan = planning.plan(study)
    tally = running.stand(store, plan.jobs)
    study_status.say_damaged(store)
    with running.failures_taken_back(store, tally, plan.jobs) as again:
        _run(store, study, plan, again, (executor, address, workers), as_json)


def _run(
    store: Store,
    study: Study,
    plan: Plan,
    tally: Tally,
    engine: tuple[str, str, int | None],
    as_json: bool,
) -> None:
    from compressrl.cli import study_progress
    from compressrl.study import running

    workers = _count(engine[2])
    store.note_plan(job.key for job in plan.jobs)
    try:
        with (
            _executor(*engine, store) as executor,
            study_progress.Display(study, executor.free, tally) as display,
        ):
            running.run(store, tally, executor, display)
    except KeyboardInterrupt:
        terminal.say(
            f"{tally.done} of {tally.total} cells are done and safe in {store.folder}. "
            "The same command goes on with the rest."
        )
        raise
    study_status.say_damaged(store)
    # Beside the failed cells that were run again there may be some that never ran.
    tally.left = {job.key: job for job in plan.jobs if job.key not in tally.outcomes}
    study_status.show(study, plan, tally, store, workers, as_json)
    if tally.failed:
        raise typer.Exit(1)


def _count(workers: int | None) -> int:
    from compressrl.episodes import episode_pool

    return workers or episode_pool.available_cores()


@contextmanager
def _executor(name: str, address: str, workers: int | None, store: Store) -> Iterator[Executor]:
    if address and name != "ray":
        raise UsageError("--address goes with --executor ray.")
    if name == "ray":
        from compressrl.study.ray_executor import RayExecutor

        with RayExecutor(address, workers) as ray:
            yield ray
        return
    from compressrl.study.local_executor import LocalExecutor

    with (store.folder / "workers.log").open("ab") as log, LocalExecutor(_count(workers), log) as local:
        yield local
