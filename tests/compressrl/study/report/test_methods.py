"""Short names that stay different, and sweeps that are found."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from compressrl.study.report.methods import methods

STAGES = st.sampled_from(["ptdq", "ptdq:preset=paper", "qat", "l1:ratio=0.5", "l1:ratio=0.25,preset=paper"])
PIPELINES = st.lists(STAGES, max_size=3).map("+".join)


def labels(*compressors: str, runtime: str = "onnx") -> list[str]:
    return [method.label for method in methods((text, runtime) for text in compressors)]


def test_a_sweep_is_what_differs_in_one_number():
    found = methods((f"l1:ratio={level},preset=paper", "onnx") for level in ("0.05", "0.10", "0.70"))
    assert [method.level for method in found] == [0.05, 0.1, 0.7]
    assert {method.family for method in found} == {"l1"}
    assert [method.label for method in found] == ["l1 0.05", "l1 0.1", "l1 0.7"]


def test_a_single_ratio_is_no_sweep():
    (alone,) = methods([("l1:ratio=0.5", "onnx")])
    assert (alone.level, alone.label, alone.name) == (None, "l1", "l1")


def test_of_two_numbers_the_one_with_more_values_is_swept():
    texts = ("l1:ratio=0.1,n=4", "l1:ratio=0.1,n=8", "l1:ratio=0.2,n=4", "l1:ratio=0.3,n=4")
    found = methods((text, "onnx") for text in texts)
    assert [method.level for method in found] == [0.1, 8, 0.2, 0.3]
    assert len({method.family for method in found}) == 2


def test_names_are_short_where_that_says_enough():
    assert labels("", "ptdq:preset=paper", "ptsq:bits=4+distill") == ["baseline", "ptdq", "ptsq+distill"]
    assert labels("ptdq:preset=paper", "ptdq") == ["ptdq:preset=paper", "ptdq"]


def test_runtimes_are_said_where_there_are_several():
    found = methods([("ptdq", "onnx"), ("ptdq", "native")])
    assert [method.label for method in found] == ["ptdq · onnx", "ptdq · native"]
    assert labels("ptdq") == ["ptdq"]


def test_a_reference_names_a_method_by_its_stages():
    assert [m.name for m in methods([("l2:ratio=0.5+ptsq:bits=4", "onnx"), ("", "onnx")])] == ["l2+ptsq", ""]


def test_a_step_of_a_sweep_whose_name_is_taken_is_labelled_as_it_is_typed():
    typed = ("l2:ratio=0.5,preset=paper", "l2:ratio=0.5", "l2:ratio=0.75")
    assert tuple(labels(*typed)) == typed


@given(st.lists(PIPELINES, max_size=6))
def test_labels_are_unique(compressors):
    found = methods((text, "onnx") for text in compressors)
    assert [method.compressor for method in found] == list(dict.fromkeys(compressors))
    assert len({method.label for method in found}) == len(found)
