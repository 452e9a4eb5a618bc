"""For authors of plugins: contract tests to inherit, a tiny environment, tiny policies.

    from compressrl.testing import CompressorContract
    from my_package import MyCompressor

    class TestMyCompressor(CompressorContract):
        plugin = MyCompressor

pytest collects a dozen tests from these two lines. Every fixture and attribute of a contract can be
overridden. Importing this package registers the environment `compressrl.testing:Tiny-v0`, which any
command and `gymnasium.make` accept; only the contracts need pytest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from compressrl.testing.algorithm_contract import AlgorithmContract
    from compressrl.testing.algorithms import RandomSearch
    from compressrl.testing.compressor_contract import CompressorContract
    from compressrl.testing.environments import TINY, TinyEnv
    from compressrl.testing.policies import tiny_policy
    from compressrl.testing.profiler_contract import ProfilerContract
    from compressrl.testing.runtime_contract import RuntimeContract
    from compressrl.testing.runtimes import ReferenceRuntime

_HOMES = {
    "AlgorithmContract": "algorithm_contract",
    "CompressorContract": "compressor_contract",
    "RandomSearch": "algorithms",
    "ProfilerContract": "profiler_contract",
    "ReferenceRuntime": "runtimes",
    "RuntimeContract": "runtime_contract",
    "TINY": "environments",
    "TinyEnv": "environments",
    "tiny_policy": "policies",
}

__all__ = [
    "TINY",
    "AlgorithmContract",
    "CompressorContract",
    "ProfilerContract",
    "RandomSearch",
    "ReferenceRuntime",
    "RuntimeContract",
    "TinyEnv",
    "tiny_policy",
]

gymnasium.register("Tiny-v0", "compressrl.testing.environments:TinyEnv", max_episode_steps=25)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compressrl.testing' has no attribute {name!r}")
    home = f"{__name__}.{_HOMES[name]}"
    if home.endswith("_contract"):
        import pytest

        # Before the first import: without it a failed assertion in a contract would show no values.
        pytest.register_assert_rewrite(home)
    globals()[name] = value = getattr(importlib.import_module(home), name)
    return value
