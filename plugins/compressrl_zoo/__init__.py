"""The zoo: trained policies that ship with the package, as a policy source."""

from __future__ import annotations

from compressrl import PluginEntry, hookimpl


@hookimpl
def compressrl_policies() -> list[PluginEntry]:
    return [PluginEntry("zoo", "trained policies that ship with compressrl", "compressrl_zoo.zoo:Zoo")]
