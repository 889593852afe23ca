"""Kernels start fast and are never stale: what the cache on disk and the warm-up give a process.

In a task of the running stack: test_running_stack.py. The cache key's parts: tests/unit/test_kernel_cache.py.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tradecore import kernel_cache

REPOSITORY = Path(__file__).resolve().parents[2]
INCLUDE = REPOSITORY / "include"
REPEATS = 7
EXTRA_S = 0.3
pytestmark = pytest.mark.slow

TRIVIAL = "from numba import njit\n\n\n@njit(cache=True)\ndef add_one(x):\n    return x + 1\n"
CALL_TRIVIAL = "import trivial_kernel; trivial_kernel.add_one(1)"
# The arguments are made before the clock starts; importing the kernels is timed, as it is for the trivial one.
CALL_KERNEL = "from tradecore.backtest import _kernels; _kernels.settle_bar(*arguments)"
CLOCKED = """
import numba, numpy as np, pickle, sys, time
{prepare}
started = time.perf_counter()
{call}
print(time.perf_counter() - started)
"""
ARGUMENTS = """
from tradecore import warm
from tradecore.backtest import step
from tradecore.config_models import Execution
from tradecore.config_risk import Risk
from tradecore.model import new_book
sys.modules.pop("tradecore.backtest._kernels")
params = step.step_params(Risk(), Execution())
book = step.with_room(new_book(cash_e4=10**9, n_instruments=2, n_strategies=1, n_lots=2, n_orders=8), params)
arguments = (book, warm.bar_row(warm._market(), 0), warm.instrument_arrays(warm.INSTRUMENTS), params,
             step.new_journal(book))
"""
# Every compiled type of every kernel before and after two real sessions: the warm-up must know them all.
SIGNATURES = """
import json, sys
from numba.core.dispatcher import Dispatcher
from tradecore.warm import warm_serial_kernels
from tradecore import cli

def known():
    return {f"{name}.{key}": sorted(map(str, value.signatures))
            for name, module in list(sys.modules.items()) if name.startswith("tradecore.")
            for key, value in vars(module).items() if isinstance(value, Dispatcher)}

warm_serial_kernels()
import tradecore.pipeline
before = known()
for arguments in (["init", "--before", "2005-02-24"], ["run-session", "2005-02-24"], ["run-session", "2005-02-25"],
                  ["run-session", "2005-02-28"]):
    cli.app(arguments, standalone_mode=False)
after = known()
print("SIGNATURES " + json.dumps({k: [before.get(k, []), v] for k, v in after.items() if before.get(k, []) != v}))
print("KERNELS", sum(map(bool, before.values())))
"""


def run(code: str, cache: Path, include: Path = INCLUDE, **more: str) -> str:
    """Run code in a fresh interpreter with that cache; return what it printed."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(include), "NUMBA_CACHE_DIR": str(cache)} | more
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def warm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that `python -m tradecore.warm` has filled, and the trivial function beside it."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "trivial_kernel.py").write_text(TRIVIAL)
    run("from tradecore.warm import warm_serial_kernels as w; w()", cache)
    run(f"import sys; sys.path.insert(0, {str(cache)!r}); {CALL_TRIVIAL}", cache)
    return cache


def test_first_kernel_call_of_a_fresh_process_is_near_a_trivial_one(warm_cache: Path) -> None:
    """After `import numba`, with a warm cache: settle_bar, the largest kernel, against x + 1."""
    trivial, kernel = [], []
    for _ in range(REPEATS):  # in turn: other work on the machine slows both
        path = f"sys.path.insert(0, {str(warm_cache)!r})"
        trivial.append(float(run(CLOCKED.format(prepare=path, call=CALL_TRIVIAL), warm_cache)))
        kernel.append(float(run(CLOCKED.format(prepare=ARGUMENTS, call=CALL_KERNEL), warm_cache)))
    print(
        f"proof: first call: trivial min {min(trivial):.3f} median {statistics.median(trivial):.3f} s,"
        f" settle_bar min {min(kernel):.3f} median {statistics.median(kernel):.3f} s"
    )
    assert min(kernel) - min(trivial) <= EXTRA_S


def test_warm_up_compiles_every_type_that_a_session_uses(warm_cache: Path, database_url: str, tmp_path: Path) -> None:
    """Three real sessions, over orders, fills and a split, compile nothing beyond the warm-up."""
    said = run(
        SIGNATURES, warm_cache, DATABASE_URL=database_url, TRADECORE_CONFIG="sample",
        TRADECORE_LOCAL_DIR=str(tmp_path), HOME=str(tmp_path),
    )  # fmt: skip
    assert "fills=" in said
    compiled = json.loads(said.split("SIGNATURES ", 1)[1].splitlines()[0])
    assert compiled == {}
    assert int(said.split("KERNELS ", 1)[1]) > 10, "not exercised"


def test_changed_callee_of_the_project_is_never_served_stale(tmp_path: Path) -> None:
    """In a copy of the package: a kernel deep in the tree is changed, its callers are not."""
    shutil.copytree(INCLUDE / "tradecore", tmp_path / "include" / "tradecore")
    include = tmp_path / "include"
    ask = (
        "from tradecore.execution._kernels import fill_fee; from tradecore.config_models import Execution;"
        "from tradecore.config_risk import Risk;"
        "from tradecore.backtest.step import step_params as p; print(fill_fee(10**6, 10**9, p(Risk(), Execution())))"
    )
    before = kernel_cache.cache_dir(tmp_path)
    fee = int(run(ask, before, include))
    assert fee > 0
    callee = include / "tradecore" / "_kernels.py"
    text = callee.read_text()
    changed = text.replace("(1 if 2 * r >= d else 0)", "(7 if 2 * r >= d else 7)")
    assert changed != text, "the kernel to change is not there any more"
    callee.write_text(changed)
    assert int(run(ask, before, include)) == fee, "numba noticed the changed callee: the key may be simplified"
    after = kernel_cache.cache_dir(tmp_path)
    assert after != before
    assert int(run(ask, after, include)) == fee + 14, "two roundings in a fee, seven more each"
