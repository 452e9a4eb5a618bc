"""Files: whatever fails, the old one is whole and nothing is left beside it."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compressrl import files
from compressrl.errors import CompressrlError, UsageError


def content(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_written_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    files.write_text_atomic(path, "neu: ü")
    assert path.read_text(encoding="utf-8") == "neu: ü"
    assert content(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failure_while_writing_leaves_the_old_one(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with files.atomic(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert content(tmp_path) == ["a.txt"]


def test_two_at_once_write_each_their_own(tmp_path):
    path = tmp_path / "a.txt"
    with files.atomic(path) as one:
        one.write_text("one")
        with files.atomic(path) as other:
            other.write_text("other")
    assert path.read_text() == "one"
    assert content(tmp_path) == ["a.txt"]


def test_json_without_nan(tmp_path):
    path = tmp_path / "a.json"
    files.write_json_atomic(path, {"a": [1, None]})
    assert json.loads(path.read_text()) == {"a": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json_atomic(path, {"a": math.nan})
    assert json.loads(path.read_text()) == {"a": [1, None]}


FULL_DISK = """
import resource, sys
from pathlib import Path
from compressrl import files
from compressrl.errors import CompressrlError

resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
path = Path(sys.argv[1])
files.write_bytes_atomic(path, b"n" * 100)
try:
    files.write_bytes_atomic(path, b"x" * 101)
except CompressrlError as error:
    print(error)
"""


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.bin"
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"{path} cannot be written: File too large.\n"
    assert path.read_bytes() == b"n" * 100
    assert content(tmp_path) == ["a.bin"]


def test_a_full_device_is_told_by_its_name(tmp_path):
    path = tmp_path / "a.bin"

    def write() -> None:
        with files.atomic(path) as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_bytes(b"x")

    with pytest.raises(CompressrlError, match=r"a.bin cannot be written: No space left on device\.$"):
        write()
    assert content(tmp_path) == []


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CompressrlError, match=r"cannot be written: Not a directory\.$"):
        files.write_bytes_atomic(tmp_path / "file" / "a.bin", b"x")
    for path in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(UsageError, match=rf"{path} cannot be written: .*Choose another --out"):
            files.make_folder(path)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_missing_folder_and_a_folder_in_the_place_of_the_file(tmp_path):
    with pytest.raises(CompressrlError, match="No such file or directory"):
        files.write_bytes_atomic(tmp_path / "missing" / "a.bin", b"x")
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(CompressrlError, match="cannot be written"):
        files.write_bytes_atomic(tmp_path / "a.bin", b"x")
    assert content(tmp_path) == ["a.bin"]


def test_make_folder_makes_its_parents_and_leaves_nothing_inside(tmp_path):
    folder = files.make_folder(tmp_path / "a" / "b")
    assert folder == tmp_path / "a" / "b"
    assert files.make_folder(folder) == folder
    assert content(folder) == []


def test_a_folder_in_which_nothing_is_written_is_not_left(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    for folder in (mine, tmp_path / "new"):
        with files.alone_in(folder):
            assert folder.exists()
    assert content(tmp_path) == ["mine"]
    with files.alone_in(tmp_path / "new"):
        shutil.rmtree(tmp_path / "new")  # by somebody else
    with files.alone_in(tmp_path / "new"):
        (tmp_path / "new" / "a").touch()
    assert (tmp_path / "new" / "a").exists()


def test_a_cache_needs_no_home_where_it_is_named(monkeypatch, tmp_path):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path))
    assert files.cache_folder("x") == tmp_path / "x"
    monkeypatch.delenv(files.CACHE_VARIABLE)
    with pytest.raises(CompressrlError, match=rf"no home folder .* set {files.CACHE_VARIABLE}"):
        files.cache_folder("x")
