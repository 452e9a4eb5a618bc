"""Installed plugins: entry points -> registry, with provenance.

The core has no list of built-ins; they arrive here by the route that a third party's take. A plugin that
fails to load is set aside with its reason and everything else works; two plugins that claim one name are
refused, naming both owners.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from compressrl import hookspecs
from compressrl.errors import CompressrlError, PluginConflictError, UnknownNameError, UsageError, one_line
from compressrl.hookspecs import PROJECT, PluginEntry

if TYPE_CHECKING:
    from compressrl.records import EvaluationReport

GROUP = "compressrl"
# A plus between stages, not the sign of a number or of its exponent: `l2:ratio=5e-1+ptsq`, `x:limit=1e+3`.
_JOINT = re.compile(r"(?<!=)\+(?!(?<=\d[eE]\+)\d)")
BLOCK_VARIABLE = "COMPRESSRL_BLOCK_PLUGINS"
KINDS = {
    "algorithm": "compressrl_algorithms",
    "compressor": "compressrl_compressors",
    "profiler": "compressrl_profilers",
    "runtime": "compressrl_runtimes",
    "policies": "compressrl_policies",
    "study": "compressrl_studies",
}
# What a target of each kind must be able to do (`compressrl.interfaces`).
METHODS = {
    "algorithm": ("train",),
    "compressor": ("compress",),
    "profiler": ("available", "read"),
    "runtime": ("load",),
    "policies": ("list", "find"),
    "study": ("path",),
}


@dataclass(frozen=True, slots=True)
class Owner:
    """The installed distribution that a plugin came with, and the entry point's name."""

    distribution: str
    version: str
    entry_point: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} (plugin {self.entry_point!r})"


@dataclass(frozen=True, slots=True)
class Registered:
    """An entry of the registry."""

    kind: str
    entry: PluginEntry
    owner: Owner

    def to_json(self) -> dict[str, str]:
        origin = {"distribution": self.owner.distribution, "version": self.owner.version}
        return {"kind": self.kind, **asdict(self.entry), **origin}

    def load(self) -> type[Any]:
        """Import the target. Raises UsageError, naming the plugin, when that fails."""
        module_name, _, attribute = self.entry.target.partition(":")
        try:
            target: type[Any] = getattr(importlib.import_module(module_name), attribute)
            for method in METHODS[self.kind]:
                if not isinstance(target, type) or not hasattr(target, method):
                    raise TypeError(f"it is not a class with a method {method}()")
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"The {self.kind} {self.entry.name!r} of {self.owner} cannot be loaded from "
                f"{self.entry.target!r}: {one_line(error)}."
            ) from error
        return target


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that could not be loaded, and why."""

    target: str
    owner: Owner
    reason: str

    def to_json(self) -> dict[str, str]:
        return {
            "kind": "plugin",
            "name": self.owner.entry_point,
            "summary": "",
            "distribution": self.owner.distribution,
            "version": self.owner.version,
            "target": self.target,
            "broken": self.reason,
        }


class Registry:
    """All entries of all plugins, by kind and name."""

    def __init__(self, points: Iterable[EntryPoint], blocked: Iterable[str] = ()) -> None:
        self.broken: list[Broken] = []
        self._entries: dict[tuple[str, str], Registered] = {}
        self._owners: dict[str, Owner] = {}
        self._hooks: dict[Owner, pluggy.HookRelay] = {}
        self._hidden = {_normalized(name) for name in blocked}
        for point in sorted(points, key=lambda p: (p.name, _owner(p).distribution)):
            owner = _owner(point)
            if not self._hidden & {_normalized(point.name), _normalized(owner.distribution)}:
                self._claim_entry_point(owner)
                self._add(point, owner)

    def entries(self, kind: str | None = None) -> list[Registered]:
        """All entries, or those of one kind, ordered by kind and name."""
        order = list(KINDS)
        found = [e for e in self._entries.values() if kind in (None, e.kind)]
        return sorted(found, key=lambda e: (order.index(e.kind), e.entry.name))

    def get(self, kind: str, name: str) -> Registered:
        """The entry of this kind and name; UnknownNameError suggests the nearest."""
        if (kind, name) in self._entries:
            return self._entries[kind, name]
        hint = ""
        if self.broken:
            reasons = "; ".join(f"{b.owner}: {b.reason}" for b in self.broken)
            hint = f"Not loaded: {reasons}."
        raise UnknownNameError(kind, name, [e.entry.name for e in self.entries(kind)], hint)

    def evaluation_finished(self, report: EvaluationReport) -> list[str]:
        """Call the hook of every plugin; returns one warning for each that raised."""
        warnings = []
        for owner, hooks in self._hooks.items():
            try:
                hooks.compressrl_evaluation_finished(report=report)
            except (Exception, SystemExit) as error:
                warnings.append(f"{owner} failed on the finished evaluation: {one_line(error)}")
        return warnings

    def _claim_entry_point(self, owner: Owner) -> None:
        # pluggy would silently drop the second of two entry points with one name.
        other = self._owners.get(owner.entry_point)
        if other is not None:
            raise PluginConflictError(
                f"Two distributions register the plugin {owner.entry_point!r}: {other.distribution} "
                f"{other.version} and {owner.distribution} {owner.version}. Uninstall one, or block it: "
                f"{BLOCK_VARIABLE}={other.distribution} or {BLOCK_VARIABLE}={owner.distribution}."
            )
        self._owners[owner.entry_point] = owner

    def _add(self, point: EntryPoint, owner: Owner) -> None:
        try:
            hooks = _hooks(point)
            declared = _declared(hooks)
        except (Exception, SystemExit) as error:
            self.broken.append(Broken(point.value, owner, one_line(error)))
            return
        self._hooks[owner] = hooks
        for kind, entry in declared:
            if _normalized(f"{kind}:{entry.name}") not in self._hidden:
                self._claim_name(Registered(kind, entry, owner))

    def _claim_name(self, registered: Registered) -> None:
        key = (registered.kind, registered.entry.name)
        other = self._entries.get(key)
        if other is not None:
            raise PluginConflictError(
                f"Two plugins offer the {registered.kind} {registered.entry.name!r}: {other.owner} and "
                f"{registered.owner}. Uninstall one, or block it: {BLOCK_VARIABLE}={other.owner.entry_point} "
                f"or {BLOCK_VARIABLE}={registered.owner.entry_point}."
            )
        self._entries[key] = registered


@functools.cache
def registry() -> Registry:
    """The registry of this process: all that is installed but what COMPRESSRL_BLOCK_PLUGINS names."""
    blocked = [name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(",")]
    return Registry(entry_points(group=GROUP), blocked)


def split(pipeline: str) -> list[str]:
    """The stages of `name:key=value+name+...`, each as its text."""
    return [part.strip() for part in _JOINT.split(pipeline)]


def parse(text: str) -> tuple[str, dict[str, str]]:
    """Split `name:key=value,key=value` into the name and its option values."""
    name, _, rest = text.partition(":")
    values: dict[str, str] = {}
    for item in filter(None, rest.split(",")):
        key, separator, value = (part.strip() for part in item.partition("="))
        if not separator:
            raise UsageError(f"{text!r}: write options as name:key=value,key=value; {item!r} has no '='.")
        if key in values:
            raise UsageError(f"{text!r}: the option {key!r} is given twice.")
        values[key] = value
    return name.strip(), values


def create(kind: str, text: str) -> Any:
    """Construct the plugin that `name:key=value,...` names; errors name the valid names and options."""
    from compressrl import options

    name, values = parse(text)
    registered = registry().get(kind, name)
    plugin = registered.load()
    try:
        return options.build(plugin, name, values)
    except CompressrlError:
        raise
    except Exception as error:
        raise CompressrlError(
            f"The {kind} {name!r} of {registered.owner} cannot be made: {one_line(error)}."
        ) from error


def _hooks(point: EntryPoint) -> pluggy.HookRelay:
    """The hooks of one plugin, in a manager of its own: what it does wrong reaches no other plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    plugin = point.load()
    known = [name for name in vars(hookspecs) if name.startswith(f"{PROJECT}_")]
    implemented = _implemented_hooks(manager, plugin)
    for hook in implemented:
        # pluggy would accept it, and never call it.
        if hook not in known:
            raise UnknownNameError("hook", hook, known)
    if not implemented:
        raise TypeError("it implements no hook of compressrl.hookspecs (is @compressrl.hookimpl missing?)")
    manager.register(plugin, name=point.name)
    return manager.hook


def _implemented_hooks(manager: pluggy.PluginManager, plugin: object) -> list[str]:
    found = [(name, manager.parse_hookimpl_opts(plugin, name)) for name in dir(plugin)]
    return [options.get("specname") or name for name, options in found if options is not None]


def _declared(hooks: pluggy.HookRelay) -> list[tuple[str, PluginEntry]]:
    """Everything that one plugin offers: (kind, entry)."""
    found: list[tuple[str, PluginEntry]] = []
    for kind, hook in KINDS.items():
        for entries in getattr(hooks, hook)():
            found += [(kind, _checked(entry, hook)) for entry in entries]
    names = [(kind, entry.name) for kind, entry in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"it declares the {twice[0]} {twice[1]!r} twice")
    return found


def _checked(entry: Any, hook: str) -> PluginEntry:
    if not isinstance(entry, PluginEntry):
        raise TypeError(f"{hook} must return a list of PluginEntry, not of {type(entry).__name__}")
    if not re.fullmatch(r"\w[\w.-]*", entry.name):
        raise ValueError(f"the name {entry.name!r} can hold letters, digits, '_', '.' and '-' only")
    if not re.fullmatch(r"[\w.]+:\w+", entry.target):
        raise ValueError(f"the target {entry.target!r} of {entry.name!r} is not of the form module:Attribute")
    return entry


def _owner(point: EntryPoint) -> Owner:
    dist = point.dist
    return Owner((dist and dist.name) or "unknown", (dist and dist.version) or "", point.name)


def _normalized(name: str) -> str:
    """A name as package indexes compare it: my_plugin, My-Plugin and my.plugin are one (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
