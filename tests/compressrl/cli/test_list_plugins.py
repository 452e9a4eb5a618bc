"""`compressrl list-plugins`, as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys

BUILT_IN = {
    ("algorithm", name) for name in ("trpo", "ppo", "ddpg", "td3", "sac")
} | {
    ("compressor", name) for name in ("ptdq", "ptsq", "qat", "l1", "l2", "distill")
} | {
    ("profiler", name) for name in ("energy", "memory", "latency")
} | {("runtime", name) for name in ("torch", "onnx", "native", "litert")} | {("policies", "zoo")}  # fmt: skip


def run(*words: str) -> str:
    command = [sys.executable, "-m", "compressrl", "list-plugins", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_json_lists_every_built_in_with_its_provenance() -> None:
    rows = json.loads(run("--json"))
    assert {(row["kind"], row["name"]) for row in rows} >= BUILT_IN
    for row in rows:
        assert set(row) == {"kind", "name", "summary", "distribution", "version", "target"}
        assert row["summary"]
        assert row["version"]
    assert {row["distribution"] for row in rows if (row["kind"], row["name"]) in BUILT_IN} == {"compressrl"}


def test_table_names_every_plugin() -> None:
    output = run()
    assert all(name in output for _, name in BUILT_IN)


def test_options_of_one_plugin() -> None:
    rows = json.loads(run("l2", "--json"))
    assert {"kind": "compressor", "option": "ratio", "takes": "0.05..0.95"}.items() <= rows[0].items()


def test_every_target_can_be_loaded() -> None:
    from compressrl.plugins import registry

    for entry in registry().entries():
        assert isinstance(entry.load(), type)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys; from compressrl.cli import app; app(['list-plugins'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
