"""The exported C file of a policy as a runtime: compiled for this machine, called without a library."""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from compressrl.c_code import c_compiler, c_source
from compressrl.errors import UsageError
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.policy import Form, Policy
from compressrl_runtimes import deployment
from compressrl_runtimes.shapes import wrong_shape

if TYPE_CHECKING:
    from compressrl_runtimes.onnx_runtime import OnnxRuntime


PROBE = "int works(void) { return 1; }"


@dataclass(frozen=True)
class NativeRuntime:
    """Executes float and integer policies as compiled C; at this size the library is the cost elsewhere."""

    fallback: ClassVar[str] = "onnx"
    takes: ClassVar[tuple[Form, ...]] = ("network", "integer")

    def available(self) -> tuple[bool, str]:
        """Whether there is a C compiler that works; else what is missing."""
        try:
            c_compiler.shared_library(PROBE, lambda: PROBE)
        except c_compiler.CompilerError as error:
            return False, str(error)
        return True, ""

    def load(self, policy: Policy) -> PolicyFunction:
        """Return the compiled policy as a function of one observation.

        It is not for several threads at once, not even loaded twice: the buffers are the library's.

        Where the compiler fails, ONNX Runtime executes the policy, and a warning says so. Raises
        UsageError for a policy that has no C form, and (from the function) for an observation of another
        size.
        """
        try:
            library = ctypes.CDLL(str(_compiled(policy)))
        except (c_compiler.CompilerError, OSError) as error:
            logging.getLogger("compressrl").warning(
                "warning: the native runtime executes this policy in ONNX Runtime instead: %s", error
            )
            return _onnx_runtime().load(policy)
        return _function(library, policy)

    def deploy(self, policy: Policy, folder: Path) -> None:
        """Write the shared library; without a working C compiler, what ONNX Runtime needs."""
        try:
            library = _compiled(policy)
        except c_compiler.CompilerError:
            _onnx_runtime().deploy(policy, folder)
            return
        deployment.write(folder, "native", "policy.so", library.read_bytes())


def _compiled(policy: Policy) -> Path:
    try:
        return c_compiler.shared_library(c_source.key(policy), partial(c_source.write, policy))
    except UsageError as error:
        raise UsageError(f"The native runtime cannot execute it. {error}") from error


def _onnx_runtime() -> OnnxRuntime:
    from compressrl_runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime()


def _function(library: ctypes.CDLL, policy: Policy) -> PolicyFunction:
    call = library.policy_act
    call.restype = None
    result: Float32Array = np.zeros(policy.action_size, np.float32)
    # Made once: making a pointer costs more than the policy itself. Bytes are passed as one, and are the
    # fastest way to an array's contents.
    target = ctypes.c_void_p(result.ctypes.data)
    shape, single = (policy.observation_size,), np.dtype(np.float32)

    def act(observation: Float32Array) -> Float32Array:
        if observation.shape != shape:
            raise wrong_shape(observation, shape[0])
        if observation.dtype is not single:
            observation = observation.astype(single)
        call(observation.tobytes(), target)
        return result.copy()

    return act
