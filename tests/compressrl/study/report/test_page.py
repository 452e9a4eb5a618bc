"""Whole pages: of nothing, of one cell, of failures only; nothing from elsewhere, nothing unescaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from compressrl.study.report import page, rendering
from compressrl.study.report.reference import Reference

HOSTILE = '<script>alert("x")</script> & | \'"'


def html(study, outcomes=(), reference=None):
    return rendering.to_html(page.build(study, outcomes, reference or Reference()))


class Sound(HTMLParser):
    """Every tag is closed in order."""

    VOID = ("meta", "link", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(text: str) -> None:
    parser = Sound()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text)


def test_a_study_of_which_nothing_has_run(study_of, undone):
    study = study_of(undone("sac", "Ant-v5", "ptdq", "missing", "x"))
    text = html(study)
    check(text)
    assert "0 of 2 cells are done." in text
    assert "2 not run yet" in text
    assert "No compressed policy has been measured yet." in text


def test_a_study_of_one_cell(study_of, done):
    outcome = done("sac", "Ant-v5", "ptdq", [100.0, 110.0], [90.0, 100.0])
    text = html(study_of(outcome), [outcome])
    check(text)
    assert "1 of 2 cells are done." in text
    assert "ptdq keeps the most of the return" in text
    assert "a CPU" in text


def test_a_study_that_only_fails_shows_the_errors(study_of, undone):
    outcomes = [undone("sac", "Ant-v5", "ptdq", "failed", HOSTILE)]
    text = html(study_of(*outcomes), outcomes)
    check(text)
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(" in text


def test_a_missing_policy_comes_with_the_command_that_trains_it(study_of, undone):
    outcomes = [undone("sac", "Ant-v5", c, "missing", "compressrl train --algo sac") for c in ("ptdq", "qat")]
    made = page.build(study_of(*outcomes), outcomes, Reference())
    (table,) = [table for table in made.all_tables if table.name == "missing"]
    assert [cell.text for cell in table.rows[0]] == ["sac", "Ant-v5", "2", "compressrl train --algo sac"]
    assert "compressrl train --algo sac" in rendering.to_markdown(made)


def test_names_from_outside_are_escaped(study_of, done):
    outcome = done("<b>algo</b>", "<i>Env</i>-v0", "<u>x</u>")
    reference = Reference(name="<em>n</em>", citation="<em>c</em>", url="http://x/<em>")
    study = study_of(outcome, name="<h1>name</h1>")
    text = html(study, [outcome], reference)
    check(text)
    for tag in ("<b>algo", "<i>Env", "<u>x", "<em>", "<h1>name"):
        assert tag not in text


def test_what_compressing_took_stands_beside_what_it_keeps(study_of, done):
    spent = {"Ant-v5": (10.0, 5000.0), "Hopper-v5": (30.0, 0.0), "Humanoid-v5": (20.0, 2500.0)}
    outcomes = [done("sac", env_id, "ptdq", spent=each) for env_id, each in spent.items()]
    made = page.build(study_of(*outcomes), outcomes, Reference())
    (methods,) = [table for table in made.all_tables if table.name == "methods"]
    assert methods.columns[-2:] == ("compressing, s", "environment steps")
    seconds, steps = methods.rows[1][-2:]
    assert (seconds.text, seconds.notes) == ("20", ("30",))
    assert (steps.text, steps.notes) == ("2,500", ("5,000",))


def test_energy_is_labelled_wherever_its_number_stands(study_of, done):
    outcomes = [done("sac", "Ant-v5", "ptdq", compressed={"joules": 3e-5})]
    made = page.build(study_of(*outcomes), outcomes, Reference())
    (methods,) = [table for table in made.all_tables if table.name == "methods"]
    assert methods.rows[1][-3].text == "0.75 (estimated)"


def test_claims_are_judged_in_html_and_markdown(study_of, done):
    statement = {"of": "policies", "that": "keep", "have": [{"metric": "return", "at_least": 0.9}]}
    claims = ({"text": "Nothing is kept", "statements": [{**statement, "claimed": "few"}]},)
    outcomes = [done("sac", f"E{n}-v5", "ptdq") for n in range(12)]
    made = page.build(study_of(*outcomes), outcomes, Reference(name="p", claims=claims))
    assert 'class="verdict does-not-hold"' in rendering.to_html(made)
    assert "Published claims that hold: 0, that do not: 1, that cannot be told yet: 0." in made.lead
    assert "**does not hold**: “Nothing is kept”" in rendering.to_markdown(made)
    assert "ours 100% (95 %: 76% to 100%), n = 12; claimed: few." in rendering.to_markdown(made)
    assert made.verdicts[0].to_json()["counts"][0]["policies"] == 12


def test_other_versions_of_environments_are_said(study_of, done):
    outcomes = [done("sac", "Ant-v5", "ptdq")]
    reference = Reference(name="p", environments={"Ant": "Ant-v4"})
    assert "Ant-v4 there and Ant-v5 here" in html(study_of(*outcomes), outcomes, reference)


@pytest.mark.parametrize("kind", ["figure", "table"])
def test_every_figure_has_a_text_and_the_table_behind_it(study_of, done, kind):
    levels = [done("sac", "Walker2d-v5", f"l1:ratio={r}") for r in (0.1, 0.2)]
    outcomes = [done("sac", "Walker2d-v5", "ptdq"), done("sac", "Walker2d-v5", ""), *levels]
    made = page.build(study_of(*outcomes), outcomes, Reference())
    assert len(made.figures) == 6
    for figure in made.figures:
        assert figure.text.endswith(".")
        assert figure.table.rows if kind == "table" else figure.panels


def test_markdown_has_the_retention_of_every_policy_in_numbers(study_of, done):
    outcomes = [done("sac", "Ant-v5", "l1:ratio=0.1", [100.0] * 8, [80.0] * 8)]
    text = rendering.to_markdown(page.build(study_of(*outcomes), outcomes, Reference()))
    assert "| sac Ant-v5 | 80.0% (80.0% to 80.0%) |" in text
    assert text.count("| policy |") == 1  # no other figure's table


def test_a_study_of_baselines_that_earn_nothing_has_a_page(study_of, done):
    outcomes = [
        done("sac", "Pendulum-v1", compressor, [-5.0, -6.0], [-5.0, -7.0])
        for compressor in ("", "l1:ratio=0.1", "l1:ratio=0.2")
    ]
    text = html(study_of(*outcomes), outcomes)
    check(text)
    assert "No baseline earns a positive return" in text
    assert "has been measured yet" not in text
