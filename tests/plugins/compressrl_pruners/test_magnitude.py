import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compressrl import Lab, options
from compressrl.errors import OptionError, PipelineError
from compressrl.networks.modules import Clip, Rescale, Standardize
from compressrl.testing import TINY, CompressorContract, checks, tiny_policy
from compressrl.testing.policies import states
from compressrl_pruners.magnitude import L1Pruning, L2Pruning

BOTH = pytest.mark.parametrize("plugin", [L1Pruning, L2Pruning])
LAB = Lab(TINY)


class TestL1(CompressorContract):
    plugin = L1Pruning
    options = {"preset": "paper"}


class TestL2(CompressorContract):
    plugin = L2Pruning
    options = {"preset": "paper"}


class TestMost(CompressorContract):
    plugin = L2Pruning
    options = {"preset": "paper", "ratio": 0.95, "scope": "global", "importance": "row"}


def linears(policy):
    return [layer for layer in policy.layers if layer.kind == "linear"]


def widths(policy):
    return [layer.weight.shape[0] for layer in linears(policy)]


def scores(policy, p, importance):
    """Of the neurons of each hidden layer, by the definition."""
    row = linears(policy)
    result = []
    for layer, reader in pairwise(row):
        incoming = (np.abs(layer.weight) ** p).sum(axis=1)
        outgoing = (np.abs(reader.weight) ** p).sum(axis=0)
        group = (incoming + outgoing) / 2
        result.append(incoming if importance == "row" else group / group.mean())
    return result


def sliced(policy, keep):
    """The policy's linear layers with only these hidden neurons."""
    row = linears(policy)
    inputs = [np.arange(row[0].weight.shape[1]), *keep]
    outputs = [*keep, np.arange(len(row[-1].bias))]
    return [(layer.weight[o][:, i], layer.bias[o]) for layer, i, o in zip(row, inputs, outputs, strict=True)]


def assert_linears(policy, expected):
    for layer, (weight, bias) in zip(linears(policy), expected, strict=True):
        assert np.array_equal(layer.weight, weight)
        assert np.array_equal(layer.bias, bias)


def weakened(policy, factor):
    """The policy with smaller weights in its first layer."""
    network = policy.network
    with torch.no_grad():
        network[1].weight *= factor
    return policy.with_network(network, "weakened")


@pytest.mark.parametrize("importance", ["group", "row"])
@BOTH
def test_each_layer_loses_its_neurons_of_smallest_norm_and_keeps_the_others_weights(plugin, importance):
    policy = tiny_policy(hidden=(20, 30))
    pruned = plugin(preset="paper", ratio=0.4, importance=importance).compress(policy, LAB)
    keep = [
        np.sort(np.argsort(layer)[math.ceil(0.4 * len(layer)) :])
        for layer in scores(policy, plugin.p, importance)
    ]
    assert [len(k) for k in keep] == [12, 18]
    assert_linears(pruned, sliced(policy, keep))
    others = [layer for layer in pruned.layers if layer.kind != "linear"]
    before = [layer for layer in policy.layers if layer.kind != "linear"]
    assert [layer.kind for layer in others] == [layer.kind for layer in before]
    assert np.array_equal(others[0].mean, before[0].mean)
    assert np.array_equal(others[-1].scale, before[-1].scale)


@BOTH
def test_removed_neurons_are_those_whose_absence_the_same_network_shows(plugin):
    policy = tiny_policy(hidden=(16, 16))
    keep = [np.sort(np.argsort(layer)[8:]) for layer in scores(policy, plugin.p, "group")]
    network = policy.network
    with torch.no_grad():
        for layer, kept in zip([m for m in network if isinstance(m, nn.Linear)][:-1], keep, strict=True):
            mask = torch.zeros(16)
            mask[kept] = 1
            layer.weight *= mask[:, None]
            layer.bias *= mask
        masked = network(torch.from_numpy(states())).numpy()
    np.testing.assert_allclose(plugin(preset="paper").compress(policy, LAB)(states()), masked, atol=1e-6)


def test_the_criteria_differ():
    policy = tiny_policy(hidden=(40, 40))
    variants = [(L1Pruning, "row"), (L2Pruning, "row"), (L1Pruning, "group"), (L2Pruning, "group")]
    kept = {
        tuple(
            np.concatenate(
                [layer.bias for layer in linears(c(preset="paper", importance=i).compress(policy, LAB))]
            )
        )
        for c, i in variants
    }
    assert len(kept) == 4


@BOTH
def test_global_ranking_spreads_the_cut_over_the_layers_by_their_scores(plugin):
    policy = weakened(tiny_policy(hidden=(20, 60)), 0.3)
    pruned = plugin(preset="paper", ratio=0.5, scope="global", importance="row").compress(policy, LAB)
    both = scores(policy, plugin.p, "row")
    threshold = np.sort(np.concatenate(both))[40]
    keep = [np.flatnonzero(layer >= threshold) for layer in both]
    keep = [k if len(k) else np.array([layer.argmax()]) for k, layer in zip(keep, both, strict=True)]
    assert sum(widths(pruned)[:-1]) == 40
    assert widths(pruned)[0] < 10
    assert set(linears(pruned)[0].bias) >= set(linears(policy)[0].bias[keep[0]])


def test_global_ranking_leaves_one_neuron_of_a_hopeless_layer():
    policy = weakened(tiny_policy(hidden=(20, 60)), 1e-6)
    pruned = L2Pruning(preset="paper", ratio=0.5, scope="global", importance="row").compress(policy, LAB)
    assert widths(pruned) == [1, 39, 2]
    checks.assert_acts_within_bounds(pruned, states())


@settings(max_examples=40, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 24), min_size=1, max_size=3),
    ratio=st.floats(0.05, 0.95),
    scope=st.sampled_from(["layer", "global"]),
    round_to=st.sampled_from([1, 4]),
)
def test_widths_are_as_asked_whatever_the_network(hidden, ratio, scope, round_to):
    policy = tiny_policy(hidden=hidden)
    pruner = L2Pruning(preset="paper", ratio=ratio, scope=scope, round_to=round_to)
    try:
        *kept, actions = widths(pruner.compress(policy, LAB))
    except PipelineError:
        # Only where rounding leaves every layer as it was.
        floors = [max(n - math.ceil(n * ratio - 1e-9), 1) for n in hidden]
        assert (
            all(n == 1 or -(-f // round_to) * round_to >= n for n, f in zip(hidden, floors, strict=True))
            or scope == "global"
        )
        return
    assert actions == 2
    assert all(1 <= k <= n and (k == n or k % round_to == 0) for k, n in zip(kept, hidden, strict=True))
    if round_to == 1:
        asked = sum(hidden) * ratio if scope == "global" else 0
        total = sum(hidden) - math.ceil(asked - 1e-9)
        layer_by_layer = [max(n - math.ceil(n * ratio - 1e-9), 1) for n in hidden]
        assert kept == layer_by_layer if scope == "layer" else sum(kept) == max(total, len(hidden))


@pytest.mark.parametrize("ratio", [r / 100 for r in range(5, 100, 5)])
def test_every_ratio_of_the_range_removes_that_share(ratio):
    policy = tiny_policy(hidden=(100, 20))
    assert widths(L1Pruning(preset="paper", ratio=ratio).compress(policy, LAB)) == [
        round(100 * (1 - ratio)),
        round(20 * (1 - ratio)),
        2,
    ]


@BOTH
@pytest.mark.parametrize("ratio", [0.04, 0.96, 1.0, math.nan])
def test_a_ratio_out_of_range_is_refused(plugin, ratio):
    with pytest.raises(OptionError, match=r"0\.05\.\.0\.95"):
        options.build(plugin, "l1", {"ratio": ratio})


def test_the_provenance_counts():
    policy = tiny_policy(hidden=(256, 256))
    step = L2Pruning(preset="paper").compress(policy, LAB).provenance[-1]
    assert step == "l2:preset=paper (67330 -> 17282 parameters, hidden 256,256 -> 128,128)"
    before = 3 * 256 + 256 + 256 * 256 + 256 + 256 * 2 + 2
    after = 3 * 128 + 128 + 128 * 128 + 128 + 128 * 2 + 2
    assert (before, after) == (67330, 17282)
    step = L2Pruning(preset="paper").compress(tiny_policy(hidden=(20, 40, 30)), LAB).provenance[-1]
    assert step.endswith("hidden 20,40,30 -> 10,20,15)")
    step = (
        L1Pruning(preset="paper", ratio=0.25, scope="global", importance="row", round_to=8)
        .compress(policy, LAB)
        .provenance[-1]
    )
    assert step.startswith("l1:ratio=0.25,preset=paper,scope=global,importance=row,round_to=8 (67330 -> ")


def test_kept_widths_are_multiples():
    policy = tiny_policy(hidden=(100, 64))
    assert widths(L2Pruning(preset="paper", ratio=0.5, round_to=32).compress(policy, LAB)) == [64, 32, 2]


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (tiny_policy(hidden=()), "no hidden linear layer"),
        (tiny_policy("integer"), r"float network.*a tiny integer network"),
        (tiny_policy("graph"), r"float network.*graph form"),
        (tiny_policy(hidden=(1, 1)), r"nothing to remove from hidden layers of 1,1"),
    ],
)
def test_what_cannot_be_pruned_is_told(policy, told):
    with pytest.raises(PipelineError, match=told):
        L2Pruning(preset="paper").compress(policy, LAB)


def test_nothing_to_remove_after_rounding_is_told():
    with pytest.raises(PipelineError, match="round_to=32"):
        L2Pruning(preset="paper", ratio=0.05, round_to=32).compress(tiny_policy(), LAB)


def test_a_caller_under_no_grad_gets_the_same():
    policy = tiny_policy()
    with torch.no_grad():
        quiet = L2Pruning(preset="paper").compress(policy, LAB)
    assert quiet.to_bytes() == L2Pruning(preset="paper").compress(policy, LAB).to_bytes()


def test_pruning_twice():
    policy = L2Pruning(preset="paper").compress(tiny_policy(), LAB)
    again = L2Pruning(preset="paper").compress(policy, LAB)
    assert widths(again) == [8, 8, 2]
    assert len(again.provenance) == 3


# --- policies as the algorithms make them


@pytest.mark.parametrize("activation", ["relu", "tanh", "elu", "sigmoid", "silu"])
def test_every_activation(activation):
    pruned = L2Pruning(preset="paper").compress(tiny_policy(activation=activation), LAB)
    assert widths(pruned) == [16, 16, 2]
    checks.assert_acts_within_bounds(pruned, states())


def test_an_on_policy_network_with_clipped_output():
    low, high = torch.tensor([-1.0, -0.5]), torch.tensor([0.5, 2.0])
    torch.manual_seed(0)
    body = [Standardize(torch.zeros(3), torch.ones(3), 10.0), nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 10)]
    network = nn.Sequential(*body, nn.Tanh(), nn.Linear(10, 2), Clip(low, high))
    pruned = L1Pruning(preset="paper").compress(tiny_policy().with_network(network, "clipped"), LAB)
    assert widths(pruned) == [6, 5, 2]
    checks.assert_acts_within_bounds(pruned, 10 * states())


# --- networks of users


def foreign(network):
    return tiny_policy().with_network(network, "foreign")


def prunes_to(network, *linear_shapes):
    pruned = L2Pruning(preset="paper").compress(foreign(network), LAB)
    found = [tuple(m.weight.shape) for m in pruned.network.modules() if isinstance(m, nn.Linear)]
    assert found == list(linear_shapes)
    assert pruned.network(torch.zeros(5, 3)).shape == (5, 2)
    return pruned


class Scaled(nn.Module):
    """Two heads, a layer norm, a skip connection to the output layer's input."""

    def __init__(self):
        super().__init__()
        self.enter, self.norm, self.middle = nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.mean, self.gate = nn.Linear(8, 2), nn.Linear(8, 2)
        self.scale = Rescale(torch.ones(2), torch.zeros(2))

    def forward(self, x):
        h = torch.relu(self.norm(self.enter(x)))
        h = h + torch.tanh(self.middle(h))
        return self.scale(torch.tanh(self.mean(h)) * torch.sigmoid(self.gate(h)))


def test_coupled_layers_lose_the_same_neurons_and_every_head_keeps_its_size():
    pruned = prunes_to(Scaled(), (4, 3), (4, 4), (2, 4), (2, 4))
    assert pruned.network.norm.normalized_shape == (4,)
    assert "hidden 8 -> 4" in pruned.provenance[-1]


def test_frozen_parameters_are_pruned_too():
    prunes_to(Scaled().requires_grad_(False), (4, 3), (4, 4), (2, 4), (2, 4))


def test_the_pruned_foreign_network_can_be_trained_on():
    network = L2Pruning(preset="paper").compress(foreign(Scaled()), LAB).network
    network(torch.ones(1, 3)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


class ToItsInput(nn.Module):
    """Its hidden layer is added to the observation, whose size is not ours to change."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.out(x + torch.relu(self.hidden(x)))


class HiddenIsAction(nn.Module):
    """The first hidden neurons are added to the action."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, x):
        h = self.hidden(x)
        return torch.cat([h, self.out(h)], dim=1)[:, :2]


class ReadsItsOwnWidth(nn.Module):
    """It gives a quarter as many actions as it has hidden neurons."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.hidden(x)
        return self.out(h)[:, : h.shape[1] // 4]


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        raise ValueError("no forward pass today")


class NoLinear(nn.Module):
    def forward(self, x):
        return x[:, :2]


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (ToItsInput, "ToItsInput does not run without hidden neurons"),
        (HiddenIsAction, "no hidden linear layer"),
        (ReadsItsOwnWidth, r"ReadsItsOwnWidth gives \(1,\) actions"),
        (Untraceable, "cannot trace the Untraceable .*no forward pass today"),
        (NoLinear, "no hidden linear layer"),
    ],
)
def test_a_network_that_cannot_be_pruned_is_refused_in_words(network, told):
    with pytest.raises(PipelineError, match=told):
        L2Pruning(preset="paper").compress(foreign(network()), LAB)
