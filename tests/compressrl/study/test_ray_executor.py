"""Cells on a Ray cluster of two nodes on this machine, one of which is lost."""

from __future__ import annotations

import os
import sys
import warnings

import pytest

from compressrl.errors import CompressrlError, UsageError
from compressrl.study import jobs, running


def test_without_ray_it_says_what_to_install(monkeypatch):
    from compressrl.study import ray_executor

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'compressrl\[ray\]'"):
        ray_executor.RayExecutor("", 1)


def test_where_nothing_listens_it_says_so_at_once():
    pytest.importorskip("ray", reason="Ray is not installed")
    from compressrl.study import ray_executor

    with pytest.raises(CompressrlError, match=r"No Ray cluster at 127\.0\.0\.1:1: Connection refused"):
        ray_executor.RayExecutor("127.0.0.1:1", None)


@pytest.fixture
def cluster(log, monkeypatch):
    """A cluster of two nodes with one CPU each; the second can be killed."""
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        yield cluster
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_cell_finishes_once_though_a_node_is_lost(prepare, log, cluster):
    from compressrl.study.ray_executor import RayExecutor

    second = cluster.add_node(num_cpus=1)
    store, planned = prepare(compressors=["noting:seconds=1"], repeats=4)
    tally = running.stand(store, planned)
    arrived = []

    def watch(tally, outcome):
        if outcome is None:
            return
        arrived.append(outcome.key)
        if len(arrived) == 4:
            cluster.remove_node(second, allow_graceful=False)

    with RayExecutor(cluster.address, None) as executor:
        running.run(store, tally, executor, watch)
    assert sorted(arrived) == sorted(job.key for job in planned)
    assert (tally.done, tally.failed) == (16, 0)
    expected = [jobs.run(job).report["compressed"]["return"] for job in planned]
    assert [o.report["compressed"]["return"] for o in store.outcomes()] == expected
