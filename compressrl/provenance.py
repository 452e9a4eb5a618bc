"""How a stage writes itself into a policy's provenance."""

from __future__ import annotations

from typing import Any

from compressrl import options


def step(name: str, plugin: Any, *figures: str) -> str:
    """The stage as a user types it, with its non-default options, and what it did: `ptsq (5000 states)`."""
    chosen = [f"{key}={value}" for key, value in options.chosen(plugin).items()]
    typed = f"{name}:{','.join(chosen)}" if chosen else name
    return f"{typed} ({', '.join(figures)})"
