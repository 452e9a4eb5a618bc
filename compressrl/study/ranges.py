"""Ranges in a pipeline's options: `l1:ratio=0.05..0.70/0.05` is fourteen pipelines."""

from __future__ import annotations

import itertools
import re
from decimal import Decimal, InvalidOperation

from compressrl.errors import UsageError

_RANGE = re.compile(r"(?<==)[^=,+]*?\.\.[^,+]*")
LARGEST = 10_000


def expand(text: str) -> list[str]:
    """Every pipeline that the text stands for, in order; several ranges give every combination.

    A range is `low..high/step`, both ends included, decimal: no 0.15000000000000002.
    Raises UsageError for one that is no range, empty or longer than 10,000 values.
    """
    between = _RANGE.split(text)
    choices = [_values(found) for found in _RANGE.findall(text)]
    return [
        "".join(itertools.chain.from_iterable(itertools.zip_longest(between, values, fillvalue="")))
        for values in itertools.product(*choices)
    ]


def _values(text: str) -> list[str]:
    ends, _, step_text = text.partition("/")
    try:
        low, high, step = (Decimal(word) for word in (*ends.split(".."), step_text))
    except (InvalidOperation, ValueError):
        raise UsageError(f"{text!r} is no range. Write low..high/step, e.g. 0.05..0.70/0.05.") from None
    if not (low.is_finite() and high.is_finite() and step.is_finite()) or low > high or step <= 0:
        raise UsageError(f"The range {text!r} is empty: low must not be above high, and step above 0.")
    count = int((high - low) / step) + 1
    if count > LARGEST:
        raise UsageError(f"The range {text!r} has {count:,} values; {LARGEST:,} are the most.")
    return [_plain(low + number * step) for number in range(count)]


def _plain(number: Decimal) -> str:
    """0.1, not 0.10; 10, not 1E+1."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
