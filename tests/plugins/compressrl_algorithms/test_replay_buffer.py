import io

import numpy as np
import pytest
import torch

from compressrl.errors import UsageError
from compressrl_algorithms.replay_buffer import ReplayBuffer


def add(buffer, numbers):
    """Transitions in which every field tells which one it belongs to; every third one is terminal."""
    for n in numbers:
        observation, action = np.full(3, n, np.float32), np.full(2, n / 1000, np.float32)
        buffer.add(observation, action, 10.0 * n, n % 3 == 0, observation + 0.5)


def sample(buffer, count=200, seed=0):
    return buffer.sample(count, torch.Generator().manual_seed(seed))


def stored(buffer):
    return sorted(set(sample(buffer).observation[:, 0].tolist()))


def test_the_fields_of_a_transition_stay_together():
    buffer = ReplayBuffer(20, 3, 2)
    add(buffer, range(10))
    batch = sample(buffer)
    n = batch.observation[:, 0]
    torch.testing.assert_close(batch.observation, n[:, None].expand(-1, 3))
    torch.testing.assert_close(batch.action, (n / 1000)[:, None].expand(-1, 2))
    torch.testing.assert_close(batch.reward, 10 * n)
    torch.testing.assert_close(batch.next_observation, batch.observation + 0.5)
    assert torch.equal(batch.not_terminated, (n % 3 != 0).float())


def test_only_what_was_added_is_drawn_and_all_of_it():
    buffer = ReplayBuffer(1000, 3, 2)
    add(buffer, range(1, 8))
    assert len(buffer) == 7
    assert stored(buffer) == list(range(1, 8))


def test_a_full_buffer_forgets_the_oldest():
    buffer = ReplayBuffer(5, 3, 2)
    add(buffer, range(8))
    assert len(buffer) == 5
    assert stored(buffer) == [3, 4, 5, 6, 7]


def test_draws_derive_from_the_generator():
    buffer = ReplayBuffer(100, 3, 2)
    add(buffer, range(100))
    drawn = sample(buffer).reward.clone()  # which the next draw overwrites
    assert torch.equal(sample(buffer).reward, drawn)
    assert not torch.equal(sample(buffer, seed=1).reward, drawn)


def test_the_state_holds_the_filled_rows_only():
    buffer, file = ReplayBuffer(100_000, 3, 2), io.BytesIO()
    add(buffer, range(10))
    torch.save(buffer.state(), file)
    assert file.tell() < 5000


def test_a_restored_buffer_goes_on_even_in_a_larger_one():
    small, large = ReplayBuffer(6, 3, 2), ReplayBuffer(9, 3, 2)
    add(small, range(6))
    large.restore(small.state())
    add(large, range(6, 10))
    assert stored(large) == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_a_restored_buffer_that_had_wrapped_forgets_the_oldest_next():
    old, new = ReplayBuffer(5, 3, 2), ReplayBuffer(5, 3, 2)
    add(old, range(7))
    new.restore(old.state())
    add(new, [7])
    assert stored(new) == [3, 4, 5, 6, 7]


def test_more_transitions_than_memory_are_refused_in_one_line():
    with pytest.raises(UsageError, match="buffer_size=100000") as raised:
        ReplayBuffer(10**15, 3, 2)
    assert "takes 40,000,000.0 GB" in str(raised.value)
