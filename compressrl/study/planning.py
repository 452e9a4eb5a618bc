"""From a study to jobs: which policy each cell takes, and under which key."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from compressrl import runs, sources
from compressrl.policy import Policy
from compressrl.study import keys
from compressrl.study.grid import Cell, Study, Subject
from compressrl.study.jobs import Job
from compressrl.study.store import Outcome, Store


@dataclass(frozen=True)
class Plan:
    """All cells of a study: those that can be run, and those whose policy is missing."""

    jobs: tuple[Job, ...]
    missing: tuple[Outcome, ...]


def plan(study: Study) -> Plan:
    """Find every policy and give every cell its key.

    Raises UsageError where a plugin is missing, or a policy file that the study names.
    """
    policies = {subject: find_policy(subject) for subject in study.subjects}
    hashes = {subject: keys.policy_sha256(p) for subject, p in policies.items() if p is not None}
    versions = functools.cache(keys.versions)
    jobs: dict[str, Job] = {}
    missing = []
    for cell in study.cells:
        policy = policies[cell.subject]
        if policy is None:
            missing.append(_missing(cell, study.training_steps))
            continue
        found = versions(cell.algorithm, cell.compressor, cell.runtime)
        key = keys.of(cell, hashes[cell.subject], found)
        jobs[key] = Job(cell, key, policy, hashes[cell.subject], found)
    return Plan(tuple(jobs.values()), tuple(missing))


def find_policy(subject: Subject) -> Policy | None:
    """The file that the study names, the policy sources' best, or what `_missing`'s command has made."""
    found = sources.find_policy("" if subject.policy else subject.algorithm, subject.env_id, subject.policy)
    trained = runs.default_folder(subject.algorithm, subject.env_id, seed=0)
    if found is None and (trained / runs.RECORD).exists():
        return Policy.load(trained / runs.FINAL_POLICY)
    return found


def all_outcomes(store: Store) -> list[Outcome]:
    """The stored outcomes of a study's cells and, as missing, those whose policy has not been trained.

    In the study's order. Cells that are neither have not been run yet.
    """
    study = store.study()
    known = {outcome.cell: outcome for outcome in store.outcomes()}
    for subject in set(study.subjects) - {cell.subject for cell in known}:
        if find_policy(subject) is None:
            cells = (cell for cell in study.cells if cell.subject == subject)
            known |= {cell: _missing(cell, study.training_steps) for cell in cells}
    return [known[cell] for cell in study.cells if cell in known]


def _missing(cell: Cell, steps: int) -> Outcome:
    command = runs.command(cell.algorithm, cell.env_id, steps, seed=0)
    return Outcome(cell, key="", status="missing", error=command)
