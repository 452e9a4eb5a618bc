"""The documentation cannot drift: hooks, command line, snippets and links are compared with the code."""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from compressrl import Policy, hookspecs, plugins
from compressrl.testing import tiny_policy

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOOKS = [name for name in vars(hookspecs) if name.startswith("compressrl_")]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_a_heading_with_its_signature(hook: str) -> None:
    signature = str(inspect.signature(getattr(hookspecs, hook))).replace("'", "")
    assert f"### `{hook}{signature}`" in (ROOT / "docs" / "plugins.md").read_text()


def test_every_kind_has_a_hook() -> None:
    assert set(plugins.KINDS.values()) == set(HOOKS) - {"compressrl_evaluation_finished"}


def test_command_line_reference_is_what_the_program_says() -> None:
    render = runpy.run_path(str(ROOT / "docs" / "generate_cli.py"))["render"]
    assert (ROOT / "docs" / "cli.md").read_text() == render(), "run: python docs/generate_cli.py"


def snippets(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize(
    ("hook", "contract", "plugin", "name"),
    [
        ("compressrl_compressors", "CompressorContract", "prune_small", "PruneSmall"),
        ("compressrl_profilers", "ProfilerContract", "preemptions", "Preemptions"),
    ],
)
def test_the_guides_plugins_keep_their_contracts(
    hook: str, contract: str, plugin: str, name: str, tmp_path: Path
) -> None:
    code, tests = (
        next(s for s in snippets(ROOT / "docs" / "plugins.md", "python") if marker in s)
        for marker in (f"def {hook}", "CompressorContract")
    )
    for shown, its in (("CompressorContract", contract), ("prune_small", plugin), ("PruneSmall", name)):
        tests = tests.replace(shown, its)
    (tmp_path / f"{plugin}.py").write_text(code)
    (tmp_path / f"test_{plugin}.py").write_text(tests)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        ".",
    ]
    result = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert re.search(r"\d\d passed", result.stdout)


@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = next(s for s in snippets(ROOT / "README.md", "python") if "compressrl.evaluate(" in s)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=280)


def test_the_readmes_policy_of_stable_baselines3_acts_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    monkeypatch.chdir(tmp_path)
    # Humanoid's actions reach to 0.4, so that a forgotten rescaling shows.
    model = stable_baselines3.SAC("MlpPolicy", "Humanoid-v5", buffer_size=10, seed=0, device="cpu")
    model.save("model.zip")
    code = next(s for s in snippets(ROOT / "README.md", "python") if "stable_baselines3" in s)
    subprocess.run([sys.executable, "-c", code.replace("HalfCheetah", "Humanoid")], check=True, timeout=120)

    observations = np.random.default_rng(0).normal(size=(32, 348)).astype(np.float32)
    expected, _ = model.predict(observations, deterministic=True)
    with torch.no_grad():
        actions = Policy.load("my.policy").network(torch.from_numpy(observations)).numpy()
    np.testing.assert_allclose(actions, expected, atol=1e-6)


@pytest.mark.parametrize("form", ["network", "integer", "graph"])
def test_the_readmes_function_acts(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_policy(form).save("small.policy")
    code = next(s for s in snippets(ROOT / "README.md", "python") if "small.policy" in s)
    for observation, shape in ((np.zeros(3, np.float32), (2,)), (np.zeros((5, 3), np.float32), (5, 2))):
        names = {"observation": observation}
        exec(code, names)
        assert names["action"].shape == shape


def test_the_page_of_the_zoo_is_the_zoo() -> None:
    render = runpy.run_path(str(ROOT / "docs" / "generate_zoo.py"))["render"]
    assert (ROOT / "docs" / "zoo.md").read_text() == render(), "run: python docs/generate_zoo.py"


def test_the_page_of_returns_is_that_of_the_curves_beside_it() -> None:
    page, results = runpy.run_path(str(ROOT / "tests/benchmarks/returns_page.py")), ROOT / "docs/results"
    assert (results / "returns.md").read_text() == page["render"](results, 200_000), "make compare-returns"
    kernel, others = np.array([[1.0, 5, 9]]), np.array([[0.0, 4, 5], [2.0, 4, 7]])
    assert page["within"](kernel, others) == "1 of 3"
