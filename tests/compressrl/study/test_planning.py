"""Policies and keys of a study's cells."""

from __future__ import annotations

import pytest

from compressrl import plugins, runs
from compressrl.study import definition, keys, planning
from compressrl.study.grid import Study, Subject
from compressrl.testing import TINY, tiny_policy


def keys_of(path) -> list[str]:
    return [job.key for job in planning.plan(definition.read(path)).jobs]


def test_the_key_is_the_content_and_not_the_place(write, policies, tmp_path):
    before = keys_of(write(compressors=["ptdq"]))
    assert len(set(before)) == 4
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in before)
    (tmp_path / "elsewhere").mkdir()
    moved = [policy.rename(tmp_path / "elsewhere" / policy.name) for policy in policies]
    again = write("other", policies=[f"elsewhere/{path.name}" for path in moved], compressors=["ptdq"])
    assert keys_of(again) == before


@pytest.mark.parametrize(
    "change",
    [
        {"episodes": 3},
        {"runtimes": ["torch"]},
        {"compressors": ["ptdq:preset=paper"]},
        {"profilers": ["latency:runs=200"]},
    ],
)
def test_a_changed_option_is_another_cell(write, change):
    before = keys_of(write(compressors=["ptdq"]))
    after = keys_of(write(**{"compressors": ["ptdq"], **change}))
    same = set(before) & set(after)
    assert same == ({before[0], before[2]} if "compressors" in change else set())


def test_another_policy_in_the_same_file_is_another_cell(write, policies):
    before = keys_of(write())
    tiny_policy(seed=9).save(policies[0])
    after = keys_of(write())
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)


def test_a_plugins_version_counts_where_it_is_used(log, write, install):
    before = keys_of(write(compressors=["noting"]))
    info = next(log.parent.glob("site-packages/*.dist-info"))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noting\nVersion: 2.0\n")
    plugins.registry.cache_clear()
    after = keys_of(write(compressors=["noting"]))
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False] * 2


def test_cells_without_a_policy_are_missing_with_the_command_that_trains_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    study = Study("s", (Subject("sac", "Pendulum-v1"),), ("", "ptdq"), ("onnx",), 2, 1, training_steps=2000)
    plan = planning.plan(study)
    assert not plan.jobs
    assert [outcome.cell for outcome in plan.missing] == list(study.cells)
    assert {outcome.error for outcome in plan.missing} == {
        "compressrl train --algo sac --env Pendulum-v1 --steps 2000 --seed 0"
    }


def test_what_that_command_has_trained_is_found(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    subject = Subject("sac", TINY)
    assert planning.find_policy(subject) is None
    folder = runs.default_folder("sac", TINY, 0)
    folder.mkdir(parents=True)
    tiny_policy().save(folder / runs.FINAL_POLICY)
    assert planning.find_policy(subject) is None, "it has not ended"
    (folder / runs.RECORD).write_text("{}")
    assert planning.find_policy(subject) is not None


def test_all_outcomes_are_the_stored_and_the_missing_ones(prepare, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    store, jobs = prepare(algorithms=["sac"], environments=["Pendulum-v1"])
    store.write(jobs[1].failed("broken"))
    found = planning.all_outcomes(store)
    assert [(o.cell.env_id, o.status) for o in found] == [("Pendulum-v1", "missing"), (TINY, "failed")]
    assert found[0].error.startswith("compressrl train --algo sac --env Pendulum-v1")


def test_an_algorithm_with_options_counts_by_its_version_too(install):
    source = """
    from compressrl import PluginEntry, hookimpl

    @hookimpl
    def compressrl_algorithms():
        return [PluginEntry("search", "", "compressrl.testing.algorithms:RandomSearch")]
    """
    install("searching", {"searching": "searching"}, {"searching": source}, version="3.1")
    assert keys.versions("search:hidden=8", "", "onnx")["searching"] == "3.1"
