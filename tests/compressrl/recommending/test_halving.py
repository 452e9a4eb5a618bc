"""What successive halving drops and keeps, on returns that are made up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressrl.progress import silent
from compressrl.recommending import halving
from compressrl.recommending.archive import Archive
from compressrl.recommending.arena import Arena
from compressrl.recommending.candidates import Candidate
from compressrl.recommending.halving import Judge
from compressrl.records import EvaluationRequest
from compressrl.testing import TINY, tiny_policy


class Scripted(Arena):
    """Episodes return what `script` says: by label, mean and spread."""

    played: list[tuple[str, int]]

    def play(self, sides, seeds, progress, task="episodes"):
        self.played.extend((side.label, len(seeds)) for side in sides)
        return [tuple(SCRIPT[side.label](seed) for seed in seeds) for side in sides]


def scripted(mean: float):
    return lambda seed: mean + 0.02 * np.random.default_rng(seed).normal()


SCRIPT = {"original": scripted(1.0), "good": scripted(0.99), "bad": scripted(0.8), "poor": scripted(0.975)}


@pytest.fixture
def arena() -> Scripted:
    base = EvaluationRequest("", TINY, "", "", episodes=40)
    arena = Scripted(tiny_policy("graph"), base, ("onnx",), Archive(None, ""))
    object.__setattr__(arena, "played", [])
    return arena


def test_fresh_seeds_are_as_many_and_new(arena):
    assert len(set(arena.fresh_seeds())) == 40
    assert not set(arena.fresh_seeds()) & set(arena.seeds())


def enter(arena, *labels: str, size: int = 100):
    original = arena.enter(Candidate(), silent)
    trials = [original]
    for label in labels:
        loaded = replace(original.loaded[0], label=label)
        model = replace(original.model, size_bytes=size)
        trials.append(replace(original, candidate=Candidate(label), loaded=(loaded,), model=model))
    return trials


def halve(arena, trials, minimum=0.97, **microseconds: float):
    times = {"original": 10.0, "good": 1.0, "bad": 1.0, "poor": 1.0} | microseconds
    done = halving.halve(arena, trials, Judge(minimum, 0.0, 0), times, silent)
    return {trial.label: trial for trial in done}


def test_rungs_double_up_to_the_last():
    assert halving.rungs(40) == [10, 20, 40]
    assert halving.rungs(5) == [5]
    assert halving.rungs(100) == [12, 25, 50, 100]


@given(st.integers(2, 5000))
def test_rungs_end_with_what_is_asked_for(episodes: int):
    rungs = halving.rungs(episodes)
    assert rungs[-1] == episodes
    assert rungs == sorted(set(rungs))
    assert rungs[0] < 2 * halving.FIRST


def test_what_cannot_keep_enough_is_dropped_at_the_first_look_and_the_others_go_on(arena):
    done = halve(arena, enter(arena, "good", "bad"))
    assert done["bad"].dropped.startswith("after 10 episodes it keeps at most 8")
    assert len(done["bad"].returns) == 10
    assert (done["good"].dropped, len(done["good"].returns)) == ("", 40)
    assert done["good"].retention.pairs == 40
    assert done["good"].interval[0] > 0.97


def test_what_another_one_beats_for_certain_is_dropped(arena):
    done = halve(arena, enter(arena, "good", "poor"), minimum=0.9)
    assert "good keeps more beyond doubt" in done["poor"].dropped
    assert len(done["poor"].returns) < 40


@pytest.mark.parametrize("gain", [{"poor": 0.9}, {}])
def test_but_not_what_is_faster_or_smaller(arena, gain):
    trials = enter(arena, "good", "poor")
    if not gain:
        trials[2] = replace(trials[2], model=replace(trials[2].model, size_bytes=99))
    assert halve(arena, trials, minimum=0.9, **gain)["poor"].dropped == ""


def test_the_original_stays_even_where_a_compressed_one_beats_it(arena):
    trials = enter(arena, "good", "poor")
    SCRIPT["better"] = scripted(1.2)
    trials.append(replace(trials[1], candidate=Candidate("better")))
    trials[-1] = replace(trials[-1], loaded=(replace(trials[-1].loaded[0], label="better"),))
    done = halve(arena, trials, minimum=0.9, better=1.0)
    assert done["original"].dropped == ""
    assert len(done["original"].returns) == 40
    assert done["better"].dropped == ""


def test_what_breaks_down_is_dropped(arena):
    SCRIPT["nan"] = lambda seed: float("nan") if seed % 2 else 1.0
    done = halve(arena, enter(arena, "nan", "good"), nan=1.0)
    assert done["nan"].dropped == "after 10 episodes a return is not a number"
    assert done["good"].dropped == ""


def test_returns_that_are_there_are_not_played_again_and_not_looked_at_too_early(arena):
    trials = enter(arena, "good", "bad")
    whole = [replace(t, returns=tuple(SCRIPT[t.label](s) for s in arena.seeds())) for t in trials]
    again = halve(arena, whole)
    assert arena.played == []
    fresh = halve(arena, trials)
    assert {t.label: (t.retention, t.dropped) for t in again.values()} == {
        t.label: (t.retention, t.dropped) for t in fresh.values()
    }
