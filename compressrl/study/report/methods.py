"""The compressed versions of a study, by names that are short enough for a table.

A sweep is a set of pipelines that differ in one numeric option (`l1:ratio=0.05`, `l1:ratio=0.10`, ...): they
share a `family`, and the option's value is their `level`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from compressrl import plugins

SWEPT = "…"


@dataclass(frozen=True)
class Method:
    """A pipeline in a runtime.

    compressor: the pipeline as it is typed; "" is the baseline against itself
    label:      unique in the study: the stages' names and the level, or the whole pipeline
    family:     label of the sweep that it belongs to, else its own label
    level:      value of the option that is swept, else None
    """

    compressor: str
    runtime: str
    label: str
    family: str
    level: float | None = None

    @property
    def name(self) -> str:
        """The stages without their options, `l1` or `ptsq+distill`: what a reference names."""
        return _bare(self.compressor)

    @property
    def is_baseline(self) -> bool:
        return not self.compressor


def methods(pairs: Iterable[tuple[str, str]]) -> list[Method]:
    """One method for each different (compressor, runtime), in their order."""
    unique = list(dict.fromkeys(pairs))
    compressors = list(dict.fromkeys(compressor for compressor, _ in unique))
    runtimes = {runtime for _, runtime in unique}
    sweeps = _sweeps(compressors)
    families = _short({text: sweeps[text][0] if text in sweeps else text for text in compressors})
    found = []
    for compressor, runtime in unique:
        suffix = f" · {runtime}" if len(runtimes) > 1 else ""
        level = sweeps[compressor][1] if compressor in sweeps else None
        family = families[compressor]
        label = family if level is None else f"{family} {level:g}"
        label = compressor if SWEPT in label else label
        found.append(Method(compressor, runtime, label + suffix, family + suffix, level))
    return found


def _short(families: dict[str, str]) -> dict[str, str]:
    """Compressor -> the bare names of its stages, where no other family has the same; else its family."""
    owners = Counter(_bare(family) for family in set(families.values()))
    short = {}
    for text, family in families.items():
        bare = _bare(family)
        short[text] = (bare if owners[bare] == 1 else family) or "baseline"
    return short


def _bare(compressor: str) -> str:
    return "+".join(plugins.parse(stage)[0] for stage in plugins.split(compressor))


def _sweeps(compressors: Sequence[str]) -> dict[str, tuple[str, float]]:
    """Compressor -> (family, level), for those that differ from another one in a single number."""
    members: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for text in compressors:
        for family, level in _without_each_number(text):
            members[family].append((text, level))
    found: dict[str, tuple[str, float]] = {}
    for family, sweep in sorted(members.items(), key=lambda item: -len(item[1])):
        if len(sweep) > 1:
            for text, level in sweep:
                found.setdefault(text, (family, level))
    return found


def _without_each_number(text: str) -> Iterator[tuple[str, float]]:
    """For every numeric option: the pipeline with SWEPT in its place, and its value."""
    stages = [plugins.parse(stage) for stage in plugins.split(text)]
    for place, (_, options) in enumerate(stages):
        for key, value in options.items():
            try:
                level = float(value)
            except ValueError:
                continue
            changed = [(n, {**o, key: SWEPT} if i == place else o) for i, (n, o) in enumerate(stages)]
            yield "+".join(_typed(name, chosen) for name, chosen in changed), level


def _typed(name: str, options: dict[str, str]) -> str:
    return f"{name}:{','.join(f'{key}={value}' for key, value in options.items())}" if options else name
