"""What is done between the passes: the torch versions against references, the kernel's against those."""

import math

import pytest
import torch
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from compressrl_algorithms import elementwise
from compressrl_algorithms.elementwise import LOG_STD_MAX, LOG_STD_MIN, squash


@pytest.fixture(params=["torch", "kernel"], autouse=True)
def way(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(elementwise, "kernel", lambda: None)
    elif elementwise.kernel() is None:
        pytest.skip("no C compiler")
    return request.param


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_log_probability_is_that_of_torchs_squashed_normal():
    heads = normal(64, 6)
    heads[:, 3:] = heads[:, 3:].abs() - 2.5
    noise = normal(64, 3, seed=1)
    loc, std = heads[:, :3].double(), heads[:, 3:].double().exp()
    u = loc + std * noise.double()
    # In float64 and through the pre-tanh cache: torch's own inverse of tanh is not exact near ±1.
    reference = TransformedDistribution(Normal(loc, std), TanhTransform(cache_size=1))
    action = reference.transforms[0](u)
    ours = squash(heads, noise)
    torch.testing.assert_close(ours.action, action.float())
    torch.testing.assert_close(ours.moved, (std * noise).float())
    torch.testing.assert_close(ours.log_prob, reference.log_prob(action).sum(1).float(), rtol=1e-4, atol=1e-4)


def test_log_probability_stays_finite_where_tanh_rounds_to_one():
    heads = torch.tensor([[60.0, -60.0, LOG_STD_MAX, LOG_STD_MAX]])
    sample = squash(heads, torch.zeros(1, 2))
    assert sample.action.tolist() == [[1.0, -1.0]]
    assert math.isfinite(sample.log_prob.item())
    gradient = elementwise.squash_gradient(heads, sample, torch.ones(1, 2), torch.zeros(()))
    assert gradient.isfinite().all()


def test_the_gradient_is_autograds():
    heads, noise, of_action = normal(40, 6), normal(40, 3, seed=1), normal(40, 3, seed=2)
    heads[:5, 3:], heads[5:10, 3:], heads[10, 3] = LOG_STD_MAX + 1, LOG_STD_MIN - 1, LOG_STD_MAX
    leaf = heads.clone().requires_grad_(True)
    loc, log_std = leaf.chunk(2, dim=1)
    log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
    u = loc + log_std.exp() * noise
    slope = 2 * (math.log(2) - u - torch.nn.functional.softplus(-2 * u))
    ((u.tanh() * of_action).sum() + 0.7 * (-log_std - slope).sum(1).mean()).backward()
    found = elementwise.squash_gradient(heads, squash(heads, noise), of_action, torch.tensor(0.7).log())
    torch.testing.assert_close(found, leaf.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_losses_and_their_gradients(count):
    values = normal(count, 9).requires_grad_(True)
    target = normal(9, seed=1)
    for (loss, gradient), expected in [
        (elementwise.value_loss(values.detach()), -values.amin(dim=0).mean()),
        (elementwise.squared_error(values.detach(), target), 0.5 * (values - target).square().sum() / 9),
    ]:
        assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, values)[0])


def test_the_target_is_the_lowest_value_perhaps_softened_discounted_unless_terminated():
    table, values, log_prob = normal(9, 4), normal(2, 9, seed=1), normal(9, seed=2)
    reward, not_terminated = table[:, 1], (table[:, 2] > 0).float()
    found = elementwise.bellman_target(reward, not_terminated, values, 0.9)
    torch.testing.assert_close(found, reward + 0.9 * not_terminated * torch.minimum(*values))
    found = elementwise.bellman_target(
        reward, not_terminated, values, 0.9, (log_prob, torch.tensor(0.3).log())
    )
    expected = reward + 0.9 * not_terminated * (torch.minimum(*values) - 0.3 * log_prob)
    torch.testing.assert_close(found, expected)


def test_what_is_not_a_number_is_the_lowest_as_in_torch():
    values, reward, goes_on = normal(3, 9), normal(9, seed=1), torch.ones(9)
    for network in range(3):
        values[network, 4 + network] = math.nan
    found = elementwise.bellman_target(reward, goes_on, values, 0.9)
    torch.testing.assert_close(found, reward + 0.9 * values.amin(dim=0), equal_nan=True)
    assert math.isnan(float(elementwise.value_loss(values)[0]))


def test_what_does_not_lie_in_one_piece_is_taken_all_the_same():
    heads, noise, of_action = normal(6, 40).T, normal(3, 40, seed=1).T, normal(40, 5, seed=2)[:, 1:4]
    pieces = [x.contiguous() for x in (heads, noise, of_action)]
    sample, expected = squash(heads, noise), squash(*pieces[:2])
    torch.testing.assert_close(sample, expected)
    at_one = torch.zeros(())
    found = elementwise.squash_gradient(heads, sample, of_action, at_one)
    torch.testing.assert_close(found, elementwise.squash_gradient(pieces[0], expected, pieces[2], at_one))
    values, target = normal(9, 2).T, normal(9, 3, seed=1)[:, 1]
    assert float(elementwise.value_loss(values)[0]) == pytest.approx(-values.amin(dim=0).mean().item())
    _, gradient = elementwise.squared_error(values, target)
    torch.testing.assert_close(gradient, (values - target) / 9)


def test_tanh_with_noise_and_its_gradient():
    heads, noise = (3 * normal(40, 3)).requires_grad_(True), normal(40, 3, seed=1)
    action = heads.tanh()
    (expected,) = torch.autograd.grad(action.sum(), heads)
    torch.testing.assert_close(elementwise.tanh(heads.detach()), action.detach())
    found = elementwise.tanh_gradient(action.detach(), torch.ones(40, 3))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for scale, most in [(0.5, 0.4), (2.0, math.inf)]:
        noisy = (action.detach() + (scale * noise).clamp(-most, most)).clamp(-1, 1)
        assert (noisy.abs() == 1).any()
        torch.testing.assert_close(elementwise.noisy_tanh(heads.detach(), noise, scale, most), noisy)


def test_the_temperatures_gradient_is_minus_what_the_entropy_lacks():
    mean, gradient = elementwise.temperature_gradient(torch.tensor([1.0, 2.0, 6.0]), -2.0)
    assert (float(mean), gradient.item(), gradient.shape) == (pytest.approx(3.0), pytest.approx(-1.0), ())


def test_polyak():
    target, source = normal(37), normal(37, seed=1)
    expected = 0.9 * target + 0.1 * source
    elementwise.polyak(target, source, 0.1)
    torch.testing.assert_close(target, expected)


@pytest.mark.parametrize("size", [1, 5, 16, 17, 33])
def test_actions_and_densities_far_from_the_middle(size):
    heads, noise = (
        torch.cat([40 * normal(60, size), 12 * normal(60, size, seed=1)], 1),
        normal(60, size, seed=2),
    )
    heads[:20] *= 1e-2
    loc, log_std = heads.double().chunk(2, dim=1)
    log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
    u = loc + log_std.exp() * noise.double()
    sample = squash(heads, noise)
    torch.testing.assert_close(sample.action.double(), u.tanh(), rtol=0, atol=3e-7)
    assert (sample.action.abs() == 1).any()
    slope = 2 * (math.log(2) - u - torch.nn.functional.softplus(-2 * u))
    gaussian = -0.5 * noise.double().square() - log_std - 0.5 * math.log(2 * math.pi)
    expected = (gaussian - slope).sum(1)
    torch.testing.assert_close(sample.log_prob[:20].double(), expected[:20], rtol=1e-6, atol=4e-7 * size)
    torch.testing.assert_close(
        sample.log_prob.double(), expected, rtol=1e-6, atol=1e-4
    )  # u itself is rounded
    torch.testing.assert_close(elementwise.tanh(heads).double(), heads.double().tanh(), rtol=0, atol=3e-7)


def test_what_is_not_a_number_stays_so_in_actions():
    heads, noise = normal(3, 38), normal(3, 19, seed=1)
    heads[1, 18] = math.nan
    sample = squash(heads, noise)
    assert sample.action.isnan().nonzero().tolist() == [[1, 18]]
    assert sample.log_prob.isnan().tolist() == [False, True, False]
    noisy = elementwise.noisy_tanh(heads[:, :19], noise, 0.2)
    assert noisy.isnan().nonzero().tolist() == [[1, 18]]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_clipping_leaves_the_direction(parts):
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]]), torch.zeros(4)][:parts]
    norm = 3.0 if parts == 1 else 5.0
    before = torch.cat([gradient.flatten() for gradient in gradients])
    for most, scale in [(10.0, 1.0), (norm / 10, 0.1)]:
        elementwise.clip_norm(gradients, most)
        torch.testing.assert_close(torch.cat([gradient.flatten() for gradient in gradients]), scale * before)


def test_a_norm_that_is_not_a_number_clips_nothing():
    gradients = [torch.tensor([3.0, math.nan]), torch.tensor([4.0])]
    elementwise.clip_norm(gradients, 1.0)
    assert (gradients[0][0].item(), gradients[1].item()) == (3.0, 4.0)
