"""Post-training dynamic quantization by ONNX Runtime: int8 weights, activation ranges taken at run time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from compressrl import options, provenance
from compressrl.lab import Lab
from compressrl.networks import onnx_graph
from compressrl.options import Option
from compressrl.policy import Form, Policy
from compressrl_quantizers import checks
from compressrl_quantizers.onnx_quantization import Preset, quantized_graph, reference_twin
from compressrl_quantizers.standardization import standardized


@dataclass(frozen=True, kw_only=True)
class PostTrainingDynamicQuantization:
    """PTDQ: every decision first takes the range of every layer's input."""

    preset: Annotated[
        Preset,
        Option("best: standardised observations, scales by row; paper: ONNX Runtime's tool at its defaults"),
    ] = "best"
    calibration_steps: Annotated[
        int, Option("states visited to standardise the observations, preset=best", low=1)
    ] = 2000

    takes: ClassVar[tuple[Form, ...]] = ("network",)
    gives: ClassVar[Form] = "graph"
    candidates: ClassVar[tuple[str, ...]] = ("ptdq",)

    def __post_init__(self) -> None:
        if self.preset == "paper":
            options.refuse_chosen(self, {"calibration_steps"}, "preset=paper calibrates nothing")

    def compress(self, policy: Policy, lab: Lab) -> Policy:
        """Raises PipelineError on a quantized policy, CompressrlError where the result fails its proof."""
        checks.refuse_not_float(policy)
        prepared = policy if self.preset == "paper" else self._standardized(policy, lab)
        graph = quantized_graph(prepared.to_onnx(), self._quantize)
        count = onnx_graph.operators(graph, optimised=False)["MatMulInteger"]
        step = provenance.step("ptdq", self, f"{count} layers in int8, activation ranges at run time")
        return checks.proven(policy.with_graph(graph, step), reference_twin(graph), lab)

    def _standardized(self, policy: Policy, lab: Lab) -> Policy:
        states = lab.collect(policy, self.calibration_steps)
        return policy.with_network(nn.Sequential(*standardized(policy, states)), "standardised")

    def _quantize(self, source: Path, target: Path) -> None:
        per_channel = self.preset == "best"
        quantize_dynamic(source, target, per_channel=per_channel, weight_type=QuantType.QInt8)
