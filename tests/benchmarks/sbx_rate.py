"""Environment steps of training a second by SBX (Stable-Baselines3 in JAX), for bench_train.py --sbx.

Run by the Python of an environment of its own: pip install sbx-rl "jax[cpu]" "gymnasium[mujoco]".
Usage: sbx_rate.py ALGORITHM ENVIRONMENT STEPS SKIP CLOCK
"""

import os
import sys
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import gymnasium
import sbx

algorithm, env_id, steps, skip, clock_name = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5]), sys.argv[5]
clock = getattr(time, clock_name)
stamps: list[float] = []


class Stamped(gymnasium.Wrapper):
    """Notes the time of every step."""

    def step(self, action):
        stamps.append(clock())
        return self.env.step(action)


if algorithm == "sac":
    options = {"policy_kwargs": {"net_arch": [256, 256]}}
else:
    options = {"policy_kwargs": {"net_arch": [256, 256]}, "train_freq": 1, "gradient_steps": 1}
model = getattr(sbx, algorithm.upper())(
    "MlpPolicy",
    Stamped(gymnasium.make(env_id)),
    learning_starts=skip,
    batch_size=256,
    buffer_size=steps,
    **options,
)
model.learn(steps)
# The first updates compile.
begin = (skip + steps) // 2
print((steps - begin - 1) / (stamps[steps - 1] - stamps[begin]))
