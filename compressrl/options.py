"""Options of a plugin: the fields of its dataclass, read from `key=value` and checked.

    @dataclass(frozen=True)
    class StructuredPruning:
        ratio: Annotated[float, Option("share of hidden neurons to remove", low=0.05, high=0.95)] = 0.5

One declaration is the command line's `l2:ratio=0.5`, its help, its validation and its documentation.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import operator
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from compressrl.errors import OptionError

T = TypeVar("T")
LARGEST = 2**53  # whole numbers beyond are not exact where they are written as 1e19
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
    required: bool = False  # has no default

    @property
    def allowed(self) -> str:
        """The values it takes, in words: `0.05..0.95`, `finetune or scratch`, `>= 1 or none`."""
        return f"{self._range} or none" if self.optional else self._range

    @property
    def _range(self) -> str:
        if self.type is bool:
            return "true or false"
        if get_origin(self.type) is Literal:
            return " or ".join(map(str, get_args(self.type)))
        low, high = self.option.low, self.option.high
        if low is not None and high is not None:
            return f"{low:g}..{high:g}"
        if low is not None:
            return f">= {low:g}"
        return f"<= {high:g}" if high is not None else getattr(self.type, "__name__", str(self.type))


def describe(plugin: type) -> list[OptionField]:
    """The options of a plugin class, in the order of its fields; [] for a class that is no dataclass."""
    if not dataclasses.is_dataclass(plugin):
        return []
    hints = get_type_hints(plugin, include_extras=True)
    return [_describe(field, hints[field.name]) for field in dataclasses.fields(plugin) if field.init]


def build(plugin: type[T], name: str, values: Mapping[str, Any]) -> T:
    """Construct a plugin from option values (strings, as typed, or Python values).

    Raises OptionError, naming the valid options or values, for an unknown or missing key, a value out of
    range, or a ValueError of the plugin's own (options that do not go together).
    """
    fields = {field.name: field for field in describe(plugin)}
    unknown = [key for key in values if key not in fields]
    if unknown:
        close = difflib.get_close_matches(unknown[0], fields, n=1, cutoff=0.5)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        listing = _listing(fields.values())
        raise OptionError(f"{name} has no option {unknown[0]!r}.{meant} It takes: {listing}.")
    missing = [field for field in fields.values() if field.required and field.name not in values]
    if missing:
        raise OptionError(f"{name} needs the option {missing[0].name} ({missing[0].allowed}).")
    converted = {key: _value(name, fields[key], value) for key, value in values.items()}
    try:
        return plugin(**converted)
    except ValueError as error:
        raise OptionError(f"{name}: {error}") from error


def as_dict(plugin: Any) -> dict[str, Any]:
    """The option values of a constructed plugin."""
    return {field.name: getattr(plugin, field.name) for field in describe(type(plugin))}


def chosen(plugin: Any) -> dict[str, Any]:
    """The options of a constructed plugin that are not at their defaults."""
    return {f.name: value for f in describe(type(plugin)) if (value := getattr(plugin, f.name)) != f.default}


def refuse_chosen(plugin: Any, unused: Iterable[str], because: str) -> None:
    """Raises OptionError where one of these options, which have no effect, is not at its default."""
    chosen_in_vain = sorted(chosen(plugin).keys() & set(unused))
    if chosen_in_vain:
        raise OptionError(f"{because}; leave {', '.join(chosen_in_vain)} out.")


def _listing(fields: Any) -> str:
    words = [f"{f.name} ({f.allowed}{'' if f.required else f', default {f.default}'})" for f in fields]
    return ", ".join(words) or "none"


def _describe(field: dataclasses.Field[Any], hint: Any) -> OptionField:
    hint, option = _unwrapped(hint, Option(""))
    optional = False
    if get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
        optional = True
        # `Annotated[int, Option(...)] | None` and `Annotated[int | None, Option(...)]` say the same.
        rest = tuple(arg for arg in get_args(hint) if arg is not type(None))
        hint, option = _unwrapped(rest[0] if len(rest) == 1 else hint, option)
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    default = None if required else field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return OptionField(field.name, hint, optional, default, option, required)


def _unwrapped(hint: Any, option: Option) -> tuple[Any, Option]:
    """The type inside Annotated, and the Option beside it."""
    if get_origin(hint) is not Annotated:
        return hint, option
    inner, *extras = get_args(hint)
    return inner, next((e for e in extras if isinstance(e, Option)), option)


def _value(plugin: str, field: OptionField, value: Any) -> Any:
    if field.optional and (value is None or str(value).lower() == "none"):
        return None
    try:
        converted = _convert(field.type, value)
    except (ValueError, KeyError, TypeError, OverflowError):
        raise OptionError(f"{plugin}: {field.name}={value} is not valid; it takes {field.allowed}.") from None
    if field.type is int and abs(converted) > LARGEST:
        raise OptionError(f"{plugin}: {field.name}={value} is too large a number.")
    low, high = field.option.low, field.option.high
    if (low is not None and converted < low) or (high is not None and converted > high):
        raise OptionError(f"{plugin}: {field.name}={value} is out of range; it takes {field.allowed}.")
    return converted


def _convert(target: Any, value: Any) -> Any:
    if get_origin(target) is Literal:
        return {str(choice): choice for choice in get_args(target)}[str(value)]
    if target is bool:
        return value if isinstance(value, bool) else _BOOLEANS[str(value).lower()]
    if target is int:
        return whole_number(value)
    if target is float:
        return _number(value)
    if target is str and value is not None:
        return str(value)
    if isinstance(value, str) or value is None:
        raise TypeError("this type is not written as text")
    return value


def whole_number(value: Any) -> int:
    """12, "12", "1_000" or "1e6"; ValueError for 1.5, which is refused rather than rounded."""
    try:
        return operator.index(value) if not isinstance(value, str) else int(value)
    except (ValueError, TypeError):
        number = float(value)
        if not number.is_integer():
            raise
        return int(number)


def _number(value: Any) -> float:
    number = float(value)
    if math.isnan(number):
        raise ValueError("not a number")
    return number
