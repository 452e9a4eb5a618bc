"""The key of a cell: the same content has the same key, in any study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

import compressrl
from compressrl import plugins
from compressrl.policy import Policy
from compressrl.study.grid import Cell

LENGTH = 16


def of(cell: Cell, policy_sha256: str, versions: Mapping[str, str]) -> str:
    """16 hex digits of the cell, the policy's content (not its place) and the versions that take part."""
    content = {**asdict(cell), "policy": policy_sha256, "versions": dict(versions)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:LENGTH]


def policy_sha256(policy: Policy) -> str:
    """Hash of the policy's file."""
    return hashlib.sha256(policy.to_bytes()).hexdigest()


def versions(algorithm: str, compressor: str, runtime: str) -> dict[str, str]:
    """Versions of compressrl and of the distributions whose plugins such a cell uses.

    Every installed profiler measures in a cell, so every one counts.
    """
    named = [("compressor", stage) for stage in plugins.split(compressor) if stage]
    named += [("runtime", runtime)]
    used = [plugins.registry().get(kind, plugins.parse(text)[0]) for kind, text in named]
    used += plugins.registry().entries("profiler")
    learnt_by = plugins.parse(algorithm)[0] if algorithm else ""
    used += [e for e in plugins.registry().entries("algorithm") if e.entry.name == learnt_by]
    found = {registered.owner.distribution: registered.owner.version for registered in used}
    return {"compressrl": compressrl.__version__, **dict(sorted(found.items()))}
