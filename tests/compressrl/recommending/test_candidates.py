"""What is tried, and in which order."""

from __future__ import annotations

import pytest

from compressrl import plugins
from compressrl.errors import UnknownNameError
from compressrl.recommending import candidates

DECLARING = """
    from typing import ClassVar

    from compressrl import PluginEntry, hookimpl

    @hookimpl
    def compressrl_compressors():
        return [PluginEntry(n, "", f"declaring:{n.title()}") for n in ("slow", "quick", "mute", "gone")]

    class Quick:
        candidates: ClassVar[tuple[str, ...]] = ("quick+slow", "quick", "quick+absent")

        def compress(self, policy, lab):
            return policy

    class Slow(Quick):
        candidates: ClassVar[tuple[str, ...]] = ("slow", "slow+slow")
        trains = True

    class Mute(Quick):
        candidates: ClassVar[tuple[str, ...]] = ()
"""


@pytest.fixture
def declaring(install, monkeypatch):
    """The only compressors are those of `DECLARING`."""
    install("declaring", {"declaring": "declaring"}, {"declaring": DECLARING})
    monkeypatch.setenv(plugins.BLOCK_VARIABLE, "quantizers,pruners,distillation")


def test_declared_pipelines_are_tried_the_original_first_and_what_trains_least(declaring):
    found, _ = candidates.find(())
    assert [candidate.label for candidate in found] == [
        "original",
        "quick",
        "quick+slow",
        "slow",
        "slow+slow",
    ]
    assert [candidate.trainings for candidate in found] == [0, 0, 1, 1, 2]


def test_a_declared_pipeline_that_cannot_be_is_set_aside_with_its_reason(declaring):
    _, failed = candidates.find(())
    reasons = {each.pipeline: each.reason for each in failed}
    assert reasons.keys() == {"quick+absent", "gone"}
    assert "Unknown compressor 'absent'" in reasons["quick+absent"]
    assert "cannot be loaded" in reasons["gone"]


def test_named_pipelines_replace_the_declared_ones_and_must_be_right(declaring):
    found, failed = candidates.find(["mute", "mute"])
    assert ([candidate.label for candidate in found], failed) == (["original", "mute"], [])
    with pytest.raises(UnknownNameError, match="quik"):
        candidates.find(["quik"])


def test_the_built_in_compressors_declare_pipelines_that_can_be():
    found, failed = candidates.find(())
    assert failed == []
    costs = {candidate.pipeline: candidate.trainings for candidate in found}
    assert {"ptsq": 0, "ptdq": 0, "qat": 1, "l2:ratio=0.5": 1, "l2:ratio=0.5+qat": 2}.items() <= costs.items()
    (plain,) = (c for c in candidates.find(["l2:preset=paper"])[0] if c.stages)
    assert plain.trainings == 0
