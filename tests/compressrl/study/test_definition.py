"""Study files: what they mean, and what is said where something is wrong in them."""

from __future__ import annotations

import pytest

from compressrl.errors import UnknownNameError, UsageError
from compressrl.study import definition
from compressrl.testing import TINY

GOOD = """\
name = "mine"
policies = ["tiny0.policy"]
environments = ["Pendulum-v1"]
algorithms = [
  "sac",
  "td3:actor_lr=1e-3",
]
compressors = ["ptdq:preset=paper", "l1:ratio=0.25..0.5/0.25,preset=paper"]
runtimes = ["onnx", "torch"]
repeats = 3
episodes = 7
profilers = ["energy:windows=2"]
training_steps = 5000
reference = "published.json"

[quick]
repeats = 1
compressors = ["ptdq"]

[seconds]
ptdq = 12
"l1:ratio=0.5,preset=paper" = 3.5
"""


@pytest.fixture
def read(tmp_path, policies):
    (tmp_path / "published.json").write_text("{}")

    def make(text: str, **options):
        path = tmp_path / "x.toml"
        path.write_text(text)
        return definition.read(path, **options)

    return make


def test_everything_that_a_file_says(read, policies):
    study = read(GOOD)
    assert study.name == "mine"
    assert [(s.algorithm, s.env_id) for s in study.subjects] == [
        ("sac", "Pendulum-v1"),
        ("td3:actor_lr=1e-3", "Pendulum-v1"),
        ("tiny0", TINY),
    ]
    assert study.subjects[2].policy == str(policies[0])
    assert study.compressors == (
        "",
        "ptdq:preset=paper",
        "l1:ratio=0.25,preset=paper",
        "l1:ratio=0.5,preset=paper",
    )
    assert (study.runtimes, study.repeats, study.episodes) == (("onnx", "torch"), 3, 7)
    assert (study.profilers, study.training_steps) == (("energy:windows=2",), 5000)
    assert study.seconds == {"ptdq": 12.0, "l1:ratio=0.5,preset=paper": 3.5}
    assert study.reference == str(policies[0].parent / "published.json")


def test_quick_lays_its_table_over_the_rest(read):
    study = read(GOOD, quick=True)
    assert (study.name, study.repeats, study.compressors) == ("mine-quick", 1, ("", "ptdq"))
    assert study.episodes == 7


def test_a_file_with_little_in_it(read):
    study = read('policies = ["tiny0.policy"]')
    assert (study.name, study.compressors, study.runtimes, study.repeats) == ("x", ("",), ("onnx",), 1)


def test_quick_needs_a_table(read):
    with pytest.raises(UsageError, match=r"no \[quick\] table"):
        read('policies = ["tiny0.policy"]', quick=True)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("repeats = 3", "repeat = 3", 10, "Did you mean 'repeats'"),
        ("repeats = 3", "repeats = 0", 10, "at least 1"),
        ("repeats = 3", "repeats = true", 10, "whole number"),
        ("0.25..0.5/0.25", "0.5..0.25/0.25", 8, "empty"),
        ("0.25..0.5/0.25", "0.5..1.5/0.25", 8, "out of range"),
        ('"td3:actor_lr=1e-3"', '"td5"', 6, "Unknown algorithm 'td5'"),
        ('"Pendulum-v1"', '"Pendulums-v1"', 3, "Unknown environment"),
        ('"onnx", "torch"', '"onnx", "torsh"', 9, "Unknown runtime"),
        ("energy:windows", "energy:window", 12, "no option 'window'"),
        ("tiny0.policy", "gone.policy", 2, "does not exist"),
        ("published.json", "gone.json", 14, "does not exist"),
        ('name = "mine"', "name = 3", 1, "text in quotes"),
        ('policies = ["tiny0.policy"]', 'policies = "tiny0.policy"', 2, "list of texts"),
        ('compressors = ["ptdq"]', 'compressors = ["ptdx"]', 18, "Unknown compressor"),
        ('[quick]\nrepeats = 1', '[quick]\nrepeat = 1', 17, "Did you mean 'repeats'"),
        ("ptdq = 12", 'ptdq = "long"', 21, "no number of seconds"),
        ("repeats = 3", "repeats = ", 10, "is not TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(read, old, new, line, words):
    assert GOOD.count(old) >= 1
    with pytest.raises(UsageError, match=rf"x\.toml.*{line}.*") as caught:
        read(GOOD.replace(old, new, 1), quick="ptdx" in new)
    assert words in str(caught.value)
    assert f"x.toml:{line}:" in str(caught.value) or f"line {line}," in str(caught.value)


def test_a_study_without_policies_is_refused(read):
    with pytest.raises(UsageError, match="names no policy"):
        read('algorithms = ["sac"]')


def test_a_file_that_is_not_there():
    with pytest.raises(UsageError, match=r"gone\.toml cannot be read"):
        definition.read(definition.find("gone.toml"))


def test_a_name_that_no_plugin_offers():
    with pytest.raises(UnknownNameError, match="Unknown study 'papper'"):
        definition.find("papper")


@pytest.mark.parametrize("table", ["[[quick]]\nrepeats = 1", "quick = 3"])
def test_a_quick_that_is_no_table_is_told(read, table):
    text = f"{table}\n" if table.startswith("quick") else ""
    tail = "" if text else f"\n{table}\n"
    with pytest.raises(UsageError, match=r"quick: write it as a table: \[quick\]"):
        read(f'{text}policies = ["tiny0.policy"]{tail}', quick=True)
