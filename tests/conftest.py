"""Fixtures of all tests: distributions made on disk, so that plugins arrive as they do from anyone."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import settings

from compressrl import plugins

# A job in the background (nohup, `&`) begins with SIGINT ignored, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure.
settings.register_profile("compressrl", deadline=None)
settings.load_profile("compressrl")

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install("x", {"entry": "module"}, {"module": "source"}, version="1.0")` puts one on sys.path.

    importlib.metadata finds it like any installed one. The registry of this process forgets what it knew,
    before and after the test.
    """
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)
    plugins.registry.cache_clear()

    def make(
        name: str, entry_points: Mapping[str, str], modules: Mapping[str, str], version: str = "1.0"
    ) -> Path:
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"{entry} = {target}" for entry, target in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[compressrl]", *lines, ""]))
        for module, source in modules.items():
            (site / f"{module}.py").write_text(dedent(source))
        return site

    yield make
    for module in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]
    plugins.registry.cache_clear()
