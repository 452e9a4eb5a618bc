"""The example project, installed beside compressrl in a virtual environment of its own."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import compressrl
from compressrl.testing import TINY, tiny_policy

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "third_party_compressor"
pytestmark = pytest.mark.slow


class Environment:
    """A virtual environment that sees what is installed here, and holds the example besides."""

    def __init__(self, folder):
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        # addsitedir, not a plain path: the .pth files of editable installs count too.
        packages = sysconfig.get_path("purelib")
        (own,) = (folder / "venv" / "lib").glob("python*/site-packages")
        (own / "shared.pth").write_text(f"import site; site.addsitedir({packages!r})\n")
        self.project = Path(shutil.copytree(EXAMPLE, folder / "project"))
        pip = [sys.executable, "-m", "pip", "--python", self.python, "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--no-deps", "--no-build-isolation", self.project], check=True)

    def run(self, *words):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [self.python, *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def compressrl(self, *words):
        return self.run("-m", "compressrl", *words)


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("third_party"))


def test_it_is_listed_with_its_owner_and_only_there(beside):
    listing = json.loads(beside.compressrl("list-plugins", "--json").stdout)
    (entry,) = [entry for entry in listing if entry["distribution"] == "compressrl-rounding"]
    assert entry == {
        "kind": "compressor",
        "name": "round",
        "summary": "Rounds weights to few bits",
        "distribution": "compressrl-rounding",
        "version": "0.1.0",
        "target": "compressrl_rounding:WeightRounding",
    }
    here = subprocess.run(
        [sys.executable, "-m", "compressrl", "list-plugins", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [e for e in listing if e != entry] == json.loads(here.stdout)


def test_the_core_beside_it_is_this_one_and_listing_imports_no_torch(beside):
    code = (
        "import sys, compressrl; from compressrl import plugins; plugins.registry().entries();"
        "print(compressrl.__file__, 'compressrl_rounding' in sys.modules, 'torch' in sys.modules)"
    )
    assert beside.run("-c", code).stdout.split() == [compressrl.__file__, "True", "False"]


def test_it_is_evaluated_as_a_built_in(beside):
    policy = tiny_policy()
    policy.save(beside.folder / "tiny.policy")
    words = ["--policy", "tiny.policy", "--compressor", "round:bits=3", "--episodes", "2", "--json"]
    done = beside.compressrl("evaluate", *words, "--out", "results")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == 1
    assert report["request"]["compressor"] == "round:bits=3"
    assert report["request"]["env_id"] == TINY
    assert report["compressed"]["provenance"] == [
        *policy.provenance,
        "round (3 bits a weight, one scale a row)",
    ]
    assert len(report["compressed"]["return"]["per_episode"]) == 2
    assert report["compressed"]["return"]["per_episode"] != report["baseline"]["return"]["per_episode"]
    assert (beside.folder / "results" / "compressed.policy").is_file()


def test_it_works_in_a_pipeline_with_built_ins(beside):
    tiny_policy().save(beside.folder / "tiny.policy")
    code = (
        "import compressrl; policy = compressrl.compress('tiny.policy', 'l2:ratio=0.25,preset=paper+round');"
        "print(*policy.provenance, sep='\\n')"
    )
    lines = beside.run("-c", code).stdout.splitlines()
    assert lines[1].startswith("l2:ratio=0.25,preset=paper (")
    assert lines[2] == "round (4 bits a weight, one scale a row)"


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("round:bits=99", "round: bits=99 is out of range; it takes 2..8"),
        ("rounds", "Did you mean 'round'?"),
    ],
)
def test_its_mistakes_are_told_as_those_of_built_ins(beside, stage, told):
    tiny_policy().save(beside.folder / "tiny.policy")
    done = beside.compressrl("evaluate", "--policy", "tiny.policy", "--compressor", stage)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_its_own_tests_pass(beside):
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, str(beside.project)]
    done = beside.run(*words)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split(" passed")[0].split()[-1]) >= 12
