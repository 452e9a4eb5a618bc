"""The campaign trains what is missing, tells what failed, and takes finished runs in."""

from __future__ import annotations

import json
from subprocess import CompletedProcess

import pytest

from compressrl import runs
from compressrl.policy import Policy
from compressrl.testing import TINY
from compressrl_zoo import campaign, zoo
from compressrl_zoo.campaign import CELLS, Cell

DECLARATION = """
    from compressrl import PluginEntry, hookimpl

    @hookimpl
    def compressrl_algorithms():
        return [PluginEntry("search", "", "compressrl.testing.algorithms:RandomSearch")]
"""


@pytest.fixture(autouse=True)
def _elsewhere(install, tmp_path, monkeypatch):
    site = install("searching", {"searching": "searching"}, {"searching": DECLARATION})
    monkeypatch.setenv("PYTHONPATH", str(site))  # trainings are processes of their own
    monkeypatch.setattr(campaign, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(campaign, "HERE", tmp_path / "zoo")
    monkeypatch.setattr(campaign, "read_index", lambda: zoo.read_index(tmp_path / "zoo"))
    (tmp_path / "zoo").mkdir()


@pytest.mark.slow
def test_train_then_collect(tmp_path):
    good, bad = Cell("search", TINY, 60), Cell("serch", TINY, 60)
    assert campaign.train((good, bad)) == [bad.name]
    assert "Did you mean 'search'" in (tmp_path / "runs" / bad.name / "train.log").read_text()
    before = (tmp_path / "runs" / good.name / runs.RECORD).stat().st_mtime_ns
    assert campaign.train((good,)) == []
    assert (tmp_path / "runs" / good.name / runs.RECORD).stat().st_mtime_ns == before, "it was finished"
    assert campaign.collect() == [good.name]
    (made,) = zoo.read_index(tmp_path / "zoo")
    assert made["path"] == f"policies/{good.name}.policy"
    assert Policy.load(tmp_path / "zoo" / made["path"]).env_id == TINY
    assert (tmp_path / "zoo" / made["learning_curve"]).read_text().count("\n") > 2


@pytest.mark.parametrize(("steps", "starts"), [(None, True), (30, True), (60, False), (90, False)])
def test_what_is_in_the_package_at_full_length_is_not_trained_again(tmp_path, monkeypatch, steps, starts):
    cell, started = Cell("search", TINY, 60), []
    if steps is not None:
        record = {"path": f"policies/{cell.name}.policy", "steps": steps}
        (tmp_path / "zoo" / "index.json").write_text(json.dumps([record]))
    done = CompletedProcess([], 0)
    monkeypatch.setattr(campaign.subprocess, "run", lambda words, **_: started.append(words) or done)
    assert campaign.train((cell,)) == []
    assert bool(started) == starts


def test_collect_keeps_what_is_there_and_replaces_a_cell(tmp_path):
    def finish(name: str, mean: float, steps: int = 10) -> None:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / runs.RECORD).write_text(f'{{"algorithm": "sac", "steps": {steps}, "return_mean": {mean}}}')
        (folder / runs.FINAL_POLICY).write_text(name)
        (folder / campaign.LEARNING_CURVE).write_text("step")

    finish("b", 1)
    assert campaign.collect() == ["b"]
    (tmp_path / "runs" / "b" / runs.RECORD).unlink()
    finish("a", 2)
    assert campaign.collect() == ["a"]
    finish("b", 3)
    campaign.collect()
    index = zoo.read_index(tmp_path / "zoo")
    assert [(r["path"], r["return_mean"]) for r in index] == [
        ("policies/a.policy", 2),
        ("policies/b.policy", 3),
    ]
    finish("b", 9, steps=5)
    assert campaign.collect() == ["a"], "a trial is no reason to give up a longer run"
    assert zoo.read_index(tmp_path / "zoo")[1]["return_mean"] == 3


def test_every_shipped_policy_is_of_a_cell_of_the_campaign_and_made_with_its_options():
    cells = {f"policies/{cell.name}.policy": cell for cell in CELLS}
    for record in zoo.read_index():
        cell = cells[record["path"]]
        algorithm = f"{cell.algorithm}:{cell.options}" if cell.options else cell.algorithm
        words = f"--algo {algorithm} --env {cell.env_id} --steps {record['steps']} --seed {cell.seed}"
        assert record["command"].removesuffix(" --threads 2") == f"compressrl train {words}"
        assert record["steps"] <= cell.steps
