"""What finer inputs could give: `ptsq` with observations of 8 bits, and with ones that nothing rounds.

    python tests/benchmarks/input_bits.py

The second, played by the fake-quantized twin in torch, is the limit of any width (16 bits, a range for each
feature): everything behind it is quantized alike. Paired episodes; retention with its 95 % interval.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import torch

from compressrl import environments, pipeline, rollout, sources, statistics
from compressrl.evaluation import episode_seeds
from compressrl.interfaces import PolicyFunction
from compressrl.networks.fake_quantization import FakeQuantLinear, from_integer
from compressrl.policy import Policy

CELLS = ("ddpg:HalfCheetah-v5", "td3:HalfCheetah-v5", "sac:HalfCheetah-v5", "sac:Humanoid-v5")


def unrounded(policy: Policy) -> PolicyFunction:
    """The integer policy with its first input left as it is."""
    network = from_integer(policy.integer).eval()
    first = next(module for module in network if isinstance(module, FakeQuantLinear))
    first.batches.zero_()  # inputs are rounded from the first batch on

    def act(observation: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.as_tensor(observation, dtype=torch.float32)[None])[0].numpy()

    return act


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", nargs="+", default=CELLS)
    parser.add_argument("--episodes", type=int, default=30)
    options = parser.parse_args()
    for cell in options.cells:
        algorithm, _, env_id = cell.partition(":")
        teacher = sources.existing_policy(algorithm, env_id)
        lab = pipeline.lab_for(teacher, env_id, algorithm, seed=0)
        compressed = pipeline.run(pipeline.parse("ptsq"), teacher, lab)
        seeds = episode_seeds(0, options.episodes)
        base, *others = (
            rollout.run_episodes(act, partial(environments.make, env_id), seeds).returns
            for act in (teacher, compressed, unrounded(compressed))
        )
        for name, returns in zip(("8 bits", "unrounded"), others, strict=True):
            print(f"{cell}, {name}: {statistics.retention(base, returns)}", flush=True)


if __name__ == "__main__":
    main()
