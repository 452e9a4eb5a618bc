"""A study's TOML file; what is wrong in it is said with the line."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressrl import defaults, environments, pipeline, plugins
from compressrl.errors import UnknownNameError, UsageError
from compressrl.policy import Policy
from compressrl.study import ranges
from compressrl.study.grid import Study, Subject

LISTS = ("algorithms", "environments", "policies", "compressors", "runtimes", "profilers")
COUNTS = ("repeats", "episodes", "training_steps")
TEXTS = ("name", "reference")
SETTINGS = (*TEXTS, *LISTS, *COUNTS)
TABLES = ("quick", "seconds")


def find(name: str) -> Path:
    """The TOML file that a person means: a path that ends in .toml, or the name of an installed study."""
    if name.endswith(".toml"):
        return Path(name)
    source: Path = plugins.create("study", name).path()
    return source


def read(path: Path, *, quick: bool = False) -> Study:
    """The study of a TOML file, with its `[quick]` table laid over it where `quick`.

    Raises UsageError, naming file and line: not TOML, unknown keys, values of a wrong type, impossible
    ranges, and plugins, options, environments or files that are not there.
    """
    try:
        text = path.read_text()
        document = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}.") from error
    return _Reader(path, text, document, quick).study()


@dataclass(frozen=True)
class _Reader:
    path: Path
    text: str
    document: dict[str, Any]
    quick: bool

    def study(self) -> Study:
        self._check_keys(self.document, (*SETTINGS, *TABLES), "")
        self._check_keys(self._table("quick"), SETTINGS, "quick")
        if self.quick and not self._table("quick"):
            raise UsageError(f"{self.path} has no [quick] table, so there is no --quick of it.")
        name = self._text("name") or self.path.stem
        study = Study(
            name=f"{name}-quick" if self.quick else name,
            subjects=tuple(self._subjects()),
            compressors=self._compressors(),
            runtimes=tuple(self._list("runtimes", _make("runtime")) or [defaults.RUNTIME]),
            repeats=self._count("repeats", 1),
            episodes=self._count("episodes", defaults.EPISODES),
            profilers=tuple(self._list("profilers", _make("profiler"))),
            training_steps=self._count("training_steps", defaults.TRAINING_STEPS),
            seconds=self._seconds(),
            reference=self._reference(),
        )
        if not study.subjects:
            raise UsageError(
                f"{self.path} names no policy: give algorithms and environments, or policies (files)."
            )
        return study

    def _subjects(self) -> list[Subject]:
        algorithms = self._list("algorithms", _make("algorithm"))
        found = [
            Subject(algorithm, env_id)
            for env_id in self._list("environments", lambda env_id: environments.make(env_id).close())
            for algorithm in algorithms
        ]
        for name in self._list("policies", lambda name: Policy.load(self.path.parent / name)):
            path = (self.path.parent / name).resolve()
            policy = Policy.load(path)
            found.append(Subject(policy.algorithm or path.stem, policy.env_id, str(path)))
        return found

    def _compressors(self) -> tuple[str, ...]:
        expanded = [""]  # the noise floor of all others
        for text in self._list("compressors", ranges.expand):
            pipelines = ranges.expand(text)
            for one in pipelines:
                self._checked("compressors", text, functools.partial(pipeline.parse, one))
            expanded += pipelines
        return tuple(dict.fromkeys(expanded))

    def _seconds(self) -> dict[str, float]:
        table = self._table("seconds")
        for key, value in table.items():
            if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
                self._refuse("seconds", f"{key} = {value!r} is no number of seconds.", key)
        return {key: float(value) for key, value in table.items()}

    def _reference(self) -> str:
        name = self._text("reference")
        path = (self.path.parent / name).resolve()
        if name and not path.is_file():
            self._refuse("reference", f"the file {path} does not exist.", name)
        return str(path) if name else ""

    def _value(self, key: str) -> Any:
        over = self._table("quick") if self.quick else {}
        return over.get(key, self.document.get(key))

    def _table(self, key: str) -> dict[str, Any]:
        table = self.document.get(key, {})
        if not isinstance(table, dict):
            self._refuse(key, f"write it as a table: [{key}].")
        return table  # type: ignore[no-any-return]

    def _text(self, key: str) -> str:
        value = self._value(key)
        if value is not None and not isinstance(value, str):
            self._refuse(key, "it takes a text in quotes.")
        return value or ""

    def _count(self, key: str, default: int) -> int:
        value = self._value(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self._refuse(key, f"{value!r} is no whole number of at least 1.")
        return int(value)

    def _list(self, key: str, check: Callable[[str], object]) -> Sequence[str]:
        values = self._value(key)
        if values is None:
            return []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            self._refuse(key, 'it takes a list of texts: ["...", "..."].')
        for value in values:
            self._checked(key, value, functools.partial(check, value))
        return list(dict.fromkeys(values))

    def _checked(self, key: str, value: str, check: Callable[[], object]) -> None:
        try:
            check()
        except UsageError as error:
            self._refuse(key, str(error), value)

    def _check_keys(self, table: dict[str, Any], known: Sequence[str], where: str) -> None:
        for key in table:
            if key not in known:
                error = UnknownNameError("key", key, known)
                raise UsageError(f"{self.path}:{self._line(key, where)}: {error}")

    def _refuse(self, key: str, message: str, value: str = "") -> None:
        quick = self.document.get("quick")  # which may be what is refused
        where = "quick" if self.quick and isinstance(quick, dict) and key in quick else ""
        where = key if key in TABLES else where
        raise UsageError(f"{self.path}:{self._line(key, where, value)}: {key}: {message}")

    def _line(self, key: str, table: str, value: str = "") -> int:
        """Line of the key in that table, or of this text after it; tomllib does not tell."""
        lines = self.text.splitlines()
        start = _first(lines, rf"\s*\[\s*{table}\s*\]", 0) if table else 0
        start = _first(lines, rf"""\s*\[?\s*["']?{re.escape(key)}\b""", start)
        return _first(lines, rf".*{re.escape(value)}", start) + 1 if value else start + 1


def _first(lines: Sequence[str], pattern: str, start: int) -> int:
    """Index of the first line from `start` on that begins with the pattern; `start` where none does."""
    found = (index for index in range(start, len(lines)) if re.match(pattern, lines[index]))
    return next(found, start)


def _make(kind: str) -> Callable[[str], object]:
    return lambda text: plugins.create(kind, text)
