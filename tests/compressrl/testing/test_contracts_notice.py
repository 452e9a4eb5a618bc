"""The contracts fail on plugins that break them: each test in them is seen to fail at least once."""

import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import pytest

from compressrl.testing import AlgorithmContract, CompressorContract, ProfilerContract, RuntimeContract

SOURCE = Path(__file__).with_name("broken_plugins.py")
CONTRACTS = (AlgorithmContract, CompressorContract, ProfilerContract, RuntimeContract)
pytestmark = pytest.mark.slow


def load():
    spec = importlib.util.spec_from_file_location("broken_plugins", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: cls for name, cls in vars(module).items() if hasattr(cls, "broken")}


BROKEN = load()


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Names of the failed tests of each class, from one run of all that must fail."""
    folder = tmp_path_factory.mktemp("broken")
    report = folder / "report.xml"
    tests = [f"{SOURCE}::{name}::{test}" for name, cls in BROKEN.items() for test in sorted(cls.broken)]
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run([*words, "-c", os.devnull, *tests], cwd=folder, capture_output=True, check=False)
    found = defaultdict(set)
    for case in ET.parse(report).iter("testcase"):
        if case.find("failure") is not None:
            found[case.get("classname").split(".")[-1]].add(case.get("name").split("[")[0])
    return found


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_fails(name, failed):
    assert failed[name] == BROKEN[name].broken


def test_every_test_of_every_contract_can_fail():
    noticed = set().union(*(cls.broken for cls in BROKEN.values()))
    tests = {name for contract in CONTRACTS for name in dir(contract) if name.startswith("test_")}
    assert noticed == tests
