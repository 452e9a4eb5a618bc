"""Which files a recommendation may replace."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from compressrl.errors import UsageError
from compressrl.progress import silent
from compressrl.recommending import shipping
from compressrl.testing import TINY, tiny_policy

OURS = [shipping.POLICY, shipping.SOURCE, shipping.GRAPH, shipping.PICTURE]


@pytest.mark.parametrize("name", OURS)
def test_a_file_that_nobody_recommended_is_not_replaced(tmp_path, name):
    shipping.check(tmp_path, "candidates", "")
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=f"holds {name}, which is not of an earlier recommendation"):
        shipping.check(tmp_path, "candidates", "")


@pytest.mark.parametrize("left", [shipping.REPORT, "candidates"])
def test_what_an_earlier_search_left_is(tmp_path, left):
    """Finished, or interrupted before its report was written."""
    (tmp_path / left).mkdir()
    (tmp_path / shipping.POLICY).write_text("theirs")
    shipping.check(tmp_path, "candidates", "")


def test_the_policy_that_is_asked_about_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / shipping.REPORT).touch()
    (tmp_path / shipping.POLICY).write_text("the only copy")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"chosen\.policy would be replaced"):
        shipping.check(tmp_path, "candidates", f"./{shipping.POLICY}")
    shipping.check(tmp_path, "candidates", "other.policy")


def test_a_policy_without_a_c_form_is_shipped_without_it(tmp_path):
    chosen = SimpleNamespace(trial=SimpleNamespace(policy=tiny_policy("graph")))
    report = SimpleNamespace(chosen=chosen, request=SimpleNamespace(env_id=TINY, seed=0))
    assert shipping._ship(report, tmp_path, silent).keys() == {"policy", "onnx"}
    assert {file.name for file in tmp_path.iterdir()} == {shipping.POLICY, shipping.GRAPH}
