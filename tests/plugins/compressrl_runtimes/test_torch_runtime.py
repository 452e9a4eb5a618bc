import runpy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from compressrl.errors import UsageError
from compressrl.networks import layers
from compressrl.testing import RuntimeContract, tiny_policy
from compressrl.testing.policies import states
from compressrl_runtimes.torch_runtime import TorchRuntime


class TestTorchRuntime(RuntimeContract):
    plugin = TorchRuntime
    forms = ("network", "foreign")


@pytest.mark.parametrize("form", ["integer", "graph"])
def test_a_quantized_policy_is_sent_to_onnx(form):
    with pytest.raises(UsageError, match=rf"in {form} form.*--runtime onnx"):
        TorchRuntime().load(tiny_policy(form))


def test_every_kind_of_layer_is_deployed(tmp_path):
    kinds = (
        layers.Standardize(np.zeros(3), np.full(3, 0.5), 1.0),
        layers.Linear(np.eye(3), np.ones(3)),
        *(layers.Activation(name) for name in layers.ACTIVATIONS),
        layers.Linear(np.ones((2, 3)), np.zeros(2)),
        layers.Rescale(np.full(2, 3.0), np.full(2, -1.0)),
        layers.Clip(np.full(2, -0.5), np.full(2, 3.0)),
    )
    policy = replace(tiny_policy(), layers=kinds)
    TorchRuntime().deploy(policy, tmp_path)
    deployed = runpy.run_path(str(tmp_path / "deployed.py"))["load"](str(tmp_path), 3, 2)
    for observation in states(20):
        assert deployed(memoryview(observation.copy())) == pytest.approx(policy(observation), abs=1e-6)


def test_one_thread_and_no_gradients():
    torch.set_num_threads(2)
    threads, recorded = [], []

    class Watching(nn.Linear):
        def forward(self, x):
            threads.append(torch.get_num_threads())
            recorded.append(super().forward(x).requires_grad)
            return super().forward(x)

    policy = tiny_policy().with_network(nn.Sequential(Watching(3, 2)), "watched")
    TorchRuntime().load(policy)(states(1)[0])
    assert threads == [1]
    assert recorded == [False]


def test_a_network_that_hands_out_its_input():
    class First(nn.Module):
        def forward(self, x):
            return x[:, :2]

    function = TorchRuntime().load(tiny_policy().with_network(First(), "first two"))
    one, two = states(2)
    kept = function(one)
    function(two)
    assert np.array_equal(kept, one[:2])


def test_a_read_only_observation_of_another_type():
    function = TorchRuntime().load(tiny_policy())
    observation = states(1)[0].astype(np.float64)
    observation.flags.writeable = False
    assert np.array_equal(function(observation), function(states(1)[0]))


def test_the_error_of_a_wrong_size_names_both():
    with pytest.raises(UsageError, match=r"\(3,\).*\(17,\)"):
        TorchRuntime().load(tiny_policy())(np.zeros(17, np.float32))
