"""An update as the row of calls of the kernel that it makes: noted once, then repeated in the same memory.

Between two calls Python prepares the next one, in caches that the last one has emptied, which took a fifth
to a quarter of an update. As with a CUDA graph, what is repeated is the same each time but for the contents
of the memory. An update that does more than call the kernel, allocate and view tensors and draw normal noise
is never repeated, but carried out each time.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
ALLOCATIONS = {aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default}
ATTEMPTS = 3  # the first update of all makes Adam's moments, which is not to be repeated
MOST_KNOWN = 32  # batches and the like: what is new each time is not worth remembering
Value = TypeVar("Value", bound=float | torch.Tensor)
_threads = threading.local()


class Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what happens in its context; the tensors that it sees live as long as it does.

    complete: it has seen nothing that cannot be repeated
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Callable[[], Any]] = []
        self.results: list[Any] = []
        self.kept: list[Any] = []
        self.complete = True

    def __enter__(self) -> Recording:
        _threads.recording = self
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *reason: object) -> None:
        _threads.recording = None
        super().__exit__(*reason)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.kept.append(result)
        if func is aten.randn.generator:
            self.note(functools.partial(result.normal_, generator=kwargs["generator"]), None)
        elif func is aten.lift_fresh.default or (func not in ALLOCATIONS and not func.is_view):
            self.complete = False  # lift_fresh: a tensor that Python has filled
        return result

    def note(self, call: Callable[[], Any], result: Any) -> None:
        """A call that was made, and what it returned."""
        self.calls.append(call)
        self.results.append(result)

    def row(self, values: dict[str, Value]) -> Callable[[], dict[str, Value]] | None:
        """What repeats everything and gives such values again; None where that cannot be."""
        returned = {id(result): index for index, result in enumerate(self.results)}
        kept = {id(tensor) for tensor in self.kept}
        places = {name: returned[id(value)] for name, value in values.items() if id(value) in returned}
        tensors = {name: value for name, value in values.items() if id(value) in kept}
        if not self.complete or len(places) + len(tensors) < len(values):
            return None

        def repeat() -> dict[str, Value]:
            results = [call() for call in self.calls]
            return tensors | {name: results[index] for name, index in places.items()}

        return repeat


def _current() -> Recording | None:
    """Of this thread."""
    return getattr(_threads, "recording", None)


def carry_out(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it, which is noted, as what a recording is to repeat."""
    result, recording = function(*arguments), _current()
    if recording is not None:
        recording.note(functools.partial(function, *arguments), result)
    return result


def noted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the kernel, of whose calls a recording learns."""
    return functools.partial(carry_out, function)


def keep(memory: Any) -> None:
    """Let a recording hold on to memory that a call is about to be given by its address."""
    recording = _current()
    if recording is not None:
        recording.kept.append(memory)


@dataclass
class _Known:
    """What updates were given, and what repeats them, by name and flags: None where nothing can."""

    given: tuple[Any, ...]
    rows: dict[Any, Callable[[], dict[str, Any]] | None] = field(default_factory=dict)
    attempts: dict[Any, int] = field(default_factory=dict)


class Repeater:
    """Carries out updates, by repeating them where they are the same as before.

    An update must not compute with the numbers that it gets from the kernel, but return them as they are.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[int, ...], _Known] = {}

    def __call__(
        self, update: Callable[..., dict[str, Value]], *given: Any, **flags: bool
    ) -> dict[str, Value]:
        """`update(*given, **flags)`; it is repeated where it was given these objects before, whatever they
        hold now. Tensors that it returns are then the same each time, with other contents.
        """
        known = self.known.get(tuple(map(id, given)))
        if known is None:
            if len(self.known) == MOST_KNOWN:
                self.known.clear()
            self.known[tuple(map(id, given))] = _Known(given)
            return update(*given, **flags)
        key = (update.__name__, *flags.items())
        if key not in known.rows:
            return self._record(known, key, update, flags)
        row = known.rows[key]
        return row() if row else update(*given, **flags)

    def _record(
        self, known: _Known, key: Any, update: Callable[..., dict[str, Value]], flags: dict[str, bool]
    ) -> dict[str, Value]:
        with Recording() as recording:
            values = update(*known.given, **flags)
        known.attempts[key] = known.attempts.get(key, 0) + 1
        row = recording.row(values)
        if row or known.attempts[key] == ATTEMPTS:
            known.rows[key] = row
        return values
