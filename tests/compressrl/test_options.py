"""Options: what a user types, checked against the fields of a dataclass."""

from __future__ import annotations

import math
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressrl import options
from compressrl.errors import OptionError
from compressrl.options import Option


@dataclass(frozen=True)
class Example:
    """One field of each type."""

    ratio: Annotated[float, Option("a share", low=0.05, high=0.95)] = 0.5
    steps: Annotated[int, Option("a count", low=1)] = 10
    below: Annotated[float, Option("a bound", high=3)] = 1.0
    free: Annotated[float, Option("any number")] = 0.0
    mode: Annotated[Literal["finetune", "scratch"], Option("a choice")] = "finetune"
    bits: Annotated[Literal[4, 8], Option("another choice")] = 8
    fast: Annotated[bool, Option("a switch")] = False
    label: Annotated[str, Option("a text")] = ""
    limit: Annotated[int | None, Option("an optional count", low=0)] = None
    inner: Annotated[float, Option("Annotated inside", low=0)] | None = None
    plain: int = 3
    made: list[int] = field(default_factory=lambda: [1])
    hidden: int = field(init=False, default=0)


FIELDS = {f.name: f for f in options.describe(Example)}
PLAIN_TEXT = st.text(string.ascii_letters + string.digits + "_-. ")


def build(**values: Any) -> Example:
    return options.build(Example, "example", values)


@given(
    ratio=st.floats(0.05, 0.95),
    steps=st.integers(1, 10**12),
    below=st.floats(max_value=3, allow_nan=False),
    free=st.floats(allow_nan=False),
    mode=st.sampled_from(["finetune", "scratch"]),
    bits=st.sampled_from([4, 8]),
    fast=st.booleans(),
    label=PLAIN_TEXT,
    limit=st.none() | st.integers(0, 2**53),
    inner=st.none() | st.floats(min_value=0, allow_nan=False),
)
def test_every_value_in_range_comes_back_from_its_text(**values):
    typed = {key: str(value) for key, value in values.items()}
    for built in (build(**typed), build(**values)):
        found = options.as_dict(built)
        assert {key: found[key] for key in values} == values
        assert {key: type(found[key]) for key in values} == {
            key: type(value) for key, value in values.items()
        }


def test_both_ends_belong_to_the_range():
    assert (build(ratio="0.05").ratio, build(ratio="0.95").ratio, build(below="3").below) == (0.05, 0.95, 3)


def test_defaults_are_kept():
    assert build() == Example()
    assert "hidden" not in FIELDS
    assert FIELDS["made"].default == [1]


@given(st.floats().filter(lambda x: not 0.05 <= x <= 0.95))
def test_a_value_out_of_range_is_refused_nan_and_infinity_too(value):
    with pytest.raises(OptionError, match=r"it takes 0.05..0.95"):
        build(ratio=str(value))
    with pytest.raises(OptionError, match=r"it takes 0.05..0.95"):
        build(ratio=value)


@pytest.mark.parametrize("name", ["ratio", "below", "free", "inner"])
def test_nan_is_never_a_value(name):
    with pytest.raises(OptionError):
        build(**{name: "nan"})
    with pytest.raises(OptionError):
        build(**{name: math.nan})


@pytest.mark.parametrize(
    ("typed", "value"), [("1e6", 10**6), ("1_000", 1000), ("+7", 7), ("2.0", 2), (5.0, 5), ("1e15", 10**15)]
)
def test_whole_numbers_as_people_write_them(typed, value):
    assert build(steps=typed).steps == value
    assert type(build(steps=typed).steps) is int


@pytest.mark.parametrize("typed", ["1.5", 1.5, "1e-3", "inf", "nan", "", "ten", None, "0x10", "1e400"])
def test_what_is_no_whole_number_is_refused_not_rounded(typed):
    with pytest.raises(OptionError, match=r"steps=.* it takes >= 1"):
        build(steps=typed)


@pytest.mark.parametrize("typed", ["1e19", 2**53 + 1, "99999999999999999999"])
def test_a_number_that_no_computer_counts_to_is_refused(typed):
    with pytest.raises(OptionError, match=rf"steps={typed} is too large a number\.$"):
        build(steps=typed)


def outcome(name: str, typed: str) -> Any:
    """What an option becomes, or the message of its refusal."""
    try:
        return getattr(build(**{name: typed}), name)
    except OptionError as error:
        return str(error)


@given(st.text())
def test_any_text_gives_a_value_or_an_option_error(typed):
    assert isinstance(outcome("ratio", typed), float) or "example: ratio=" in outcome("ratio", typed)
    for name in ("steps", "free", "limit", "fast", "bits", "mode", "inner"):
        assert outcome(name, typed) != typed or typed in ("finetune", "scratch")


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("true", True),
        ("True", True),
        ("1", True),
        ("yes", True),
        ("FALSE", False),
        ("0", False),
        (True, True),
    ],
)
def test_switches(typed, value):
    assert build(fast=typed).fast is value


def test_a_switch_takes_nothing_else():
    with pytest.raises(OptionError, match=r"fast=maybe is not valid; it takes true or false"):
        build(fast="maybe")


def test_choices_keep_their_type():
    assert build(bits="4").bits == 4
    with pytest.raises(OptionError, match=r"bits=5 is not valid; it takes 4 or 8"):
        build(bits="5")
    with pytest.raises(OptionError, match="it takes finetune or scratch"):
        build(mode="Scratch")


@pytest.mark.parametrize("name", ["limit", "inner"])
def test_optional_values(name):
    assert getattr(build(**{name: "none"}), name) is None
    assert getattr(build(**{name: "None"}), name) is None
    assert getattr(build(**{name: "4"}), name) == 4
    with pytest.raises(OptionError, match=r"-1 is out of range; it takes >= 0 or none"):
        build(**{name: "-1"})


def test_none_is_no_value_of_what_is_not_optional():
    for name in ("ratio", "steps", "label", "fast", "mode"):
        with pytest.raises(OptionError):
            build(**{name: None})


def test_an_unknown_key_names_the_valid_ones():
    with pytest.raises(OptionError) as error:
        build(rato="0.5")
    message = str(error.value)
    assert message.startswith("example has no option 'rato'. Did you mean 'ratio'? It takes: ratio (0.05")
    assert "mode (finetune or scratch, default finetune)" in message
    assert all(name in message for name in FIELDS)
    assert "\n" not in message


def test_a_class_without_options():
    class Plain:
        pass

    assert options.describe(Plain) == []
    assert isinstance(options.build(Plain, "plain", {}), Plain)
    with pytest.raises(OptionError, match=r"plain has no option 'a'. It takes: none."):
        options.build(Plain, "plain", {"a": "1"})


@dataclass(frozen=True)
class Demanding:
    """No defaults, and a rule of its own."""

    low: Annotated[int, Option("lower end")]
    high: Annotated[int, Option("upper end")]

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}")


def test_a_missing_option_is_named():
    with pytest.raises(OptionError, match=r"demanding needs the option high \(int\)"):
        options.build(Demanding, "demanding", {"low": "1"})


def test_a_rule_of_the_plugin_is_told_as_it_stands():
    with pytest.raises(OptionError, match=r"^demanding: low=2 is above high=1$"):
        options.build(Demanding, "demanding", {"low": "2", "high": "1"})
    assert options.build(Demanding, "demanding", {"low": "1", "high": "2"}) == Demanding(1, 2)


def test_a_field_of_another_type_is_set_from_python_only():
    assert build(made=[2]).made == [2]
    with pytest.raises(OptionError, match="made=12 is not valid"):
        build(made="12")


def test_a_field_whose_type_is_a_union_can_be_described():
    @dataclass(frozen=True)
    class Odd:
        where: Path | str = "here"

    assert options.describe(Odd)[0].allowed
    assert options.build(Odd, "odd", {"where": Path("there")}).where == Path("there")
