"""The paper's data: its own tables bear out its claims, as our verdicts count them."""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from compressrl.study.report import reference
from compressrl.study.report.pooled import pool
from compressrl.study.report.verdicts import judge

PAPER = reference.load(Path(str(files("compressrl_studies") / "paper_2407_04803.json")))
CELLS = [
    (algorithm, env_id)
    for algorithm in ("trpo", "ppo", "ddpg", "td3", "sac")
    for env_id in ("HalfCheetah", "HumanoidStandup", "Ant", "Humanoid", "Hopper")
]


def claimed(**wanted):
    (statement,) = [
        statement
        for claim in PAPER.claims
        for statement in claim["statements"]
        if wanted.items() <= statement.items()
    ]
    return statement["claimed"]


@pytest.mark.parametrize("kind", ["returns", "levels", "best"])
def test_each_table_has_all_25_cells(kind):
    assert all(PAPER.tables[kind].at(algorithm, f"{env_id}-v5") for algorithm, env_id in CELLS)
    assert sum(map(len, PAPER.tables[kind].values.values())) == 25


def test_the_claimed_shares_of_the_best_quantizer_are_those_of_table_1():
    rows = [PAPER.tables["returns"].at(*cell) for cell in CELLS]
    best = Counter(max(("ptdq", "ptsq", "qat"), key=lambda name: row[name]) for row in rows)
    assert {name: count / 25 for name, count in best.items()} == {
        name: claimed(best=name, by="return") for name in ("ptdq", "ptsq", "qat")
    }


def test_the_claimed_survival_is_that_of_the_better_pruner_of_table_2():
    rows = [PAPER.tables["levels"].at(*cell) for cell in CELLS]
    highest = [max(row["l1"], row["l2"]) for row in rows]
    assert sum(level <= 0.05 for level in highest) / 25 == claimed(fails="above", level=0.05)
    assert sum(level < 0.5 for level in highest) / 25 == claimed(fails="from", level=0.5)


def test_most_of_table_3_is_l2():
    best = Counter(PAPER.tables["best"].at(*cell).split(":")[0] for cell in CELLS)
    assert best["l2"] / 25 > 0.5
    assert claimed(best="l2", by="level") == "most"


def test_every_statement_can_be_counted():
    verdicts = judge(pool([], []), PAPER)
    assert [verdict.answer for verdict in verdicts] == ["cannot be told yet"] * 5
    assert sum(len(verdict.counts) for verdict in verdicts) == 11
