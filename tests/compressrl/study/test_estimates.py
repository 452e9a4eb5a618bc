"""How long cells take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compressrl.study.estimates import Estimates
from compressrl.study.grid import Cell, Study, Subject
from compressrl.study.store import Outcome

STUDY = Study(
    "s",
    (Subject("sac", "A"),),
    ("",),
    ("onnx",),
    1,
    1,
    seconds={"baseline": 2, "l1": 5, "distill": 30, "qat:x=1": 7},
)


def cell(compressor: str, env_id: str = "A", repeat: int = 0) -> Cell:
    return Cell("sac", env_id, compressor, "onnx", repeat, 1)


def done(cell: Cell, seconds: float) -> Outcome:
    return Outcome(cell, "k", "done", seconds=seconds)


@pytest.mark.parametrize(
    ("compressor", "seconds"),
    [("", 2), ("l1:ratio=0.5", 5), ("l1+distill", 35), ("qat:x=1", 7), ("qat", None), ("l1+qat", None)],
)
def test_before_anything_has_run_the_studys_table_counts(compressor, seconds):
    estimates = Estimates(STUDY)
    assert estimates.seconds(cell(compressor)) == seconds
    assert not estimates.measured(cell(compressor))


def test_finished_cells_count_by_likeness():
    estimates = Estimates(STUDY, [done(cell("l1:ratio=0.1", "B"), 100.0)])
    assert estimates.seconds(cell("l1:ratio=0.5")) == 100, "same compressor, elsewhere"
    estimates.learn(done(cell("l1:ratio=0.1"), 20.0))
    assert estimates.seconds(cell("l1:ratio=0.5")) == 20, "same compressor and environment"
    estimates.learn(done(cell("l1:ratio=0.5"), 30.0))
    assert estimates.seconds(cell("l1:ratio=0.5", repeat=1)) == 30, "same pipeline and environment"
    assert estimates.seconds(cell("l1:ratio=0.7")) == 25
    assert estimates.measured(cell("l1:ratio=0.7"))


def test_failed_cells_teach_nothing():
    estimates = Estimates(STUDY, [replace(done(cell("l1"), 0.1), status="failed")])
    assert estimates.seconds(cell("l1")) == 5
