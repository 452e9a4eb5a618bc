"""Bad input on the command line: one or two lines on stderr, the right exit code, no traceback."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from typer.testing import CliRunner, Result

from compressrl.cli import app
from compressrl.networks import layers
from compressrl.policy import Policy


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    """The program in a process of its own that listens to Ctrl-C even where the tests' parent ignores it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "compressrl", *words],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def interrupt_once_there(process: subprocess.Popen[str], path: Path, by: int = signal.SIGINT) -> str:
    """Press Ctrl-C (or send `by`) after `path` has appeared, and return what the program then said."""
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(by)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    return errors


def pendulum_policy(path: Path) -> Path:
    """A hand-made swing-up controller's worth of nothing: random weights, right sizes for Pendulum-v1."""
    rng = np.random.default_rng(0)

    def linear(inputs: int, outputs: int) -> layers.Linear:
        weight = rng.normal(size=(outputs, inputs)).astype(np.float32)
        return layers.Linear(weight, np.zeros(outputs, np.float32))

    row = (linear(3, 16), layers.Activation("relu"), linear(16, 1), layers.Activation("tanh"))
    two = np.array([2.0], np.float32)
    row = (*row, layers.Rescale(two, np.zeros(1, np.float32)))
    Policy("Pendulum-v1", "sac", 3, -two, two, ("made by hand",), layers=row).save(path)
    return path


def assert_told(result: Result, *words: str) -> None:
    """Wrong usage, told in at most two lines that hold these words."""
    assert result.exit_code == 2, result.stderr
    assert "Traceback" not in result.stderr
    errors = result.stderr[result.stderr.index("error: ") :].strip().splitlines()
    assert len(errors) <= 2
    for word in words:
        assert word in " ".join(errors)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--algo", "sca", "--compressor", "qat"), ("sca", "Did you mean 'sac'")),
        (("--algo", "sac", "--compressor", "qta"), ("qta", "Did you mean 'qat'")),
        (("--algo", "sac", "--compressor", "qat", "--runtime", "onxx"), ("onxx", "Did you mean 'onnx'")),
        (("--algo", "sac", "--compressor", "ptdq", "--env", "HalfCheeta-v5"), ("HalfCheetah-v5",)),
        (("--algo", "sac", "--compressor", "l2:ratio=1.5"), ("ratio=1.5", "0.05..0.95")),
        (("--algo", "sac", "--compressor", "l2:ration=0.5"), ("ration", "ratio (0.05..0.95")),
        (("--algo", "sac", "--compressor", "l2:ratio"), ("name:key=value",)),
        (("--algo", "sac", "--compressor", "l2:ratio=0.5++ptsq"), ("empty stage",)),
        (("--algo", "sac", "--compressor", "ptsq+l2"), ("'l2' cannot follow 'ptsq'", "last")),
        (("--algo", "sac", "--compressor", "qat", "--env", "CartPole-v1"), ("Discrete", "continuous")),
        (("--algo", "sac", "--compressor", ""), ("--compressor is empty", "list-plugins")),
        (("--compressor", "qat"), ("--algo sac", "--policy")),
        (("--policy", "missing.policy", "--compressor", "qat"), ("missing.policy", "does not exist")),
    ],
)
def test_evaluate_explains_what_is_wrong(
    words: tuple[str, ...], told: tuple[str, ...], tmp_path: Path
) -> None:
    assert_told(run("evaluate", *words), *told)


def test_unknown_option_is_wrong_usage(tmp_path: Path) -> None:
    result = run("evaluate", "--algorithm", "sac")
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_policy_that_does_not_fit_the_environment(tmp_path: Path) -> None:
    policy = pendulum_policy(tmp_path / "p.policy")
    words = ("--policy", str(policy), "--compressor", "ptdq", "--env", "HalfCheetah-v5")
    assert_told(run("evaluate", *words), "takes 3 observations", "HalfCheetah-v5")


@pytest.mark.parametrize("damage", ["truncated", "altered", "text"])
def test_damaged_policy_file(damage: str, tmp_path: Path) -> None:
    path = pendulum_policy(tmp_path / "p.policy")
    content = path.read_bytes()
    damaged = {
        "truncated": content[:-10],
        "altered": content[:-1] + bytes([content[-1] ^ 1]),
        "text": b"not a policy",
    }
    path.write_bytes(damaged[damage])
    assert_told(run("evaluate", "--policy", str(path), "--compressor", "ptdq"), str(path))


def test_compress_does_not_write_over_its_policy(tmp_path: Path) -> None:
    path = pendulum_policy(tmp_path / "my.policy")
    before = path.read_bytes()
    result = run("compress", "--policy", str(path), "--compressor", "ptsq", "--out", "./my.policy")
    assert_told(result, "my.policy would be replaced")
    assert path.read_bytes() == before


def test_output_folder_that_cannot_be_written(tmp_path: Path) -> None:
    policy = pendulum_policy(tmp_path / "p.policy")
    (tmp_path / "file").write_text("in the way")
    words = ("--policy", str(policy), "--compressor", "ptdq", "--out", str(tmp_path / "file" / "sub"))
    assert_told(run("evaluate", *words), "cannot be written", "--out")


def test_debug_shows_the_traceback() -> None:
    with started("evaluate", "--algo", "sca", "--compressor", "ptdq", "--debug") as process:
        _, errors = process.communicate(timeout=120)
    assert "Traceback" in errors
    assert "UnknownNameError" in errors


def test_interrupt_keeps_what_is_finished_and_says_where(tmp_path: Path) -> None:
    policy = pendulum_policy(tmp_path / "p.policy")
    words = ("--policy", str(policy), "--compressor", "ptdq", "--episodes", "100000", "--out", "out")
    with started("evaluate", *words) as process:
        errors = interrupt_once_there(process, tmp_path / "out" / "compressed.policy")
    assert "What is finished so far is in out" in errors
    assert Policy.load(tmp_path / "out" / "compressed.policy").env_id == "Pendulum-v1"


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_training_is_resumable(tmp_path: Path, by: int) -> None:
    algorithm = "sac:learning_starts=100,batch_size=16,hidden=8"
    words = ("train", "--algo", algorithm, "--env", "Pendulum-v1", "--steps", "1000000", "--out", "run")
    with started(*words) as process:
        errors = interrupt_once_there(process, tmp_path / "run" / "tensorboard", by)
    assert (
        f"compressrl train --algo {algorithm} --env Pendulum-v1 --steps 1000000 --seed 0 --out run" in errors
    )
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    assert (tmp_path / "run" / "latest.policy").exists()


@pytest.mark.parametrize("option", ["hidden=abc", "hidden=10000000x10000000", "batch_size=1e19", "n_steps=3"])
def test_a_training_that_cannot_begin_leaves_no_folder(tmp_path: Path, option: str) -> None:
    result = run(
        "train", "--algo", f"sac:{option}", "--env", "Pendulum-v1", "--steps", "20000", "--out", "run"
    )
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


class Crash(gymnasium.Env[np.ndarray, np.ndarray]):
    """Step 150 of all that are taken fails."""

    observation_space = action_space = spaces.Box(-1, 1, (1,), np.float32)
    steps = 0

    def reset(self, **given: Any) -> tuple[np.ndarray, dict[str, Any]]:
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        Crash.steps += 1
        if Crash.steps == 150:
            raise OSError("the robot\nhas fallen")
        return np.zeros(1, np.float32), 0.0, False, False, {}


def test_a_training_whose_environment_fails_is_kept_and_goes_on(tmp_path: Path) -> None:
    gymnasium.register("Crash-v0", Crash, max_episode_steps=20, disable_env_checker=True)
    words = ("train", "--algo", "ddpg:learning_starts=50,hidden=8", "--env", "Crash-v0", "--steps", "200")
    try:
        result = run(*words, "--out", "run")
        assert result.exit_code == 1
        error, command = result.stderr.splitlines()[-2:]
        assert command == f"  compressrl {' '.join(words)} --seed 0 --out run"
        failed = (
            r"error: Crash-v0 has failed in its step: OSError: the robot has fallen\. The run is saved at "
        )
        assert re.fullmatch(failed + r"step \d+\. This goes on:", error)
        assert run(*words, "--out", "run").exit_code == 0
    finally:
        del gymnasium.registry["Crash-v0"]


@pytest.mark.parametrize("command", ["evaluate", "profile"])
def test_a_picture_of_another_format_is_refused_at_once(tmp_path: Path, command: str) -> None:
    result = run(command, "--algo", "sac", "--compressor", "ptsq", "--plot", "picture.jpg")
    assert result.exit_code == 2
    assert "picture.jpg" in result.stderr
    assert "svg" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["evaluate", "profile"])
def test_a_picture_without_matplotlib_says_how_to_install_it(tmp_path: Path, command: str) -> None:
    words = [command, "--algo", "sac", "--compressor", "ptsq", "--plot", "picture.svg"]
    without = "import sys; sys.modules['matplotlib'] = None"
    program = f"{without}; sys.argv[1:] = {words}; from compressrl import cli; cli.main()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "pip install 'compressrl[plot]'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_evaluate_draws_its_report(tmp_path: Path) -> None:
    policy = pendulum_policy(tmp_path / "p.policy")
    words = ("--policy", str(policy), "--compressor", "ptsq:calibration_steps=300", "--episodes", "2")
    result = run("evaluate", *words, "--out", "out", "--plot", "picture.png")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
