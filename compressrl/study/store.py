"""A study's folder: what was asked, and one file for each cell that has run.

study.toml           as the user wrote it
study.json           format, and the study as it was understood
reference.json       published values to compare with, where the study names some
plan.json            keys of the cells that the last run counted, done or not
cells/<key>.json     an `Outcome`, written by atomic rename
cells/damaged/       files that could not be read
claims.lock          which cells are being run, and by whom (`compressrl.study.claims`)
workers.log          what the processes that run cells have said
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import compressrl
from compressrl import files
from compressrl.errors import UsageError, one_line
from compressrl.study.grid import Cell, Study

FORMAT = 1
STUDY, TOML, REFERENCE, PLAN, CELLS = "study.json", "study.toml", "reference.json", "plan.json", "cells"

Status = Literal["done", "failed", "missing"]


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    key:             16 hex digits (`compressrl.study.keys`)
    status:          "missing" has no trained policy; it is derived, never stored
    error:           why it failed, or the command that trains the missing policy
    seconds:         how long it took
    finished_at:     ISO 8601, UTC
    policy_sha256:   of the baseline policy's file
    busy_neighbours: share of the machine's other cores' time that was busy meanwhile, 0-1; None: not known
    report:          `EvaluationReport.to_json()`
    versions:        of the distributions whose plugins took part
    """

    cell: Cell
    key: str
    status: Status
    error: str = ""
    seconds: float = 0.0
    finished_at: str = ""
    policy_sha256: str = ""
    busy_neighbours: float | None = None
    report: dict[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Outcome:
        return cls(**{**document, "cell": Cell.from_json(document["cell"])})


class Store:
    """The folder of a study; several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells = folder / CELLS
        self.damaged: list[str] = []  # files that this object has set aside

    def create(self, study: Study, toml: str) -> None:
        """Make the folder, or go on with one of an earlier run; the study may have changed since."""
        files.make_folder(self.cells)
        if (self.folder / STUDY).exists():
            self.study()  # refuses a newer format before anything is written
        document = {"format": FORMAT, "compressrl": compressrl.__version__, "study": study.to_json()}
        files.write_text_atomic(self.folder / TOML, toml)
        if study.reference:
            with files.atomic(self.folder / REFERENCE) as temporary:
                shutil.copyfile(study.reference, temporary)
        files.write_json_atomic(self.folder / STUDY, document)

    def study(self) -> Study:
        """The study of this folder. Raises UsageError: none there, unreadable, or of a newer version."""
        path = self.folder / STUDY
        try:
            document = json.loads(path.read_text())
            newer = document["format"] > FORMAT
            return self._newer(document["compressrl"]) if newer else Study.from_json(document["study"])
        except FileNotFoundError:
            raise UsageError(
                f"{self.folder} is not the folder of a study. `compressrl study run` makes one: "
                "runs/study/NAME, unless --out names another."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path} is damaged ({one_line(error)}). Delete it and run the study again into "
                f"{self.folder}: finished cells are kept."
            ) from error

    def _newer(self, version: str) -> Study:
        raise UsageError(f"{self.folder} was written by compressrl {version}, which is newer. Upgrade it.")

    def outcomes(self) -> list[Outcome]:
        """The stored outcomes of the study's cells, in its order; of several of a cell, the latest.

        Only those that the last run counted, if one has: a cell that was run with a former policy, or former
        versions, is not of the same study.
        """
        latest: dict[Cell, Outcome] = {}
        found = (self.read(path.stem) for path in sorted(self.cells.glob("*.json")))
        planned = self._planned()
        for outcome in sorted(filter(None, found), key=lambda o: o.finished_at):
            if planned is None or outcome.key in planned:
                latest[outcome.cell] = outcome
        return [latest[cell] for cell in self.study().cells if cell in latest]

    def note_plan(self, keys: Iterable[str]) -> None:
        """Which cells the study comes to now, by the policies and versions that there are."""
        files.write_json_atomic(self.folder / PLAN, sorted(keys))

    def _planned(self) -> set[str] | None:
        try:
            return set(json.loads((self.folder / PLAN).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def read(self, key: str) -> Outcome | None:
        """The outcome of this key; None where there is none. A damaged file is set aside."""
        path = self.path(key)
        try:
            return Outcome.from_json(json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            self._set_aside(path)
            return None

    def write(self, outcome: Outcome) -> None:
        files.write_json_atomic(self.path(outcome.key), outcome.to_json())

    def path(self, key: str) -> Path:
        return self.cells / f"{key}.json"

    def _set_aside(self, path: Path) -> None:
        target = files.make_folder(self.cells / "damaged") / path.name
        path.replace(target)
        self.damaged.append(str(target))
