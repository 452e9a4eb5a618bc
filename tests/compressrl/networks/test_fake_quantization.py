"""Fake-quantized layers: their arithmetic against the integer form, their gradients, their ranges."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compressrl.errors import PipelineError
from compressrl.networks.fake_quantization import FakeQuantLinear, fake_quantize, from_integer, to_integer
from compressrl.networks.modules import ACTIVATION_MODULES, Rescale, Standardize
from compressrl.testing import tiny_policy


def linear(inputs: int, outputs: int, seed: int = 0) -> nn.Linear:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, inputs**-0.5, generator=generator)
    return layer


def batch(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def calibrated(layer: nn.Linear, x: torch.Tensor, bits: int = 8) -> FakeQuantLinear:
    fake = FakeQuantLinear(layer, bits)
    fake.track(x)
    return fake.eval()


def network(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers = [linear(4, 16, 1), activation(), linear(16, 16, 2), activation(), linear(16, 2, 3)]
    return nn.Sequential(*layers, nn.Tanh(), Rescale(torch.ones(2), torch.zeros(2)))


def trained(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    module = fake_quantize(network(activation))
    module.train()
    module(batch(200, 4))
    return module.eval()


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100.0), st.floats(-50, 50), st.integers(2, 8))
def test_a_layer_computes_what_its_integer_form_computes(seed: int, spread: float, shift: float, bits: int):
    x = batch(50, 6, seed=seed) * spread + shift
    fake = calibrated(linear(6, 5, seed), x, bits)
    integer = fake.to_integer(None)
    with torch.no_grad():
        errors = np.abs(integer(x.numpy()) - fake(x).numpy()).max(axis=0)
    # Both round the bias to units of the accumulator, in single and double precision: they differ at ties.
    unit = integer.x_scale * integer.w_scale
    floats = 1e-5 * (spread + abs(shift)) + 1e-6 * np.abs(integer.bias)
    assert (errors <= unit + floats).all()


def test_weights_take_255_values_in_every_row_and_inputs_256():
    x = batch(1000, 64)
    fake = calibrated(linear(64, 3), x)
    integer = fake.to_integer(None)
    assert np.abs(integer.w8).max(axis=1).tolist() == [127, 127, 127]
    levels = integer.quantize_input(x.numpy())
    assert (levels.min(), levels.max()) == (0, 255)
    assert np.abs(integer(x.numpy()) - (x @ fake.weight.T + fake.bias).detach().numpy()).mean() < 0.02


def test_inputs_beyond_the_range_are_clipped():
    fake = calibrated(nn.Linear(1, 1), torch.tensor([[-1.0], [3.0]]))
    far = torch.tensor([[-1.0], [-100.0]]), torch.tensor([[3.0], [100.0]])
    with torch.no_grad():
        for x in far:
            assert fake(x)[0] == fake(x)[1]


@pytest.mark.parametrize("x", [torch.zeros(10, 3), torch.full((10, 3), 5.0), torch.full((10, 3), -1e-9)])
def test_inputs_that_never_move_have_a_scale(x: torch.Tensor):
    fake = calibrated(linear(3, 2), x)
    exact = (x @ fake.weight.T + fake.bias).detach().numpy()
    assert fake.to_integer(None)(x.numpy()) == pytest.approx(exact, abs=0.05)


def test_a_row_without_weights_gives_its_bias():
    layer = linear(3, 3)
    with torch.no_grad():
        layer.weight[0] = 0
        layer.weight[1] = 1e-12
        layer.bias.copy_(torch.tensor([0.7, -40.0, 0.0]))
    x = batch(20, 3)
    fake = calibrated(layer, x)
    found = fake.to_integer(None)(x.numpy())
    assert found[:, :2] == pytest.approx(np.tile([0.7, -40.0], (20, 1)), rel=1e-4)
    with torch.no_grad():
        assert found == pytest.approx(fake(x).numpy(), rel=1e-4, abs=1e-5)


def test_gradients_are_those_of_the_rounded_layer_and_stop_where_inputs_clip():
    fake = calibrated(linear(2, 3), torch.tensor([[-1.0, 1.0]]))
    x = torch.tensor([[0.3, 5.0], [-9.0, 0.2]], requires_grad=True)
    weights_of_outputs = batch(2, 3)
    (fake(x) * weights_of_outputs).sum().backward()
    integer = fake.to_integer(None)
    rounded_x = (integer.quantize_input(x.detach().numpy()) - float(integer.x_zero)) * integer.x_scale
    rounded_w = integer.w8 * integer.w_scale[:, None]
    assert fake.weight.grad.numpy() == pytest.approx(weights_of_outputs.numpy().T @ rounded_x, rel=1e-5)
    assert fake.bias.grad.numpy() == pytest.approx(weights_of_outputs.numpy().sum(axis=0), rel=1e-5)
    inside = np.array([[1, 0], [0, 1]])
    assert x.grad.numpy() == pytest.approx(inside * (weights_of_outputs.numpy() @ rounded_w), rel=1e-5)


def test_gradients_of_learnt_scales_are_those_of_learned_step_size_quantization():
    fake = calibrated(linear(2, 1), torch.tensor([[0.0, 1.0]]), bits=3)
    with torch.no_grad():
        fake.weight.copy_(torch.tensor([[0.37, -2.0]]))
        fake.set_bits(3, torch.tensor([0.2]))  # levels 1.85 and -10, integers 2 and -3
    x = torch.tensor([[1.0, 1.0]])
    fake(x).backward()
    assert fake.weight.grad.tolist() == [[1, 0]]
    # LSQ eq. 3, of the logarithm of the scale: round(v) - v inside, the largest integer outside.
    assert fake.w_change.grad.item() == pytest.approx(0.2 * ((2 - 1.85) + -3), rel=1e-4)
    assert fake.to_integer(None).w8.tolist() == [[2, -3]]


def test_scales_of_few_bits_cut_a_rare_large_weight_off():
    layer = linear(200, 1)
    with torch.no_grad():
        layer.weight[0, 0] = 6 * layer.weight.std()
    fake = FakeQuantLinear(layer, 4)
    ends = layer.weight.abs().max() / 7
    errors = [
        ((layer.weight / scale).round().clamp(-7, 7) * scale - layer.weight).square().sum()
        for scale in (fake.w_scale, ends)
    ]
    assert errors[0] < 0.8 * errors[1]


def test_a_row_of_zeros_can_learn_in_few_bits():
    layer = linear(6, 2)
    with torch.no_grad():
        layer.weight[0] = 0
    fake, x = FakeQuantLinear(layer, 4).train(), batch(64, 6)
    target = 0.3 * (x[:, :1] - x[:, 1:2])
    optimizer = torch.optim.Adam(fake.parameters(), 0.01)
    for _ in range(300):
        optimizer.zero_grad()
        (fake(x)[:, :1] - target).square().mean().backward()
        optimizer.step()
    assert (fake(x)[:, :1] - target).square().mean() < 0.1 * target.square().mean()


def test_a_layer_may_get_another_width():
    fake = calibrated(linear(4, 3), batch(10, 4), bits=4)
    before = fake.to_integer(None)
    fake.set_bits(8)
    assert [name for name, _ in fake.named_parameters()] == ["weight", "bias"]
    assert np.abs(fake.to_integer(None).w8).max() == 127
    fake.set_bits(4)
    assert (fake.to_integer(None).w8 == before.w8).all()
    assert (fake.to_integer(None).w_scale == before.w_scale).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_network_in_integers_and_back_is_the_same(bits: int):
    module = fake_quantize(network()).train()
    for layer in module:
        if isinstance(layer, FakeQuantLinear):
            layer.set_bits(bits)
    module(batch(200, 4))
    if bits < 8:
        with torch.no_grad():
            module[0].w_change.add_(0.5)  # so that no weight is the largest integer
    integer = to_integer(module)
    again = to_integer(from_integer(integer))
    for one, other in zip(integer.layers, again.layers, strict=True):
        assert (one.w8 == other.w8).all()
        assert other.w_scale == pytest.approx(one.w_scale, rel=1e-6)
        assert other.bits == one.bits


def hessian_vector_product(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    parameters = list(module.parameters())
    gradients = torch.autograd.grad(module(x).square().mean(), parameters, create_graph=True)
    along = [batch(*g.shape, seed=i) for i, g in enumerate(gradients)]
    slope = sum((g * v).sum() for g, v in zip(gradients, along, strict=True))
    return torch.cat([h.flatten() for h in torch.autograd.grad(slope, parameters)])


def test_hessian_vector_products_are_near_those_of_the_float_network():
    """TRPO's conjugate gradient differentiates twice."""
    x = batch(200, 4)
    found, expected = (hessian_vector_product(module, x) for module in (trained(nn.Tanh), network(nn.Tanh)))
    assert torch.cosine_similarity(found, expected, dim=0) > 0.99
    assert (found - expected).norm() < 0.1 * expected.norm()


def test_ranges_move_only_in_training_with_gradients():
    fake = FakeQuantLinear(linear(3, 2)).train()
    with torch.no_grad():
        fake(batch(5, 3))
    fake.eval()(batch(5, 3))
    assert fake.batches == 0
    fake.train()(batch(5, 3))
    assert fake.batches == 1


def test_a_range_is_the_mean_of_the_first_batches_and_holds_zero():
    fake = FakeQuantLinear(linear(1, 1)).train()
    for high in (2.0, 4.0, 9.0):
        fake(torch.tensor([[1.0], [high]]))
    assert float(fake.low) == 0
    assert float(fake.high) == pytest.approx(5.0)


def test_a_range_follows_its_inputs():
    fake = FakeQuantLinear(linear(1, 1)).train()
    for _ in range(100):
        fake(torch.tensor([[-1.0], [1.0]]))
    for _ in range(100):
        fake(torch.tensor([[-1.0], [10.0]]))
    assert float(fake.high) == pytest.approx(10.0, rel=0.01)
    assert float(fake.low) == pytest.approx(-1.0)


def test_a_range_that_is_set_stays():
    fake = FakeQuantLinear(linear(1, 1)).train()
    fake.set_range(0.5, 2.0)
    fake(torch.tensor([[-100.0], [100.0]]))
    assert (float(fake.low), float(fake.high)) == (0.0, 2.0)
    restored = from_integer(to_integer(nn.Sequential(fake.eval()))).train()
    restored(torch.tensor([[-100.0], [100.0]]))
    assert [float(restored[0].low), float(restored[0].high)] == pytest.approx([0.0, 2.0])


def test_inputs_are_not_rounded_before_a_range_is_known():
    fake, x = FakeQuantLinear(linear(3, 2)).eval(), batch(5, 3)
    with torch.no_grad():
        rounded = fake.weight / fake.w_scale.unsqueeze(1)
        weight = rounded.round() * fake.w_scale.unsqueeze(1)
        assert torch.allclose(fake(x), x @ weight.T + fake.bias, atol=1e-5)


def test_a_copy_is_independent_and_a_state_dict_carries_the_ranges():
    module = trained()
    twin = copy.deepcopy(module)
    fresh = fake_quantize(network())
    fresh.load_state_dict(module.state_dict())
    module.train()
    module(100 * batch(10, 4))
    x = batch(10, 4)
    with torch.no_grad():
        assert torch.equal(twin(x), fresh.eval()(x))
        assert not torch.equal(twin(x), module.eval()(x))


def test_an_integer_network_becomes_modules_without_drawing_numbers():
    network = tiny_policy("integer").integer
    before = torch.random.get_rng_state()
    from_integer(network)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_linear_layer_is_replaced_in_place_without_drawing_numbers():
    inner = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU())
    module = nn.Sequential(inner, nn.ModuleDict({"head": nn.Linear(3, 2)})["head"])
    weight = inner[0].weight
    before = torch.random.get_rng_state()
    assert fake_quantize(module) is module
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [type(m) for m in module.modules() if isinstance(m, nn.Linear)] == [FakeQuantLinear] * 2
    assert torch.equal(inner[0].weight, weight)
    assert inner[0].weight is not weight
    assert torch.equal(inner[0].bias, torch.zeros(3))


def test_a_linear_layer_alone_is_replaced():
    assert isinstance(fake_quantize(nn.Linear(2, 2)), FakeQuantLinear)


@pytest.mark.parametrize("activation", ACTIVATION_MODULES.values())
def test_a_network_converts_to_integers(activation: type[nn.Module]):
    module, x = trained(activation), batch(100, 4)
    integer = to_integer(module)
    with torch.no_grad():
        difference = np.abs(integer(x.numpy()) - module(x).numpy())
    # One level of a hidden unit, where float rounding crosses a boundary, in few states.
    assert difference.mean() < 1e-4
    assert [layer.activation for layer in integer.layers[:-1]] != [None, None]
    assert integer.layers[-1].activation is None


def test_nested_rows_and_float_layers_around_are_kept():
    standardize = Standardize(torch.zeros(4), torch.ones(4), 5.0)
    module = nn.Sequential(standardize, nn.Sequential(nn.Identity(), *trained()[:4]), *trained()[4:])
    integer = to_integer(module)
    assert [layer.kind for layer in integer.inputs] == ["standardize"]
    assert len(integer.layers) == 3
    assert [layer.kind for layer in integer.outputs] == ["activation", "rescale"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: [row[0], nn.LayerNorm(16), *row[1:]], "LayerNorm, ReLU"),
        (lambda row: [row[0], nn.GELU(), *row[2:]], "GELU"),
        (lambda row: [*row, nn.Softmax(dim=-1)], "before or after"),
        (lambda row: [nn.LayerNorm(4), *row], "before or after"),
        (lambda row: [FakeQuantLinear(row[0]), *row[1:]], "no data"),
        (lambda row: [nn.ReLU()], "no fake-quantized layer"),
    ],
)
def test_what_has_no_integer_form_is_an_error_in_words(change, message: str):
    with pytest.raises(PipelineError, match=message):
        to_integer(nn.Sequential(*change(list(trained()))))
