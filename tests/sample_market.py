"""The sample data as plain arrays and as the panel that strategies see, without a database."""

from __future__ import annotations

import csv
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np

from tradecore.bars import Panel, next_factor
from tradecore.model import Instrument
from tradecore.sessions import calendar

SAMPLE = Path(__file__).resolve().parents[1] / "include" / "sample_data"
SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
FIELDS = ("open", "high", "low", "close", "volume")
EPOCH = date(1970, 1, 1)


@cache
def columns(symbol: str) -> dict[str, np.ndarray]:
    """Return open, high, low, close (USD as traded) and volume of one symbol as float64 [T]: real and without gaps."""
    with (SAMPLE / f"{symbol}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    out = {field: np.array([float(row[field]) for row in rows]) for field in FIELDS}
    out["day"] = np.array([(date.fromisoformat(row["session_date"]) - EPOCH).days for row in rows])
    return out


@cache
def actions(symbol: str) -> dict[int, tuple[int, int, int]]:
    """Return split ratio and dividend (1e-6 USD) by ex-day."""
    found: dict[int, tuple[int, int, int]] = {}
    with (SAMPLE / "corporate_actions.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["symbol"] == symbol:
                day = (date.fromisoformat(row["ex_date"]) - EPOCH).days
                num, den, dividend = found.get(day, (1, 1, 0))
                if row["kind"] == "split":
                    num, den = int(row["ratio_num"]), int(row["ratio_den"])
                else:
                    dividend = round(float(row["dividend_usd"]) * 1e6)
                found[day] = (num, den, dividend)
    return found


@cache
def panel(symbols: tuple[str, ...] = SYMBOLS) -> Panel:
    """Return the whole sample as a panel: rows before a symbol's first day did not trade."""
    day = columns("IBM")["day"]
    shape = (day.size, len(symbols))
    cells = {field: np.zeros(shape, np.int64) for field in FIELDS}
    traded, factor = np.zeros(shape, np.bool_), np.full(shape, np.nan)
    for i, symbol in enumerate(symbols):
        data, events = columns(symbol), actions(symbol)
        at = np.searchsorted(day, data["day"])
        traded[at, i] = True
        for field in FIELDS:
            scale = 1.0 if field == "volume" else 1e4
            cells[field][at, i] = np.rint(data[field] * scale).astype(np.int64)
        value = 1.0
        for k, (t, label) in enumerate(zip(at, data["day"], strict=True)):
            if k:
                value = next_factor(value, int(cells["close"][t, i]), *events.get(int(label), (1, 1, 0)))
            factor[t, i] = value
    xnys = calendar("XNYS")
    ends = [xnys.session(date.fromordinal(EPOCH.toordinal() + int(d))).close_at for d in day]
    return Panel(
        instruments=tuple(
            Instrument(instrument_id=i + 1, symbol=s, tick_e4=100, qty_step_e6=1_000_000) for i, s in enumerate(symbols)
        ),
        bar_end_ns=np.array([int(end.timestamp()) * 1_000_000_000 for end in ends]),
        day=day,
        traded=traded,
        adj_factor=factor,
        **cells,
    )
