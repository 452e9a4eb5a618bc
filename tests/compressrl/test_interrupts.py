"""Signals that wait for the end of what must not be cut; all of them real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from compressrl import interrupts


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def interrupted(doing: str, *numbers: int) -> bool:
    """Whether what is held back comes to its end, and KeyboardInterrupt follows."""
    reached = False
    try:
        with interrupts.held_back(doing):
            send(*numbers)
            reached = True
    except KeyboardInterrupt:
        return reached
    return False


@pytest.fixture(autouse=True)
def _handlers():
    """As in a program that nobody has told otherwise; what a test leaves is seen here."""
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    left = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    for number, handler in before.items():
        signal.signal(number, handler)
    assert left == (signal.default_int_handler, signal.SIG_DFL)


def test_a_signal_is_heard_at_the_end(caplog):
    assert interrupted("saving", signal.SIGINT, signal.SIGINT)
    assert [record.getMessage() for record in caplog.records] == ["saving first, a moment ..."]


def test_nothing_is_raised_where_nothing_came_and_an_error_is_raised_as_it_is():
    with interrupts.held_back():
        pass

    def fails() -> None:
        with interrupts.held_back():
            send(signal.SIGINT)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fails()


def test_one_within_another_is_heard_at_the_outer_ones_end():
    reached = []

    def within() -> None:
        with interrupts.held_back():
            with interrupts.held_back():
                send(signal.SIGINT)
            reached.append(True)

    with pytest.raises(KeyboardInterrupt):
        within()
    assert reached


def test_termination_is_an_interrupt_and_is_held_back_too():
    with interrupts.by_termination():
        assert interrupted("", signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupts.by_termination():
        send(signal.SIGTERM)


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.held_back():
            send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_another_thread_holds_nothing_back():
    """Python lets none set a handler, and tells none of a signal."""
    failed = []

    def work() -> None:
        try:
            with interrupts.by_termination(), interrupts.held_back():
                pass
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed


def test_signals_at_any_moment_leave_the_handlers_as_they_were():
    """In a process of its own, by a timer: some hit the moments when handlers are set."""
    program = """
import os, random, signal, sys, time
from compressrl import interrupts

def both(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGALRM, both)
heard = 0
for _ in range(300):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 4e-4))
        while True:
            with interrupts.held_back():
                pass
    except KeyboardInterrupt:
        heard += 1
    try:  # the second of the two signals may be on its way
        time.sleep(0.001)
    except KeyboardInterrupt:
        pass
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        sys.exit("Ctrl-C is not heard any more")
    except KeyboardInterrupt:
        pass
print(heard)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.stdout, run.stderr, run.returncode) == ("300\n", "", 0)
