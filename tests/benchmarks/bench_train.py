"""Environment steps of training a second, ours and Stable-Baselines3's: `make bench-train`.

In turns, round by round, one torch thread each (or --threads): the same environment, network sizes, batches
and number of updates, by each library's own training loop. Counted are the steps after the first updates, by
the times at which the environment was stepped, or at which updates from a rollout ended; no evaluation falls
into them. Medians over the rounds.
With --at-once 2 two runs of a side share the machine, as `train --seeds` has them do; their rates are added.
On-policy Stable-Baselines3 is faster with several environments, stepped in turn with one forward pass:
--their-envs 8 (--their-processes gives each a process). Ours steps several (--our-envs) by as many processes
as it has threads. The rollout keeps its 2048 steps.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import sb3_contrib
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from compressrl import plugins
from compressrl.lab import Lab
from compressrl.training import TrainingSession

ENVIRONMENTS = ("HalfCheetah-v5", "Humanoid-v5")
OFF_POLICY = ("sac", "td3", "ddpg")
ON_POLICY = ("ppo", "trpo")
LEARNING_STARTS = 300
ROLLOUT, ROLLOUTS = 2048, 8
# Stable-Baselines3's defaults, as ours are called; it stops no pass for the KL divergence.
OURS = {name: f"{name}:learning_starts={LEARNING_STARTS}" for name in OFF_POLICY}
OURS |= {
    "ppo": f"ppo:n_steps={ROLLOUT},batch_size=64,value_batch_size=64,target_kl=1e9",
    "trpo": f"trpo:n_steps={ROLLOUT}",
}
stamps: list[float] = []
clock = time.perf_counter


class Stamped(gymnasium.Wrapper):
    """Notes the time of every step."""

    def step(self, action):
        stamps.append(clock())
        return self.env.step(action)


class NotedRollouts(BaseCallback):
    """Notes when each rollout begins, which from the second on is when the updates from the last one end."""

    def _on_rollout_start(self) -> None:
        if self.num_timesteps:
            stamps.append(clock())

    def _on_step(self) -> bool:
        return True


@dataclass(frozen=True)
class Sides:
    """On-policy, how each side steps its environments; off-policy, what ours multiplies in."""

    our_envs: int
    their_envs: int
    their_processes: bool
    numbers: str


def ours(algorithm: str, env_id: str, steps: int, sides: Sides) -> None:
    def note(task: str, done: float, total: float, of: str = "") -> None:
        if algorithm in ON_POLICY:
            stamps.append(clock())

    more = f",num_envs={sides.our_envs}" if algorithm in ON_POLICY else f",numbers={sides.numbers}"
    lab = Lab(env_id, training=TrainingSession(steps=steps, progress=note))
    plugins.create("algorithm", OURS[algorithm] + more).train(lab)


def theirs(algorithm: str, env_id: str, steps: int, sides: Sides) -> None:
    if algorithm in OFF_POLICY:
        # [256, 256] for all three: TD3 and DDPG have [400, 300] by default, ours not.
        options = {"learning_starts": LEARNING_STARTS, "buffer_size": steps, "batch_size": 256}
        options["policy_kwargs"] = {"net_arch": [256, 256]}
        if algorithm != "sac":
            options |= {"train_freq": 1, "gradient_steps": 1}
        several, notes = make_vec_env(env_id), None
    else:
        options = {"n_steps": ROLLOUT // sides.their_envs}
        kind = SubprocVecEnv if sides.their_processes else DummyVecEnv
        several, notes = make_vec_env(env_id, n_envs=sides.their_envs, vec_env_cls=kind), NotedRollouts()
    library = sb3_contrib if algorithm == "trpo" else stable_baselines3
    getattr(library, algorithm.upper())("MlpPolicy", several, device="cpu", **options).learn(steps, notes)
    several.close()


def steps_a_second(
    train: Callable[[str, str, int, Sides], None],
    algorithm: str,
    env_id: str,
    steps: int,
    sides: Sides,
    threads: int,
) -> float:
    torch.set_num_threads(threads)
    stamps.clear()
    if algorithm in ON_POLICY:
        train(algorithm, env_id, ROLLOUTS * ROLLOUT, sides)
        return (len(stamps) - 1) * ROLLOUT / (stamps[-1] - stamps[0])
    stamped = f"Stamped{env_id}"
    if stamped not in gymnasium.registry:
        gymnasium.register(stamped, lambda: Stamped(gymnasium.make(env_id)))
    train(algorithm, stamped, steps, sides)
    return (steps - LEARNING_STARTS - 1) / (stamps[steps - 1] - stamps[LEARNING_STARTS])


def environment_alone(env_id: str, steps: int = 4000) -> float:
    """Steps a second under random actions, with their resets."""
    env = gymnasium.make(env_id)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(steps)]
    env.reset(seed=0)
    begin = clock()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return steps / (clock() - begin)


def rate(at_once: int, threads: int, *arguments: Any) -> float:
    """Of so many runs together.

    With several threads each has a process of its own: those that a library leaves behind in this one would
    slow the next one's, as then there are more than cores.
    """
    arguments = (*arguments, threads)
    if at_once == threads == 1:
        return steps_a_second(*arguments)
    with multiprocessing.get_context("spawn").Pool(at_once) as pool:
        return sum(pool.starmap(steps_a_second, [arguments] * at_once))


def sbx_rate(python: str, algorithm: str, env_id: str, steps: int) -> float:
    script = Path(__file__).with_name("sbx_rate.py")
    words = [python, str(script), algorithm, env_id, str(steps), str(LEARNING_STARTS), clock.__name__]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--steps", type=int, default=1300, help="of an off-policy run; on-policy ones take 16,384"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--their-threads", type=int, help="as many by default")
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side, in a process each")
    parser.add_argument("--our-envs", type=int, default=1, help="environments of an on-policy run of ours")
    parser.add_argument(
        "--their-envs", type=int, default=1, help="environments of an on-policy run of theirs"
    )
    parser.add_argument("--their-processes", action="store_true", help="a process for each of these")
    parser.add_argument("--numbers", default="fastest", help="that ours multiplies in off-policy")
    parser.add_argument("--algo", action="append", help="default: all")
    parser.add_argument("--env", action="append", help="default: HalfCheetah-v5 and Humanoid-v5")
    parser.add_argument("--sbx", help="the Python of an environment with sbx-rl: a third column, off-policy")
    parser.add_argument(
        "--cpu-seconds",
        action="store_true",
        help="of the process; with one thread, right on a busy machine too",
    )
    options = parser.parse_args()
    if options.cpu_seconds:
        global clock
        clock = time.process_time
    if options.cpu_seconds and (options.at_once > 1 or options.threads > 1 or options.their_processes):
        parser.error("--cpu-seconds are those of one thread of one process; more need the clock.")
    sides = Sides(options.our_envs, options.their_envs, options.their_processes, options.numbers)
    their_threads = options.their_threads or options.threads
    turns = (("theirs", theirs, their_threads), ("ours", ours, options.threads))
    load = f"{options.at_once} run(s) of {options.threads} thread(s)"
    print(f"{'':28}{'ours':>8}{'SB3':>8}{'ratio':>7}   steps/s, {load}")
    for env_id in options.env or ENVIRONMENTS:
        alone = np.median([environment_alone(env_id) for _ in range(options.rounds)])
        print(f"{'':5}{env_id:23}{alone:8.0f}   the environment alone, on one thread", flush=True)
        for algorithm in options.algo or (*OFF_POLICY, *ON_POLICY):
            rates: dict[str, list[float]] = {"ours": [], "theirs": [], "sbx": []}
            for _ in range(options.rounds):
                for who, train, threads in turns:
                    run = (train, algorithm, env_id, options.steps, sides)
                    rates[who].append(rate(options.at_once, threads, *run))
                if algorithm in OFF_POLICY and options.sbx:
                    rates["sbx"].append(sbx_rate(options.sbx, algorithm, env_id, options.steps))
            ours_rate, theirs_rate = (float(np.median(rates[who])) for who in ("ours", "theirs"))
            line = f"{algorithm:5}{env_id:23}{ours_rate:8.0f}{theirs_rate:8.0f}{ours_rate / theirs_rate:7.2f}"
            if rates["sbx"]:
                sbx = float(np.median(rates["sbx"]))
                line += f"   SBX{sbx:8.0f}{ours_rate / sbx:7.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
