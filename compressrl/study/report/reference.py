"""Published results that a study is compared with: data, which the study brings along as a JSON file.

name, citation, url, protocol, figures   words
environments   name without version -> id that was used, {"Ant": "Ant-v4"}
kept_share     share of the return that a policy must keep to count as alive
tables         returns: algorithm -> environment -> {"baseline": 1.0, method: 2.0}
               levels:  algorithm -> environment -> {"baseline": 1.0, "kept": 0.9, method: highest level}
               best:    algorithm -> environment -> "method:level"
               each as {"title", "note", "values"}
claims         see `compressrl.study.report.verdicts`

A method is named by its stages without options, `l1` or `ptsq+distill`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressrl.errors import UsageError


@dataclass(frozen=True)
class ReferenceTable:
    """A published table: algorithm -> environment without version -> what stands there."""

    title: str
    note: str
    values: Mapping[str, Mapping[str, Any]]

    def at(self, algorithm: str, env_id: str) -> Any:
        """What stands there for this environment, whatever its version; {} where nothing does."""
        return self.values.get(algorithm, {}).get(unversioned(env_id), {})


@dataclass(frozen=True)
class Reference:
    """See the module; `Reference()` is that of a study which is compared with nothing."""

    name: str = ""
    citation: str = ""
    url: str = ""
    protocol: str = ""
    figures: str = ""
    kept_share: float = 0.9
    environments: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, ReferenceTable] = field(default_factory=dict)
    claims: tuple[Mapping[str, Any], ...] = ()

    def table(self, kind: str, title: str) -> ReferenceTable:
        """The published table of this kind; where there is none, an empty one of this title."""
        return self.tables.get(kind) or ReferenceTable(title, "", {})

    def other_versions(self, env_ids: list[str]) -> dict[str, str]:
        """Our environment id -> theirs, where the same environment has another version."""
        theirs = {env_id: self.environments.get(unversioned(env_id), env_id) for env_id in env_ids}
        return {ours: their for ours, their in theirs.items() if ours != their}


def unversioned(env_id: str) -> str:
    """`Ant` of `Ant-v5`."""
    return re.sub(r"-v\d+$", "", env_id)


def load(path: Path) -> Reference:
    """Read the file. Raises UsageError where it is no reference."""
    try:
        document = json.loads(path.read_text())
        tables = {kind: ReferenceTable(**table) for kind, table in document.pop("tables", {}).items()}
        return Reference(**{**document, "tables": tables, "claims": tuple(document.pop("claims", ()))})
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no file of published results: {error}.") from error
