"""Cells that other studies on this machine have finished."""

from __future__ import annotations

from dataclasses import replace

from compressrl.study import cell_cache
from compressrl.study.grid import Study, Subject
from compressrl.study.jobs import Job
from compressrl.study.store import Outcome, Store
from compressrl.testing.policies import tiny_policy

KEY = "a" * 16


def job_of(subject: Subject) -> Job:
    (cell,) = Study("s", (subject,), ("qat",), ("onnx",), 1, 2).cells
    return Job(cell, KEY, tiny_policy(), "", {})


def stored(folder, job):
    store = Store(folder)
    store.create(Study("s", (job.cell.subject,), ("qat",), ("onnx",), 1, 2), "")
    return store


def test_a_cell_is_taken_over_whatever_the_other_study_called_its_policy(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSRL_CACHE", str(tmp_path / "cache"))
    theirs, ours = job_of(Subject("sac", "A-v0")), job_of(Subject("sac", "A-v0", "mine.policy"))
    first, second = stored(tmp_path / "first", theirs), stored(tmp_path / "second", ours)
    done = Outcome(theirs.cell, KEY, "done", seconds=3.0)
    assert cell_cache.take(second, ours) is None
    cell_cache.keep(first, done)
    assert cell_cache.take(second, ours) == replace(done, cell=ours.cell)
    assert second.outcomes() == [replace(done, cell=ours.cell)]


def test_only_what_is_done_is_kept_for_others(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSRL_CACHE", str(tmp_path / "cache"))
    job = job_of(Subject("sac", "A-v0"))
    cell_cache.keep(stored(tmp_path / "first", job), Outcome(job.cell, KEY, "failed", "broke"))
    assert cell_cache.peek(job) is None
