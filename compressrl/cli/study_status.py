"""`compressrl study status`, and how a study's standing is shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from compressrl.cli import terminal, units

if TYPE_CHECKING:
    from compressrl.study.grid import Study
    from compressrl.study.planning import Plan
    from compressrl.study.running import Tally
    from compressrl.study.store import Store

AsJson = Annotated[bool, typer.Option("--json", help="Where the study stands, as one JSON object on stdout.")]
SHOWN = 10


@terminal.reported
def status(
    folder: Annotated[Path, typer.Argument(help="Folder of a study.")], as_json: AsJson = False
) -> None:
    """Say how many cells are done, failed, missing and left, and how long the rest takes."""
    from compressrl.episodes import episode_pool
    from compressrl.study import planning, running
    from compressrl.study.store import Store

    store = Store(folder)
    study = store.study()
    plan = planning.plan(study)
    tally = running.stand(store, plan.jobs)
    say_damaged(store)
    show(study, plan, tally, store, episode_pool.available_cores(), as_json)


def show(study: Study, plan: Plan, tally: Tally, store: Store, workers: int, as_json: bool) -> None:
    """Print where a study stands."""
    from compressrl.study import standing

    document = {"folder": str(store.folder), **standing.describe(study, plan, tally, workers)}
    if as_json:
        terminal.print_json(document)
        return
    console = terminal.console()
    for line in _lines(document):
        console.print(line, soft_wrap=True)
    if tally.done and store.folder.exists():  # which a dry run does not make
        console.print(f"What came out: compressrl study report {escape(str(store.folder))}", soft_wrap=True)


def say_damaged(store: Store) -> None:
    """Say which files have been set aside since this was said last."""
    for path in store.damaged:
        terminal.say(f"A damaged cell file was set aside, its cell is run again: {path}")
    store.damaged.clear()


def _lines(document: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{document[word]:,} {word}" for word in ("done", "failed", "missing", "left"))
    lines = [f"[bold]{escape(document['name'])}[/bold]: {document['cells']:,} cells; {counts}."]
    if document["reused"]:
        lines.append(f"{document['reused']:,} of them were run by other studies and are taken over.")
    if document["left"]:
        lines.append(_time_left(document))
    for failure in document["failures"][:SHOWN]:
        lines.append(f"[red]failed[/red] {escape(failure['cell'])}: {escape(failure['error'])}")
    if document["failed"]:
        rest = document["failed"] - SHOWN
        more = f"{rest:,} more failed. " if rest > 0 else ""
        lines.append(f"{more}Run them again: compressrl study retry {escape(document['folder'])}")
    if document["missing_policies"]:
        lines.append("Without a trained policy; train it, then run the study again:")
    for policy in document["missing_policies"]:
        lines.append(f"  {escape(policy['command'])}  ({policy['cells']:,} cells)")
    return lines


def _time_left(document: dict[str, Any]) -> str:
    names = {"finished_cells": "finished cells like them", "table": "the study's own table of seconds"}
    origin = document["estimated_from"]
    if document["seconds_left"] is None:
        return f"How long the rest takes is not known: {origin['nothing']:,} cells are like none before."
    sources = " and ".join(f"{words} ({origin[key]:,})" for key, words in names.items() if origin[key])
    spent = units.duration(document["seconds_left"])
    return f"The rest takes about {spent} with {document['workers']} at once, judged by {sources}."
