"""compressrl: which compressed version of a control policy to deploy, measured honestly.

Everything here is loaded when first used, so that `import compressrl` (and with it every plugin's
declaration) costs no torch and no numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from compressrl.hookspecs import PluginEntry, hookimpl

if TYPE_CHECKING:
    from compressrl.evaluation import evaluate
    from compressrl.interfaces import Algorithm, Compressor, Finding, PolicySource, Profiler, Runtime
    from compressrl.lab import Lab
    from compressrl.measuring.profiling import profile
    from compressrl.options import Option
    from compressrl.pipeline import compress
    from compressrl.policy import Policy
    from compressrl.recommending.recommendation import recommend
    from compressrl.runs import train

__version__ = "0.1.0"

_HOMES = {
    "Algorithm": "interfaces",
    "Compressor": "interfaces",
    "Finding": "interfaces",
    "Lab": "lab",
    "Option": "options",
    "Policy": "policy",
    "PolicySource": "interfaces",
    "Profiler": "interfaces",
    "Runtime": "interfaces",
    "compress": "pipeline",
    "evaluate": "evaluation",
    "profile": "measuring.profiling",
    "recommend": "recommending.recommendation",
    "train": "runs",
}

__all__ = [
    "Algorithm",
    "Compressor",
    "Finding",
    "Lab",
    "Option",
    "PluginEntry",
    "Policy",
    "PolicySource",
    "Profiler",
    "Runtime",
    "compress",
    "evaluate",
    "hookimpl",
    "profile",
    "recommend",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'compressrl' has no attribute {name!r}")
    return getattr(importlib.import_module(f"compressrl.{_HOMES[name]}"), name)
