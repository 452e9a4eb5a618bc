"""The grid of cells."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from compressrl.study.grid import Cell, Study, Subject

words = st.text(max_size=8)
subjects = st.builds(Subject, words, words, words)
studies = st.builds(
    Study,
    name=words,
    subjects=st.lists(subjects, min_size=1, max_size=3, unique=True).map(tuple),
    compressors=st.lists(words, min_size=1, max_size=3, unique=True).map(tuple),
    runtimes=st.lists(words, min_size=1, max_size=2, unique=True).map(tuple),
    repeats=st.integers(1, 3),
    episodes=st.integers(1, 5),
    profilers=st.lists(words, max_size=2).map(tuple),
    training_steps=st.integers(1),
    seconds=st.dictionaries(words, st.floats(0, 1e6)),
    reference=words,
)


@given(studies)
def test_a_study_comes_back_from_json(study):
    assert Study.from_json(json.loads(json.dumps(study.to_json()))) == study


@given(studies)
def test_every_combination_is_one_cell_and_repeats_come_one_after_the_other(study):
    cells = study.cells
    assert len(set(cells)) == len(cells)
    counts = (len(study.subjects), len(study.compressors), len(study.runtimes), study.repeats)
    assert len(cells) == counts[0] * counts[1] * counts[2] * counts[3]
    assert [cell.repeat for cell in cells] == sorted(cell.repeat for cell in cells)
    assert {cell.subject for cell in cells} == set(study.subjects)


def test_the_axes_are_named_once_in_order():
    pairs = [("sac", "A"), ("ppo", "A"), ("sac", "B")]
    study = Study("s", tuple(Subject(*pair) for pair in pairs), ("",), ("onnx",), 1, 1)
    assert study.algorithms == ("sac", "ppo")
    assert study.environments == ("A", "B")


def test_a_cell_is_named_for_a_person():
    assert Cell("sac", "A-v0", "", "onnx", 3, 10).label == "sac A-v0 baseline onnx #3"
