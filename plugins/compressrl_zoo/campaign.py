"""Making the zoo: train the cells that are missing, two at a time, and take finished runs in.

python -m compressrl_zoo.campaign train     # hours; interrupted, the same command goes on
python -m compressrl_zoo.campaign collect   # finished runs -> this package
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressrl import files, runs
from compressrl.training import LEARNING_CURVE
from compressrl_zoo.zoo import HERE, read_index

RUNS = Path("runs") / "zoo"


@dataclass(frozen=True)
class Cell:
    """One policy to train."""

    algorithm: str
    env_id: str
    steps: int
    seed: int = 0
    options: str = ""  # of the algorithm, where not its defaults

    @property
    def name(self) -> str:
        return f"{self.algorithm}_{self.env_id}_seed{self.seed}"


ON_POLICY_STEPS = {
    "HalfCheetah-v5": 2_000_000,
    "Hopper-v5": 2_000_000,
    "Ant-v5": 3_000_000,
    "Humanoid-v5": 3_000_000,
    "HumanoidStandup-v5": 3_000_000,
}
OFF_POLICY_STEPS = 1_000_000

# TD3's were learnt before the default became 3e-4. DDPG, at 1e-3 by default, gets stuck in Ant below what
# standing still returns, and in Humanoid with saturated actions from step 20,000 on. Of Ant's observations 27
# to 104 are contact forces, which the versions of the published returns do not show, or show as zeros.
# TRPO, at a damping of 0.1, returns 813 in Humanoid after three million steps.
OPTIONS = {("td3", env): "actor_lr=1e-3,critic_lr=1e-3" for env in ("HalfCheetah-v5", "Hopper-v5")}
OPTIONS |= {("ddpg", env): "actor_lr=3e-4,critic_lr=3e-4" for env in ("Humanoid-v5", "HumanoidStandup-v5")}
OPTIONS |= {
    ("sac", "Ant-v5"): "observations=0-26",
    ("ddpg", "Ant-v5"): "actor_lr=3e-4,critic_lr=3e-4,observations=0-26,learning_starts=25000",
    ("td3", "Ant-v5"): "observations=0-26,learning_starts=25000",
    ("trpo", "Humanoid-v5"): "cg_damping=10",
}
# Where not 0: seed 0 still stood at step 130,000, where it was given up (docs/zoo.md).
SEEDS = {("td3", "Ant-v5"): 1}


def cell(name: str, env_id: str, steps: int) -> Cell:
    """With the options and the seed that are its own."""
    return Cell(name, env_id, steps, SEEDS.get((name, env_id), 0), OPTIONS.get((name, env_id), ""))


# On-policy runs take minutes. Of the others, first those where the paper's compressed policies kept least.
OFF_POLICY_ENVS = ("HalfCheetah-v5", "Humanoid-v5", "Hopper-v5", "Ant-v5", "HumanoidStandup-v5")
CELLS = (
    *(cell(name, env, steps) for env, steps in ON_POLICY_STEPS.items() for name in ("trpo", "ppo")),
    *(cell(name, env, OFF_POLICY_STEPS) for env in OFF_POLICY_ENVS for name in ("sac", "td3", "ddpg")),
)


def train(cells: tuple[Cell, ...] = CELLS, at_once: int = 2) -> list[str]:
    """Run `compressrl train` for each cell that is missing or short, each in a process of its own.

    Returns the names of those that failed; the log in the run's folder says why.
    """
    with ThreadPoolExecutor(at_once) as pool:
        codes = list(pool.map(_train, cells))
    return [cell.name for cell, code in zip(cells, codes, strict=True) if code != 0]


def _steps_done(cell: Cell) -> int:
    """Of the run that is in the package or waits to be taken in; 0 where there is none."""
    path = RUNS / cell.name / runs.RECORD
    records = [json.loads(path.read_text())] if path.exists() else []
    records += [record for record in read_index() if record["path"] == f"policies/{cell.name}.policy"]
    return max((int(record["steps"]) for record in records), default=0)


def _train(cell: Cell) -> int:
    if _steps_done(cell) >= cell.steps:
        return 0
    folder = RUNS / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    algorithm = f"{cell.algorithm}:{cell.options}" if cell.options else cell.algorithm
    arguments = ["--algo", algorithm, "--env", cell.env_id, "--steps", str(cell.steps)]
    arguments += ["--seed", str(cell.seed), "--out", str(folder)]
    words = [sys.executable, "-m", "compressrl", "train", *arguments]
    with (folder / "train.log").open("a") as log:
        return subprocess.run(words, stderr=log, stdout=log, check=False).returncode


def collect() -> list[str]:
    """Copy finished runs into the package and rewrite its index; returns the names taken in.

    A run of fewer steps than the one that is there is left out.
    """
    index = {record["path"]: record for record in read_index()}
    taken = []
    for path in sorted(RUNS.glob(f"*/{runs.RECORD}")):
        record: dict[str, Any] = json.loads(path.read_text())
        name = path.parent.name
        if int(record["steps"]) < int(index.get(f"policies/{name}.policy", record)["steps"]):
            continue  # a trial under the name of a longer run
        (HERE / "policies").mkdir(exist_ok=True)
        shutil.copy(path.parent / runs.FINAL_POLICY, HERE / "policies" / f"{name}.policy")
        shutil.copy(path.parent / LEARNING_CURVE, HERE / "policies" / f"{name}.csv")
        paths = {"path": f"policies/{name}.policy", "learning_curve": f"policies/{name}.csv"}
        index[paths["path"]] = {**record, **paths}
        taken.append(name)
    files.write_json_atomic(HERE / "index.json", sorted(index.values(), key=lambda r: str(r["path"])))
    return taken


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["train"]:
            failed = train()
            sys.exit(f"failed: {', '.join(failed)}; see {RUNS}/*/train.log" if failed else 0)
        case ["collect"]:
            print("\n".join(collect()))  # noqa: T201
        case _:
            sys.exit(__doc__)
