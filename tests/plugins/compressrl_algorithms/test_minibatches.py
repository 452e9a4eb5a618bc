import numpy as np
import pytest
import torch

from compressrl_algorithms.minibatches import Minibatches


def drawn(minibatches, batch, size, seed=0):
    parts = minibatches.draw(batch, size, np.random.default_rng(seed))
    return [[tensor.clone() for tensor in part] for part in parts]


@pytest.mark.parametrize(("count", "size"), [(64, 16), (65, 16), (1000, 64), (31, 16), (5, 16), (1, 16)])
def test_minibatches_are_a_partition_without_tiny_parts(count, size):
    numbers = torch.arange(count)
    parts = drawn(Minibatches(), (numbers.unsqueeze(1), numbers + 100), size)
    assert sorted(torch.cat([one for one, _ in parts]).flatten().tolist()) == list(range(count))
    assert all(torch.equal(other, one.flatten() + 100) for one, other in parts)
    assert all(len(one) >= min(size, count) for one, _ in parts)
    assert all(len(one) < 2 * size for one, _ in parts)
    assert all(len(one) % 2 == 0 for one, _ in parts[:-1])


def test_they_are_random_by_their_generator():
    minibatches, batch = Minibatches(), (torch.arange(64),)
    one, again, other = (torch.cat([part for [part] in drawn(minibatches, batch, 16, s)]) for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_parts_of_a_size_stand_in_one_place():
    minibatches, rng = Minibatches(), np.random.default_rng(0)
    places = [part[0].data_ptr() for _ in range(3) for part in minibatches.draw((torch.arange(64),), 16, rng)]
    assert len(places) == 12
    assert len(set(places)) == 1
