"""Pruning a little, recovering, and again: `preset=best`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compressrl import Lab, options, pipeline
from compressrl.errors import OptionError, PipelineError
from compressrl.lab import Budget
from compressrl.testing import CompressorContract, tiny_policy
from compressrl_pruners.magnitude import L1Pruning, L2Pruning
from compressrl_pruners.recovery import Recovery

QUICK = {"steps_per_round": 100, "states_per_round": 200, "check_episodes": 3, "batch_size": 64}
UNRECOVERED = {"rounds": 0, "states_per_round": 1, "check_episodes": 1}


class TestBestContract(CompressorContract):
    plugin = L1Pruning
    options = {**QUICK, "rounds": 2, "iterations": 2, "steps_per_round": 20, "scope": "global"}


def lab(baseline, **budget):
    return Lab(baseline.env_id, baseline=baseline, budget=Budget(**budget))


def mean_return(policy):
    return Lab(policy.env_id).rollout(policy, 20, list(range(20))).mean_return


def widths(policy):
    return [layer.weight.shape[0] for layer in policy.layers if layer.kind == "linear"]


def rounds(policy):
    """Those after each cut, as the provenance tells them."""
    told = policy.provenance[-1].partition("rounds after the cuts: ")[2].partition(", the best")[0]
    return [int(number) for number in told.split(", ")]


def test_it_keeps_the_return_that_one_cut_loses(capable):
    best = L2Pruning(ratio=0.75, rounds=6, learning_rate=0.01, **QUICK).compress(capable, lab(capable))
    once = L2Pruning(ratio=0.75, preset="paper").compress(capable, lab(capable))
    assert widths(best) == widths(once)
    assert mean_return(once) < 0.7 * mean_return(capable)
    assert mean_return(best) > 0.9 * mean_return(capable)


@settings(max_examples=30, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 24), min_size=1, max_size=3),
    ratio=st.floats(0.05, 0.95),
    iterations=st.integers(1, 6),
    scope=st.sampled_from(["layer", "global"]),
    round_to=st.sampled_from([1, 4]),
)
def test_many_cuts_remove_as_many_neurons_as_one(hidden, ratio, iterations, scope, round_to):
    policy = tiny_policy(hidden=hidden)
    asked = {"ratio": ratio, "scope": scope, "round_to": round_to}
    try:
        once = widths(L2Pruning(preset="paper", **asked).compress(policy, lab(policy)))
    except PipelineError:
        with pytest.raises(PipelineError, match="nothing to remove"):
            L2Pruning(**asked).compress(policy, lab(policy))
        return
    many = widths(L2Pruning(iterations=iterations, **asked, **UNRECOVERED).compress(policy, lab(policy)))
    if scope == "layer":
        assert many == once
    else:
        assert all(kept == was or kept % round_to == 0 for kept, was in zip(many, [*hidden, 2], strict=True))
        assert sum(many) == sum(once) or round_to > 1


def test_one_cut_without_recovery_is_the_plain_one():
    policy = tiny_policy()
    plain = L2Pruning(preset="paper").compress(policy, lab(policy))
    for one, other in zip(
        L2Pruning(iterations=1, **UNRECOVERED).compress(policy, lab(policy)).network.parameters(),
        plain.network.parameters(),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_every_cut_takes_the_same_share_of_what_is_left(capable):
    seen = []
    bench = lab(capable)
    collect = bench.collect
    bench.collect = lambda policy, steps: seen.append(widths(policy)[0]) or collect(policy, steps)
    L2Pruning(ratio=0.75, iterations=4, rounds=6, stop_margin=0.0, **QUICK).compress(capable, bench)
    assert seen == [32, 22, 16, 11, 8, 8, 8], "the teacher, then the student of every round"


@pytest.mark.parametrize(
    ("asked", "spent"), [((12, 4), [2, 2, 2, 6]), ((6, 4), [1, 1, 1, 3]), ((5, 1), [5]), ((1, 3), [0, 0, 1])]
)
def test_half_of_the_rounds_follow_the_last_cut(capable, asked, spent):
    few = {**QUICK, "steps_per_round": 1, "stop_margin": 0.0}
    pruner = L1Pruning(rounds=asked[0], iterations=asked[1], **few)
    assert rounds(pruner.compress(capable, lab(capable))) == spent


@pytest.mark.parametrize("where", ["option", "lab"])
def test_all_cuts_share_one_budget_of_environment_steps(capable, where):
    limit = {"environment_steps": 3000}
    bench = lab(capable, **(limit if where == "lab" else {}))
    asked = {**QUICK, "steps_per_round": 1, "stop_margin": 0.0, **(limit if where == "option" else {})}
    pruned = L2Pruning(rounds=100, iterations=3, **asked).compress(capable, bench)
    first, second, last = rounds(pruned)
    # Without a round, a recovery still takes its first check.
    assert 2500 < bench.environment_steps_used <= 3000 + 75
    assert 1 <= first <= last
    assert 1 <= second <= last
    assert f"{bench.environment_steps_used} environment steps" in pruned.provenance[-1]


def test_without_seconds_it_cuts_and_learns_nothing(capable):
    pruned = L2Pruning(seconds=0.0, **QUICK).compress(capable, lab(capable))
    assert widths(pruned) == [16, 2]
    assert ", 0 updates," in pruned.provenance[-1]


def test_the_teacher_is_the_policy_before_the_pipeline(capable):
    network = capable.network
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=3)
    broken = capable.with_network(network, "noise")
    assert mean_return(broken) < 0.5 * mean_return(capable)
    pruned = L2Pruning(rounds=6, learning_rate=0.01, **QUICK).compress(broken, lab(capable))
    assert mean_return(pruned) > 0.8 * mean_return(capable)


@pytest.mark.parametrize("later", ["distill", "qat"])
def test_a_later_stage_may_recover_again(capable, later):
    typed = ",".join(f"{key}={value}" for key, value in {**QUICK, "rounds": 2}.items())
    stages = pipeline.parse(f"l2:{typed}+{later}:{typed},learning_rate=0.01")
    policy = pipeline.run(stages, capable, lab(capable))
    assert mean_return(policy) > 0.8 * mean_return(capable)


def test_a_foreign_network_needs_preset_paper():
    policy = tiny_policy("foreign")
    with pytest.raises(PipelineError, match=r"row of linear layers.*preset=paper"):
        L2Pruning().compress(policy, lab(policy))
    assert L2Pruning(preset="paper").compress(policy, lab(policy)).form == "network"


def test_preset_paper_refuses_what_it_would_not_use():
    with pytest.raises(OptionError, match="preset=paper does not recover; leave iterations, rounds out"):
        options.build(L2Pruning, "l2", {"preset": "paper", "rounds": 3, "iterations": 2})


def test_states_stay_from_cut_to_cut_and_only_the_last_student_is_checked_finely(capable):
    bench, checks, states = lab(capable), [], []
    rollout = bench.rollout
    bench.rollout = lambda policy, episodes, seeds: (
        checks.append(episodes) or rollout(policy, episodes, seeds)
    )
    student = capable.network
    pruner = L2Pruning(rounds=4, stop_margin=0.5, **QUICK)
    recovery = Recovery(student, capable, bench, pruner, cuts=3)
    for cut in (1, 2, 3):
        states.append(len(recovery.states))
        recovery.run(cut)
    assert states == [200, 400, 600]
    assert checks[:4] == [1] * 4
    assert 1 not in checks[4:]
