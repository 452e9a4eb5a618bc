"""What the contact forces among Ant-v5's observations cost SAC, whose cell of the zoo falls short.

    python tests/benchmarks/ant_without_forces.py --steps 200000

78 of the 105 numbers that Ant-v5 shows are contact forces; in the versions of the published returns they were
left out or zero. Prints the training returns with and without them, one seed; runs are resumed.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import gymnasium

from compressrl import runs
from compressrl.training import LEARNING_CURVE

ENVIRONMENTS = ("Ant-v5", "AntWithoutForces-v5")
EVERY = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--out", type=Path, default=Path("runs") / "ant_without_forces")
    options = parser.parse_args()
    gymnasium.register(
        ENVIRONMENTS[1],
        entry_point="gymnasium.envs.mujoco.ant_v5:AntEnv",
        max_episode_steps=1000,
        kwargs={"include_cfrc_ext_in_observation": False},
    )
    for env_id in ENVIRONMENTS:
        folder = options.out / env_id
        if not (folder / runs.RECORD).exists():
            runs.train("sac", env_id, steps=options.steps, seed=0, out=folder)
        with (folder / LEARNING_CURVE).open() as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) % EVERY == 0]
        print(env_id, {int(row["step"]): round(float(row["training_return_mean"])) for row in rows})


if __name__ == "__main__":
    main()
