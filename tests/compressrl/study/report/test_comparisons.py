"""The published tables, theirs beside ours."""

from __future__ import annotations

from compressrl.study.report import comparisons, tables
from compressrl.study.report.pooled import pool
from compressrl.study.report.reference import Reference, ReferenceTable, unversioned

PAPER = Reference(
    name="a paper",
    environments={"Ant": "Ant-v4"},
    tables={
        "returns": ReferenceTable("Table 1", "", {"sac": {"Ant": {"baseline": 4000.0, "ptdq": 2000.0}}}),
        "levels": ReferenceTable(
            "Table 2", "", {"sac": {"Ant": {"baseline": 4000.0, "kept": 3500.0, "l1": 0.05}}}
        ),
        "best": ReferenceTable("Table 3", "", {"sac": {"Ant": "l2:0.25"}}),
    },
)


def pooled(*outcomes):
    return pool([outcome.cell for outcome in outcomes], outcomes)


def text(table):
    return [[" / ".join([cell.text, *cell.notes]) for cell in row] for row in table.rows]


def test_returns_stand_beside_the_published_ones_whatever_the_version(done):
    study = pooled(done("sac", "Ant-v5", "ptdq:preset=paper", [100.0] * 8, [50.0] * 8))
    table = comparisons.returns(study, PAPER)
    assert table.columns == ("algorithm", "environment", "baseline", "ptdq")
    assert text(table) == [
        [
            "sac",
            "Ant-v5",
            "100 / 100 to 100 / paper 4,000",
            "50 / 50 to 50 / keeps 50.0% (50.0% to 50.0%) / paper 2,000",
        ]
    ]
    assert PAPER.other_versions(["Ant-v5", "Other-v0"]) == {"Ant-v5": "Ant-v4"}


def test_the_csv_has_the_bare_values(done):
    study = pooled(done("sac", "Ant-v5", "ptdq", [100.0] * 8, [50.0] * 8))
    heads, line = tables.to_csv(comparisons.returns(study, PAPER)).splitlines()
    assert heads == (
        "algorithm,environment,baseline,baseline low,baseline high,baseline published,"
        "ptdq,ptdq low,ptdq high,ptdq retention,ptdq retention low,ptdq retention high,ptdq published"
    )
    assert line == "sac,Ant-v5,100.0,100.0,100.0,4000.0,50.0,50.0,50.0,0.5,0.5,0.5,2000.0"


def test_what_was_not_measured_still_shows_what_was_published(undone, done):
    study = pooled(undone("sac", "Ant-v5", "ptdq", "missing", "train it"), done("sac", "Other-v5", "ptdq"))
    assert text(comparisons.returns(study, PAPER))[0][2:] == [
        "not measured / paper 4,000",
        "not measured / paper 2,000",
    ]


def sweep(done, kept):
    return [
        done("sac", "Ant-v5", f"{name}:ratio={level}", [100.0] * 8, [value] * 8)
        for (name, level), value in kept.items()
    ]


KEPT = {("l1", 0.1): 99.0, ("l1", 0.2): 50.0, ("l2", 0.1): 99.0, ("l2", 0.2): 97.0}


def test_levels_are_the_highest_that_keep_enough(done):
    table = comparisons.levels(pooled(*sweep(done, KEPT)), PAPER)
    assert table.columns == ("algorithm", "environment", "baseline", "return at it", "l1", "l2")
    assert text(table)[0][3:] == [
        "97 / 97 to 97 / keeps 97.0% (97.0% to 97.0%) / paper 3,500",
        "0.10 / keeps 99.0% / of 2 from 0.1 to 0.2 / paper 0.05",
        "0.20 / keeps 97.0% / of 2 from 0.1 to 0.2",
    ]


def test_a_sweep_that_keeps_nothing_says_none_and_not_nothing(done):
    table = comparisons.levels(pooled(*sweep(done, dict.fromkeys(KEPT, 10.0))), PAPER)
    assert text(table)[0][3] == "none keeps enough"
    assert text(table)[0][4] == "none / of 2 from 0.1 to 0.2 / paper 0.05"


def test_the_best_of_all_sweeps(done):
    best = comparisons.best_levels(pooled(*sweep(done, KEPT)), PAPER)
    assert text(best) == [["sac", "Ant-v5", "l2 0.2 / keeps 97.0%", "l2 0.25"]]
    dead = pooled(*sweep(done, dict.fromkeys(KEPT, 10.0)))
    assert text(comparisons.best_levels(dead, PAPER))[0][2:] == ["none keeps enough", "l2 0.25"]
    elsewhere = {"best": ReferenceTable("The best", "", {"sac": {"Hopper": "l2:0.25"}})}
    of_another = Reference(name="a paper", tables=elsewhere)
    assert text(comparisons.best_levels(dead, of_another))[0][2:] == ["none keeps enough", "n/a"]
    without = Reference(name="a paper")
    assert text(comparisons.best_levels(dead, without))[0][2:] == ["none keeps enough"]


def test_without_published_results_none_are_spoken_of(done):
    study = pooled(*sweep(done, KEPT), done("sac", "Ant-v5", "ptdq"))
    best = comparisons.best_levels(study, Reference())
    assert best.columns == ("algorithm", "environment", "ours")
    assert text(best) == [["sac", "Ant-v5", "l2 0.2 / keeps 97.0%"]]
    for table in (comparisons.returns(study, Reference()), comparisons.levels(study, Reference()), best):
        assert "published" not in table.text + "".join(table.columns)


def test_without_a_sweep_there_are_no_such_tables(done):
    study = pooled(done("sac", "Ant-v5", "ptdq"))
    assert comparisons.levels(study, PAPER) is None
    assert comparisons.best_levels(study, PAPER) is None


def test_the_version_of_an_environment_is_no_part_of_its_name():
    assert [unversioned(name) for name in ("Ant-v5", "my/Env-v12", "Odd")] == ["Ant", "my/Env", "Odd"]
