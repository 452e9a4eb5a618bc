"""The zoo: what the index promises is there, and the best seed is the one found."""

from __future__ import annotations

import json

import pytest

from compressrl import environments, plugins
from compressrl.interfaces import PolicySource
from compressrl.policy import Policy
from compressrl_zoo import zoo
from compressrl_zoo.zoo import HERE, PUBLIC, Zoo, read_index


def record(algorithm: str = "sac", env_id: str = "Hopper-v5", seed: int = 0, mean: float = 1.0):
    name = f"{algorithm}_{env_id}_seed{seed}"
    return {
        "algorithm": algorithm, "env_id": env_id, "seed": seed, "steps": 10, "return_mean": mean,
        "return_std": 0.5, "episodes": 20, "path": f"policies/{name}.policy", "command": "compressrl train",
    }  # fmt: skip


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A zoo of its own, of these records."""

    def write(*records):
        (tmp_path / "index.json").write_text(json.dumps(records))
        monkeypatch.setattr(zoo, "HERE", tmp_path)
        monkeypatch.setattr(zoo, "read_index", lambda folder=tmp_path: read_index(folder))
        return tmp_path

    return write


def test_the_best_seed_of_a_cell_is_found(index):
    folder = index(
        record(seed=0, mean=5), record(seed=1, mean=9), record(seed=2, mean=7), record("td3", seed=3, mean=99)
    )
    assert Zoo().find("sac", "Hopper-v5") == folder / "policies" / "sac_Hopper-v5_seed1.policy"
    assert Zoo().find("sac", "Hopper-v4") is None
    assert Zoo().find("ppo", "Hopper-v5") is None


def test_the_list_is_ordered_and_has_the_promised_columns(index):
    folder = index(record(seed=1), record("ddpg"), record(env_id="Ant-v5"), record(seed=0))
    rows = Zoo().list()
    cells = [(row["env_id"], row["algorithm"], row["seed"]) for row in rows]
    assert cells == [
        ("Ant-v5", "sac", 0),
        ("Hopper-v5", "ddpg", 0),
        ("Hopper-v5", "sac", 0),
        ("Hopper-v5", "sac", 1),
    ]
    assert all(tuple(row) == PUBLIC for row in rows)
    assert rows[0]["path"] == str(folder / "policies" / "sac_Ant-v5_seed0.policy")


def test_a_zoo_without_an_index_is_empty(tmp_path):
    assert read_index(tmp_path) == []


def test_the_zoo_arrives_as_a_plugin():
    source: PolicySource = plugins.create("policies", "zoo")
    assert [dict(row) for row in source.list()] == [dict(row) for row in Zoo().list()]


@pytest.mark.parametrize("made", read_index(), ids=lambda made: made["path"])
def test_every_shipped_policy_is_whole_and_fits_its_environment(made):
    policy = Policy.load(HERE / made["path"])
    assert (policy.algorithm, policy.env_id) == (made["algorithm"], made["env_id"])
    assert policy.form == "network"
    env = environments.make(made["env_id"])
    assert env.observation_space.shape == (policy.observation_size,)
    assert env.action_space.shape == (policy.action_size,)
    env.close()
    assert (HERE / made["learning_curve"]).read_text().startswith("step,")
    assert made["command"].startswith(f"compressrl train --algo {made['algorithm']}")


def test_nothing_lies_in_the_zoo_that_the_index_does_not_name():
    named = {HERE / record[key] for record in read_index() for key in ("path", "learning_curve")}
    assert set((HERE / "policies").glob("*")) == named
