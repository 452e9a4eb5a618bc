"""`distill`: what a pruner or quantizer broke is learnt again from the policy before the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from compressrl import provenance
from compressrl.errors import PipelineError
from compressrl.lab import Lab
from compressrl.networks.fake_quantization import from_integer, to_integer
from compressrl.policy import Form, Policy
from compressrl_distillation.distillation import Distillation, DistillationOptions, one_thread


@dataclass(frozen=True, kw_only=True)
class OnPolicyDistillation(DistillationOptions):
    """Distillation of the original policy into the one at hand, float or integer (learnt under rounding).

    Of a stochastic algorithm's policy the mean action is what is matched.
    """

    takes: ClassVar[tuple[Form, ...]] = ("network", "integer")
    trains: ClassVar[bool] = True
    candidates: ClassVar[tuple[str, ...]] = ("ptsq:bits=4+distill",)

    def compress(self, policy: Policy, lab: Lab) -> Policy:
        """Raises PipelineError on a foreign network or graph: gradients need a row of known layers."""
        teacher = lab.baseline or policy
        student = trainable(policy)

        def as_policy() -> Policy:
            if policy.form == "integer":
                return policy.with_integer(to_integer(student), "distillation under way")
            return policy.with_network(student, "distillation under way")

        with one_thread():
            used = lab.environment_steps_used
            states = lab.collect(teacher, self.states_per_round)
            gathered = self.states_per_round
            task = "distillation"
            done = Distillation(student, as_policy, teacher, states, lab, self, task, gathered).run()
            steps = lab.environment_steps_used - used
            step = provenance.step("distill", self, *done.figures(), f"{steps} environment steps")
            if policy.form == "integer":
                return policy.with_integer(to_integer(student), step)
            return policy.with_network(student, step)


def trainable(policy: Policy) -> nn.Sequential:
    """The policy's network as modules with gradients; an integer one is fake-quantized."""
    if policy.form == "integer":
        return from_integer(policy.integer)
    network = policy.network
    if not isinstance(network, nn.Sequential) or not any(isinstance(m, nn.Linear) for m in network):
        raise PipelineError(
            f"Distillation takes a row of linear layers, and the network is a {type(network).__name__}."
        )
    return network.requires_grad_(True)
