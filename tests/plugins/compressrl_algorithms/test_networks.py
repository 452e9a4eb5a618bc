import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from compressrl.errors import OptionError, PipelineError
from compressrl.networks.modules import Clip, Rescale
from compressrl.policy import Policy
from compressrl_algorithms import networks
from compressrl_algorithms.adam import Adam
from compressrl_algorithms.kernel import fastest


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def policy_of(network):
    low, high = np.array([-2.0], np.float32), np.array([4.0], np.float32)
    return Policy("Pendulum-v1", "sac", 3, low, high, ()).with_network(network, "made")


@pytest.mark.parametrize(
    ("text", "widths"), [("256x256", [256, 256]), ("7", [7]), ("64x32x16", [64, 32, 16])]
)
def test_hidden_widths(text, widths):
    assert networks.hidden_widths(text) == widths


@pytest.mark.parametrize("text", ["", "x", "256,256", "64x0", "64x-1", "many"])
def test_hidden_widths_are_refused_in_one_line(text):
    with pytest.raises(OptionError, match="256x256"):
        networks.hidden_widths(text)


@pytest.mark.parametrize(
    ("text", "read"),
    [("all", [0, 1, 2, 3]), ("0-2", [0, 1, 2]), ("3", [3]), ("0-1/3", [0, 1, 3]), ("2-3/0", [0, 2, 3])],
)
def test_observation_mask(text, read):
    assert networks.observation_mask(text, 4).nonzero().flatten().tolist() == read


@pytest.mark.parametrize("text", ["", "none", "0-", "-1", "1,2", "0-4", "4", "2-1", "0//2", "0-1-2", "0.5"])
def test_positions_that_cannot_be_read_are_refused_in_one_line(text):
    with pytest.raises(OptionError, match=rf"^observations={text} is not valid[^\n]*$"):
        networks.observation_mask(text, 4)


def test_weights_come_from_the_generator_and_from_nothing_else():
    before = torch.random.get_rng_state()
    one, same = networks.mlp([3, 8, 2], generator()), networks.mlp([3, 8, 2], generator())
    other = networks.mlp([3, 8, 2], generator(1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one[0].weight, same[0].weight)
    assert torch.equal(one[2].bias, same[2].bias)
    assert not torch.equal(one[0].weight, other[0].weight)


def test_weights_are_spread_as_torch_spreads_them():
    layer, reference = networks.linear(100, 400, generator()), nn.Linear(100, 400)
    for ours, theirs in ((layer.weight, reference.weight), (layer.bias, reference.bias)):
        assert ours.abs().max() <= 0.1
        assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.2)


@pytest.fixture
def critics():
    return networks.Critics([5, 8, 8], 2, generator())


def inputs(rows=6):
    return torch.randn(rows, 3, generator=generator(1)), torch.randn(rows, 2, generator=generator(2))


def test_critics_differ_and_the_first_can_be_asked_alone(critics):
    values = critics(*inputs())
    assert values.shape == (2, 6)
    assert not torch.allclose(values[0], values[1])
    assert float(critics.value_loss(*inputs(), count=1)[0]) == pytest.approx(-values[0].mean().item())
    assert float(critics.value_loss(*inputs())[0]) == pytest.approx(-values.amin(dim=0).mean().item())


def test_the_gradient_of_the_value_is_that_of_the_lower_critic(critics):
    critics.double()
    observation, action = (x.double() for x in inputs())
    # On one level, so that each of them is the lower one somewhere.
    values = critics(observation, action)
    critics.stack.layers()[-1].bias.data[0] += (values[1] - values[0]).mean()
    lowest = critics(observation, action).argmin(dim=0)
    assert 0 < lowest.sum() < len(lowest)
    small, (_, gradient) = 1e-7, critics.value_loss(observation, action)
    for column in range(2):
        step = small * torch.eye(2).double()[column]
        change = critics(observation, action + step) - critics(observation, action - step)
        expected = -change.gather(0, lowest[None])[0] / (2 * small) / 6
        torch.testing.assert_close(gradient[:, column], expected, rtol=1e-4, atol=1e-6)


def test_a_regression_is_a_descent_on_half_the_squared_errors(critics):
    (observation, action), target = inputs(), torch.linspace(-1, 1, 6)
    optimizer = Adam(critics.parameters(), 1e-2)
    half = 0.5 * (critics(observation, action) - target).square().mean(dim=1).sum()
    losses = [critics.regress(observation, action, target, optimizer) for _ in range(300)]
    assert float(losses[0]) == pytest.approx(half.item())
    assert losses[-1] < 0.05 * losses[0]


def actor(*, numbers="float32", device="cpu", heads=1):
    row = networks.mlp([3, 16, 16, 2], generator())
    more = [networks.linear(16, 2, generator(n)) for n in range(1, heads)]
    return networks.Actor(row[:-1], [row[-1], *more], numbers=numbers, device=device)


def test_an_actors_modules_learn_with_its_stack():
    one, observation = actor(heads=2), inputs()[0]
    assert one.stack is not None
    torch.testing.assert_close(one(observation), one.plain(observation))
    optimizer = Adam(one.learnt(), 1e-3)
    for _ in range(5):
        one.descend(2 * one.learn(observation), optimizer)
    torch.testing.assert_close(one(observation), one.plain(observation))
    torch.testing.assert_close(one.act(observation[:1]), one.plain(observation[:1]))
    assert one.plain(observation).square().mean() < actor(heads=2).plain(observation).square().mean()


@pytest.mark.parametrize(
    ("between", "stacked"),
    [
        ((nn.Tanh, nn.Tanh), True),
        ((nn.ReLU, nn.ReLU), True),
        ((nn.Tanh, nn.ReLU), False),
        ((nn.ReLU, nn.Tanh), False),
        ((nn.Softsign, nn.Softsign), False),
    ],
)
def test_rows_with_one_of_two_activations_become_stacks(between, stacked):
    """Either way they are the same function, with the same gradients."""
    row = nn.Sequential(nn.Linear(3, 4), between[0](), nn.Linear(4, 6), between[1]())
    one, observation = networks.Actor(row, [nn.Linear(6, 2)], device="cpu"), inputs()[0]
    assert (one.stack is not None) == stacked
    torch.testing.assert_close(one.learn(observation), one.plain(observation).detach())
    before = one.plain(observation).square().mean()
    optimizer = Adam(one.learnt(), 1e-2)
    for _ in range(5):
        one.descend(2 * one.learn(observation), optimizer)
    assert one.plain(observation).square().mean() < before


def hooked(row):
    row[0].register_forward_hook(lambda _module, _inputs, output: 2 * output)


def frozen(row):
    row[0].requires_grad_(False)


def with_a_parameter_of_no_use(row):
    row[0].unused = nn.Parameter(torch.ones(2))


@pytest.mark.parametrize("change", [hooked, frozen, with_a_parameter_of_no_use])
def test_what_a_stack_would_compute_or_move_otherwise_stays_as_it_is(change):
    row, observation = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), inputs()[0]
    if change is with_a_parameter_of_no_use:
        row.append(nn.Softsign())
    change(row)
    one = networks.Actor(row, [nn.Linear(4, 2)], device="cpu")
    assert one.stack is None
    target = networks.frozen_copy(one)
    torch.testing.assert_close(one.learn(observation), one.plain(observation).detach())
    before, outputs = row[0].weight.detach().clone(), one(observation)
    tangent = one.tangent([torch.ones_like(part) for part in one.learnt()])
    assert tangent.shape == outputs.shape
    optimizer = Adam(one.learnt(), 1e-2)
    one.descend(2 * one.learn(observation), optimizer)
    assert one(observation).square().mean() < outputs.square().mean()
    assert torch.equal(row[0].weight, before) == (change is frozen)
    networks.polyak(target, one, 1.0)
    torch.testing.assert_close(target(observation), one(observation))


def test_an_actor_of_other_modules_is_executed_as_it_is():
    row = nn.Sequential(nn.Linear(3, 4), nn.Softsign())
    one = networks.Actor(row, [nn.Linear(4, 2)], numbers=fastest(), device="cpu")
    assert one.stack is None
    assert len(one.learnt()) == 4
    torch.testing.assert_close(one.act(inputs()[0][:1]), one(inputs()[0][:1]))
    before = one(inputs()[0]).square().sum()
    optimizer = Adam(one.learnt(), 1e-2)
    for _ in range(5):
        one.descend(2 * one.learn(inputs()[0]), optimizer)
    assert one(inputs()[0]).square().sum() < 0.95 * before
    assert actor(device="cuda").stack is None, "what moves to a GPU would leave the stack behind"


def test_the_target_of_an_actor_is_no_alias_and_follows():
    source = actor()
    target = networks.frozen_copy(source)
    before = target(inputs()[0])
    with torch.no_grad():
        source.heads[0].bias.add_(1.0)
    torch.testing.assert_close(target(inputs()[0]), before)
    networks.polyak(target, source, 0.25)
    torch.testing.assert_close(target(inputs()[0]), before + 0.25)


def test_polyak_moves_parameters_by_tau_and_copies_buffers():
    rows = [nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2)]
    source, target = (networks.Actor(row, [nn.Linear(2, 1)], numbers=fastest(), device="cpu") for row in rows)
    nn.init.constant_(rows[0][1].weight, 3.0)
    rows[0][1].running_mean.fill_(5.0)
    networks.polyak(target, source, 0.25)
    torch.testing.assert_close(rows[1][1].weight, torch.full((2,), 1.5))
    torch.testing.assert_close(rows[1][1].running_mean, torch.full((2,), 5.0))


def test_a_target_is_no_alias_and_takes_no_gradient():
    source = networks.mlp([3, 4, 1], generator())
    target = networks.frozen_copy(source)
    assert not any(p.requires_grad for p in target.parameters())
    assert target[0].weight.data_ptr() != source[0].weight.data_ptr()


def test_rescale_maps_the_unit_range_to_the_action_space():
    low, high = np.array([-1.0, -0.5], np.float32), np.array([0.5, 2.0], np.float32)
    ends = networks.action_rescale(low, high)(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    torch.testing.assert_close(ends, torch.tensor([[-1.0, -0.5], [0.5, 2.0]]))


BOUND = st.floats(-1e6, 1e6, width=32)


@given(st.lists(st.tuples(BOUND, BOUND), min_size=1, max_size=3))
@example([(0.001, 0.002)])
@example([(1000.0, 1000.0001)])
def test_no_action_is_rounded_out_of_the_action_space(bounds):
    low, high = (np.array(ends, np.float32) for ends in zip(*map(sorted, bounds), strict=True))
    rescale = networks.action_rescale(low, high)
    for end, bound in ((-1.0, low), (1.0, high)):
        action = rescale(torch.full((1, len(low)), end))[0].numpy()
        assert ((low <= action) & (action <= high)).all()
        # Nor does it miss the end by more than rounding does.
        assert np.abs(action - bound).max() <= 2 * np.spacing(np.abs([low, high]).max())


@pytest.mark.parametrize("tail", [[], [nn.Tanh()], [nn.Tanh(), Rescale(torch.ones(1), torch.zeros(1))],
                                  [Clip(-torch.ones(1), torch.ones(1))]])  # fmt: skip
def test_a_start_ends_in_the_mean_output(tail):
    body = networks.mlp([3, 4, 1], generator())
    start = networks.start_layers(policy_of(nn.Sequential(*body, *tail)))
    assert [type(layer) for layer in start] == [nn.Linear, nn.ReLU, nn.Linear]
    assert torch.equal(start[2].weight, body[2].weight)


class Odd(nn.Module):
    def forward(self, x):
        return x[:, :1]


def test_a_start_that_is_no_row_of_layers_is_refused():
    with pytest.raises(PipelineError, match="Odd"):
        networks.start_layers(policy_of(Odd()))


def test_the_deployed_network_is_a_copy_that_later_training_does_not_change():
    actor = networks.mlp([3, 4, 1], generator())
    deployed = networks.squashed(actor, Rescale(torch.tensor([3.0]), torch.tensor([1.0])))
    x = torch.randn(2, 3, generator=generator(1))
    torch.testing.assert_close(deployed(x), actor(x).tanh() * 3 + 1)
    nn.init.zeros_(actor[0].weight)
    assert deployed[0].weight.abs().sum() > 0
    assert not deployed.training
