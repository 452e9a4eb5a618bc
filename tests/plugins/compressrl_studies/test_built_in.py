"""The studies that ship with the package: what they ask for exists, and is what the paper did."""

from __future__ import annotations

from collections import Counter

import pytest

from compressrl import plugins
from compressrl.study import definition
from compressrl_studies.built_in import Paper, Recovered


def stages(study) -> Counter[str]:
    return Counter(plugins.parse(text)[0] for text in study.compressors)


@pytest.mark.parametrize("name", ["paper", "recovered"])
def test_their_names_are_known(name):
    assert definition.find(name).is_file()


def test_the_paper_is_the_papers_grid():
    study = definition.read(Paper().path())
    assert len(study.subjects) == len(study.algorithms) * len(study.environments) == 25
    assert stages(study) == {"": 1, "ptdq": 1, "ptsq": 1, "qat": 1, "l1": 14, "l2": 14}
    ratios = [f"l1:ratio={n * 5 / 100:g},preset=paper" for n in range(1, 15)]
    assert set(ratios) < set(study.compressors)
    assert all("preset=paper" in text for text in study.compressors[1:] if not text.startswith("qat"))
    assert (study.repeats, len(study.cells)) == (10, 25 * 32 * 10)
    assert study.reference.endswith("paper_2407_04803.json")


def test_quick_is_a_thin_one_of_known_length():
    study = definition.read(Paper().path(), quick=True)
    assert study.repeats == 1
    assert stages(study).keys() == {"", "ptdq", "ptsq", "qat", "l1", "l2"}
    assert len(study.cells) <= 160


def test_recovered_is_the_same_grid_with_other_pipelines():
    paper, recovered = definition.read(Paper().path()), definition.read(Recovered().path())
    assert recovered.subjects == paper.subjects
    assert stages(recovered) == {"": 1, "ptdq": 1, "ptsq": 2, "qat": 1, "l1": 14, "l2": 14}
    assert not any("preset=paper" in text for text in recovered.compressors)
    assert (recovered.repeats, recovered.episodes) == (paper.repeats, paper.episodes)
