"""The C code of the updates, compiled for this machine at its first use."""

from __future__ import annotations

import ctypes
import functools
import logging
import threading
from importlib import resources
from typing import Literal

import torch

from compressrl.c_code import c_compiler
from compressrl.errors import in_words
from compressrl_algorithms import recording

POINTER, LONG, INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
FLOAT, DOUBLE = ctypes.c_float, ctypes.c_double
SIGNATURES = {
    "use_threads": [INT],
    "stack_kept_bytes": [POINTER, INT, INT, INT],
    "stack_scratch_bytes": [POINTER, INT, INT],
    "stack_forward": [POINTER, INT, POINTER, INT, POINTER, POINTER],
    "stack_backward": [POINTER, INT, *[POINTER] * 4, INT],
    "stack_tangent": [POINTER] * 4,
    "stack_act": [POINTER] * 4,
    "adam_step": [POINTER] * 3,
    "stack_descend": [POINTER] * 4,
    "stack_regress": [POINTER] * 5,
    "stack_value_loss": [POINTER, INT, *[POINTER] * 3],
    "squash": [POINTER, POINTER, LONG, LONG, FLOAT, FLOAT, *[POINTER] * 3],
    "squash_gradient": [*[POINTER] * 5, LONG, LONG, FLOAT, FLOAT, POINTER],
    "noisy_tanh": [POINTER, POINTER, LONG, FLOAT, FLOAT, POINTER],
    "tanh_gradient": [POINTER, POINTER, LONG, POINTER],
    "value_loss": [POINTER, LONG, LONG, POINTER],
    "bellman_target": [*[POINTER, LONG] * 2, POINTER, LONG, LONG, POINTER, POINTER, FLOAT, POINTER],
    "temperature_gradient": [POINTER, LONG, FLOAT, POINTER],
    "squared_error": [POINTER, POINTER, LONG, LONG, POINTER],
    "clipped_surrogate": [*[POINTER] * 5, LONG, LONG, FLOAT, FLOAT, *[POINTER] * 3],
    "clip_norm": [POINTER, LONG, POINTER, LONG, FLOAT],
    "polyak": [POINTER, POINTER, LONG, FLOAT],
}
RETURN_DOUBLE = ("squared_error", "value_loss", "temperature_gradient", "stack_regress", "stack_value_loss")


class Stack(ctypes.Structure):
    """`struct stack` of mlp_stack.c."""

    _fields_ = (
        ("sizes", POINTER),
        ("layers", INT),
        ("count", INT),
        ("batch", INT),
        ("tanh", INT),
        *((name, POINTER) for name in ("vector", "kept", "values", "gradient")),
    )


class Inputs(ctypes.Structure):
    """`struct inputs` of mlp_stack.c."""

    _fields_ = (("x", POINTER), ("y", POINTER), ("x_stride", LONG), ("y_stride", LONG), ("y_columns", INT))


class Moments(ctypes.Structure):
    """`struct adam` of mlp_stack.c."""

    _fields_ = (
        *((name, POINTER) for name in ("mean", "square", "step")),
        ("size", LONG),
        *((name, DOUBLE) for name in ("beta1", "beta2", "rate")),
        ("epsilon", FLOAT),
    )


SOURCES = (  # in this order, as one file
    *("numbers.c", "float32.c", "bfloat16.c", "int16.c"),
    *("transposes.c", "products.c", "mlp_stack.c", "elementwise.c", "fused.c"),
)
FLAGS = ("-fno-math-errno",)  # or roots are taken one by one
Numbers = Literal["float32", "bfloat16", "int16"]  # that networks are multiplied in
_log = logging.getLogger("compressrl")


@functools.cache
def fastest() -> Numbers:
    """What this CPU multiplies fastest; float32 where it is no faster in 16 bits, and without a compiler."""
    for numbers in ("bfloat16", "int16"):
        library = kernel(numbers)
        if library is not None and library.stack_is_faster():
            return numbers
    return "float32"


@functools.cache
def kernel(numbers: Numbers = "float32") -> ctypes.CDLL | None:
    """The compiled C files that multiply in such numbers; None where there are none (`why_none`).

    In bfloat16 also where it is slower than in float32. A warning says where there are none at all.
    """
    library = _loaded(numbers)
    return None if isinstance(library, str) else library


def why_none(numbers: Numbers) -> str:
    """Why there is no kernel that multiplies in such numbers; empty where there is one."""
    library = _loaded(numbers)
    return library if isinstance(library, str) else ""


@functools.cache
def _loaded(numbers: Numbers) -> ctypes.CDLL | str:
    folder = resources.files("compressrl_algorithms")
    source = "".join(folder.joinpath(name).read_text() for name in SOURCES)
    flags = FLAGS if numbers == "float32" else (*FLAGS, f"-DSTACK_{numbers.upper()}")
    try:
        library = _compiled(source, *flags)
    except (c_compiler.CompilerError, OSError) as error:
        reason = f"{in_words(error).rstrip('.')}."
        if numbers == "float32":
            _log.warning("warning: torch makes the updates, and takes several times as long: %s", reason)
        return reason
    if not library.stack_supported():
        return f"This CPU cannot multiply in {numbers}, or not fast."
    for name in RETURN_DOUBLE:
        getattr(library, name).restype = DOUBLE
    library.stack_kept_bytes.restype = library.stack_scratch_bytes.restype = LONG
    for name, signature in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes = signature
        setattr(library, name, recording.noted(function))
    return library


def _compiled(source: str, *flags: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(c_compiler.shared_library(source, lambda: source, (*flags, "-fopenmp"))))
    except (c_compiler.CompilerError, OSError):  # without OpenMP it has one thread
        return ctypes.CDLL(str(c_compiler.shared_library(source, lambda: source, flags)))


_threads = threading.local()


def scratch(size: int) -> int:
    """Address of at least so many bytes, the same for all calls of one thread: it stays in the cache."""
    memory = getattr(_threads, "scratch", None)
    if memory is None or len(memory) < size:
        memory = _threads.scratch = torch.empty(size, dtype=torch.uint8)
    recording.keep(memory)
    return memory.data_ptr()


def takes(*tensors: torch.Tensor) -> bool:
    """Whether the kernel can work on these: floats in this computer's memory, one after the other."""
    return all(each.is_cpu and each.dtype is torch.float32 and each.is_contiguous() for each in tensors)
