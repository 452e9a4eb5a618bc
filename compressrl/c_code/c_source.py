"""A policy as one C99 file: weights and code, static buffers, no allocation, no library but C's own.

    void policy_act(const float observation[], float action[]);

Float policies give float code, integer ones integer code with the arithmetic of
`compressrl.networks.integer`. With `-DPOLICY_SELF_TEST` the file is a
program that checks itself on recorded observations.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from compressrl.errors import NoCFormError, UsageError
from compressrl.interfaces import Float32Array
from compressrl.networks import layers, model_size
from compressrl.networks.integer import LEVELS, IntegerLayer
from compressrl.networks.layers import Layer
from compressrl.policy import Policy

PANEL = 16  # outputs that one vector register accumulates
QUAD = 4  # inputs that one integer instruction multiplies
NIBBLE = 4  # bits: up to so many, two weights are kept in a byte
SELF_TEST = "POLICY_SELF_TEST"
# Of the self-test, relative to half the action range: expm1f differs between C libraries, and where such a
# value is rounded to a level the difference may be the whole level.
TOLERANCE = 1e-4
LEVEL_TOLERANCE = 1e-2
_SECTION = re.compile(r"/\* ---- (\w+) ---- \*/\n")


def write(
    policy: Policy, remarks: Sequence[str] = (), recorded: tuple[Float32Array, Float32Array] | None = None
) -> str:
    """The C file of a policy.

    remarks:  lines for the comment at its head, e.g. the return that was measured
    recorded: observations (n, observation_size) and the policy's actions (n, action_size) for the self-test
    Raises UsageError for what C has no code for here (foreign torch modules and ONNX graphs), naming it, and
    for weights that are not finite.
    """
    writer = _Writer(policy.observation_size)
    for layer in _rows(policy):
        writer.layer(layer)
    parts = [
        _head(policy, remarks),
        _kernels()["preamble"],
        f"#define POLICY_OBSERVATION_SIZE {policy.observation_size}",
        f"#define POLICY_ACTION_SIZE {policy.action_size}",
        *_called(writer.used),
        "\n".join(writer.arrays),
        writer.function(policy.action_size),
    ]
    if recorded is not None:
        parts.append(_self_test(policy, *recorded))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def key(policy: Policy) -> str:
    """A hash that changes with `write(policy)`, in a fraction of its time.

    It is of the policy and of the code that writes. Raises UsageError as `write` does for what has no C form.
    """
    _rows(policy)
    return hashlib.sha256(f"{policy.digest()} {_code_digest()}".encode()).hexdigest()


@cache
def _code_digest() -> str:
    digest = hashlib.sha256()
    for room in ("compressrl.c_code", "compressrl.networks"):
        for file in sorted(resources.files(room).iterdir(), key=lambda file: file.name):
            if file.is_file():
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _rows(policy: Policy) -> list[Layer | IntegerLayer]:
    if policy.integer_network is not None:
        network = policy.integer_network
        row: list[Layer | IntegerLayer] = [*network.inputs, *network.layers, *network.outputs]
    elif policy.layers is not None:
        row = list(policy.layers)
    else:
        raise NoCFormError(
            f"This policy is {_foreign(policy)}, which has no C form: only rows of plain layers do. "
            "Export it with --format onnx, or run it in the runtime onnx."
        )
    for index, layer in enumerate(row):
        for name, value in vars(layer).items():
            if isinstance(value, np.ndarray) and not np.isfinite(value).all():
                raise UsageError(
                    f"Layer {index} ({type(layer).__name__}) has a {name} that is not finite; "
                    "such a policy cannot be deployed. Train it again, or take an earlier checkpoint."
                )
    return row


def _foreign(policy: Policy) -> str:
    """What it is, and the first part of it that has no C form."""
    from compressrl.networks import modules, onnx_graph

    if policy.foreign is None:
        operators = onnx_graph.operators(policy.graph, optimised=False)
        return f"an ONNX graph of {', '.join(sorted(operators))}"
    place, module = modules.first_unknown(policy.foreign)
    where = f" with a {type(module).__name__} as layer {place}" if place else ""
    return f"a {type(policy.foreign).__name__} module{where}"


@cache
def _kernels() -> dict[str, str]:
    text = resources.files("compressrl.c_code").joinpath("c_kernels.c").read_text()
    _, *sections = _SECTION.split(text)
    return dict(zip(sections[::2], sections[1::2], strict=True))


def _called(names: set[str]) -> list[str]:
    """The kernels of these names and those that they call, in the order of the file."""
    texts = "".join(_kernels()[name] for name in names)
    return [text for name, text in _kernels().items() if name in names or f"policy_{name}(" in texts]


class _Writer:
    """Collects arrays and calls, layer by layer; values wait in the buffer `x`, levels in `q`."""

    def __init__(self, observation_size: int) -> None:
        self.arrays: list[str] = []
        self.calls: list[str] = []
        self.used: set[str] = set()
        self.width = self.widest = observation_size
        self.quads = 0
        self.at = "observation"  # where the values are: the argument, until a layer has written `x` or `y`

    def layer(self, layer: Layer | IntegerLayer) -> None:
        """Append the code of one layer."""
        match layer:
            case IntegerLayer():
                self._integer(layer)
            case layers.Linear(weight=weight, bias=bias):
                inputs = self.width
                weight = _panels(weight, 1).transpose(0, 2, 1, 3)
                names = self._array("weight", weight), self._array("bias", _padded(bias, PANEL))
                self._widen(len(bias))
                self._move("linear", f"{inputs}, {', '.join(names)}", f"{_count(self.width, PANEL)}")
            case layers.Standardize(mean=mean, std=std, clip=clip):
                names = self._array("mean", mean), self._array("std", std)
                limit = _float(clip) if np.isfinite(clip) else "HUGE_VALF"
                self._move("standardize", f"{', '.join(names)}, {limit}", f"{self.width}")
            case layers.Activation(name=name):
                self._in_place(name, "")
            case layers.Rescale(scale=scale, offset=offset):
                self._in_place("rescale", f"{self._array('scale', scale)}, {self._array('offset', offset)}, ")
            case layers.Clip(low=low, high=high):
                self._in_place("clip", f"{self._array('low', low)}, {self._array('high', high)}, ")

    def _integer(self, layer: IntegerLayer) -> None:
        outputs, inputs = layer.w8.shape
        nibbles = layer.bits <= NIBBLE
        weight = _panels(layer.w8, 2 * QUAD if nibbles else QUAD)
        weight = _in_nibbles(weight) if nibbles else weight.transpose(0, 2, 1, 3)
        quads = _count(inputs, 2 * QUAD) * 2 if nibbles else _count(inputs, QUAD)
        self.quads = max(self.quads, quads)
        self._call("quantize", f"{self.at}, {_float(layer.x_scale)}, {layer.x_zero}, q, {inputs}")
        # The input's zero point costs the same for every observation: it goes into the bias.
        bias = layer.b32.astype(np.int64) - layer.x_zero * layer.w8.sum(axis=1, dtype=np.int64)
        # No sum on the way to the last one may overflow either; 15 is a weight of 4 bits with the 8 in it.
        largest = LEVELS * (15 if nibbles else 127) * QUAD * quads
        if np.abs(bias).max(initial=0) + largest >= 2**31:
            raise NoCFormError(
                f"In the layer of {inputs} inputs and {outputs} outputs a sum does not fit in 32 bits with "
                "the zero point of its input. Export it with --format onnx, or run it in the runtime onnx."
            )
        names = (
            self._array("weight", weight, "int8_t"),
            self._array("bias", _padded(bias, PANEL), "int32_t"),
            self._array("scale", _padded(layer.product_scale, PANEL)),
        )
        self._widen(outputs)
        self.at = "x"
        panels = _count(outputs, PANEL)
        self._call("integer_linear", f"q, {quads}, {', '.join(names)}, x, {panels}, {int(nibbles)}")
        if layer.activation:
            self._in_place(layer.activation, "")

    def _widen(self, outputs: int) -> None:
        self.width = outputs
        self.widest = max(self.widest, _count(outputs, PANEL) * PANEL)

    def _move(self, kernel: str, middle: str, count: str) -> None:
        """A kernel from one buffer to the other."""
        target = "y" if self.at == "x" else "x"
        self._call(kernel, f"{self.at}, {middle}, {target}, {count}")
        self.at = target

    def _in_place(self, kernel: str, middle: str) -> None:
        if self.at == "observation":
            self.calls.append(f"memcpy(x, observation, {self.width} * sizeof(float));")
            self.at = "x"
        self._call(kernel, f"{self.at}, {middle}{self.width}")

    def _call(self, kernel: str, arguments: str) -> None:
        self.used.add(kernel)
        self.calls.append(f"policy_{kernel}({arguments});")

    def _array(self, name: str, values: Any, kind: str = "float") -> str:
        name = f"{name}_{len(self.calls)}"
        self.arrays.append(_array(name, values, kind))
        return name

    def function(self, action_size: int) -> str:
        """`policy_act` with its buffers."""
        buffers = [name for name in "xy" if re.search(rf"\b{name}\b", "\n".join(self.calls))]
        lines = [f"    static float {name}[{self.widest}] POLICY_ALIGNED;" for name in buffers]
        lines += [f"    static uint8_t q[{self.quads * QUAD}] POLICY_ALIGNED;"] if self.quads else []
        lines += ["", *(f"    {call}" for call in self.calls)]
        lines += [f"    memcpy(action, {self.at}, {action_size} * sizeof(float));"]
        head = (
            "/* The action for an observation, both in the environment's own units.\n"
            " * Not for two threads at once: the buffers are static. */\n"
            "void policy_act(const float *observation, float *action);\n\n"
            "void policy_act(const float *observation, float *action)\n{\n"
        )
        return head + "\n".join(lines) + "\n}"


def _panels(weight: np.ndarray, group: int) -> np.ndarray:
    """(panels, PANEL, groups, group): a matrix (outputs, inputs), filled up with zeros."""
    outputs, inputs = weight.shape
    rows, columns = -outputs % PANEL, -inputs % group
    filled = np.pad(weight, [(0, rows), (0, columns)])
    return filled.reshape(-1, PANEL, (inputs + columns) // group, group)


def _in_nibbles(panels: np.ndarray) -> np.ndarray:
    """(panels, PANEL, groups, 8) weights -> (panels, groups, PANEL, 4) bytes of two weights, plus 8 each."""
    low, high = np.split(panels.transpose(0, 2, 1, 3).astype(np.uint8) + np.uint8(8), 2, axis=3)
    packed: np.ndarray = (low | high << 4).view(np.int8)
    return packed


def _padded(vector: np.ndarray, multiple: int) -> np.ndarray:
    return np.pad(vector, (0, -len(vector) % multiple))


def _count(size: int, multiple: int) -> int:
    return -(-size // multiple)


def _array(name: str, values: Any, kind: str) -> str:
    flat = np.ravel(values)
    words = [_float(value) for value in flat] if kind == "float" else [str(int(value)) for value in flat]
    rows = [", ".join(words[start : start + 16]) for start in range(0, len(words), 16)]
    return f"static const {kind} {name}[{len(words)}] POLICY_ALIGNED = {{\n" + ",\n".join(rows) + "};"


def _float(value: float) -> str:
    """The shortest literal that gives back the same float32."""
    text = np.format_float_scientific(np.float32(value), trim="0")
    return f"{text}f"


def _head(policy: Policy, remarks: Sequence[str]) -> str:
    size = model_size.measure(policy)
    lines = [
        f"A control policy for {policy.env_id}:",
        f"{policy.observation_size} observations to {policy.action_size} actions;",
        f"{size.parameters} parameters of {size.bits:.3g} bits, {size.size_bytes} bytes packed.",
        *remarks,
        "",
        "How it was made:",
        *(f"  {step}" for step in policy.provenance),
        "",
        "Written by compressrl. C99; compile with -O3, and -march=native to run on the same machine.",
        f"cc -O3 -D{SELF_TEST} FILE -lm makes a program that tests itself.",
    ]
    # Nothing that stands in a policy file may end the comment, nor a backslash at the end of a line join two.
    joined = (" ".join(line.splitlines()).replace("*/", "* /").replace("/*", "/ *") for line in lines)
    body = "\n".join(f" * {line}".rstrip() for line in joined)
    return f"/*\n{body}\n */"


def _rounds_curves(policy: Policy) -> bool:
    """Whether values of an activation that is no straight line become levels."""
    network = policy.integer_network
    return network is not None and any(
        layer.activation not in (None, "relu") for layer in network.layers[:-1]
    )


def _self_test(policy: Policy, observations: Float32Array, actions: Float32Array) -> str:
    relative = LEVEL_TOLERANCE if _rounds_curves(policy) else TOLERANCE
    tolerance = relative * np.ptp([policy.action_low, policy.action_high], axis=0) / 2
    return f"""
#ifdef {SELF_TEST}
#include <stdio.h>

{_array("test_observations", observations, "float")}
{_array("test_actions", actions, "float")}
{_array("test_tolerance", tolerance, "float")}

int main(void)
{{
    int i, a, failed = 0;
    for (i = 0; i < {len(observations)}; i++) {{
        float action[POLICY_ACTION_SIZE];
        policy_act(test_observations + i * POLICY_OBSERVATION_SIZE, action);
        for (a = 0; a < POLICY_ACTION_SIZE; a++)
            if (!(fabsf(action[a] - test_actions[i * POLICY_ACTION_SIZE + a]) <= test_tolerance[a]))
                failed++;
    }}
    printf("%d of %d actions differ\\n", failed, {actions.size});
    return failed != 0;
}}
#endif
"""
