"""Quantization-aware training: int8 weights and activations, learnt under fake quantization in torch.

`finetune` distils the trained policy into its quantized copy in a minute; `scratch` trains the algorithm
anew with a fake-quantized actor from the first step, as arXiv 2407.04803 did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import nn

from compressrl import defaults, provenance
from compressrl.errors import PipelineError
from compressrl.fake_quantization import FakeQuantLinear, fake_quantize, to_integer
from compressrl.interfaces import Float32Array, PolicyFunction
from compressrl.lab import Lab
from compressrl.modules import Standardize
from compressrl.options import Option
from compressrl.policy import Form, Policy
from compressrl_distillation.distillation import Distillation, DistillationOptions, one_thread
from compressrl_quantizers import checks

# A feature that stands still has no scale of its own; it keeps its unit.
SMALLEST_STD = 1e-6


@dataclass(frozen=True, kw_only=True)
class QuantizationAwareTraining(DistillationOptions):
    """QAT. The output before the final tanh stays float."""

    mode: Annotated[
        Literal["finetune", "scratch"], Option("distil the trained policy, or train the algorithm anew")
    ] = "finetune"
    train_steps: Annotated[int, Option("environment steps of mode=scratch", low=1)] = defaults.TRAINING_STEPS

    takes: ClassVar[tuple[Form, ...]] = ("network",)
    gives: ClassVar[Form] = "integer"

    def compress(self, policy: Policy, lab: Lab) -> Policy:
        """Raises PipelineError on a quantized policy or one that is no row of linear layers.

        CompressrlError where the result does not run on integer kernels or disagrees with the torch module.
        """
        checks.float_network(policy)
        with one_thread():
            used = lab.environment_steps_used
            student, figures = self._finetuned(policy, lab) if self.mode == "finetune" else self._scratch(lab)
            steps = lab.environment_steps_used - used
            step = provenance.step("qat", self, *figures, f"{steps} environment steps")
            return checks.proven(policy.with_integer(to_integer(student), step), executed(student), lab)

    def _finetuned(self, policy: Policy, lab: Lab) -> tuple[nn.Module, list[str]]:
        """The fake-quantized copy, distilled from the policy before the pipeline, and what that took."""
        teacher = lab.baseline or policy
        states = lab.collect(teacher, self.states_per_round)
        student = nn.Sequential(*standardized(policy, states))
        fake_quantize(student)
        calibrate(student, states)

        def as_policy() -> Policy:
            return policy.with_integer(to_integer(student), "qat under way")

        task = "quantization-aware training"
        done = Distillation(student, as_policy, teacher, states, lab, self, task).run()
        return student, ["finetune", *done.figures()]

    def _scratch(self, lab: Lab) -> tuple[nn.Module, list[str]]:
        """A fake-quantized actor from fresh weights, and how it was trained."""
        trained = lab.train(self.train_steps, adapt_actor=fake_quantize)
        student = trained.network.eval()
        if not is_calibrated(student):  # an algorithm without gradients tracks no ranges
            calibrate(student, lab.collect(trained, self.states_per_round))
        return student, [*trained.provenance]


def standardized(policy: Policy, states: Float32Array) -> list[nn.Module]:
    """The layers of a float policy behind a standardisation by these states, its inverse in the first layer.

    The function is the same. One uint8 range for all observations then suits each of them. A policy that
    standardises its observations already is left as it is.
    """
    network = policy.network
    if not isinstance(network, nn.Sequential) or not any(isinstance(layer, nn.Linear) for layer in network):
        raise PipelineError(
            f"This quantizer takes a row of linear layers, and the network is a {type(network).__name__}. "
            "Use a quantizer of ONNX graphs."
        )
    first = network[0]
    if type(first) is not nn.Linear:
        return list(network)
    x = torch.from_numpy(states).double()
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    std = torch.where(std < SMALLEST_STD, 1.0, std)
    with torch.no_grad():
        weight = first.weight.double()
        first.bias.copy_(first.bias + weight @ mean)
        first.weight.copy_(weight * std)
    return [Standardize(mean.float(), std.float()), *network]


def is_calibrated(student: nn.Module) -> bool:
    """Whether every fake-quantized layer has an input range."""
    return all(layer.batches > 0 for layer in student.modules() if isinstance(layer, FakeQuantLinear))


def calibrate(student: nn.Module, states: Float32Array) -> None:
    """Set the input range of every fake-quantized layer by one batch of states."""
    student.train()
    student(torch.from_numpy(states))
    student.eval()


def executed(student: nn.Module) -> PolicyFunction:
    """The fake-quantized module in torch as a function of numpy arrays."""

    @torch.no_grad()
    def act(states: Float32Array) -> Float32Array:
        actions: Float32Array = student(torch.from_numpy(states)).numpy()
        return actions

    return act
