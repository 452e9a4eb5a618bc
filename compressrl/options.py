"""Options of a plugin: the fields of its dataclass, read from `key=value` and checked.

    @dataclass(frozen=True)
    class StructuredPruning:
        ratio: Annotated[float, Option("share of hidden neurons to remove", low=0.05, high=0.95)] = 0.5

One declaration is the command line's `l2:ratio=0.5`, its help, its validation and its documentation.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from compressrl.errors import OptionError

T = TypeVar("T")
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class Option:
    """What a field of a plugin means and which values it takes (`low` and `high` included)."""

    help: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class OptionField:
    """One option of a plugin, as `describe` finds it."""

    name: str
    type: Any  # bool, int, float, str, Literal[...]; the non-None part of an optional
    optional: bool  # takes `none`
    default: Any
    option: Option

    @property
    def allowed(self) -> str:
        """The values it takes, in words: `0.05..0.95`, `finetune or scratch`."""
        if get_origin(self.type) is Literal:
            return " or ".join(map(str, get_args(self.type)))
        low, high = self.option.low, self.option.high
        if low is not None and high is not None:
            return f"{low:g}..{high:g}"
        if low is not None:
            return f">= {low:g}"
        return f"<= {high:g}" if high is not None else self.type.__name__


def describe(plugin: type) -> list[OptionField]:
    """The options of a plugin class, in the order of its fields; [] for a class that is no dataclass."""
    if not dataclasses.is_dataclass(plugin):
        return []
    hints = get_type_hints(plugin, include_extras=True)
    return [_describe(field, hints[field.name]) for field in dataclasses.fields(plugin) if field.init]


def build(plugin: type[T], name: str, values: Mapping[str, Any]) -> T:
    """Construct a plugin from option values (strings, as typed, or Python values).

    Raises OptionError, naming the valid options or values, for an unknown key or a value out of range.
    """
    fields = {field.name: field for field in describe(plugin)}
    unknown = [key for key in values if key not in fields]
    if unknown:
        raise OptionError(f"{name} has no option {unknown[0]!r}. It takes: {_listing(fields.values())}.")
    return plugin(**{key: _value(name, fields[key], value) for key, value in values.items()})


def as_dict(plugin: Any) -> dict[str, Any]:
    """The option values of a constructed plugin."""
    return {field.name: getattr(plugin, field.name) for field in describe(type(plugin))}


def _listing(fields: Any) -> str:
    return ", ".join(f"{f.name} ({f.allowed}, default {f.default})" for f in fields) or "none"


def _describe(field: dataclasses.Field[Any], hint: Any) -> OptionField:
    option = Option("")
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        option = next((e for e in extras if isinstance(e, Option)), option)
    optional = False
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (arg for arg in get_args(hint) if arg is not type(None))
        optional = True
    default = field.default
    if default is dataclasses.MISSING:
        default = None if field.default_factory is dataclasses.MISSING else field.default_factory()
    return OptionField(field.name, hint, optional, default, option)


def _value(plugin: str, field: OptionField, value: Any) -> Any:
    if field.optional and (value is None or str(value).lower() == "none"):
        return None
    try:
        converted = _convert(field.type, value)
    except (ValueError, KeyError, TypeError):
        raise OptionError(f"{plugin}: {field.name}={value} is not valid; it takes {field.allowed}.") from None
    low, high = field.option.low, field.option.high
    # Written so that NaN, which compares false, is refused too.
    if (low is not None and not converted >= low) or (high is not None and not converted <= high):
        raise OptionError(f"{plugin}: {field.name}={value} is out of range; it takes {field.allowed}.")
    return converted


def _convert(target: Any, value: Any) -> Any:
    if get_origin(target) is Literal:
        return {str(choice): choice for choice in get_args(target)}[str(value)]
    if target is bool:
        return value if isinstance(value, bool) else _BOOLEANS[str(value).lower()]
    if target is int and isinstance(value, str):
        return int(value.replace("_", ""))
    return target(value)
