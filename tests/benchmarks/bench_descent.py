"""An update of a distilled student by the algorithms' kernel, as a share of its time by autograd.

python tests/benchmarks/bench_descent.py

CPU milliseconds of one thread, medians of blocks taken in turns.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from compressrl_distillation.descent import Descent, descent

SIZES = ((17, 64, 6), (17, 128, 6), (348, 128, 17), (348, 256, 17))  # half and whole, as pruning has them
BATCHES = (256, 1024)
BLOCKS, UPDATES = 8, 40


def student(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    hidden_layers = (nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
    return nn.Sequential(*hidden_layers, nn.Linear(hidden, outputs), nn.Tanh())


def milliseconds(one: Descent, states: torch.Tensor, actions: torch.Tensor) -> float:
    start = time.process_time()
    for _ in range(UPDATES):
        one.step(states, actions, 1e-3)
    return (time.process_time() - start) / UPDATES * 1e3


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'network':16}{'batch':>6}{'autograd':>10}{'kernel':>8}{'share':>7}   CPU ms an update")
    for inputs, hidden, outputs in SIZES:
        for batch in BATCHES:
            states, actions = torch.randn(batch, inputs), torch.rand(batch, outputs) * 2 - 1
            limits = torch.ones(outputs)
            both = [
                Descent(student(inputs, hidden, outputs), 4, limits),
                descent(student(inputs, hidden, outputs), limits),
            ]
            blocks = [[milliseconds(one, states, actions) for one in both] for _ in range(BLOCKS)]
            plain, kernel = np.median(blocks, axis=0)
            shape = f"{inputs}-{hidden}-{hidden}-{outputs}"
            print(f"{shape:16}{batch:6}{plain:10.2f}{kernel:8.2f}{kernel / plain:7.2f}", flush=True)


if __name__ == "__main__":
    main()
