"""What a book could lose from its close on: measured at each session's end, kept, and held against what came."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from tradecore import decision, market
from tradecore.bars import Panel, adjusted
from tradecore.context import Context
from tradecore.model import EQUITY, Floats, Instrument
from tradecore.risk import measures
from tradecore.risk import outlook as risk_outlook
from tradecore.risk.measures.summary import Portfolio, summary
from tradecore.risk.outlook import ADV_BARS, Plan
from tradecore.risk.plan import shock_losses
from tradecore.storage import queries
from tradecore.units import QTY_SCALE

SQL = queries.load("risk")


def measure(ctx: Context) -> dict[str, Any] | None:
    """Measure what the book holds after this bar and keep it; None for a book that is worth nothing.

    A book that holds nothing has zeros: its forecasts count as well. Changes no row where nothing changed.
    """
    found = measured(ctx)
    if found is not None:
        ctx.conn.execute(
            SQL["put_measures"],
            {"book": ctx.book, "bar_end": ctx.bar_end_at, "session": ctx.session_date, "measures": Jsonb(found)},
        )
    return found


def measured(ctx: Context) -> dict[str, Any] | None:
    """Measure what the book holds after this bar."""
    at, tail = decision.bench(ctx), ctx.settings.trading.risk.tail
    equity = int(at.loaded.book.acct[EQUITY])
    if equity <= 0:
        return None
    rows = max(tail.lookback_bars, ADV_BARS) + 1
    panel = decision.window_panel(ctx, at.instruments, rows, ())
    returns, index, traded_value = _behind(ctx, panel, tail.lookback_bars)
    value = at.loaded.book.qty.astype(np.float64) * at.loaded.book.mark / QTY_SCALE
    execution = ctx.settings.trading.execution
    stops = execution.stop_loss_frac
    return summary(
        Portfolio(
            symbols=panel.symbols,
            weight=value / equity,
            returns=returns,
            index=index,
            value=value,
            traded_value=traded_value,
            stresses={**_shocks(ctx, panel.symbols), **_windows(ctx, at.instruments)},
            stop_frac=None if stops is None else float(stops),
            participation_frac=float(execution.participation_frac),
            decay=float(tail.ewma_decay),
        )
    )


def _behind(ctx: Context, panel: Panel, bars: int) -> tuple[Floats, Floats, Floats]:
    """Return returns [bars, n], those of the index [bars], and average traded value [n] at the last row of a panel."""
    trading = ctx.settings.trading
    n, name = len(panel.symbols), trading.risk.limits.index_symbol
    plan = Plan(
        restricted=np.zeros(n, np.bool_),
        index=panel.symbols.index(name) if name in panel.symbols else -1,
        lookback_bars=bars,
        traded_value=True,
        member=np.zeros((0, n), np.bool_),
        group_ppm=np.zeros(0, np.int64),
        loss=np.zeros((0, n)),
    )
    found = risk_outlook.outlook(plan, adjusted(panel.close, panel), panel.close * panel.volume)
    returns, index, known = found.window(0, bars)
    return (
        np.ascontiguousarray(np.where(known, returns, index[:, None])),
        np.ascontiguousarray(index),
        np.asarray(found.value_e4[-ADV_BARS:].mean(axis=0)),
    )


def _shocks(ctx: Context, symbols: tuple[str, ...]) -> dict[str, Floats]:
    losses = shock_losses(ctx.settings.trading, symbols)
    return dict(zip(ctx.settings.trading.risk.tail.shocks, losses, strict=True))


def _windows(ctx: Context, instruments: list[Instrument]) -> dict[str, Floats]:
    """Return the loss of a unit of each name over each historical window that is past and has bars.

    A name without a bar at both ends counts as the mean of those that have.
    """
    out: dict[str, Floats] = {}
    for name, (first, last) in ctx.settings.trading.risk.tail.windows.items():
        moved = _move(ctx, instruments, first, last) if last <= ctx.session_date else None
        if moved is not None:
            out[name] = -moved
    return out


def _move(ctx: Context, instruments: list[Instrument], first: date, last: date) -> Floats | None:
    days = ctx.calendar.sessions_in_range(first, last)
    if len(days) < 2:
        return None
    ends = [(d, ctx.calendar.bar_ends(d, ctx.record.timeframe)[-1]) for d in (days[0], days[-1])]
    panel = market.read_panel(
        ctx.conn, timeframe=ctx.record.timeframe, source=ctx.record.source, instruments=instruments, ends=ends
    )
    close = adjusted(panel.close, panel)
    moved = close[1] / close[0] - 1.0
    there = ~np.isnan(moved)
    return np.where(there, moved, moved[there].mean()) if there.any() else None


def backtests(conn: psycopg.Connection, book: str) -> dict[str, Any]:
    """Hold each session's value at risk of one bar against the return of the next: Kupiec and Christoffersen, for every
    method and confidence that was kept."""
    rows = conn.execute(SQL["measured"], {"book": book}).fetchall()
    conn.rollback()
    hits: dict[tuple[str, float], list[bool]] = {}
    for _, kept, _, equity, before in rows:
        lost = 1.0 - equity / before if before > 0 else 0.0
        for loss in kept["losses"]:
            if loss["bars"] == 1:
                hits.setdefault((loss["method"], loss["confidence"]), []).append(lost > loss["value_at_risk"])
    return {
        f"{method} {confidence:.0%}": _tested(np.array(of), confidence) for (method, confidence), of in hits.items()
    }


def _tested(hits: np.ndarray, confidence: float) -> Mapping[str, Any]:
    kupiec = measures.kupiec(hits, confidence)
    independence, both = measures.christoffersen(hits, confidence)
    return {
        "sessions": kupiec.rows,
        "exceeded": kupiec.exceeded,
        "expected": round((1.0 - confidence) * kupiec.rows, 2),
        **{
            test.test: {"ratio": round(test.statistic, 6), "p": round(test.p_value, 6)}
            for test in (kupiec, independence, both)
        },
    }
