"""Time of a decision in every runtime, float and int8: `make bench-runtimes`.

Batch 1, one thread, all in turns in one process: blocks of calls forwards and backwards through the list,
warm (the caches hold the policy) and cold (16 MB are written between two calls). The policies are untrained,
of the sizes of HalfCheetah and Humanoid policies; the time does not depend on the weights. The limit is the
time to read the int8 weights with the widest loads there are, from whichever cache holds them, and an empty
call of a C function.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compressrl import plugins
from compressrl.errors import UsageError
from compressrl.measuring import host
from compressrl.networks import layers
from compressrl.networks.fake_quantization import fake_quantize, to_integer
from compressrl.policy import Policy

NETWORKS = {
    (17, 256, 256, 6): "relu",
    (348, 256, 256, 17): "relu",
    (348, 1024, 1024, 17): "relu",
    (17, 64, 64, 6): "tanh",  # as PPO and TRPO learn them
}
COLD_BYTES = 16 << 20
READER = """
#include <string.h>
#include <stdint.h>
void empty(const void *x, void *y) { (void)x; (void)y; }
uint64_t sum(const uint64_t *x, long n)
{
    uint64_t s = 0;
    for (long i = 0; i < n; i++) s += x[i];
    return s;
}
"""

Call = Callable[[], object]


def float_policy(sizes: tuple[int, ...], activation: str) -> Policy:
    rng, row = np.random.default_rng(0), []
    for inputs, outputs in pairwise(sizes):
        weight = rng.normal(0, inputs**-0.5, (outputs, inputs)).astype(np.float32)
        row += [layers.Linear(weight, np.zeros(outputs, np.float32)), layers.Activation(activation)]
    row = (*row[:-1], layers.Activation("tanh"))
    return Policy("E-v0", "", sizes[0], -np.ones(sizes[-1]), np.ones(sizes[-1]), ("untrained",), layers=row)


def integer_policy(policy: Policy) -> Policy:
    student = fake_quantize(policy.network)
    student.train()
    student(torch.randn(1000, policy.observation_size, generator=torch.Generator().manual_seed(0)))
    return policy.with_integer(to_integer(nn.Sequential(*student).eval()), "int8")


def loaded(name: str, policy: Policy, observation: np.ndarray) -> Call:
    runtime = plugins.create("runtime", name)
    function = runtime.load(runtime.prepare(policy) if hasattr(runtime, "prepare") else policy)
    return lambda: function(observation)


def session_run(policy: Policy, observation: np.ndarray) -> Call:
    """ONNX Runtime as its documentation shows it: without bound buffers."""
    from compressrl.networks import onnx_graph

    session, batch = onnx_graph.session(policy.to_onnx()), observation[None]
    return lambda: session.run(None, {onnx_graph.INPUT: batch})


def limit(weight_bytes: int, folder: Path) -> tuple[Call, Call]:
    """(an empty call, the reading of the weights) in C."""
    source, library = folder / "reader.c", folder / "reader.so"
    source.write_text(READER)
    command = ["cc", "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    c = ctypes.CDLL(str(library))
    data = np.ones(weight_bytes // 8, np.uint64)
    c.sum.restype = ctypes.c_uint64
    pointer, count = ctypes.c_void_p(data.ctypes.data), ctypes.c_long(len(data))
    return lambda: c.empty(pointer, pointer), lambda: (c.sum(pointer, count), data)


def microseconds(calls: dict[str, Call], blocks: int, size: int, cold: bool) -> dict[str, float]:
    """Median time of a call, by name; one call at a time where cold."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    rubbish = np.zeros(COLD_BYTES // 8)
    for block in range(blocks):
        for name in list(calls) if block % 2 else reversed(calls):
            call = calls[name]
            for _ in range(1 if cold else 3):
                if cold:
                    rubbish += 1
                repeats = 1 if cold else size
                started = time.perf_counter_ns()
                for _ in range(repeats):
                    call()
                elapsed = (time.perf_counter_ns() - started) / repeats / 1e3
            times[name].append(elapsed)  # the last: what ran before has left the caches
    return {name: float(np.median(values)) for name, values in times.items()}


def table(sizes: tuple[int, ...], activation: str, blocks: int) -> list[str]:
    floating = float_policy(sizes, activation)
    policies = {"fp32": floating, "int8": integer_policy(floating)}
    observation = np.random.default_rng(1).normal(size=sizes[0]).astype(np.float32)
    calls = {"onnx fp32, session.run": session_run(floating, observation)}
    for width, policy in policies.items():
        for registered in plugins.registry().entries("runtime"):
            name = registered.entry.name
            if name != "torch" or width == "fp32":
                try:
                    calls[f"{name} {width}"] = loaded(name, policy, observation)
                except UsageError as error:
                    print(f"{name} {width} is not here: {error}\n")
    weight_bytes = sum(layer.w8.size for layer in policies["int8"].integer.layers)
    with tempfile.TemporaryDirectory() as folder:
        calls["empty call"], calls["reading int8 weights"] = limit(weight_bytes, Path(folder))
        warm = microseconds(calls, blocks, 100, cold=False)
        cold = microseconds(calls, blocks * 3, 1, cold=True)
    reference = "onnx fp32, session.run"
    lines = [
        f"### {'-'.join(map(str, sizes))} {activation}",
        "",
        "| | warm, µs | of `session.run` | cold, µs | of `session.run` |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in sorted(calls, key=warm.__getitem__, reverse=True):
        ratios = warm[name] / warm[reference], cold[name] / cold[reference]
        lines.append(f"| {name} | {warm[name]:.2f} | {ratios[0]:.3f} | {cold[name]:.1f} | {ratios[1]:.3f} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = host.describe()
    print(f"{machine['cpu']}, {machine['cores']} cores, onnxruntime {machine['onnxruntime']}\n")
    for sizes, activation in NETWORKS.items():
        print("\n".join(table(sizes, activation, options.blocks)))


if __name__ == "__main__":
    main()
