"""How many test processes a machine gets, and what keeps them out of each other's way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import shared_machine

TESTS = Path(shared_machine.__file__).parent
# Two processes compile one function for different types and save both at the same moment: without a lock one index
# entry is lost, or both name one file.
SAVE_AT_ONCE = """
import sys, time
import shared_machine
if sys.argv[3] == "locked":
    shared_machine.one_writer_of_numbas_cache()
from numba.core.caching import IndexDataCacheFile

load = IndexDataCacheFile._load_index
def load_and_dawdle(self):
    found = load(self)
    time.sleep(0.3)
    return found
IndexDataCacheFile._load_index = load_and_dawdle

me = sys.argv[2]
while time.time() < float(sys.argv[4]):
    pass
IndexDataCacheFile(sys.argv[1], "kernel", "stamp").save(me, f"code of {me}")
"""


@pytest.mark.parametrize(
    "cores, available_kb, expected",
    [(1, 8_000_000, 0), (2, 8_000_000, 2), (2, 1_500_000, 0), (4, 3_000_000, 2), (64, 64_000_000, 4)],
)
def test_as_many_processes_as_cores_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int, available_kb: int, expected: int
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:       99999999 kB\nMemAvailable:   {available_kb} kB\n")
    assert shared_machine.workers(meminfo) == expected


def saved_by_two(folder: Path, how: str) -> dict[str, str]:
    """Have two processes save at once; return what a third finds for each."""
    from time import time

    folder.mkdir()
    start = str(time() + 4)
    environ = os.environ | {"PYTHONPATH": str(TESTS)}
    both = [
        subprocess.Popen([sys.executable, "-c", SAVE_AT_ONCE, str(folder), name, how, start], env=environ)
        for name in ("one", "two")
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    from numba.core.caching import IndexDataCacheFile

    cache = IndexDataCacheFile(str(folder), "kernel", "stamp")
    return {name: cache.load(name) for name in ("one", "two")}


def test_two_writers_of_numbas_cache_lose_nothing(tmp_path: Path):
    right = {"one": "code of one", "two": "code of two"}
    assert saved_by_two(tmp_path / "free", "unlocked") != right, "numba sees to it itself now: the lock may go"
    assert saved_by_two(tmp_path / "locked", "locked") == right
