"""A backtest: the production step folded over the bars of the database. Nothing is stored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import psycopg

from tradecore import market, provenance, symbols
from tradecore.backtest import step
from tradecore.bars import adjusted
from tradecore.context import book_calendar
from tradecore.errors import SessionError
from tradecore.model import CASH, EQUITY, PEAK, STATE_NAMES, Capital, Floats, Instruments, Market, StepParams, new_book
from tradecore.reports import metrics
from tradecore.risk.outlook import Outlook
from tradecore.settings import Settings
from tradecore.storage import bars as stored
from tradecore.units import MONEY_SCALE, to_quanta, usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything a fold needs, in the book's order of instruments and strategies."""

    market: Market
    scores: Floats
    capital: Capital
    volatility: Floats
    instruments: Instruments
    params: StepParams
    symbols: tuple[str, ...]
    instrument_ids: tuple[int, ...]
    strategies: tuple[str, ...]
    cash_e4: int
    days: tuple[date, ...]
    outlook: Outlook | None = None
    gaps: tuple[date, ...] = ()  # sessions in the range without a bar of any member


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """A fold's result with what it was made from and how long it took."""

    inputs: Inputs
    fold: step.FoldResult
    seconds: float


def load(settings: Settings, conn: psycopg.Connection, *, first: date, last: date, allow_gaps: bool = False) -> Inputs:
    """Read bars, actions and scores of the sessions first..last, with the look-back before them.

    Raises SessionError for a range without a session, or one that begins before the bars of the database or ends
    after them, or has a session in between at which no member has a bar: what was never loaded would count as days
    without a trade. allow_gaps takes sessions in between as such days, and names them in the result.
    """
    settings = symbols.current(settings, conn)
    conn.rollback()
    trading, calendar = settings.trading, book_calendar(settings)
    timeframe, source = trading.book.timeframe, trading.data.feed
    if last < first:
        raise SessionError(f"the range {first} to {last} is empty.", next_step="give the earlier session first")
    rules = market.rules(settings)
    with conn.transaction():
        members = market.sync_members(conn, settings, calendar)
    instruments = [m.instrument for m in members]
    ends = [(d, e) for d in calendar.sessions_in_range(first, last) for e in calendar.bar_ends(d, timeframe)]
    if not ends:
        raise SessionError(
            f"there is no session of {calendar.name} from {first} to {last}.", next_step="give a longer range"
        )
    back = market.window_rows(settings, rules)
    panel = market.read_panel(
        conn,
        timeframe=timeframe,
        source=source,
        instruments=instruments,
        ends=market.bar_ends_until(calendar, ends[0][1], timeframe, back) + ends[1:],
        series=market.series_of(rules),
    )
    days, traded = [d for d, _ in ends], [bool(row.any()) for row in panel.traded[back - 1 :]]
    _require_bars(traded, days)
    gaps = tuple(dict.fromkeys(day for day, there in zip(days, traded, strict=True) if not there))
    if gaps and not allow_gaps:
        raise _with_gaps(gaps)
    actions = stored.read_actions(
        conn,
        source=source,
        instruments=[i.instrument_id for i in instruments],
        after=calendar.previous_session(ends[0][0]),
        until=calendar.next_session(ends[-1][0]),
    )
    scores = np.full((len(ends), len(rules), len(instruments)), np.nan)
    for s, rule in enumerate(rules):
        scores[:, s] = market.score_history(rule, panel)[back - 1 :]
    volatility = step.volatilities(
        adjusted(panel.close, panel), trading.risk.volatility_lookback_bars, market.bars_per_year(calendar, timeframe)
    )[back - 1 :]
    names = tuple(r.name for r in rules)
    return Inputs(
        market=market.to_market(
            panel.rows(back - 1, panel.bar_end_ns.size),
            actions,
            calendar=calendar,
            timeframe=timeframe,
            left_days=market.left_days(members, [i.instrument_id for i in instruments]),
        ),
        scores=scores,
        capital=market.capital_of(rules, names, instruments),
        volatility=volatility,
        instruments=market.instrument_arrays(instruments),
        params=step.step_params(trading.risk, trading.execution),
        symbols=panel.symbols,
        instrument_ids=tuple(i.instrument_id for i in instruments),
        strategies=names,
        cash_e4=to_quanta(settings.initial_cash_usd, MONEY_SCALE),
        days=tuple(days),
        outlook=market.outlook_of(panel, len(ends), settings, calendar, names),
        gaps=gaps,
    )


def _require_bars(traded: Sequence[bool], days: Sequence[date]) -> None:
    """Raise SessionError if nothing traded at the first or the last bar of a range."""
    if traded[0] and traded[-1]:
        return
    have = [day for day, there in zip(days, traded, strict=True) if there]
    found = f"those of {have[0]} to {have[-1]} are there" if have else "none is there"
    raise SessionError(
        f"the database lacks bars of the range {days[0]} to {days[-1]}: {found}.",
        next_step=f"python -m tradecore load-history {days[0]} {days[-1]}, with some months before the first for the "
        "look-back; or choose a range that is loaded",
    )


def _with_gaps(gaps: Sequence[date]) -> SessionError:
    more = f" and {len(gaps) - 1} more up to {gaps[-1]}" if len(gaps) > 1 else ""
    return SessionError(
        f"the database has no bar of session {gaps[0]}{more}, within the range.",
        next_step=f"python -m tradecore load-history {gaps[0]} {gaps[-1]}; or, to take them as days without a trade: "
        "--allow-gaps",
        value=gaps[0],
    )


def fold(inputs: Inputs) -> step.FoldResult:
    """Run the fold from a book that opens with cash before the first bar."""
    book = new_book(
        cash_e4=inputs.cash_e4,
        n_instruments=len(inputs.symbols),
        n_strategies=len(inputs.strategies),
        n_lots=8,
        n_orders=8,
    )
    return step.fold(
        book,
        inputs.market,
        inputs.scores,
        inputs.capital,
        inputs.volatility,
        inputs.instruments,
        inputs.params,
        outlook=inputs.outlook,
    )


def first_bar(inputs: Inputs) -> Inputs:
    """Return what the fold of the first bar alone needs: it has the kernels compiled, or read from their cache."""
    rows: dict[str, Any] = {name: field[:2] for name, field in inputs.market._asdict().items()}
    return replace(
        inputs,
        market=Market(**rows),
        scores=inputs.scores[:1],
        volatility=inputs.volatility[:1],
        outlook=inputs.outlook.at(0) if inputs.outlook else None,
        days=inputs.days[:1],
    )


def run(settings: Settings, conn: psycopg.Connection, *, first: date, last: date, allow_gaps: bool = False) -> Backtest:
    """Load and fold. The seconds are those of the fold: kernels that had to be compiled first are not in them."""
    inputs = load(settings, conn, first=first, last=last, allow_gaps=allow_gaps)
    fold(first_bar(inputs))
    started = time.perf_counter()
    return Backtest(inputs=inputs, fold=fold(inputs), seconds=time.perf_counter() - started)


def as_records(result: Backtest) -> dict[str, object]:
    """Return a backtest for machines: money as decimal text, one entry per bar, and the hash of the final book."""
    inputs, table = result.inputs, result.fold.table
    bars = [
        {
            "session": str(d),
            "equity_usd": str(usd(int(row[1]))),
            "cash_usd": str(usd(int(row[0]))),
            "state": STATE_NAMES[int(row[2])],
        }
        for d, row in zip(inputs.days, table, strict=True)
    ]
    final = step.canonical_book(result.fold.book)
    return {
        "first": str(inputs.days[0]),
        "last": str(inputs.days[-1]),
        "symbols": inputs.symbols,
        "strategies": inputs.strategies,
        "sessions_without_bars": [str(day) for day in inputs.gaps],
        "fills": int(result.fold.journal.counts[1]),
        "orders": int(result.fold.journal.counts[3]),
        "book_hash": provenance.hash_of([a.tolist() for a in final]),
        "metrics": _metrics(result),
        "bars": bars,
    }


def _metrics(result: Backtest) -> dict[str, float]:
    equity = np.concatenate([[result.inputs.cash_e4], result.fold.equity_e4]) / MONEY_SCALE
    a_year = 252.0 * len(result.inputs.days) / max(1, len(set(result.inputs.days)))
    r = metrics.simple_returns(equity)
    found = {
        "total_return": metrics.total_return(r),
        "cagr": metrics.cagr(r, a_year),
        "volatility": metrics.annual_volatility(r, a_year),
        "sharpe": metrics.sharpe(r, a_year),
        "sortino": metrics.sortino(r, a_year),
        "max_drawdown": metrics.max_drawdown(r),
        "calmar": metrics.calmar(r, a_year),
        "hit_rate": metrics.hit_rate(r),
    }
    return {name: round(value, 6) for name, value in found.items()}


def summary(result: Backtest) -> str:
    """Return a backtest in a few lines for people."""
    acct, inputs = result.fold.book.acct, result.inputs
    lines = [
        f"{inputs.days[0]} to {inputs.days[-1]}: {len(inputs.days)} bars, {len(inputs.symbols)} symbols, "
        f"fold {result.seconds * 1e3:.1f} ms",
        f"equity {usd(inputs.cash_e4):,.2f} -> {usd(int(acct[EQUITY])):,.2f} USD  (cash {usd(int(acct[CASH])):,.2f},"
        f" peak {usd(int(acct[PEAK])):,.2f})",
        f"orders {int(result.fold.journal.counts[3])}, fills {int(result.fold.journal.counts[1])}",
    ]
    if inputs.gaps:
        lines.append(f"{len(inputs.gaps)} sessions without bars, the first {inputs.gaps[0]}: taken as without a trade")
    lines += [f"{name:<22} {value:>12.4f}" for name, value in _metrics(result).items()]
    return "\n".join(lines)
