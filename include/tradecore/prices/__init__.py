"""Prices as they were known: panels of sessions and names, and adjusted series of them, as of a session.

Two ways of adjusting, from one kernel. Forward (what signals see): the factor is 1 at the first bar, and a later action
changes no earlier bar. Backward (what vendors publish): the factor is 1 at the last bar, so every action changes all
that lies before it; point in time all the same, because what comes after the session is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import numpy as np
import psycopg

from tradecore import symbols as names_of
from tradecore.bars import Panel, adjusted
from tradecore.context import book_calendar
from tradecore.errors import ConfigError
from tradecore.market import read_panel
from tradecore.model import Floats
from tradecore.prices._kernels import adjustment_factors
from tradecore.settings import Settings
from tradecore.storage import bars as stored
from tradecore.storage.bars import Action
from tradecore.units import to_day, to_ns

Dividends = Literal["ex_close", "previous_close"]
LAST_NS = np.iinfo(np.int64).max


def panel(
    settings: Settings,
    conn: psycopg.Connection,
    sessions: Sequence[date],
    symbols: Sequence[str],
    as_of: datetime | None = None,
) -> Panel:
    """Return the bars of sessions and names as they were known at a time (None: now); leaves a read transaction open.

    Names may be former ones. Raises ConfigError for one that the database has never heard of, NotASession.
    """
    calendar, timeframe = book_calendar(settings), settings.trading.book.timeframe
    ids = _instrument_ids(conn, symbols)
    by_id = stored.instruments_by_id(conn, ids)
    return read_panel(
        conn,
        timeframe=timeframe,
        source=settings.trading.data.feed,
        instruments=[by_id[i] for i in ids],
        ends=[(d, e) for d in sessions for e in calendar.bar_ends(d, timeframe)],
        as_of=as_of,
    )


def _instrument_ids(conn: psycopg.Connection, symbols: Sequence[str]) -> list[int]:
    known: dict[str, int] = dict(conn.execute(names_of.SQL["instruments_of"], {"symbols": list(symbols)}).fetchall())
    unknown = [s for s in symbols if s not in known]
    if unknown:
        raise ConfigError(
            f"the database has never heard of {', '.join(unknown)}.",
            next_step="name members of the universe, or load their bars: python -m tradecore load-history",
            symbols=unknown,
        )
    return [known[s] for s in symbols]


def known_by(settings: Settings, session: date) -> datetime:
    """Return until when what became known counts as of a session: the end of its last bar and the publication lag."""
    end = book_calendar(settings).bar_ends(session, settings.trading.book.timeframe)[-1]
    return end.astimezone(UTC) + timedelta(minutes=settings.trading.data.publication_lag_minutes)


def factors(
    bars: Panel,
    actions: Iterable[Action],
    *,
    as_of: date,
    known_at: datetime | None = None,
    backward: bool = False,
    dividends: Dividends = "ex_close",
) -> Floats:
    """Return the factors [T, n] of bars as of a session; NaN where nothing traded, and after it.

    Parameters: actions of any instrument and day; as_of, the session, whose own actions count; known_at, the time up to
    which an action must have been known (None: any); backward, 1 at the last bar up to as_of instead of at the first;
    dividends, see the kernel. Source of the two rules: the sample's vendor (Quandl WIKI) puts a dividend back at the
    close of its ex-date; CRSP (Data Descriptions Guide, "Factor to Adjust Prices") at the close before.
    """
    column = {i.instrument_id: k for k, i in enumerate(bars.instruments)}
    rows: list[tuple[int, ...]] = sorted(
        (column[a.instrument_id], to_day(a.ex_date), to_ns(a.known_at), a.ratio_num, a.ratio_den, a.dividend_e6)
        for a in actions
        if a.adjusts and a.instrument_id in column
    )
    table = np.array([r[1:] for r in rows], np.int64).reshape(len(rows), 5)
    begin = np.searchsorted(np.array([r[0] for r in rows], np.int64), np.arange(len(column) + 1)).astype(np.int64)
    out: Floats = np.empty(bars.traded.shape)
    known_ns = LAST_NS if known_at is None else to_ns(known_at)
    mode = int(dividends == "previous_close")
    adjustment_factors(bars.close, bars.traded, bars.day, begin, table, to_day(as_of), known_ns, mode, out)
    if backward:
        for i in range(out.shape[1]):
            there = np.flatnonzero(np.isfinite(out[:, i]))
            if there.size:
                out[:, i] /= out[there[-1], i]
    return out


def closes(bars: Panel, factor: Floats) -> Floats:
    """Return the adjusted closes [T, n] in USD of bars with these factors."""
    return adjusted(bars.close, replace(bars, adj_factor=factor))
