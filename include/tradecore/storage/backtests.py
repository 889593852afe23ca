"""Backtests that were kept: saved once by their id, listed, shown. No function here commits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from tradecore.errors import ConfigError
from tradecore.storage import queries

SQL = queries.load("backtests")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBacktest:
    """A row of `backtests`. metrics: None is 'not defined'; equity_e4 and benchmark_growth: one a session."""

    backtest_id: str
    created_at: datetime
    first_session: date
    last_session: date
    calendar: str
    timeframe: str
    source: str
    universe: str
    symbols: Sequence[str]
    strategies: dict[str, Any]
    overrides: dict[str, Any]
    initial_cash_e4: int
    benchmark: str
    config_hash: str
    code_hash: str
    data_hash: str
    book_hash: str
    orders: int
    fills: int
    metrics: dict[str, float | None]
    session_dates: Sequence[date]
    equity_e4: Sequence[int]
    benchmark_growth: Sequence[float] | None
    fold_s: float
    report_path: str


def save(conn: psycopg.Connection, row: StoredBacktest) -> None:
    """Keep a backtest; one that is there already stays as it is, but for the path of its page."""
    values = asdict(row)
    for name in ("strategies", "overrides", "metrics"):
        values[name] = Jsonb(values[name])
    for name in ("symbols", "session_dates", "equity_e4"):
        values[name] = list(values[name])
    conn.execute(SQL["save"], values)


def newest(conn: psycopg.Connection, most: int = 20) -> list[dict[str, Any]]:
    """Return the newest backtests first, without their curves."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(SQL["newest"], {"most": most}).fetchall()


def find(conn: psycopg.Connection, start: str) -> StoredBacktest:
    """Return the backtest whose id begins so. Raises ConfigError when none does, or more than one."""
    if not start:
        raise ConfigError("no id was given.", next_step="python -m tradecore backtests list")
    found = [row[0] for row in conn.execute(SQL["matching"], {"start": start}).fetchall()]
    if len(found) != 1:
        which = f"these do: {', '.join(i[:16] for i in found)}" if found else "none does"
        raise ConfigError(
            f"no single backtest has an id that begins with {start!r}: {which}.",
            next_step="python -m tradecore backtests list",
            value=start,
        )
    with conn.cursor(row_factory=class_row(StoredBacktest)) as cursor:
        row = cursor.execute(SQL["one"], {"backtest_id": found[0]}).fetchone()
    assert row is not None  # it was there in this transaction
    return row
