"""Rows *risk parity*, *Ledoit-Wolf*, *tail* and *limits*: the risk kernels beside plain numba, skfolio and numpy.

skfolio runs in its own environment, where `make risk-peers` has made it; without it its row is left out.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from ratios import Row
from row_portfolio import EVERYTHING, SESSIONS, SYMBOLS, folded, made, params

from tradecore.risk import covariance, sizing
from tradecore.risk.measures import _kernels as measures
from tradecore.risk.measures import worst_rows
from tradecore.risk.outlook import Outlook, Plan

ASSETS, NAMES, DAYS, SERIES, SEED = 100, 500, 1_260, 500, 6
SKFOLIO = Path(__file__).resolve().parent.parent / ".local" / "risk-peers" / "bin" / "python"
WORKER = """
import json, os, sys, time
import numpy as np
from skfolio.moments import LedoitWolf
x = np.load(sys.argv[1])
for line in sys.stdin:
    before = time.process_time()
    found = LedoitWolf().fit(x).covariance_
    took = time.process_time() - before
    np.save(sys.argv[2], found)
    print(json.dumps(took), flush=True)
"""


def made_returns(rows: int, n: int) -> np.ndarray:
    """Return returns [rows, n] with a common factor and volatilities from 0.5 % to 3 % a day."""
    rng = np.random.default_rng(SEED)
    own = rng.normal(size=(rows, n)) * rng.uniform(0.005, 0.03, n)
    return np.ascontiguousarray(own + rng.normal(size=(rows, 1)) * 0.008)


@njit(cache=True)
def plain_parity(covariance_, tolerance, sweeps):
    """Cyclical coordinate descent as one would write it down, with the product kept up to date."""
    n = covariance_.shape[0]
    x = 1.0 / np.sqrt(np.diag(covariance_)) / np.sqrt(n)
    pull = covariance_ @ x
    for _ in range(sweeps):
        for i in range(n):
            own = covariance_[i, i]
            others = pull[i] - own * x[i]
            new = (-others + np.sqrt(others * others + 4.0 * own / n)) / (2.0 * own)
            change = new - x[i]
            x[i] = new
            for j in range(n):
                pull[j] += change * covariance_[i, j]
        worst = 0.0
        for i in range(n):
            worst = max(worst, abs(x[i] * pull[i] * n - 1.0))
        if worst <= tolerance:
            break
    return x / x.sum()


class Skfolio:
    """Ledoit-Wolf by skfolio, in a process of its own that measures itself."""

    def __init__(self, returns: np.ndarray) -> None:
        folder = Path(tempfile.mkdtemp(prefix="skfolio"))
        self.answer = folder / "out.npy"
        np.save(folder / "in.npy", returns)
        self.worker = subprocess.Popen(
            [str(SKFOLIO), "-c", WORKER, str(folder / "in.npy"), str(self.answer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.worker.kill)

    def cpu_s(self) -> float:
        assert self.worker.stdin is not None  # it was opened with pipes
        assert self.worker.stdout is not None
        self.worker.stdin.write("again\n")
        self.worker.stdin.flush()
        return float(json.loads(self.worker.stdout.readline()))

    def result(self) -> Any:
        self.cpu_s()
        return np.load(self.answer)


def agree_to(tolerance: float) -> Callable[[dict[str, Any]], None]:
    """Return a comparison of all results with the first."""

    def agree(results: dict[str, Any]) -> None:
        first, *others = results.values()
        for other in others:
            np.testing.assert_allclose(other, first, rtol=tolerance, atol=1e-15)

    return agree


def parity_row() -> Row:
    of = covariance.estimate(made_returns(DAYS, ASSETS))

    def agree(results: dict[str, Any]) -> None:
        agree_to(1e-7)(results)
        for w in results.values():
            assert np.ptp(w * (of @ w) / (w @ of @ w)) <= 1e-8, "contributions are not equal"

    return Row(
        name="risk parity",
        unit="portfolio",
        units=1,
        contestants={"plain numba": lambda: plain_parity(of, 1e-10, 500), "tradecore": lambda: sizing.equal_risk(of)},
        agree=agree,
        goals={"tradecore": 1.1},
        note=f"{ASSETS} assets, contributions equal to 1e-8; the goal is 0.4 ms",
    )


def shrinkage_row() -> Row:
    x = made_returns(DAYS, NAMES)
    return Row(
        name="Ledoit-Wolf",
        unit="covariance",
        units=1,
        contestants={"skfolio": Skfolio(x), "tradecore": lambda: covariance.estimate(x)},
        agree=agree_to(1e-9),
        goals={"tradecore": 1.0},
        note=f"{NAMES} x {DAYS:,}, one thread",
    )


def tail_row() -> Row:
    x = made_returns(DAYS, SERIES)
    worst = worst_rows(DAYS, 0.99)

    def by_numpy() -> Any:
        front = np.partition(x, worst - 1, axis=0)[:worst]
        return np.array([-front[worst - 1], -front.mean(axis=0)])

    def ours() -> Any:
        out, room = np.empty((2, SERIES)), np.empty(worst)
        measures.partition_columns(x, worst, room, out[0], out[1])
        return out

    return Row(
        name="tail",
        unit="series",
        units=SERIES,
        contestants={"numpy.partition": by_numpy, "tradecore": ours},
        agree=agree_to(1e-10),
        goals={"tradecore": 1.0},
        note=f"historical value at risk and expected shortfall at 99 % of {DAYS:,} returns",
    )


def limits_row() -> Row:
    """The fold, and the fold with net, group, leverage and turnover limits: the difference a symbol-bar is what
    counts."""
    data = made()
    group = np.zeros((10, SYMBOLS), np.bool_)
    group[np.arange(SYMBOLS) % 10, np.arange(SYMBOLS)] = True
    none = np.zeros((0, SYMBOLS))
    plan = Plan(
        restricted=np.zeros(SYMBOLS, np.bool_),
        member=group,
        group_ppm=np.full(10, 100_000),
        loss=np.zeros((0, SYMBOLS)),
    )
    outlook = Outlook(plan=plan, returns=none, index=none[:, 0], traded=none > 0, value_e4=none.astype(np.int64))
    some = {**EVERYTHING, "limits": 1, "max_net_ppm": 600_000, "max_leverage_ppm": 800_000}
    return Row(
        name="limits",
        unit="symbol-bar",
        units=SESSIONS * SYMBOLS,
        contestants={
            "fold": folded(data, params(**EVERYTHING), actions=False),
            "with limits": folded(data, params(**some), actions=False, outlook=outlook),
        },
        note="10 groups, net and leverage that bind; the goal is 2 ns more a symbol-bar",
    )


def rows() -> list[Row]:
    """Return the rows; Ledoit-Wolf where skfolio is."""
    found = [parity_row(), tail_row(), limits_row()]
    return [*found, shrinkage_row()] if SKFOLIO.exists() else found
