"""`distill` as a stage of pipelines."""

from __future__ import annotations

import numpy as np
import pytest

from compressrl import pipeline
from compressrl.errors import PipelineError
from compressrl.lab import Lab
from compressrl.networks import onnx_graph
from compressrl.testing import CompressorContract, tiny_policy
from compressrl_distillation.distill import OnPolicyDistillation
from compressrl_quantizers.qat import QuantizationAwareTraining

QUICK = {"rounds": 2, "steps_per_round": 100, "states_per_round": 200, "check_episodes": 3, "batch_size": 64}
TYPED = "distill:" + ",".join(f"{key}={value}" for key, value in QUICK.items())


class TestDistillContract(CompressorContract):
    plugin = OnPolicyDistillation
    options = QUICK


def mean_return(policy):
    return Lab(policy.env_id).rollout(policy, 20, list(range(20))).mean_return


def test_a_pruned_policy_recovers(capable):
    def compressed(text):
        return pipeline.run(pipeline.parse(text), capable, Lab(capable.env_id, baseline=capable))

    pruned, recovered = (
        compressed("l2:ratio=0.7,preset=paper"),
        compressed(f"l2:ratio=0.7,preset=paper+{TYPED},learning_rate=0.01"),
    )
    assert mean_return(pruned) < 0.7 * mean_return(capable)
    assert mean_return(recovered) > 0.9 * mean_return(capable)
    widths = [
        [layer.weight.shape for layer in p.layers if hasattr(layer, "weight")] for p in (pruned, recovered)
    ]
    assert widths[0] == widths[1], "it stays as narrow as it was"


def test_an_integer_policy_is_learnt_under_its_rounding(capable):
    coarse = tiny_policy("integer", seed=3)
    lab = Lab(capable.env_id, baseline=capable)
    learnt = OnPolicyDistillation(**QUICK | {"learning_rate": 0.01}).compress(coarse, lab)
    assert learnt.form == "integer"
    assert mean_return(learnt) > mean_return(coarse)
    onnx_graph.assert_integer_kernels(learnt.to_onnx())
    assert {layer.bits for layer in learnt.integer.layers} == {8}


def test_no_round_gives_the_integer_policy_back():
    policy = tiny_policy("integer")
    same = OnPolicyDistillation(rounds=0).compress(policy, Lab(policy.env_id, baseline=policy))
    for before, after in zip(policy.integer.layers, same.integer.layers, strict=True):
        assert np.array_equal(before.w8, after.w8)
        assert (before.x_zero, before.activation) == (after.x_zero, after.activation)
        assert np.isclose(before.x_scale, after.x_scale)


@pytest.mark.parametrize("plugin", [OnPolicyDistillation, QuantizationAwareTraining])
def test_the_first_states_are_paid_from_the_budget(capable, plugin):
    lab = Lab(capable.env_id, baseline=capable)
    options = QUICK | {"rounds": 20, "steps_per_round": 5, "environment_steps": 900}
    step = plugin(**options).compress(capable, lab).provenance[-1]
    assert "stopped: budget used up" in step
    assert 900 - 275 < int(step.split()[-3]) <= 900


def test_the_provenance_says_what_was_done(capable):
    lab = Lab(capable.env_id, baseline=capable)
    step = OnPolicyDistillation(**QUICK).compress(capable, lab).provenance[-1]
    assert step.startswith("distill:")
    assert "stopped:" in step
    assert f"{lab.environment_steps_used} environment steps" in step


def test_a_foreign_network_is_named():
    policy = tiny_policy("foreign")
    with pytest.raises(PipelineError, match=r"row of linear layers.*ResidualNetwork"):
        OnPolicyDistillation().compress(policy, Lab(policy.env_id, baseline=policy))
