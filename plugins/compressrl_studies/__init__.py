"""Studies that ship with the package."""

from __future__ import annotations

from compressrl import PluginEntry, hookimpl


@hookimpl
def compressrl_studies() -> list[PluginEntry]:
    return [
        PluginEntry(
            "paper", "the grid of arXiv 2407.04803, with its methods", "compressrl_studies.built_in:Paper"
        ),
        PluginEntry(
            "recovered", "the same grid with pipelines that recover", "compressrl_studies.built_in:Recovered"
        ),
    ]
