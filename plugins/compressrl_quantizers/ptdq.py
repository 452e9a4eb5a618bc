"""Post-training dynamic quantization by ONNX Runtime: int8 weights, activation ranges taken at run time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from onnxruntime.quantization import QuantType, quantize_dynamic

from compressrl import onnx_graph, provenance
from compressrl.lab import Lab
from compressrl.options import Option
from compressrl.policy import Form, Policy
from compressrl_quantizers import checks
from compressrl_quantizers.onnx_quantization import quantized_graph, reference_twin


@dataclass(frozen=True)
class PostTrainingDynamicQuantization:
    """PTDQ: needs no data. Every decision first takes the range of every layer's input."""

    per_channel: Annotated[bool, Option("a weight scale for each output, not one for a whole matrix")] = True
    reduce_range: Annotated[bool, Option("7-bit weights, for x86 CPUs without VNNI")] = False

    takes: ClassVar[tuple[Form, ...]] = ("network",)
    gives: ClassVar[Form] = "graph"

    def compress(self, policy: Policy, lab: Lab) -> Policy:
        """Raises PipelineError on a quantized policy, CompressrlError where the result fails its proof."""
        checks.float_network(policy)
        graph = quantized_graph(policy.to_onnx(), self._quantize)
        count = onnx_graph.operators(graph, optimised=False)["MatMulInteger"]
        step = provenance.step("ptdq", self, f"{count} layers in int8, activation ranges at run time")
        return checks.proven(policy.with_graph(graph, step), reference_twin(graph), lab)

    def _quantize(self, source: Path, target: Path) -> None:
        quantize_dynamic(
            source,
            target,
            per_channel=self.per_channel,
            reduce_range=self.reduce_range,
            weight_type=QuantType.QInt8,
        )
