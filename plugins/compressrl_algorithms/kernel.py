"""The C code of the off-policy updates, compiled for this machine at its first use."""

from __future__ import annotations

import ctypes
import functools
import threading
from importlib import resources

import torch

from compressrl.c_code import c_compiler

POINTER, LONG, INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
FLOAT, DOUBLE = ctypes.c_float, ctypes.c_double
STACK = [POINTER, INT]  # sizes and number of layers
SIGNATURES = {
    "stack_kept_bytes": [*STACK, INT, INT],
    "stack_scratch_bytes": [*STACK, INT],
    "stack_forward": [POINTER, *STACK, *[INT] * 3, POINTER, LONG, POINTER, LONG, INT, *[POINTER] * 3],
    "stack_backward": [POINTER, *STACK, *[INT] * 3, *[POINTER] * 5, INT],
    "squash": [POINTER, POINTER, LONG, LONG, FLOAT, FLOAT, *[POINTER] * 3],
    "squash_gradient": [*[POINTER] * 4, FLOAT, LONG, LONG, FLOAT, FLOAT, POINTER],
    "noisy_tanh": [POINTER, POINTER, LONG, FLOAT, FLOAT, POINTER],
    "tanh_gradient": [POINTER, POINTER, LONG, POINTER],
    "value_loss": [POINTER, LONG, LONG, POINTER],
    "bellman_target": [*[POINTER, LONG] * 2, POINTER, LONG, LONG, POINTER, FLOAT, FLOAT, POINTER],
    "squared_error": [POINTER, POINTER, LONG, LONG, POINTER],
    "polyak": [POINTER, POINTER, LONG, FLOAT],
    "stack_act": [POINTER, *STACK, INT, *[POINTER] * 3],
    "stack_adam": [*[POINTER] * 5, LONG, *[DOUBLE] * 3, FLOAT],
}


@functools.cache
def kernel() -> ctypes.CDLL | None:
    """The compiled C files; None without a compiler, or where this CPU does not multiply bfloat16."""
    folder = resources.files("compressrl_algorithms")
    source = "".join(folder.joinpath(name).read_text() for name in ("mlp_stack.c", "elementwise.c"))
    try:
        library = ctypes.CDLL(str(c_compiler.shared_library(source, lambda: source)))
    except (c_compiler.CompilerError, OSError):
        return None
    if not library.stack_supported():
        return None
    for name, signature in SIGNATURES.items():
        getattr(library, name).argtypes = signature
    library.squared_error.restype = library.value_loss.restype = DOUBLE
    library.stack_kept_bytes.restype = library.stack_scratch_bytes.restype = LONG
    return library


_threads = threading.local()


def scratch(size: int) -> int:
    """Address of at least so many bytes, the same for all calls of one thread: it stays in the cache."""
    memory = getattr(_threads, "scratch", None)
    if memory is None or len(memory) < size:
        memory = _threads.scratch = torch.empty(size, dtype=torch.uint8)
    return memory.data_ptr()


def takes(*tensors: torch.Tensor) -> bool:
    """Whether the kernel can work on these: floats in this computer's memory, one after the other."""
    return all(each.is_cpu and each.dtype is torch.float32 and each.is_contiguous() for each in tensors)
