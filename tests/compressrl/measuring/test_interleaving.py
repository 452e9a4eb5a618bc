from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from compressrl.measuring.interleaving import interleaved


def test_two_sides_run_abba():
    assert "".join(interleaved("AB", 4)) == "ABBAABBA"


@given(sides=st.lists(st.integers(), unique=True, min_size=1, max_size=5), rounds=st.integers(0, 9))
def test_every_round_holds_every_side_once(sides, rounds):
    order = iter(interleaved(sides, rounds))
    for _ in range(rounds):
        assert sorted(islice(order, len(sides))) == sorted(sides)
    assert list(order) == []
