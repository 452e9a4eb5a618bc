"""Learning curves of the kernel's path, the plain one and Stable-Baselines3: `make compare-returns`.

And of our updates in the loop of Stable-Baselines3, for where the two differ.
SAC with everybody's defaults; every 10,000 steps the mean return of 5 deterministic episodes of the same
seeds. Hours for 200,000 steps, so the finished curves are kept in docs/results/returns/ and not trained again
(a run of ours goes on from its checkpoint where it was interrupted, one of theirs starts anew); the page and
the picture beside them, returns.md and returns.svg, are of whatever there is. Several of these can share the
work: each with its own --seeds, --env or --who.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import returns_page
import stable_baselines3
import torch
from hosted import HostedSAC

from compressrl import files, runs
from compressrl.training import LEARNING_CURVE

OURS = {  # algorithm, environment variables
    "kernel": ("sac:numbers=bfloat16", {}),
    "float32": ("sac:numbers=float32", {}),
    "int16": ("sac:numbers=int16", {}),
    "plain": ("sac", {"CC": "false"}),  # without a compiler it is plain torch
}
THEIRS = {"hosted": HostedSAC, "sb3": stable_baselines3.SAC}
EVERY = 10_000
TRAINING = Path("runs/compare_returns")


def ours(who: str, env_id: str, seed: int, steps: int) -> list[float]:
    folder = TRAINING / f"{who}_{env_id}_seed{seed}"
    algorithm, variables = OURS[who]
    words = ["train", "--algo", algorithm, "--env", env_id, "--steps", str(steps), "--seed", str(seed)]
    words = [sys.executable, "-m", "compressrl", *words, "--out", str(folder)]
    subprocess.run(words, env={**os.environ, **variables}, check=True)
    rows = csv.DictReader((folder / LEARNING_CURVE).read_text().splitlines())
    return [float(row["evaluation_return_mean"]) for row in rows]


def theirs(who: str, env_id: str, seed: int, steps: int) -> list[float]:
    torch.set_num_threads(1)
    # As ours: 10,000 random steps, the time limit is no end.
    model = THEIRS[who]("MlpPolicy", env_id, device="cpu", seed=seed, learning_starts=EVERY)
    if isinstance(model, HostedSAC):
        model.host(seed)
    curve = []
    for _ in range(0, steps, EVERY):
        model.learn(EVERY, reset_num_timesteps=False)
        curve.append(float(np.mean([episode(model, env_id, each) for each in runs.CURVE_SEEDS])))
    return curve


def episode(model, env_id: str, seed: int) -> float:
    env, total, done = gymnasium.make(env_id), 0.0, False
    observation, _ = env.reset(seed=seed)
    while not done:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        total, done = total + float(reward), terminated or truncated
    return total


def train(who: str, env_id: str, seed: int, options: argparse.Namespace) -> None:
    """One curve, unless it is there."""
    path = returns_page.curve_path(options.out, who, env_id, seed, options.steps)
    if path.exists():
        return
    curve = (ours if who in OURS else theirs)(who, env_id, seed, options.steps)
    rows = [f"{EVERY * index},{value:.1f}" for index, value in enumerate(curve, start=1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text_atomic(path, "\n".join(["step,return_mean", *rows]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--env", nargs="+", default=["HalfCheetah-v5", "Hopper-v5"])
    parser.add_argument("--who", nargs="+", choices=(*OURS, *THEIRS), default=[*OURS, *THEIRS])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of page and curves")
    options = parser.parse_args()
    if options.steps < 10 * EVERY or options.steps % EVERY:
        parser.error(f"--steps: multiples of {EVERY:,}, from {10 * EVERY:,} on: curves have a point for each")
    for seed in options.seeds:
        for env_id in options.env:
            for who in options.who:
                train(who, env_id, seed, options)
    returns_page.write(options.out, options.steps)


if __name__ == "__main__":
    main()
