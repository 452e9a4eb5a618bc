"""The registry, fed by real entry points of distributions that lie on disk."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

import pytest

import compressrl
from compressrl import plugins
from compressrl.errors import CompressrlError, OptionError, PluginConflictError, UnknownNameError, UsageError
from compressrl.plugins import BLOCK_VARIABLE, GROUP, Registry
from compressrl.records import EvaluationReport

CORE = Path(compressrl.__file__).parent
REPORT = cast(EvaluationReport, object())  # hooks get it as it is

GOOD = """
    from dataclasses import dataclass
    from typing import Annotated
    from compressrl import Option, PluginEntry, hookimpl

    @hookimpl
    def compressrl_compressors():
        return [PluginEntry("halve", "halves the weights", "good:Halve")]

    @dataclass(frozen=True)
    class Halve:
        times: Annotated[int, Option("how often", low=1)] = 1

        def compress(self, policy, lab):
            return policy
"""


def compressor(name: str, target: str = "nowhere:Nothing") -> str:
    """The source of a plugin that declares one compressor."""
    return f"""
        from compressrl import PluginEntry, hookimpl

        @hookimpl
        def compressrl_compressors():
            return [PluginEntry({name!r}, "", {target!r})]
    """


def points() -> list[EntryPoint]:
    return list(entry_points(group=GROUP))


def broken_reason(distribution: str) -> str:
    """Why the only plugin of this distribution was set aside, and everybody else was not."""
    registry = Registry(points())
    assert "halve" in [e.entry.name for e in registry.entries("compressor")]
    return next(b.reason for b in registry.broken if b.owner.distribution == distribution)


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "compressrl", *arguments]
    return subprocess.run(
        words, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_an_installed_distribution_is_found_with_its_provenance(install):
    install("third-party", {"mine": "good"}, {"good": GOOD}, version="2.5")
    registered = plugins.registry().get("compressor", "halve")
    assert registered.to_json() == {
        "kind": "compressor",
        "name": "halve",
        "summary": "halves the weights",
        "distribution": "third-party",
        "version": "2.5",
        "target": "good:Halve",
    }
    assert plugins.create("compressor", "halve:times=3").times == 3
    assert plugins.registry() is plugins.registry()


def test_the_built_ins_arrive_by_the_same_route():
    algorithms = {e.entry.name: e.owner for e in Registry(points()).entries("algorithm")}
    assert {"trpo", "ppo", "ddpg", "td3", "sac"} <= set(algorithms)
    assert {(o.distribution, o.entry_point) for o in algorithms.values()} == {("compressrl", "algorithms")}


def test_an_unknown_name_suggests_the_nearest_and_tells_what_is_not_loaded(install):
    install("good", {"good": "good"}, {"good": GOOD})
    install("crashing", {"crashing": "crashing"}, {"crashing": "raise RuntimeError('no luck')"})
    with pytest.raises(UnknownNameError) as error:
        plugins.create("compressor", "halv")
    assert "Unknown compressor 'halv'. Did you mean 'halve'?" in str(error.value)
    assert "crashing 1.0 (plugin 'crashing'): RuntimeError: no luck" in str(error.value)
    assert "\n" not in str(error.value)


def test_two_plugins_that_offer_one_name_are_refused_naming_both(install):
    install("first-dist", {"one": "first"}, {"first": compressor("same")}, version="1.2")
    install("second-dist", {"two": "second"}, {"second": compressor("same")}, version="3.4")
    with pytest.raises(PluginConflictError) as error:
        Registry(points())
    message = str(error.value)
    assert "compressor 'same'" in message
    assert "first-dist 1.2 (plugin 'one')" in message
    assert "second-dist 3.4 (plugin 'two')" in message
    assert f"{BLOCK_VARIABLE}=one" in message


def test_one_name_in_two_kinds_is_no_conflict(install):
    install("mixed", {"mixed": "mixed"}, {"mixed": """
        from compressrl import PluginEntry, hookimpl

        @hookimpl
        def compressrl_compressors():
            return [PluginEntry("same", "", "a:A")]

        @hookimpl
        def compressrl_profilers():
            return [PluginEntry("same", "", "a:B")]
    """})  # fmt: skip
    registry = Registry(points())
    assert registry.get("compressor", "same").entry.target == "a:A"
    assert registry.get("profiler", "same").entry.target == "a:B"


def test_two_distributions_with_one_entry_point_name_are_refused_naming_both(install):
    install("first-dist", {"shared": "first"}, {"first": compressor("a")}, version="1.2")
    install("second-dist", {"shared": "second"}, {"second": compressor("b")}, version="3.4")
    with pytest.raises(PluginConflictError) as error:
        Registry(points())
    assert "first-dist 1.2 and second-dist 3.4" in str(error.value)
    assert "'shared'" in str(error.value)


@pytest.mark.parametrize(
    ("blocked", "left"),
    [("second-dist", "a"), ("Second_Dist", "a"), ("First.Dist", "b"), ("first-dist", "b")],
)
def test_blocking_a_distribution_resolves_a_conflict(install, blocked, left):
    install("First.Dist", {"shared": "first"}, {"first": compressor("a")})
    install("second-dist", {"shared": "second"}, {"second": compressor("b")})
    names = {e.entry.name for e in Registry(points(), [blocked]).entries("compressor")}
    assert names & {"a", "b"} == {left}


def test_the_environment_variable_blocks_by_entry_point_and_by_distribution(install, monkeypatch):
    install("first-dist", {"one": "first"}, {"first": compressor("a")})
    install("second-dist", {"two": "second"}, {"second": compressor("b")})
    install("third-dist", {"three": "third"}, {"third": compressor("c")})
    monkeypatch.setenv(BLOCK_VARIABLE, "one, third-dist")
    names = {e.entry.name for e in plugins.registry().entries("compressor")}
    assert names & {"a", "b", "c"} == {"b"}


def test_one_thing_that_a_plugin_offers_is_blocked_by_kind_and_name(install, monkeypatch):
    install("first-dist", {"one": "first"}, {"first": compressor("a")})
    monkeypatch.setenv(BLOCK_VARIABLE, "profiler:latency, compressor:energy")
    names = {kind: {e.entry.name for e in plugins.registry().entries(kind)} for kind in plugins.KINDS}
    assert "latency" not in names["profiler"]
    assert {"memory", "energy"} <= names["profiler"]
    assert "a" in names["compressor"]


def test_a_conflict_is_told_in_one_line_and_blocking_mends_it(install, monkeypatch):
    site = install("first-dist", {"one": "first"}, {"first": compressor("same")})
    install("second-dist", {"two": "second"}, {"second": compressor("same")})
    refused = command("list-plugins", PYTHONPATH=str(site))
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("error: Two plugins offer the compressor 'same'")
    assert refused.stderr.count("\n") == 1
    mended = command("list-plugins", "--json", PYTHONPATH=str(site), **{BLOCK_VARIABLE: "two"})
    assert [row["distribution"] for row in json.loads(mended.stdout) if row["name"] == "same"] == [
        "first-dist"
    ]


BROKEN = {
    "missing module": ("no_such_module_anywhere", "", "ModuleNotFoundError"),
    "import error": ("broken", "import no_such_dependency", "No module named 'no_such_dependency'"),
    "exception": ("broken", "raise RuntimeError('first line\\nsecond line')", "first line second line"),
    "exit": ("broken", "import sys; sys.exit('I give up')", "SystemExit: I give up"),
    "syntax": ("broken", "def (", "SyntaxError"),
    "malformed entry point": ("not a module", "", ""),
    "hook with an unknown argument": (
        "broken",
        "import compressrl\n@compressrl.hookimpl\ndef compressrl_compressors(config): return []",
        "Argument(s) {'config'}",
    ),
    "misspelt hook": (
        "broken",
        "import compressrl\n@compressrl.hookimpl\ndef compressrl_compresors(): return []",
        "Did you mean 'compressrl_compressors'",
    ),
    "misspelt specname": (
        "broken",
        "import compressrl\n@compressrl.hookimpl(specname='compressrl_compresors')\ndef mine(): return []",
        "Did you mean 'compressrl_compressors'",
    ),
    "forgotten hookimpl": (
        "broken",
        "def compressrl_compressors(): return []",
        "is @compressrl.hookimpl missing?",
    ),
    "hook that raises": (
        "broken",
        "import compressrl\n@compressrl.hookimpl\ndef compressrl_compressors(): return [1 / 0]",
        "ZeroDivisionError",
    ),
    "strings for entries": (
        "broken",
        "import compressrl\n@compressrl.hookimpl\ndef compressrl_compressors(): return ['qat']",
        "a list of PluginEntry, not of str",
    ),
    "one entry for a list": (
        "broken",
        "from compressrl import PluginEntry as P, hookimpl\n"
        "@hookimpl\ndef compressrl_compressors(): return P('a', '', 'b:C')",
        "'PluginEntry' object is not iterable",
    ),
    "target without colon": ("broken", compressor("a", "module.Class"), "of the form module:Attribute"),
    "name that nobody can type": ("broken", compressor("a+b"), "the name 'a+b'"),
    "one name twice": (
        "broken",
        "from compressrl import PluginEntry as P, hookimpl\n"
        "@hookimpl\ndef compressrl_compressors(): return 2 * [P('a', '', 'b:C')]",
        "declares the compressor 'a' twice",
    ),
}


@pytest.mark.parametrize(("target", "source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_set_aside_with_its_reason(install, target, source, reason):
    install("good", {"good": "good"}, {"good": GOOD})
    install("bad", {"bad": target}, {"broken": source})
    told = broken_reason("bad")
    assert reason in told
    assert "\n" not in told


def test_nothing_of_a_broken_plugin_is_kept(install):
    install("bad", {"bad": "broken"}, {"broken": """
        from compressrl import PluginEntry, hookimpl

        @hookimpl
        def compressrl_algorithms():
            return [PluginEntry("whole", "", "a:A")]

        @hookimpl
        def compressrl_profilers():
            raise RuntimeError

        @hookimpl
        def compressrl_evaluation_finished(report):
            raise RuntimeError
    """})  # fmt: skip
    registry = Registry(points())
    assert "whole" not in [e.entry.name for e in registry.entries()]
    assert registry.evaluation_finished(REPORT) == []


def test_list_plugins_shows_the_broken_one_and_the_rest(install):
    site = install("good", {"good": "good"}, {"good": GOOD})
    install("bad", {"bad": "broken"}, {"broken": "raise RuntimeError('no luck')"}, version="0.3")
    result = command("list-plugins", "--json", PYTHONPATH=str(site))
    assert result.returncode == 0
    rows = json.loads(result.stdout)
    (row,) = [row for row in rows if row["distribution"] == "bad"]
    assert row == {
        "kind": "plugin",
        "name": "bad",
        "summary": "",
        "distribution": "bad",
        "version": "0.3",
        "target": "broken",
        "broken": "RuntimeError: no luck",
    }
    assert {"halve", "sac"} <= {row["name"] for row in rows}


TARGETS = {
    "missing module": ("no_such_module:A", "ModuleNotFoundError"),
    "missing attribute": ("good:Missing", "has no attribute 'Missing'"),
    "exit": ("leaving:A", "SystemExit"),
    "exception": ("failing:A", "ZeroDivisionError"),
    "not a class": ("good:compressrl_compressors", "not a class with a method compress()"),
    "another protocol": ("good:Option", "not a class with a method compress()"),
}


@pytest.mark.parametrize(("target", "reason"), TARGETS.values(), ids=TARGETS)
def test_a_target_that_cannot_be_used_is_named_with_its_owner(install, target, reason):
    modules = {"good": GOOD, "leaving": "raise SystemExit", "failing": "1 / 0"}
    install("bad", {"bad": "declaring"}, modules | {"declaring": compressor("late", target)}, version="0.9")
    with pytest.raises(UsageError) as error:
        plugins.create("compressor", "late")
    assert f"The compressor 'late' of bad 0.9 (plugin 'bad') cannot be loaded from {target!r}" in str(
        error.value
    )
    assert reason in str(error.value)


def test_a_constructor_that_fails_is_named_with_its_owner(install):
    install("bad", {"bad": "bad"}, {"bad": compressor("picky", "bad:Picky") + """
        class Picky:
            def __init__(self):
                import no_such_dependency

            def compress(self, policy, lab):
                return policy
    """})  # fmt: skip
    with pytest.raises(
        CompressrlError, match=r"'picky' of bad 1.0 \(plugin 'bad'\) cannot be made: ModuleNot"
    ):
        plugins.create("compressor", "picky")


def test_every_plugin_hears_of_a_finished_evaluation_and_a_failing_one_is_only_warned_of(install, tmp_path):
    hook = """
        from pathlib import Path
        import compressrl

        @compressrl.hookimpl
        def compressrl_evaluation_finished(report):
            {body}
    """
    heard = tmp_path / "heard"
    install("a-failing", {"a": "a_failing"}, {"a_failing": hook.format(body="raise RuntimeError('oh no')")})
    install("b-leaving", {"b": "b_leaving"}, {"b_leaving": hook.format(body="raise SystemExit(3)")})
    listening = hook.format(body=f"Path({str(heard)!r}).write_text(type(report).__name__)")
    install("c-listening", {"c": "c_listening"}, {"c_listening": listening})
    warnings = Registry(points()).evaluation_finished(REPORT)
    assert warnings == [
        "a-failing 1.0 (plugin 'a') failed on the finished evaluation: RuntimeError: oh no",
        "b-leaving 1.0 (plugin 'b') failed on the finished evaluation: SystemExit: 3",
    ]
    assert heard.read_text() == "object"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("qat", ("qat", {})),
        (" l2 : ratio = 0.5 , rounds=3 ", ("l2", {"ratio": "0.5", "rounds": "3"})),
        ("x:path=a:b=c", ("x", {"path": "a:b=c"})),
        ("x:", ("x", {})),
    ],
)
def test_parse(text, expected):
    assert plugins.parse(text) == expected


@pytest.mark.parametrize("text", ["x:ratio", "x:ratio=1,ratio=2"])
def test_parse_refuses(text):
    with pytest.raises(UsageError, match="ratio"):
        plugins.parse(text)


def test_an_option_of_a_third_party_is_checked(install):
    install("good", {"good": "good"}, {"good": GOOD})
    with pytest.raises(OptionError, match=r"halve: times=0 is out of range; it takes >= 1"):
        plugins.create("compressor", "halve:times=0")
    with pytest.raises(OptionError, match=r"no option 'tmes'.*It takes: times \(>= 1, default 1\)"):
        plugins.create("compressor", "halve:tmes=2")


def test_list_plugins_imports_neither_torch_nor_a_target():
    code = (
        "import json, sys\n"
        "from compressrl.cli import list_plugins\n"
        "list_plugins.list_plugins(name='', as_json=True)\n"
        "print(json.dumps([m for m in sys.modules]), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(result.stderr))
    rows = json.loads(result.stdout)
    assert not loaded & {"torch", "numpy", "gymnasium", "onnxruntime", "scipy", "mujoco"}
    targets = {row["target"].partition(":")[0] for row in rows if "broken" not in row}
    assert "compressrl_algorithms.sac" in targets
    assert not loaded & targets


def core_files() -> list[Path]:
    return sorted(CORE.rglob("*.py"))


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in core_files():
        for node in ast.walk(ast.parse(path.read_text())):
            yield path.relative_to(CORE), node


def test_the_core_imports_no_plugin():
    imported = [
        (path, alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}")
        for path, node in nodes()
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert (Path("pipeline.py"), "compressrl.plugins") in imported
    assert [found for found in imported if found[1].startswith("compressrl_")] == []


def test_the_core_names_no_algorithm_compressor_or_runtime():
    """Except as defaults. The names of profilers are quantities, and `zoo` is a command of its own."""
    kinds = ("algorithm", "compressor", "runtime")
    names = {e.entry.name for kind in kinds for e in Registry(points()).entries(kind)}
    names -= {"torch", "onnx"}  # a package, whose version is reported, and a file format
    assert "sac" in names
    named = [
        (path, node.value)
        for path, node in nodes()
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
    ]
    assert [found for found in named if found[0] != Path("defaults.py")] == []


def test_entries_are_ordered_by_kind_and_name() -> None:
    listed: list[Any] = [(e.kind, e.entry.name) for e in Registry(points()).entries()]
    order = list(plugins.KINDS)
    assert listed == sorted(listed, key=lambda e: (order.index(e[0]), e[1]))


def test_a_policy_source_must_list(install):
    source = """
    from compressrl import PluginEntry, hookimpl

    @hookimpl
    def compressrl_policies():
        return [PluginEntry("attic", "", "attic:Attic")]

    class Attic:
        def find(self, algorithm, env_id):
            return None
    """
    install("attic", {"attic": "attic"}, {"attic": source})
    with pytest.raises(UsageError, match=r"'attic' of attic 1\.0.*not a class with a method list\(\)"):
        plugins.create("policies", "attic")
