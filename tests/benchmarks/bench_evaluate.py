"""How fast episodes are evaluated: `make bench-evaluate`.

In turns, round by round: bare steps of the environment in one process, with the actions that the policy took
from the same seed; our episodes on all cores, with the start of the workers, level `time`; and
Stable-Baselines3's `evaluate_policy` on the same network. Steps a second by the wall clock, where other work
on the machine takes from all of them and most from what uses all cores; so CPU time a step stands beside it,
which it hardly touches: bare over ours is the share of the cores that the environment itself gets. Times are
the best of the rounds, ratios the medians of those within a round. Humanoid lies down for lack of training,
and is not stopped for it.
"""

import argparse
import resource
import time
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import median

import gymnasium
import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from compressrl import environments, pipeline, plugins, sources
from compressrl.episodes import episode_pool
from compressrl.episodes.episode_pool import play_all
from compressrl.episodes.episode_worker import Equipment, Stage
from compressrl.evaluation import episode_seeds
from compressrl.instrument import InstrumentedEnv
from compressrl.networks import layers
from compressrl.policy import Policy

STEPS = 1000  # of an episode
HUMANOID = "HumanoidToTheEnd-v5"
SEED = episode_seeds(0, 1)[0]


@dataclass
class Rate:
    """Wall-clock and CPU seconds of a step, round by round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def take(self, steps: int, work) -> None:
        wall, cpu = time.perf_counter(), cpu_seconds()
        work()
        self.wall.append((time.perf_counter() - wall) / steps)
        self.cpu.append((cpu_seconds() - cpu) / steps)


def ratio(above: list[float], below: list[float]) -> float:
    return median(a / b for a, b in zip(above, below, strict=True))


def cpu_seconds() -> float:
    """Of this process and of the workers that have ended."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def policies() -> dict[str, Policy]:
    """By environment: the zoo's SAC policy, and an untrained one of the same widths."""
    humanoid = gymnasium.spec("Humanoid-v5")
    gymnasium.registry[HUMANOID] = replace(
        humanoid, id=HUMANOID, kwargs={**humanoid.kwargs, "terminate_when_unhealthy": False}
    )
    return {
        "HalfCheetah-v5": sources.find_policy("sac", "HalfCheetah-v5", ""),
        HUMANOID: untrained(environments.make(HUMANOID)),
    }


def untrained(env: gymnasium.Env) -> Policy:
    rng, row = np.random.default_rng(0), []
    sizes = [env.observation_space.shape[0], 256, 256, env.action_space.shape[0]]
    for inputs, outputs in pairwise(sizes):
        weight = rng.normal(0, inputs**-0.5, (outputs, inputs)).astype(np.float32)
        row += [layers.Linear(weight, np.zeros(outputs, np.float32)), layers.Activation("relu")]
    high = env.action_space.high
    row = (*row[:-1], layers.Activation("tanh"), layers.Rescale(high, np.zeros_like(high)))
    return Policy(HUMANOID, "", sizes[0], -high, high, ("untrained",), layers=row)


def bare_episode(env_id: str, policy: Policy):
    """A function that takes one episode's steps with the policy's own actions."""
    env, wrapped, actions = gymnasium.make(env_id), environments.make(env_id), []
    observation, _ = wrapped.reset(seed=SEED)
    for _ in range(STEPS):
        actions.append(policy(observation))
        observation, *_ = wrapped.step(actions[-1])

    def run() -> None:
        env.reset(seed=SEED)
        step = env.step
        for action in actions:
            step(action)

    return run


def our_episodes(env_id: str, policy: Policy, runtime: str, episodes: int):
    engine = plugins.create("runtime", runtime)
    shipped = engine.prepare(policy) if hasattr(engine, "prepare") else policy
    seeds, spec = episode_seeds(0, episodes), gymnasium.spec(env_id)
    equipment = Equipment(env_id, spec, engine, [shipped], (), "time", seeds)
    stage = Stage(InstrumentedEnv(environments.make(env_id), level="time"), [engine.load(shipped)], seeds)
    return lambda: play_all(stage, equipment, episode_pool.available_cores(), lambda number, episode: None)


def sb3_episodes(env_id: str, policy: Policy, episodes: int):
    env = Monitor(gymnasium.make(env_id))
    model = SAC("MlpPolicy", env, buffer_size=1, device="cpu")
    actor = model.policy.actor
    linear = [layer for layer in policy.layers if isinstance(layer, layers.Linear)]
    for module, layer in zip((actor.latent_pi[0], actor.latent_pi[2], actor.mu), linear, strict=True):
        module.weight.data[:] = module.weight.new_tensor(layer.weight)
        module.bias.data[:] = module.bias.new_tensor(layer.bias)
    return lambda: evaluate_policy(model, env, n_eval_episodes=episodes)


def compare(env_id: str, policy: Policy, episodes: int, rounds: int, runtimes: list[str]) -> None:
    cores = episode_pool.available_cores()
    work = {"bare steps": (episodes // cores, bare_episode(env_id, policy))}
    for runtime in runtimes:
        work[f"ours, {runtime}"] = episodes, our_episodes(env_id, policy, runtime, episodes)
    small = pipeline.compress(policy, "ptsq:calibration_steps=1000", env_id=env_id)
    work["ours, native int8"] = episodes, our_episodes(env_id, small, "native", episodes)
    work["Stable-Baselines3"] = 2, sb3_episodes(env_id, policy, 2)
    rates = {name: Rate() for name in work}
    for _ in range(rounds):
        for name, (count, run) in work.items():
            repeats = count if name == "bare steps" else 1
            rates[name].take(count * STEPS, lambda r=run, n=repeats: [r() for _ in range(n)])
    bare, sb3 = rates["bare steps"], rates["Stable-Baselines3"]
    print(f"\n{env_id}: {episodes} episodes of {STEPS} steps, {cores} cores, {rounds} rounds")
    print(f"{'':20}{'steps/s':>9}{'of cores x bare':>17}{'x SB3':>7}{'CPU µs a step':>15}{'bare / it':>11}")
    for name, rate in rates.items():
        print(
            f"{name:20}{1 / min(rate.wall):9.0f}{ratio(bare.wall, rate.wall) / cores:17.0%}"
            f"{ratio(sb3.wall, rate.wall):7.2f}{min(rate.cpu) * 1e6:15.1f}{ratio(bare.cpu, rate.cpu):11.0%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runtime", action="append", help="default: onnx and native")
    parser.add_argument("--env", default="", help="part of the environment's name; default: both")
    options = parser.parse_args()
    for env_id, policy in policies().items():
        if options.env not in env_id:
            continue
        compare(env_id, policy, options.episodes, options.rounds, options.runtime or ["onnx", "native"])


if __name__ == "__main__":
    main()
