"""An update of a distilled student by the algorithms' kernel, as a share of its time by autograd.

python tests/benchmarks/bench_descent.py

CPU milliseconds of one thread, medians of blocks taken in turns.
"""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
from torch import nn

from compressrl.networks.modules import Standardize
from compressrl_distillation.descent import Descent, descent

SIZES = ((17, 64, 6), (17, 128, 6), (348, 128, 17), (348, 256, 17))  # half and whole, as pruning has them
ON_POLICY_SIZES = ((17, 32, 6), (17, 64, 6), (348, 64, 17))
BATCHES = (256, 1024)
BLOCKS, UPDATES = 8, 40


def student(inputs: int, hidden: int, outputs: int, kind: str) -> tuple[nn.Sequential, int]:
    """A network as off-policy or on-policy policies have it, and the index of its last linear layer."""
    between = nn.ReLU if kind == "relu" else nn.Tanh
    first = [Standardize(torch.zeros(inputs), torch.ones(inputs))] if kind == "tanh" else []
    hidden_layers = (nn.Linear(inputs, hidden), between(), nn.Linear(hidden, hidden), between())
    row = nn.Sequential(*first, *hidden_layers, nn.Linear(hidden, outputs), nn.Tanh())
    return row, len(row) - 2


def milliseconds(one: Descent, states: torch.Tensor, actions: torch.Tensor) -> float:
    start = time.process_time()
    for _ in range(UPDATES):
        one.step(states, actions, 1e-3)
    return (time.process_time() - start) / UPDATES * 1e3


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'network':22}{'batch':>6}{'autograd':>10}{'kernel':>8}{'share':>7}   CPU ms an update")
    cases = [(*sizes, "relu") for sizes in SIZES] + [(*sizes, "tanh") for sizes in ON_POLICY_SIZES]
    for inputs, hidden, outputs, kind in cases:
        for batch in BATCHES:
            states, actions = torch.randn(batch, inputs), torch.rand(batch, outputs) * 2 - 1
            limits = torch.ones(outputs)
            one, last = student(inputs, hidden, outputs, kind)
            both = [Descent(one, last, limits), descent(copy.deepcopy(one), limits)]
            blocks = [[milliseconds(one, states, actions) for one in both] for _ in range(BLOCKS)]
            plain, kernel = np.median(blocks, axis=0)
            shape = f"{inputs}-{hidden}-{hidden}-{outputs} {kind}"
            print(f"{shape:22}{batch:6}{plain:10.2f}{kernel:8.2f}{kernel / plain:7.2f}", flush=True)


if __name__ == "__main__":
    main()
