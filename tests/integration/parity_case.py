"""One parity case three ways: the stages on a database, the fold, and the Decimal day loop on the sample's files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import yaml
from random_market import book_quanta

import reference
from reference import RefBar, RefParams, RefQuote, RefStep
from tradecore import pipeline, settings
from tradecore.backtest import step
from tradecore.context import book_calendar
from tradecore.feeding import feed_of
from tradecore.model import H_NS, O_DECIDED_NS, O_INSTR, O_QTY, O_SPLIT_DEN, O_SPLIT_NUM, Book
from tradecore.research import backtest
from tradecore.storage import bars as stored
from tradecore.storage import books
from tradecore.units import from_ns, to_day, to_ns

REPO = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def configure(tmp_path: Path, database_url: str, changes: dict[str, Any], **environ: str) -> settings.Settings:
    """Return settings of the sample profile with changes by section, on a database of its own."""
    config = yaml.safe_load((REPO / "include/config/trading.yaml").read_text())
    for section, values in changes.items():
        config[section].update(values)
    path = tmp_path / "trading.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    env = {"DATABASE_URL": database_url, "INITIAL_CASH": "100000", "LOG_LEVEL": "WARNING", **environ}
    found = settings.load(env, path)
    return found.model_copy(update={"local_dir": tmp_path / "local"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What the stages left in the database after each bar: the book with its acknowledged orders."""

    books: list[dict[str, Any]]
    hashes: list[str]


def run_stages(
    found: settings.Settings, conn: psycopg.Connection, sessions: tuple[date, ...], book: str = "sim"
) -> Stages:
    """Run every stage but the report, one by one, and read the book back after each bar."""
    pipeline.open_book(found, conn, book=book, before=sessions[0], now=NOW)
    out, hashes = [], []
    for day in sessions:
        for ctx in pipeline.contexts(found, conn, book=book, session_date=day, now=NOW):
            pipeline.ingest(ctx)
            assert pipeline.validate(ctx)["gate_open"]
            assert pipeline.turn(ctx)
            pipeline.settle(ctx)
            for name in pipeline.strategies(ctx):
                pipeline.signal(ctx, name)
            for stage in (pipeline.risk, pipeline.plan, pipeline.approve, pipeline.submit, pipeline.close):
                stage(ctx)
            loaded = read_back(ctx)
            out.append(book_quanta(loaded))
            hashes.append(str(conn.execute(books.SQL["state"], ctx.key).fetchone()[10]))
            conn.rollback()
    return Stages(books=out, hashes=hashes)


def read_back(ctx: pipeline.Context) -> Book:
    """Load the book as the next bar will."""
    members = stored.read_universe(ctx.conn, ctx.record.universe)
    axes = books.held_axes(
        ctx.conn,
        ctx.book,
        ctx.bar_end_at,
        strategies=pipeline.strategies(ctx),
        instruments=[m.instrument.instrument_id for m in members],
    )
    return books.load(ctx.conn, ctx.book, ctx.bar_end_at, axes, with_planned=True).book


def run_fold(
    found: settings.Settings, conn: psycopg.Connection, sessions: tuple[date, ...]
) -> tuple[backtest.Inputs, step.FoldResult]:
    """Run one backtest over the same bars."""
    inputs = backtest.load(found, conn, first=sessions[0], last=sessions[-1])
    conn.rollback()
    return inputs, backtest.fold(inputs)


def run_reference(
    found: settings.Settings,
    sessions: tuple[date, ...],
    first_bar: date,
    order: tuple[str, ...],
    given_scores: Any = None,
) -> list[RefStep]:
    """Run the naive day loop on what the feed's files say: no database, no kernels, no arrays of tradecore.

    given_scores [T, S, n]: of strategies that have their naive twins elsewhere; None: ma_crossover's, by its twin.
    """
    calendar, trading = book_calendar(found), found.trading
    timeframe = trading.book.timeframe
    feed = feed_of(found)
    served = [
        s for s in order if feed.last_session([s]) and _has_bars(feed, s, first_bar, sessions[-1], calendar, timeframe)
    ]
    batch = feed.bars(served, timeframe, first_bar, sessions[-1], calendar)
    rows = {(str(r["symbol"]), int(r["bar_end_ns"])): r for r in batch.rows}
    after = calendar.next_session(sessions[-1])
    actions = feed.actions(served, first_bar, after)
    ends = [(d, e) for d in calendar.sessions_in_range(first_bar, after) for e in calendar.bar_ends(d, timeframe)]
    adjusted = {s: _adjusted(s, ends, rows, actions) for s in order}
    run = [(d, e) for d, e in ends if sessions[0] <= d <= after]
    bars = [_bar(d, e, order, rows, actions, found) for d, e in run]
    own = trading.strategies["ma_crossover"].params
    p = {"short_period": 20, "long_period": 50, "average": "sma", "confidence_threshold": 0.75, **own}
    need = reference.ma_crossover_window(p["long_period"], p["average"])
    a_year = 252.0 * max(len(calendar.bar_ends(d, timeframe)) for d in sessions[:5])
    scores, volatility = [], []
    offset = len(ends) - len(run)
    for t in range(len(run)):
        at = offset + t + 1
        window = {s: adjusted[s][max(0, at - need) : at] for s in order}
        scores.append(
            [
                [
                    _canonical(
                        reference.ma_crossover(
                            window[s], p["short_period"], p["long_period"], p["confidence_threshold"], p["average"]
                        )
                    )
                    if len(window[s]) == need
                    else math.nan
                    for s in order
                ]
            ]
        )
        k = trading.risk.volatility_lookback_bars
        volatility.append([_volatility(adjusted[s][max(0, at - k - 1) : at], k, a_year) for s in order])
    count = sum(1 for d, _ in run if d <= sessions[-1])
    scores = scores[:count] if given_scores is None else given_scores.tolist()
    steps = reference.run(
        bars[:count], _params(found), scores, volatility[:count], Decimal(str(found.initial_cash_usd))
    )
    return steps


def _has_bars(feed: Any, symbol: str, first: date, last: date, calendar: Any, timeframe: str) -> bool:
    from tradecore.errors import FeedError

    try:
        return feed.bars([symbol], timeframe, first, last, calendar).rows.size > 0
    except FeedError:
        return False


def _canonical(score: float) -> float:
    return score if math.isnan(score) else round(score * 1e9) / 1e9


def _volatility(closes: list[float], lookback: int, a_year: float) -> float:
    if len(closes) < lookback + 1 or any(math.isnan(x) for x in closes):
        return math.nan
    return reference.volatility(closes, a_year)


def _adjusted(symbol: str, ends: list[tuple[date, datetime]], rows: dict[Any, Any], actions: Any) -> list[float]:
    """Return forward-adjusted closes at every bar end, NaN where there is no bar."""
    seen = [(k, d, rows[symbol, to_ns(e)]) for k, (d, e) in enumerate(ends) if (symbol, to_ns(e)) in rows]
    splits, dividends, previous = [], [], None
    for _, d, _r in seen:
        mine = [a for a in actions if a.symbol == symbol and previous is not None and previous < a.ex_date <= d]
        splits.append((math.prod(a.ratio_num for a in mine), math.prod(a.ratio_den for a in mine)))
        dividends.append(sum(a.dividend_e6 for a in mine) / 1e6)
        previous = d
    if not seen:
        return [math.nan] * len(ends)
    closes = [round(float(r["close"]) * 10_000) / 10_000 for _, _, r in seen]
    out = [math.nan] * len(ends)
    for (k, _, _r), close, factor in zip(
        seen, closes, reference.adjustment_factors(closes, splits, dividends), strict=True
    ):
        out[k] = close * factor
    return out


def _bar(
    day: date, end: datetime, order: tuple[str, ...], rows: dict[Any, Any], actions: Any, found: settings.Settings
) -> RefBar:
    ends = book_calendar(found).bar_ends(day, found.trading.book.timeframe)
    quotes = []
    for symbol in order:
        mine = [a for a in actions if a.symbol == symbol and a.ex_date == day and end == ends[0]]
        split = next(((a.ratio_num, a.ratio_den) for a in mine if a.kind == "split"), (1, 1))
        paid = sum((Decimal(a.dividend_e6) / 1_000_000 for a in mine if a.kind == "dividend"), Decimal(0))
        pay = next((to_day(a.pay_date) for a in mine if a.kind == "dividend" and a.pay_date), None)
        r = rows.get((symbol, to_ns(end)))
        values = {
            k: Decimal(str(round(float(r[k]), 4))) if r is not None else Decimal(0)
            for k in ("open", "high", "low", "close")
        }
        quotes.append(
            RefQuote(
                **values,
                volume=int(r["volume"]) if r is not None else 0,
                traded=r is not None,
                tick=Decimal(str(found.trading.universe.members[symbol].tick_usd)),
                qty_step=Decimal(str(found.trading.universe.members[symbol].qty_step_shares)),
                split=split,
                dividend=paid,
                pay_day=pay,
                left=(until := found.trading.universe.members[symbol].member_to) is not None and day >= until,
            )
        )
    return RefBar(
        day=to_day(day),
        bar_end_ns=to_ns(end),
        quotes=quotes,
        first_of_session=end == ends[0],
        days_since=(day - book_calendar(found).previous_session(day)).days if end == ends[0] else 0,
        last_of_session=end == ends[-1],
    )


def _params(found: settings.Settings) -> RefParams:
    risk, execution = found.trading.risk, found.trading.execution

    def text(value: Any) -> Decimal:
        return Decimal(str(value))

    return RefParams(
        capital_shares=[float(found.trading.strategies[name].capital_share) for name in found.trading.enabled()],
        slippage_bps=text(execution.slippage_bps),
        commission_bps=text(execution.commission_bps),
        commission_per_share=text(execution.commission_per_share_usd),
        commission_min=text(execution.commission_min_usd),
        participation_frac=text(execution.participation_frac),
        remainder=execution.remainder,
        max_order_age_bars=execution.max_order_age_bars,
        max_position=text(risk.max_position_size),
        max_exposure=text(risk.max_exposure),
        max_turnover=text(risk.max_turnover),
        min_order_notional=text(risk.min_order_notional_usd),
        rebalance_band=text(risk.rebalance_band_frac),
        sizing=risk.position_sizing_method,
        target_volatility=float(risk.target_volatility),
        max_daily_loss=text(risk.max_daily_loss),
        max_drawdown=text(risk.max_drawdown),
        reduce_lifts_after_sessions=risk.reduce_lifts_after_sessions or 0,
        halt_lifts_after_sessions=risk.halt_lifts_after_sessions or 0,
        allow_short=risk.allow_short,
        margin_frac=text(execution.margin_frac),
        credit_frac=text(execution.interest_credit_frac),
        debit_frac=text(execution.interest_debit_frac),
        borrow_frac=text(execution.borrow_frac),
        order_kind={"market_on_open": "market"}.get(execution.order_style, execution.order_style),
        collar_bps=text(execution.limit_collar_bps),
        trigger_bps=text(execution.stop_trigger_bps),
        stop_loss_frac=None if execution.stop_loss_frac is None else text(execution.stop_loss_frac),
        take_profit_frac=None if execution.take_profit_frac is None else text(execution.take_profit_frac),
    )


def compare(stages: Stages, inputs: backtest.Inputs, fold: step.FoldResult, steps: list[RefStep]) -> None:
    """Every integer of the book, at every bar, three times the same."""
    for t, (mine, ref) in enumerate(zip(stages.books, steps, strict=True)):
        differs = {k: (mine[k], ref.book[k]) for k in mine if mine[k] != ref.book[k]}
        assert not differs, f"stages differ from the day loop at {inputs.days[t]}: {differs}"
    compare_with_fold(stages, inputs, fold)


def compare_with_fold(stages: Stages, inputs: backtest.Inputs, fold: step.FoldResult) -> None:
    """What the fold says of every bar, and all of the last book, as the stages left them."""
    n = fold.n
    for t, (mine, row) in enumerate(zip(stages.books, fold.table, strict=True)):
        folded = {
            "cash": int(row[0]),
            "equity": int(row[1]),
            "state": int(row[2]),
            "orders": int(row[3]),
            "qty": row[4 : 4 + n].tolist(),
            "mark": row[4 + n :].tolist(),
        }
        staged = {**{k: mine[k] for k in folded}, "orders": len(mine["orders"])}
        assert folded == staged, f"fold differs from the stages at {inputs.days[t]}: {folded}, {staged}"
        orders = fold.journal.orders[fold.journal.orders[:, O_DECIDED_NS] == inputs.market.head[t, H_NS]]
        planned = [(o[O_INSTR], o[O_QTY], (o[O_SPLIT_NUM], o[O_SPLIT_DEN])) for o in orders.tolist()]
        sheet = [(instrument, qty, ratio) for instrument, qty, _, age, ratio, *_ in mine["orders"] if age == 0]
        assert planned == sheet, f"orders of the fold and of the stages at {inputs.days[t]}: {planned}, {sheet}"
    last = {k: (v, stages.books[-1][k]) for k, v in book_quanta(fold.book).items() if v != stages.books[-1][k]}
    assert not last, f"the fold's last book differs from the stages': {last}"


def compare_scores(conn: psycopg.Connection, book: str, inputs: backtest.Inputs) -> None:
    """Every score that the stages stored is bitwise the one that the fold was given; NaN is NaN."""
    query = "SELECT instrument_id, score FROM signals WHERE book = %s AND bar_end_at = %s AND strategy = %s"
    for t, ns in enumerate(inputs.market.head[:-1, H_NS].tolist()):
        for s, strategy in enumerate(inputs.strategies):
            stored_scores = dict(conn.execute(query, (book, from_ns(ns), strategy)).fetchall())
            given = inputs.scores[t, s].tolist()
            mine = [stored_scores.get(i, math.nan) for i in inputs.instrument_ids]
            same = [a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(mine, given, strict=True)]
            assert all(same), f"scores of {strategy} at {inputs.days[t]}: stages {mine}, fold {given}"
