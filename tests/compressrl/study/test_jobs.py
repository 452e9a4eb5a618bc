"""One cell in one process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compressrl import evaluation
from compressrl.study import jobs


def test_a_cell_gives_the_report_of_an_evaluation(prepare, policies):
    _, planned = prepare(compressors=["l1:ratio=0.5,preset=paper"], repeats=2)
    job = planned[-1]
    outcome = jobs.run(job)
    assert (outcome.status, outcome.key, outcome.cell.repeat) == ("done", job.key, 1)
    same = evaluation.evaluate(
        compressor="l1:ratio=0.5,preset=paper", policy=policies[1], episodes=2, seed=1, workers=1
    ).to_json()
    for part in ("retention", "spent"):
        assert outcome.report[part].keys() == same[part].keys()
    assert outcome.report["retention"] == same["retention"]
    assert outcome.report["compressed"]["return"] == same["compressed"]["return"]
    assert outcome.seconds > 0
    assert outcome.finished_at.endswith("+00:00")
    assert outcome.busy_neighbours is None or 0 <= outcome.busy_neighbours <= 1
    assert outcome.versions.keys() == {"compressrl"}


def test_the_baseline_is_set_against_itself(prepare):
    outcome = jobs.run(prepare()[1][0])
    report = outcome.report
    assert report["baseline"]["return"] == report["compressed"]["return"]
    assert report["retention"]["value"] == 1.0
    assert report["request"]["compressor"] == ""


@pytest.mark.parametrize(
    ("compressor", "error"),
    [
        ("noting:fails=true", "ValueError: no way"),
        ("ptdq:preset=paper+l1", "cannot follow"),
    ],
)
def test_what_fails_is_an_outcome_that_says_why(prepare, log, compressor, error):
    (log.parent / "broken").touch()
    _, planned = prepare(compressors=["noting:fails=true"])
    job = planned[1]
    broken = jobs.Job(
        job.cell.__class__(**{**job.cell.__dict__, "compressor": compressor}),
        job.key,
        job.policy,
        job.policy_sha256,
        job.versions,
    )
    outcome = jobs.run(broken)
    assert (outcome.status, outcome.report) == ("failed", None)
    assert error in outcome.error


def test_the_algorithm_takes_part_with_its_options(prepare, monkeypatch):
    """`lab.train` is by it; a policy's file is trained on by the algorithm that it names itself."""
    asked = []
    monkeypatch.setattr(evaluation, "evaluate", lambda **given: asked.append(given["algorithm"]))
    job = prepare()[1][0]
    assert job.cell.policy
    for policy in (job.cell.policy, ""):
        cell = replace(job.cell, algorithm="sac:hidden=8", policy=policy)
        jobs._evaluate(replace(job, cell=cell))
    assert asked == ["", "sac:hidden=8"]
