"""The folder of a study."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from compressrl.errors import UsageError
from compressrl.study.grid import Cell, Study, Subject
from compressrl.study.store import Outcome, Store

STUDY = Study("s", (Subject("sac", "A"),), ("", "qat"), ("onnx",), 1, 2, profilers=("energy:windows=2",))
CELLS = STUDY.cells


def outcome(cell: Cell, key: str, at: str = "2026-01-01T00:00:00") -> Outcome:
    report = {"retention": {"value": 0.5}}
    return Outcome(
        cell, key, "done", seconds=1.5, finished_at=at, report=report, versions={"compressrl": "1"}
    )


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "study")
    store.create(STUDY, "the text")
    return store


def test_outcomes_come_back_in_the_grids_order(store):
    stored = [outcome(CELLS[1], "a" * 16), outcome(CELLS[0], "b" * 16)]
    for one in stored:
        store.write(one)
    again = Store(store.folder)
    assert again.outcomes() == stored[::-1]
    assert again.study() == STUDY
    assert (store.folder / "study.toml").read_text() == "the text"


def test_of_two_outcomes_of_a_cell_the_later_counts(store):
    """A newer policy or version is another key."""
    late, early = outcome(CELLS[0], "a" * 16, "2026-02-01"), outcome(CELLS[0], "b" * 16, "2026-01-01")
    store.write(late)
    store.write(early)
    assert store.outcomes() == [late]


def test_cells_that_the_study_no_longer_has_are_left_out(store):
    store.write(outcome(replace(CELLS[0], repeat=7), "a" * 16))
    assert store.outcomes() == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cell": 1}', '{"key": "x"}', "\udcff"])
def test_a_damaged_cell_is_set_aside(store, text):
    path = store.path("a" * 16)
    path.write_bytes(text.encode(errors="surrogateescape"))
    store.write(outcome(CELLS[1], "b" * 16))
    assert [o.key for o in store.outcomes()] == ["b" * 16]
    assert store.damaged == [str(store.cells / "damaged" / path.name)]
    assert not path.exists()
    assert store.read("a" * 16) is None


def test_a_folder_of_a_newer_version_is_refused_and_left_alone(store):
    path = store.folder / "study.json"
    path.write_text(json.dumps({"format": 2, "compressrl": "9.9", "study": {"new": 1}}))
    for use in (store.study, store.outcomes, lambda: store.create(STUDY, "mine")):
        with pytest.raises(UsageError, match=r"compressrl 9\.9, which is newer"):
            use()
    assert (store.folder / "study.toml").read_text() == "the text"


def test_a_damaged_study_says_what_to_do(store):
    (store.folder / "study.json").write_text("{")
    with pytest.raises(UsageError, match="Delete it and run the study again"):
        store.study()


def test_a_folder_that_is_no_study(tmp_path):
    with pytest.raises(UsageError, match="not the folder of a study"):
        Store(tmp_path).study()


def test_the_reference_is_copied(tmp_path):
    (tmp_path / "published.json").write_text('{"a": 1}')
    Store(tmp_path / "s").create(replace(STUDY, reference=str(tmp_path / "published.json")), "")
    assert (tmp_path / "s" / "reference.json").read_text() == '{"a": 1}'


def test_only_what_the_last_run_counted_is_the_study(store):
    """A cell of a policy that has been replaced since would be pooled with those of its successor."""
    former, now = outcome(CELLS[0], "a" * 16, "2026-02-01"), outcome(CELLS[0], "b" * 16, "2026-01-01")
    for each in (former, now, outcome(CELLS[1], "c" * 16)):
        store.write(each)
    store.note_plan(["b" * 16, "d" * 16])
    assert Store(store.folder).outcomes() == [now]
