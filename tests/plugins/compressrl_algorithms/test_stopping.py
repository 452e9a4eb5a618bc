"""Runs that are stopped at any moment, again and again, lose nothing; by real signals in another process."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, random, signal, sys
from pathlib import Path
from compressrl import checkpoints, runs, training

algorithm, folder, steps, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
moments, reached, stops = random.Random(seed), [0], 0
boundary = training.TrainingSession.boundary

def noting(session, step, *args, **kwargs):
    reached[0] = step
    boundary(session, step, *args, **kwargs)

def press(*_):
    if moments.random() < 0.5:  # some press it twice
        signal.setitimer(signal.ITIMER_REAL, moments.uniform(1e-4, 0.01))
    os.kill(os.getpid(), signal.SIGINT)

runs.train(algorithm, "Pendulum-v1", steps=steps, out=folder.with_name("first"))  # all is imported then
training.TrainingSession.boundary = noting
signal.signal(signal.SIGALRM, press)
while True:
    try:
        if stops < 25:
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.01, 0.5))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        runs.train(algorithm, "Pendulum-v1", steps=steps, out=folder)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        break
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        stops += 1
    if (folder / "checkpoint.pt").exists():
        saved = checkpoints.read(folder / "checkpoint.pt", set())["step"]
        assert saved >= reached[0], (saved, reached[0])
print(stops)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "rows"),
    [
        ("sac:hidden=16x16,learning_starts=100,batch_size=16", range(100, 1001, 100)),
        ("ppo:hidden=16x16,n_steps=125", range(125, 1001, 125)),
    ],
)
def test_a_run_stopped_at_any_moment_goes_on_to_a_whole_curve(tmp_path, algorithm, rows):
    words = [sys.executable, "-c", PROGRAM, algorithm, str(tmp_path / "run"), "1000", "1"]
    run = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 5
    curve = (tmp_path / "run" / "learning_curve.csv").read_text().splitlines()[1:]
    assert [int(row.partition(",")[0]) for row in curve] == list(rows)
