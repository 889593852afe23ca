"""What test processes that run side by side share: the cores, the memory and numba's cache on disk."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

# A process that has imported Airflow, Great Expectations and the kernels, with the stages' processes it starts.
MEMORY_OF_ONE_KB = 1_200_000
MOST = 4


def workers(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return how many test processes to run: one a core that we may use, as far as the free memory goes.

    0, so no process beside pytest's own, if that is one.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    known = dict(line.split(":", 1) for line in meminfo.read_text().splitlines()) if meminfo.is_file() else {}
    available_kb = int(known.get("MemAvailable", f"{MOST * MEMORY_OF_ONE_KB} kB").split()[0])
    fitting = min(cores, available_kb // MEMORY_OF_ONE_KB, MOST)
    return fitting if fitting > 1 else 0


def busy() -> float:
    """Return by what a time limit is to be multiplied: how many processes want a core each has, and at least 1.

    On a machine that does nothing else it is 1: there every limit holds as it is written.
    """
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def one_writer_of_numbas_cache() -> None:
    """Have every process that calls this wait for the others when it saves a compiled kernel.

    numba replaces its files atomically, but reads the index, picks a free file name and writes both in three
    steps: two processes that compile one kernel for different types at once would pick the same name, and one
    of them would be served the other's machine code.
    """
    from numba.core.caching import IndexDataCacheFile  # not at the top: half a second that most runs need not

    save = IndexDataCacheFile.save

    def locked(self: Any, key: Any, data: Any) -> None:
        with Path(self._index_path).parent.joinpath("one-writer.lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            save(self, key, data)

    IndexDataCacheFile.save = locked
