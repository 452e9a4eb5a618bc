"""What the tests of the learners share; off-policy: 3 observations, 2 actions, two small hidden layers."""

import pytest
import torch
from torch import nn

from compressrl_algorithms import elementwise, kernel_stack, networks
from compressrl_algorithms.kernel_stack import KernelStack
from compressrl_algorithms.mlp_stack import MLPStack
from compressrl_algorithms.off_policy import Setup
from compressrl_algorithms.replay_buffer import Batch


@pytest.fixture(params=["torch", "kernel", "unknown layers"])
def between(request, monkeypatch):
    """What stands between the layers of an on-policy mean: it learns by plain torch, by the kernel, or is of
    modules that no stack knows.
    """
    if request.param == "torch":
        for module in (elementwise, kernel_stack):
            monkeypatch.setattr(module, "kernel", lambda *_: None)
    elif request.param == "kernel" and elementwise.kernel() is None:
        pytest.skip("no C compiler")
    return nn.Softsign() if request.param == "unknown layers" else nn.Tanh()


@pytest.fixture
def learner_of():
    """learner_of(SAC, tau=0.1): a fresh learner, always of the same weights."""

    def build(algorithm, *, warm=False, **options):
        weights = torch.Generator().manual_seed(0)
        setup = Setup(networks.mlp([3, 16, 16, 2], weights), 3, 2, "cpu", warm, weights)
        return algorithm(hidden="16x16", **options).learner(setup)

    return build


@pytest.fixture
def batch_of():
    """batch_of(rows): always the same random transitions."""

    def build(rows=32, not_terminated=1.0):
        g = torch.Generator().manual_seed(5)
        observation, action = torch.randn(rows, 3, generator=g), torch.rand(rows, 2, generator=g) * 2 - 1
        reward, successor = torch.randn(rows, generator=g), torch.randn(rows, 3, generator=g)
        return Batch(observation, action, reward, torch.full((rows,), not_terminated), successor)

    return build


@pytest.fixture
def snapshot():
    """changed = snapshot(module); changed() says whether any parameter differs since."""

    def take(module):
        before = [p.detach().clone() for p in module.parameters()]
        return lambda: not all(torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))

    return take


@pytest.fixture
def gradient_taken_by(monkeypatch):
    """gradient_taken_by(update): what the actor would descend, (P,), by the kernel where there is one."""

    def take(update):
        taken = []
        for kind in (MLPStack, KernelStack):
            monkeypatch.setattr(kind, "descend", lambda self, of, _: taken.append(self.gradient(of)))
        update()
        return taken[0]

    return take
