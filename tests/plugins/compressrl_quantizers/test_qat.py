"""QAT: both modes, their integer results, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from compressrl.errors import OptionError, PipelineError, UsageError
from compressrl.lab import Lab
from compressrl.networks import layers, model_size, onnx_graph
from compressrl.policy import Policy
from compressrl.testing import CompressorContract, RandomSearch, tiny_policy
from compressrl.testing.policies import states
from compressrl_algorithms.sac import SAC
from compressrl_algorithms.td3 import TD3
from compressrl_algorithms.trpo import TRPO
from compressrl_quantizers.qat import QuantizationAwareTraining, standardized

QUICK = {"rounds": 1, "steps_per_round": 50, "batch_size": 64, "states_per_round": 100, "check_episodes": 2}


def qat(**options) -> QuantizationAwareTraining:
    return QuantizationAwareTraining(**(QUICK | options))


def scratch(**options) -> QuantizationAwareTraining:
    return QuantizationAwareTraining(mode="scratch", states_per_round=100, **options)


def compressed(policy: Policy, **options) -> Policy:
    return qat(**options).compress(policy, Lab(policy.env_id, baseline=policy))


class TestFinetune(CompressorContract):
    plugin = QuantizationAwareTraining
    options = QUICK
    tolerance = 0.02  # one level of a hidden unit, where float rounding crosses a boundary


class TestScratch(CompressorContract):
    plugin = QuantizationAwareTraining
    options = {"mode": "scratch", "train_steps": 100, "states_per_round": 100}
    algorithm = RandomSearch()
    tolerance = 0.02


def test_it_runs_by_integer_kernels_at_little_more_than_a_quarter_of_the_size():
    policy = tiny_policy(hidden=(64, 64))
    result = compressed(policy)
    found = onnx_graph.operators(result.to_onnx())
    assert found["QGemm"] == 3
    before, after = model_size.measure(policy), model_size.measure(result)
    assert (after.parameters, after.bits) == (before.parameters, 8)
    assert after.size_bytes < 0.35 * before.size_bytes


def test_finetuning_keeps_what_the_policy_can_do(capable: Policy):
    lab = Lab(capable.env_id, baseline=capable)
    result = qat(steps_per_round=100).compress(capable, lab)
    seeds = range(50)
    kept, had = (lab.rollout(policy, 50, seeds).mean_return for policy in (result, capable))
    assert kept > 0.97 * had


def test_finetuning_learns_from_the_policy_before_the_pipeline(capable: Policy):
    """A pruned policy gets back what pruning took."""
    network = capable.network
    with torch.no_grad():
        network[0].weight[::2] = 0
    pruned = capable.with_network(network, "every other neuron cut")
    lab = Lab(capable.env_id, baseline=capable)
    result = qat(rounds=2, steps_per_round=300, learning_rate=0.01).compress(pruned, lab)
    visited = lab.collect(result, 500)
    before, after = (np.abs(p(visited) - capable(visited)).mean() for p in (pruned, result))
    assert after < 0.5 * before


def test_the_provenance_tells_options_and_figures():
    policy = tiny_policy()
    lab = Lab(policy.env_id, baseline=policy)
    step = qat().compress(policy, lab).provenance[-1]
    assert step.startswith("qat:rounds=1,steps_per_round=50,")
    assert "finetune, 1 rounds" in step
    assert "50 updates" in step
    proof = 200
    assert f"{lab.environment_steps_used - proof} environment steps" in step


@pytest.mark.parametrize("form", ["integer", "graph"])
def test_a_quantized_policy_is_refused(form: str):
    with pytest.raises(PipelineError, match="Put the quantizer last"):
        compressed(tiny_policy(form))


def test_a_foreign_network_is_refused_in_words():
    with pytest.raises(PipelineError, match="ResidualNetwork"):
        compressed(tiny_policy("foreign"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(bad: float):
    policy = tiny_policy()
    network = policy.network
    with torch.no_grad():
        network[1].weight[0, 0] = bad
    with pytest.raises(UsageError, match=r"NaN or infinity \(layers.1.weight\)"):
        compressed(policy.with_network(network, "broken"))


def without_standardisation(policy: Policy) -> Policy:
    assert policy.layers is not None
    return replace(policy, layers=policy.layers[1:])


def test_standardising_leaves_the_function_as_it_was():
    policy = without_standardisation(tiny_policy())
    seen = states(500) * np.array([1, 100, 0.001], np.float32) + np.array([0, 50, -3], np.float32)
    row = standardized(policy, seen)
    with torch.no_grad():
        found = nn.Sequential(*row)(torch.from_numpy(seen)).numpy()
        inside = row[0](torch.from_numpy(seen))
    assert found == pytest.approx(policy(seen), abs=1e-4)
    assert inside.mean(dim=0).numpy() == pytest.approx(0, abs=1e-3)
    assert inside.std(dim=0).numpy() == pytest.approx(1, abs=1e-2)


def test_a_feature_that_stands_still_keeps_its_unit():
    policy = without_standardisation(tiny_policy())
    seen = states(500)
    seen[:, 1] = 0.7
    first = standardized(policy, seen)[0]
    assert first.std[1] == 1
    assert torch.isfinite(first(torch.from_numpy(seen))).all()
    moved = seen.copy()
    moved[:, 1] = 0.9
    with torch.no_grad():
        found = nn.Sequential(*standardized(policy, seen))(torch.from_numpy(moved)).numpy()
    assert found == pytest.approx(policy(moved), abs=1e-4)


def test_a_feature_that_the_policy_ignores_does_not_reach_the_range_of_the_others():
    policy = without_standardisation(tiny_policy())
    network = policy.network
    with torch.no_grad():
        network[0].weight[:, 1] = 0
    policy = policy.with_network(network, "blind to the second feature")
    seen = states(500)
    seen[7, 1] = 1e6
    row = standardized(policy, seen)
    with torch.no_grad():
        assert row[0](torch.from_numpy(seen)).abs().amax(dim=0)[1] < 1e-20
        found = nn.Sequential(*row)(torch.from_numpy(seen)).numpy()
    assert found == pytest.approx(policy(seen), abs=1e-4)


def test_a_policy_that_standardises_is_left_as_it_is():
    policy = tiny_policy()
    assert [type(m) for m in standardized(policy, states())] == [type(m) for m in policy.network]


def test_scratch_starts_from_fresh_weights():
    policy = tiny_policy(hidden=(16,))
    lab = Lab(policy.env_id, baseline=policy, algorithm=RandomSearch(hidden=48))
    result = scratch(train_steps=50).compress(policy, lab)
    assert [layer.w8.shape for layer in result.integer.layers] == [(48, 3), (2, 48)]
    assert "random search: 50 environment steps" in result.provenance[-1]
    assert result.provenance[: len(policy.provenance)] == policy.provenance


def test_scratch_takes_few_bits():
    policy = tiny_policy()
    algorithm = TRPO(hidden="16x16", n_steps=100)
    lab = Lab(policy.env_id, baseline=policy, algorithm=algorithm)
    result = scratch(train_steps=200, bits=3).compress(policy, lab)
    assert [layer.bits for layer in result.integer.layers] == [8, 3, 8]
    assert np.abs(result.integer.layers[1].w8).max() == 3


def test_scratch_without_an_algorithm_says_what_is_missing():
    with pytest.raises(PipelineError, match="--algo"):
        scratch().compress(tiny_policy(), Lab(tiny_policy().env_id, baseline=tiny_policy()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "algorithm",
    [
        SAC(hidden="32x32", learning_starts=200, batch_size=64),
        TD3(hidden="32x32", learning_starts=200, batch_size=64),
        TRPO(hidden="32x32", n_steps=500),
    ],
    ids=lambda algorithm: algorithm.name,
)
def test_algorithms_learn_with_a_fake_quantized_actor(algorithm):
    policy = tiny_policy()
    lab = Lab(policy.env_id, baseline=policy, algorithm=algorithm)
    result = scratch(train_steps=6000).compress(policy, lab)
    assert lab.rollout(result, 20).mean_return > 15  # of 25; untrained: 1
    assert isinstance(result.integer.layers[0].x_scale, float)
    kinds = {layer.name for layer in result.integer.outputs if isinstance(layer, layers.Activation)}
    assert kinds == ({"tanh"} if algorithm.name != "trpo" else set())


def test_options_without_an_effect_are_refused():
    with pytest.raises(OptionError, match="mode=scratch does not distil; leave rounds, seconds out"):
        scratch(rounds=99, seconds=5.0)
    with pytest.raises(OptionError, match="Only mode=scratch trains anew; leave train_steps out"):
        qat(train_steps=5)
