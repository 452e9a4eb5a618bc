"""Checkpoint files: what is read is what was written, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compressrl import checkpoints
from compressrl.errors import CompressrlError

NAMES = {"weights", "state"}


def content() -> dict[str, Any]:
    numbers = torch.rand(100, generator=torch.Generator().manual_seed(0))
    return {"weights": numbers, "state": {"x": [1, 2.5, "text"]}, "none": torch.empty(0)}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "checkpoint.pt"
    checkpoints.write(path, content())
    return path.read_bytes()


def test_what_was_written_is_read(tmp_path):
    checkpoints.write(tmp_path / "a.pt", content())
    read = checkpoints.read(tmp_path / "a.pt", NAMES)
    assert torch.equal(read["weights"], content()["weights"])
    assert read["state"] == content()["state"]


@settings(deadline=None, max_examples=300)
@given(place=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255), cut=st.booleans())
def test_no_damage_changes_what_is_read(written, tmp_path_factory, place, bits, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    damaged, position = bytearray(written), int(place * len(written))
    damaged[position] ^= bits
    path.write_bytes(damaged[:position] if cut else damaged)
    try:
        read = checkpoints.read(path, NAMES)
    except CompressrlError as error:
        said = str(error)
        assert str(path) in said
        assert "\n" not in said
    else:
        assert torch.equal(read["weights"], content()["weights"])
        assert read["state"] == content()["state"]


def test_what_is_marked_as_a_folder_is_not_read_as_nothing(written, tmp_path):
    """torch.load then leaves the memory of a tensor as it was."""
    path, bits = tmp_path / "a.pt", 0
    for position in range(written.index(b"PK\x01\x02"), len(written)):
        damaged = bytearray(written)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        try:
            read = checkpoints.read(path, NAMES)
        except CompressrlError:
            bits += 1
        else:
            assert torch.equal(read["weights"], content()["weights"])
    assert bits
