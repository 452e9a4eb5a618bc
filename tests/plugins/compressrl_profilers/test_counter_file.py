import copy
import os
import pickle
from pathlib import Path

import pytest

from compressrl_profilers.counter_file import CounterFile


def _open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def _pid(file):
    return int(file.read().split(b" ", 1)[0])


def test_reading_shows_the_current_content_and_keeps_one_descriptor(tmp_path):
    path = tmp_path / "counter"
    path.write_bytes(b"0000\n")
    file = CounterFile(str(path))
    assert file.read() == b"0000\n"
    before = _open_files()

    with path.open("r+b") as writer:
        writer.write(b"0042\n")

    assert file.read() == b"0042\n"
    assert _open_files() == before


def test_nothing_is_opened_before_the_first_reading(tmp_path):
    file = CounterFile(str(tmp_path / "missing"))
    assert not file.vanished
    with pytest.raises(FileNotFoundError):
        file.read()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_opens_the_file_anew():
    # /proc/self/stat opens with the pid: the parent's descriptor would go on to show the parent's.
    file = CounterFile("/proc/self/stat")
    assert _pid(file) == os.getpid()

    child = os.fork()
    if child == 0:
        os._exit(0 if _pid(file) == os.getpid() else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _pid(file) == os.getpid()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda file: pickle.loads(pickle.dumps(file))])
def test_a_copy_has_a_descriptor_of_its_own(tmp_path, duplicate):
    path = tmp_path / "counter"
    path.write_bytes(b"7\n")
    file = CounterFile(str(path))
    file.read()

    other = duplicate(file)
    file.close()

    assert other.read() == b"7\n"


def test_a_deleted_file_is_noticed(tmp_path):
    path = tmp_path / "counter"
    path.write_bytes(b"7\n")
    file = CounterFile(str(path))
    file.read()
    assert not file.vanished

    path.unlink()

    assert file.read() == b"7\n", "it would show its last value for ever"
    assert file.vanished


def test_descriptors_are_returned(tmp_path):
    path = tmp_path / "counter"
    path.write_bytes(b"7\n")
    before = _open_files()
    for _ in range(20):
        CounterFile(str(path)).read()

    assert _open_files() == before
