"""The C code of the off-policy updates: mlp_stack.c, compiled for this machine at its first use."""

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
    "stack_adam": [*[POINTER] * 4, LONG, *[DOUBLE] * 2, *[FLOAT] * 3],
}


@functools.cache
def kernel() -> ctypes.CDLL | None:
    """The compiled mlp_stack.c; None without a compiler, or where this CPU does not multiply bfloat16."""
    source = resources.files("compressrl_algorithms").joinpath("mlp_stack.c").read_text()
    try:
        library = ctypes.CDLL(str(c_compiler.shared_library(source)))
    except (c_compiler.CompilerError, OSError):
        return None
    if not library.stack_supported():
        return None
    for name, signature in SIGNATURES.items():
        getattr(library, name).argtypes = signature
    library.stack_kept_bytes.restype = library.stack_scratch_bytes.restype = LONG
    return library


_threads = threading.local()


def scratch(size: int) -> int:
    """Address of at least so many bytes, the same for all calls of one thread: it stays in the cache."""
    memory = getattr(_threads, "scratch", None)
    if memory is None or len(memory) < size:
        memory = _threads.scratch = torch.empty(size, dtype=torch.uint8)
    return memory.data_ptr()


def takes(tensor: torch.Tensor) -> bool:
    """Whether the kernel can work on this tensor: floats in this computer's memory."""
    return tensor.device.type == "cpu" and tensor.dtype is torch.float32
