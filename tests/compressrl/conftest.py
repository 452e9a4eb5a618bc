"""For tests of studies: tiny policies, and a compressor that notes every cell it runs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressrl import files, plugins
from compressrl.study import definition, planning
from compressrl.study.store import Store
from compressrl.testing import tiny_policy

NOTING = """
    import os, signal, time
    from dataclasses import dataclass
    from pathlib import Path
    from typing import Annotated
    from compressrl import Option, PluginEntry, hookimpl

    @dataclass(frozen=True)
    class Noting:
        seconds: Annotated[float, Option("how long it takes", low=0)] = 0.0
        deaths: Annotated[int, Option("how often its process dies of it", low=0)] = 0
        fails: Annotated[bool, Option("while there is a file `broken`")] = False

        def compress(self, policy, lab):
            log = Path(os.environ["NOTING_LOG"])
            with log.open("a") as file:
                print(lab.baseline.provenance, lab.seed, self, file=file)
            time.sleep(self.seconds)
            if len(log.read_text().splitlines()) <= self.deaths:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fails and (log.parent / "broken").exists():
                raise ValueError("no way")
            return policy.with_network(policy.network, "noted")

    @hookimpl
    def compressrl_compressors():
        return [PluginEntry("noting", "notes that it ran", "noting:Noting")]
"""


@pytest.fixture
def log(tmp_path, install, monkeypatch):
    """The file in which `noting` writes a line for every cell, in whatever process. No profilers."""
    monkeypatch.setenv("NOTING_LOG", str(tmp_path / "log.txt"))
    monkeypatch.setenv(plugins.BLOCK_VARIABLE, "profilers")
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
    install("noting", {"noting": "noting"}, {"noting": NOTING})
    return tmp_path / "log.txt"


@pytest.fixture
def policies(tmp_path) -> list[Path]:
    paths = [tmp_path / f"tiny{seed}.policy" for seed in range(2)]
    for seed, path in enumerate(paths):
        tiny_policy(seed=seed).save(path)
    return paths


@pytest.fixture
def write(tmp_path, policies):
    """`write(compressors=["noting"], repeats=2)` -> the path of such a study of two tiny policies."""

    def make(name: str = "small", **settings) -> Path:
        settings = {"policies": [path.name for path in policies], "episodes": 2, **settings}
        path = tmp_path / f"{name}.toml"
        path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in settings.items()))
        return path

    return make


def _toml(value) -> str:
    return str(value).replace("'", '"')


@pytest.fixture
def prepare(tmp_path, log, write):
    """`prepare(compressors=[...])` -> the store of such a study, and its jobs."""

    def make(name: str = "small", **settings):
        path = write(name, **settings)
        study = definition.read(path)
        store = Store(tmp_path / f"{name}_study")
        store.create(study, path.read_text())
        return store, planning.plan(study).jobs

    return make
