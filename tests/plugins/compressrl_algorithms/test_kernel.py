"""Which kernel a CPU gets; other instruction sets, as far as a compiler can be told to do without some."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compressrl_algorithms.kernel import kernel

needs_kernel = pytest.mark.skipif(kernel() is None, reason="no C compiler")
TESTS = Path(__file__).with_name("test_kernel_stack.py")


def flags_of_cpu():
    cpuinfo = Path("/proc/cpuinfo")
    return set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()


def has_tiles():
    return "amx_bf16" in flags_of_cpu()


def with_compiler(words, folder, *command):
    """What Python says where that is the compiler: it may be told that the CPU can do less than it does."""
    environment = {**os.environ, "CC": words, "COMPRESSRL_CACHE": str(folder)}
    run = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


needs_avx2 = pytest.mark.skipif(
    "avx2" not in flags_of_cpu() or shutil.which("gcc") is None, reason="no CPU with AVX2, Linux and gcc"
)


@needs_avx2
@pytest.mark.parametrize(
    ("without", "needed", "expected"),
    [
        ("-mno-avx512bf16 -mno-amx-tile", {"avx512_vnni"}, "int16"),
        ("-mno-avx512f -mno-amx-tile", {"vaes"}, "int16"),
        ("-mno-avx512f -mno-amx-tile -mno-avxvnni -mno-vaes", set(), "float32"),
        ("-mno-avx2 -mno-amx-tile", set(), "float32"),
    ],
)
def test_what_is_fastest_depends_on_the_cpu(tmp_path, without, needed, expected):
    if not needed <= flags_of_cpu():
        pytest.skip("this CPU cannot do it")
    program = "from compressrl_algorithms.kernel import fastest; print(fastest())"
    assert with_compiler(f"gcc {without}", tmp_path, "-c", program) == f"{expected}\n"


@needs_avx2
@pytest.mark.slow
@pytest.mark.parametrize(
    "without", ["-mno-avx512vnni", "-mno-avx512f -mno-avxvnni", "-mno-avx512f", "-mno-avx"]
)
def test_less_of_a_cpu_computes_the_same(tmp_path, without):
    """Those of the tests of stacks that are about numbers."""
    chosen = "agrees_with_torch or exact or multiplied_alike or zeros or overflow or number_of_threads"
    with_compiler(
        f"gcc {without}", tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, str(TESTS)
    )


@needs_kernel
@pytest.mark.skipif(not has_tiles(), reason="this CPU has no AMX")
def test_where_linux_refuses_the_tiles_of_amx_it_multiplies_in_float32():
    """As it does where a thread's stack for signals is too small for what they hold."""
    program = """
import ctypes
from compressrl_algorithms import kernel_stack

class SignalStack(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

room = ctypes.create_string_buffer(8192)
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(SignalStack(ctypes.addressof(room), 0, 8192)), None) == 0
print(kernel_stack.make((5, 8, 1), 1, numbers="bfloat16").numbers)
"""
    words = [sys.executable, "-c", program]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "float32\n"
