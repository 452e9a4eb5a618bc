"""Claims are counted by policy, and judged by the interval of the share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressrl.errors import UsageError
from compressrl.study.report.pooled import pool
from compressrl.study.report.reference import Reference
from compressrl.study.report.verdicts import _answer, judge

LESS_ENERGY = {"metric": "energy", "below": 1.0, "clear": True}


def count(outcomes, statement):
    claims = ({"text": "a claim", "statements": [{"of": "policies", "that": "do", **statement}]},)
    (verdict,) = judge(pool([o.cell for o in outcomes], outcomes), Reference(claims=claims))
    (found,) = verdict.counts
    assert verdict.answer == found.answer
    return found


def many(done, compressor, share, policies=20, **options):
    """So many policies, which keep `share(i)` of the return."""
    returns = [100.0, 110.0, 120.0]
    return [
        done("sac", f"E{i}-v5", compressor, returns, [share(i) * r for r in returns], **options)
        for i in range(policies)
    ]


@pytest.mark.parametrize(
    ("keeping", "claimed", "answer"),
    [
        (18, "most", "holds"),
        (18, "few", "does not hold"),
        (2, "few", "holds"),
        (10, "most", "cannot be told yet"),
        (13, "most", "cannot be told yet"),
        (7, "few", "cannot be told yet"),
    ],
)
def test_most_and_few_are_told_by_the_side_of_one_half(done, keeping, claimed, answer):
    outcomes = many(done, "q", lambda i: 1.0 if i < keeping else 0.5)
    found = count(outcomes, {"have": [{"metric": "return", "at_least": 0.9}], "claimed": claimed})
    assert (found.share, found.policies, found.answer) == (keeping / 20, 20, answer)


def test_a_number_holds_where_the_interval_has_it_and_is_narrow(done):
    statement = {"have": [{"metric": "return", "at_least": 0.9}], "claimed": 0.4}
    few = many(done, "q", lambda i: 1.0 if i < 4 else 0.5, policies=10)
    assert count(few, statement).answer == "cannot be told yet"
    enough = many(done, "q", lambda i: 1.0 if i < 10 else 0.5, policies=25)
    assert count(enough, statement).answer == "holds"
    assert count(enough, {**statement, "claimed": 0.95}).answer == "does not hold"


def test_versions_of_one_policy_count_as_one(done):
    outcomes = [done("sac", "Ant-v5", f"q:n={n}", [100.0, 100.0], [100.0 * (n < 1)] * 2) for n in range(4)]
    found = count(outcomes, {"have": [{"metric": "return", "at_least": 0.9}], "claimed": "few"})
    assert (found.share, found.policies, found.ci95) == (0.25, 1, None)
    assert found.answer == "cannot be told yet"


def test_conditions_choose_methods_levels_and_policies(done):
    outcomes = [
        done("sac", "Ant-v5", "l2:ratio=0.1", [100.0, 100.0], [95.0, 95.0]),
        done("sac", "Ant-v5", "l2:ratio=0.2", [100.0, 100.0], [10.0, 10.0]),
        done("sac", "Ant-v5", "ptdq", [100.0, 100.0], [0.0, 0.0]),
    ]
    keeps = [{"metric": "return", "at_least": 0.9}]
    assert count(outcomes, {"methods": ["l2"], "have": keeps, "claimed": "most"}).share == 0.5
    assert count(outcomes, {"methods": ["l2"], "level": 0.1, "have": keeps, "claimed": "most"}).share == 1
    lost = [{"metric": "return", "below": 0.9}]
    assert count(outcomes, {"among": lost, "have": keeps, "claimed": "most"}).share == 0


def test_energy_counts_only_where_it_is_clear_and_says_its_kind(done):
    def less(algorithm, below_resolution):
        after = {"joules": 3e-5, "below_resolution": below_resolution}
        return done(algorithm, "Ant-v5", "q", compressed=after)

    found = count(
        [less("sac", False), less("td3", True), less("ppo", None)], {"have": [LESS_ENERGY], "claimed": "few"}
    )
    assert (found.share, found.policies, found.energy) == (0.5, 2, "estimated")


def test_what_was_not_measured_is_left_out(done):
    outcomes = [done("sac", "Ant-v5", "q", compressed={"joules": None, "below_resolution": None})]
    found = count(outcomes, {"have": [LESS_ENERGY], "claimed": "few"})
    assert (found.share, found.policies, found.answer) == (None, 0, "cannot be told yet")


def test_the_best_is_by_return_and_needs_all_that_compete(done):
    statement = {"best": "a", "by": "return", "methods": ["a", "b"], "claimed": 0.5}
    outcomes = [
        done("sac", "Ant-v5", "a", [100.0, 100.0], [99.0, 99.0]),
        done("sac", "Ant-v5", "b", [100.0, 100.0], [98.0, 98.0]),
        done("td3", "Ant-v5", "a", [100.0, 100.0], [10.0, 10.0]),
        done("td3", "Ant-v5", "b", [100.0, 100.0], [98.0, 98.0]),
        done("ppo", "Ant-v5", "a", [100.0, 100.0], [99.0, 99.0]),
    ]
    found = count(outcomes, statement)
    assert (found.share, found.policies) == (0.5, 2)


def test_the_best_level_is_the_highest_that_keeps_enough(done):
    def level(method, ratio, kept):
        return done("sac", "Ant-v5", f"{method}:ratio={ratio}", [100.0, 100.0], [kept, kept])

    outcomes = [
        level("l1", 0.1, 99.0),
        level("l1", 0.2, 91.0),
        level("l2", 0.1, 95.0),
        level("l2", 0.2, 92.0),
    ]
    statement = {"best": "l2", "by": "level", "methods": ["l1", "l2"], "claimed": "most"}
    assert count(outcomes, statement).share == 1
    assert count([*outcomes, level("l1", 0.3, 90.0)], statement).share == 0
    assert (
        count([level("l1", 0.1, 9.0), level("l1", 0.2, 9.0), level("l2", 0.1, 9.0)], statement).share is None
    )


@pytest.mark.parametrize(
    ("fails", "limit", "nearest", "share"),
    [
        ("above", 0.05, 0.2, 0),
        ("above", 0.05, 0.1, None),
        ("above", 0.2, 0.5, 1),
        ("from", 0.2, 0.2, 0),
        ("from", 0.5, 0.5, 1),
    ],
)
def test_survival_asks_the_levels_above_or_from_a_limit(done, fails, limit, nearest, share):
    kept = {0.05: 99.0, 0.2: 95.0, 0.5: 10.0}
    outcomes = [done("sac", "Ant-v5", f"l1:ratio={r}", [100.0, 100.0], [k, k]) for r, k in kept.items()]
    statement = {"fails": fails, "level": limit, "nearest": nearest, "methods": ["l1"], "claimed": 0.4}
    assert count(outcomes, statement).share == share


def test_a_claim_falls_with_one_of_its_statements(done):
    outcomes = many(done, "q", lambda i: 1.0)
    keeps = {"of": "policies", "that": "keep", "have": [{"metric": "return", "at_least": 0.9}]}
    claims = ({"text": "t", "statements": [{**keeps, "claimed": "most"}, {**keeps, "claimed": "few"}]},)
    (verdict,) = judge(pool([o.cell for o in outcomes], outcomes), Reference(claims=claims))
    assert [c.answer for c in verdict.counts] == ["holds", "does not hold"]
    assert verdict.answer == "does not hold"


def test_an_unknown_statement_is_refused(done):
    with pytest.raises(UsageError, match="counts nothing that is known"):
        judge(pool([], []), Reference(claims=({"text": "t", "statements": [{"claimed": "most"}]},)))


@pytest.mark.parametrize(
    "claim",
    [
        {"text": "t"},
        {"text": "t", "statements": [{"have": [{"metric": "return"}], "of": "policies"}]},
        {"text": "t", "statements": [{"fails": "from", "level": 0.5, "methods": ["l1"], "claimed": 0.4}]},
        {"text": "t", "statements": [{"of": "a", "that": "b", "have": [{"metric": "x"}], "claimed": "most"}]},
    ],
)
def test_a_claim_that_lacks_something_is_told_to_its_author(done, claim):
    outcomes = [done("sac", "Ant-v5", f"l1:ratio={level}") for level in (0.1, 0.5)]
    with pytest.raises(UsageError, match="A claim of the reference lacks"):
        judge(pool([o.cell for o in outcomes], outcomes), Reference(claims=(claim,)))


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["most", "few"]))
def test_most_and_few_never_hold_together(a, b, claimed):
    interval = (min(a, b), max(a, b))
    other = {"most": "few", "few": "most"}[claimed]
    answers = {_answer(claimed, sum(interval) / 2, interval), _answer(other, sum(interval) / 2, interval)}
    assert answers in ({"holds", "does not hold"}, {"cannot be told yet"})
