"""One peer in a process and environment of its own: python worker.py PEER WORK DATA.npz.

PEER names a module peer_PEER.py here, WORK a function in its WORK, which gets the arrays of DATA.npz and returns the
call to be timed. A line "run" on stdin runs the call and answers with its CPU seconds; "result FILE" runs it and saves
what it returns, an array or several. What a library prints goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time

import numpy as np


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    peer, work, data = sys.argv[1:]
    with np.load(data) as arrays:
        call = importlib.import_module(f"peer_{peer}").WORK[work](dict(arrays))
    for line in sys.stdin:
        order, _, path = line.strip().partition(" ")
        before = time.process_time()
        found = call()
        took = time.process_time() - before
        if order == "result":
            parts = found if isinstance(found, tuple) else (found,)
            np.savez(path, *[np.asarray(p, np.float64) for p in parts])
        print(json.dumps({"cpu_s": took}), file=answers, flush=True)


if __name__ == "__main__":
    main()
