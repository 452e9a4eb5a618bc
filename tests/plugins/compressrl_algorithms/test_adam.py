"""The kernel's Adam against torch's own."""

from __future__ import annotations

import copy

import pytest
import torch

from compressrl_algorithms.adam import Adam
from compressrl_algorithms.kernel import kernel

needs_kernel = pytest.mark.skipif(kernel() is None, reason="no C compiler")


def parameters():
    g = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=g)) for shape in [(), (3,), (16,), (5, 7)]]


def gradients(seed):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=g) * 10.0 ** (seed % 5 - 3) for p in parameters()]


def torchs_step(optimizer, seed):
    for parameter, gradient in zip(optimizer.param_groups[0]["params"], gradients(seed), strict=True):
        parameter.grad = gradient
    optimizer.step()


def test_steps_are_torchs_and_so_is_the_state():
    ours, theirs = Adam(parameters(), lr=0.01), torch.optim.Adam(parameters(), lr=0.01)
    for seed in range(1, 30):
        ours.descend(gradients(seed))
        torchs_step(theirs, seed)
    for mine, yours in zip(ours.param_groups[0]["params"], theirs.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-5, atol=1e-6)
        for name, value in theirs.state[yours].items():
            torch.testing.assert_close(ours.state[mine][name], value, rtol=1e-5, atol=1e-8)


def test_gradients_that_do_not_lie_in_one_piece():
    one, other = Adam(parameters(), lr=0.01), Adam(parameters(), lr=0.01)
    one.descend([g.mT.contiguous().mT if g.ndim == 2 else g for g in gradients(1)])
    other.descend(gradients(1))
    for mine, yours in zip(one.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        assert torch.equal(mine, yours)


def test_gradients_of_another_precision_are_refused_as_torch_does():
    with pytest.raises(RuntimeError, match="dtype"):
        Adam(parameters(), lr=0.01).descend([g.double() for g in gradients(1)])


@needs_kernel
def test_the_kernel_it_is_that_steps(monkeypatch):
    monkeypatch.setattr(Adam, "step", None)
    Adam(parameters(), lr=0.01).descend(gradients(1))


def test_a_loaded_state_goes_on():
    one, other = Adam(parameters(), lr=0.01), Adam(parameters(), lr=0.01)
    one.descend(gradients(1))
    for mine, yours in zip(one.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        yours.data.copy_(mine.data)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for optimizer in (one, other):
        optimizer.descend(gradients(2))
    for mine, yours in zip(one.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        assert torch.equal(mine, yours)


def places(optimizer):
    return [[part.data_ptr() for part in state.values()] for state in optimizer.state.values()]


@needs_kernel
def test_a_state_is_loaded_into_its_place():
    """Steps that are repeated know it by its address."""
    one, other, fresh = (Adam(parameters(), lr=0.01) for _ in range(3))
    for seed in (1, 2):
        one.descend(gradients(seed))
    other.descend(gradients(3))
    before = places(other)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert places(other) == before
    for mine, yours in zip(one.state.values(), other.state.values(), strict=True):
        assert all(torch.equal(mine[name], yours[name]) for name in mine)
    other.load_state_dict(fresh.state_dict())  # that has none yet
    assert places(other) == before
    assert not any(part.any() for state in other.state.values() for part in state.values())


@needs_kernel
def test_a_rate_is_taken_by_the_steps_to_come():
    one, other = Adam(parameters(), lr=0.01), Adam(parameters(), lr=0.5)
    known = [one.moments(parameter) for parameter in one.param_groups[0]["params"]]
    one.take_rate(0.5)
    assert {moments.rate for moments in known} == {0.5}
    for optimizer in (one, other):
        optimizer.descend(gradients(1))
    for mine, yours in zip(one.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        assert torch.equal(mine, yours)


def test_without_the_kernel_it_is_torchs(monkeypatch):
    monkeypatch.setattr("compressrl_algorithms.adam.kernel", lambda: None)
    test_steps_are_torchs_and_so_is_the_state()
