"""Everything that a plugin can add to compressrl. Implement what you need with `@compressrl.hookimpl`.

A plugin is an importable module that an installed distribution names in the entry-point group `compressrl`:

    [project.entry-points.compressrl]
    my-plugin = "my_package"

The module declares and nothing else: it must not import torch, so that `compressrl list-plugins` stays
instant. What an entry's `target` names is imported only when a user chooses that entry.
A complete example is `examples/third_party_compressor/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from compressrl.records import EvaluationReport

PROJECT = "compressrl"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, slots=True)
class PluginEntry:
    """One thing that a plugin offers.

    name:    what the user types, e.g. `qat`; unique within its kind, over all installed plugins
    summary: one line for `compressrl list-plugins`
    target:  `package.module:Attribute`; a class of the kind's protocol in `compressrl.interfaces`,
             imported when chosen. If it is a dataclass, its fields are the options of the command line.
    """

    name: str
    summary: str
    target: str


@hookspec
def compressrl_algorithms() -> list[PluginEntry]:  # type: ignore[empty-body]
    """Learning algorithms (`interfaces.Algorithm`). Called once, when the registry is built."""


@hookspec
def compressrl_compressors() -> list[PluginEntry]:  # type: ignore[empty-body]
    """Compressors (`interfaces.Compressor`): stages of a pipeline. Called once, like the rest."""


@hookspec
def compressrl_profilers() -> list[PluginEntry]:  # type: ignore[empty-body]
    """Profilers (`interfaces.Profiler`): what is read while a policy runs."""


@hookspec
def compressrl_runtimes() -> list[PluginEntry]:  # type: ignore[empty-body]
    """Runtimes (`interfaces.Runtime`): what executes a policy's forward pass."""


@hookspec
def compressrl_policies() -> list[PluginEntry]:  # type: ignore[empty-body]
    """Sources of trained policies (`interfaces.PolicySource`), searched before anything is trained."""


@hookspec
def compressrl_studies() -> list[PluginEntry]:  # type: ignore[empty-body]
    """Studies that ship with a plugin (`interfaces.StudySource`): `compressrl study run NAME`."""


@hookspec
def compressrl_evaluation_finished(report: EvaluationReport) -> None:
    """Called after every evaluation with its complete report, before anything is printed.

    An exception here is reported as a warning that names the plugin; the evaluation stands.
    """
