"""Policy: the deterministic actor as it is deployed, and its file format.

A policy holds its network in exactly one form:

    network   float layers; `policy.network` is a torch module of them
    integer   `compressrl.networks.integer.IntegerNetwork`
    graph     ONNX bytes made by a foreign tool

The file is one safetensors file: the arrays, and a JSON document in its header under `compressrl`, with a
SHA-256 over both. Nothing in it is ever executed or unpickled.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_safetensors

from compressrl import files
from compressrl.errors import PipelineError, PolicyFileError, UsageError, one_line
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.networks import layers
from compressrl.networks.integer import IntegerLayer, IntegerNetwork

if TYPE_CHECKING:
    from torch import nn

FORMAT_VERSION = 1
Form = Literal["network", "integer", "graph"]


@dataclass(frozen=True, eq=False)
class Policy:
    """A deterministic policy: observation in, action out, in the environment's own units.

    env_id:           environment it was trained for
    algorithm:        name of the algorithm that learnt it, "" if unknown
    observation_size: length of the flat float32 observation
    action_low, action_high: (action_size,) float32 bounds of the action space
    provenance:       how it was made, step by step
    Exactly one of layers (float form), foreign (a torch module of unknown types), integer_network and
    onnx_graph is set; read them through `network`, `integer`, `graph`, `form`.
    """

    env_id: str
    algorithm: str
    observation_size: int
    action_low: Float32Array
    action_high: Float32Array
    provenance: tuple[str, ...]
    layers: tuple[layers.Layer, ...] | None = None
    foreign: nn.Module | None = None
    integer_network: IntegerNetwork | None = None
    onnx_graph: bytes | None = None

    def __post_init__(self) -> None:
        for name in ("action_low", "action_high"):
            object.__setattr__(self, name, layers.owned(getattr(self, name)))

    @property
    def action_size(self) -> int:
        return len(self.action_low)

    @property
    def half_range(self) -> Float32Array:
        """(action_size,): half the range of each action, the unit that errors of actions are told in.

        1 for an action without a range: a locked joint.
        """
        half: Float32Array = (self.action_high - self.action_low) / np.float32(2)
        return np.where(half > 0, half, np.float32(1))

    @property
    def form(self) -> Form:
        if self.integer_network is not None:
            return "integer"
        return "graph" if self.onnx_graph is not None else "network"

    @property
    def network(self) -> nn.Module:
        """The float network, (batch, observation_size) -> (batch, action_size), a copy for you to change.

        Raises PipelineError when the policy has been quantized already.
        """
        if self.foreign is not None:
            import copy

            return copy.deepcopy(self.foreign)
        if self.layers is None:
            made = f" (made by: {self.provenance[-1]})" if self.provenance else ""
            kept = ""
            if self.form == "graph":
                kept = "; of modules that it does not know a policy file keeps the graph only"
            raise PipelineError(
                f"This step needs the float network, but the policy is in {self.form} form{made}. "
                f"Put the quantizer last in the pipeline, or take the policy from before{kept}."
            )
        from compressrl.networks import modules

        return modules.to_module(self.layers)

    @property
    def integer(self) -> IntegerNetwork:
        """The integer network; raises PipelineError in any other form."""
        if self.integer_network is None:
            raise PipelineError(
                f"This step needs an integer network, but the policy is in {self.form} form. "
                "Put a quantizer that gives the integer form before it."
            )
        return self.integer_network

    @property
    def graph(self) -> bytes:
        """The ONNX bytes of a foreign tool; raises PipelineError in any other form (see `to_onnx`)."""
        if self.onnx_graph is None:
            raise PipelineError(
                f"This step needs an ONNX graph, but the policy is in {self.form} form. "
                "Put the stage that gives one before it."
            )
        return self.onnx_graph

    def with_network(self, module: nn.Module, step: str) -> Policy:
        """A new policy with a copy of this float network; `step` (what was done) extends the provenance."""
        import copy

        from compressrl.networks import modules

        row = modules.from_module(module)
        foreign = copy.deepcopy(module).cpu().eval() if row is None else None
        return self._with(step, layers=row, foreign=foreign)

    def with_integer(self, network: IntegerNetwork, step: str) -> Policy:
        """A new policy with this integer network."""
        return self._with(step, integer_network=network)

    def with_graph(self, graph: bytes, step: str) -> Policy:
        """A new policy with this ONNX graph: one float32 input (batch, observation_size), one output."""
        return self._with(step, onnx_graph=graph)

    def _with(self, step: str, **form: Any) -> Policy:
        empty = {"layers": None, "foreign": None, "integer_network": None, "onnx_graph": None}
        return replace(self, provenance=(*self.provenance, step), **(empty | form))

    def __call__(self, observation: Float32Array) -> Float32Array:
        """Reference execution, single (observation_size,) or batch: numpy, or ONNX Runtime for a graph."""
        return self._function(observation)

    @functools.cached_property
    def _function(self) -> PolicyFunction:
        if self.layers is not None:
            return functools.partial(layers.forward, self.layers)
        if self.integer_network is not None:
            return self.integer_network
        from compressrl.networks import onnx_graph

        return onnx_graph.reference_function(self.to_onnx())

    def to_onnx(self) -> bytes:
        """An ONNX model `observation` (batch, observation_size) -> `action` (batch, action_size), float32."""
        from compressrl.networks import onnx_graph

        if self.onnx_graph is not None:
            return self.onnx_graph
        if self.integer_network is not None:
            return onnx_graph.write_integer(self.integer_network, self.observation_size)
        if self.layers is not None:
            return onnx_graph.write_float(self.layers, self.observation_size)
        return onnx_graph.export_module(self.network, self.observation_size)

    def refuse_not_finite(self) -> None:
        """Raises UsageError, naming the array, where a network (no ONNX graph) holds NaN or infinity."""
        if self.foreign is not None:
            named = {name: value.detach().numpy() for name, value in self.foreign.state_dict().items()}
        else:
            named = {} if self.onnx_graph is not None else _describe(self)[1]
        for name, array in named.items():
            if not np.isfinite(array).all():
                raise UsageError(
                    f"The policy holds NaN or infinity ({name}). Its training diverged: take an earlier "
                    "checkpoint, or train it again."
                )
        if any(
            isinstance(layer, layers.Standardize) and (layer.std <= 0).any() for layer in self.layers or ()
        ):
            raise UsageError(
                "The policy divides observations by a standard deviation of 0. Put a small positive number "
                "there, as training does: Standardize(mean, std.clamp(min=1e-4))."
            )

    def digest(self) -> str:
        """SHA-256 of all that the policy file holds, in hexadecimal."""
        return _digest(*_describe(self))

    def to_bytes(self) -> bytes:
        """The policy file's content."""
        document, arrays = _describe(self)
        document["sha256"] = _digest(document, arrays)
        return to_safetensors(arrays, {"compressrl": json.dumps(document)})

    def save(self, path: Path | str) -> None:
        """Write the policy file by atomic rename. Foreign torch modules are stored as their ONNX graph."""
        files.write_bytes_atomic(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: Path | str) -> Policy:
        """Read a policy file. Raises PolicyFileError: missing, truncated, altered, newer, or not a policy."""
        path = Path(path)
        document, arrays = _read(path)
        if document["version"] > FORMAT_VERSION:
            raise PolicyFileError(
                f"{path} was written by a newer compressrl (format {document['version']}, this one reads "
                f"{FORMAT_VERSION}). Upgrade compressrl."
            )
        claimed = document.pop("sha256", "")
        if claimed != _digest(document, arrays):
            raise PolicyFileError(
                f"{path} was altered after it was written (its hash does not fit). Get a fresh copy."
            )
        try:
            policy = _restore(document, arrays)
            _check_sizes(policy)
        except Exception as error:  # whatever stands in the file, nothing of it is executed
            raise PolicyFileError(f"{path} is not a complete policy: {one_line(error)}.") from error
        return policy


def _describe(policy: Policy) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    document: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "env_id": policy.env_id,
        "algorithm": policy.algorithm,
        "observation_size": policy.observation_size,
        "provenance": list(policy.provenance),
        "form": "graph" if policy.foreign is not None else policy.form,
    }
    arrays: dict[str, np.ndarray] = {"action_low": policy.action_low, "action_high": policy.action_high}
    if policy.layers is not None:
        document["layers"], extra = layers.describe(policy.layers)
    elif policy.integer_network is not None:
        document["integer"], extra = _describe_integer(policy.integer_network)
    else:
        extra = {"graph": np.frombuffer(policy.to_onnx(), dtype=np.uint8)}
    return document, arrays | extra


def _restore(document: dict[str, Any], arrays: dict[str, np.ndarray]) -> Policy:
    common = Policy(
        env_id=document["env_id"],
        algorithm=document["algorithm"],
        observation_size=document["observation_size"],
        action_low=arrays["action_low"],
        action_high=arrays["action_high"],
        provenance=tuple(document["provenance"]),
    )
    match document["form"]:
        case "network":
            return replace(common, layers=layers.restore(document["layers"], arrays))
        case "integer":
            return replace(common, integer_network=_restore_integer(document["integer"], arrays))
        case "graph":
            return replace(common, onnx_graph=arrays["graph"].tobytes())
        case other:
            raise ValueError(f"unknown form {other!r}")


def _describe_integer(network: IntegerNetwork) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    inputs, input_arrays = layers.describe(network.inputs)
    outputs, output_arrays = layers.describe(network.outputs)
    arrays = {f"inputs.{k}": v for k, v in input_arrays.items()}
    arrays |= {f"outputs.{k}": v for k, v in output_arrays.items()}
    scalars = []
    for index, layer in enumerate(network.layers):
        arrays |= {f"integer.{index}.{name}": getattr(layer, name) for name in ("w8", "w_scale", "bias")}
        names = ("x_scale", "x_zero", "activation", "bits")
        scalars.append({name: getattr(layer, name) for name in names})
    return {"inputs": inputs, "layers": scalars, "outputs": outputs}, arrays


def _restore_integer(document: dict[str, Any], arrays: dict[str, np.ndarray]) -> IntegerNetwork:
    def part(prefix: str) -> dict[str, Any]:
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    return IntegerNetwork(
        inputs=layers.restore(document["inputs"], part("inputs.")),
        layers=tuple(
            IntegerLayer(**part(f"integer.{index}."), **scalars)
            for index, scalars in enumerate(document["layers"])
        ),
        outputs=layers.restore(document["outputs"], part("outputs.")),
    )


def _check_sizes(policy: Policy) -> None:
    """Raise ValueError when the network does not map observations to actions. A graph's runtime checks it."""
    if policy.form == "graph":
        return
    with np.errstate(all="ignore"):
        shape = policy(np.zeros(policy.observation_size, np.float32)).shape
    if shape != (policy.action_size,):
        raise ValueError(f"it gives actions of shape {shape}, not {(policy.action_size,)}")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        if not path.is_file():
            raise PolicyFileError(f"{path} does not exist or is not a file.")
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("compressrl")
            if text is None:
                raise PolicyFileError(f"{path} is a safetensors file, but not a compressrl policy.")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        document: dict[str, Any] = json.loads(text)
        if not isinstance(document, dict) or not isinstance(document.get("version"), int):
            raise ValueError("its header is of another format")
    except PolicyFileError:
        raise
    except Exception as error:  # safetensors raises several types for the many ways to be damaged
        raise PolicyFileError(
            f"{path} is truncated, damaged or not a policy file ({one_line(error)})."
        ) from error
    return document, arrays


def _digest(document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
