"""Learning curves of the kernel's path, the plain one and Stable-Baselines3: `make compare-returns`.

SAC with everybody's defaults; every 10,000 steps the mean return of 5 deterministic episodes of the same
seeds. Ours run from folders and go on where they were interrupted; a run of theirs starts again. What is
finished is kept, and the table is of whatever there is: a day for 200,000 steps, minutes for a first look.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import torch

from compressrl import files, runs
from compressrl.training import LEARNING_CURVE

OURS = {"kernel": {}, "plain": {"CC": "false"}}  # without a compiler it is plain torch
EVERY = 10_000


def ours(who: str, env_id: str, seed: int, steps: int, folder: Path) -> list[float]:
    words = ["train", "--algo", "sac", "--env", env_id, "--steps", str(steps), "--seed", str(seed)]
    words = [sys.executable, "-m", "compressrl", *words, "--out", str(folder)]
    subprocess.run(words, env={**os.environ, **OURS[who]}, check=True)
    rows = csv.DictReader((folder / LEARNING_CURVE).read_text().splitlines())
    return [float(row["evaluation_return_mean"]) for row in rows]


def theirs(env_id: str, seed: int, steps: int) -> list[float]:
    import stable_baselines3

    torch.set_num_threads(1)
    # As ours: 10,000 random steps, the time limit is no end.
    model = stable_baselines3.SAC("MlpPolicy", env_id, device="cpu", seed=seed, learning_starts=EVERY)
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
    path = options.out / f"{who}_{env_id}_seed{seed}_{options.steps}.json"
    if path.exists():
        return
    folder = options.out / f"{who}_{env_id}_seed{seed}"
    curve = (
        theirs(env_id, seed, options.steps)
        if who == "sb3"
        else ours(who, env_id, seed, options.steps, folder)
    )
    files.write_json_atomic(path, curve)


def table(options: argparse.Namespace) -> str:
    lines = ["| environment | who | seeds | return at the end (lowest to highest) | mean over the curve |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for env_id in options.env:
        for who in options.who:
            paths = options.out.glob(f"{who}_{env_id}_seed*_{options.steps}.json")
            curves = np.array([json.loads(path.read_text()) for path in sorted(paths)])
            if len(curves):
                end, whole = curves[:, -1], curves.mean()
                spread = f"{end.mean():.0f} ({end.min():.0f} to {end.max():.0f})"
                lines.append(f"| {env_id} | {who} | {len(curves)} | {spread} | {whole:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--env", nargs="+", default=["HalfCheetah-v5", "Hopper-v5"])
    parser.add_argument("--who", nargs="+", choices=(*OURS, "sb3"), default=[*OURS, "sb3"])
    parser.add_argument("--out", type=Path, default=Path("runs/compare_returns"))
    options = parser.parse_args()
    for seed in options.seeds:
        for env_id in options.env:
            for who in options.who:
                train(who, env_id, seed, options)
    print(table(options))


if __name__ == "__main__":
    main()
