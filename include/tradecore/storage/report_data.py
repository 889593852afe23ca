"""Read what the report of one bar shows. As of that bar: what happened later changes nothing in it.

The order sheet comes as it was planned; `submitted=True` adds what became of it, the approval and the outcome, for
the addendum after submit. So the report stage gives the same page whenever it runs again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tradecore.errors import BookError
from tradecore.model import STATE_NAMES
from tradecore.report_model import (
    ZERO,
    Account,
    Candle,
    DifferenceLine,
    Entry,
    EquityPoint,
    EventLine,
    FillLine,
    Hashes,
    LimitLine,
    Limits,
    NameChart,
    OrderLine,
    OrderStep,
    PositionLine,
    QualityLine,
    QuarantineLine,
    SessionReport,
    SignalLine,
    Signature,
    StateChange,
    StrategyLine,
    TargetLine,
    WarningLine,
)
from tradecore.storage import queries
from tradecore.units import QTY_SCALE, WEIGHT_SCALE, from_quanta, shares, usd

Row = dict[str, Any]
CHART_BARS = 60
CHARTS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Runs the named queries of report.sql with the same parameters; knows the symbols of the session."""

    conn: psycopg.Connection
    params: Mapping[str, Any]
    symbols: Mapping[int, str]

    def rows(self, name: str, **more: Any) -> list[Row]:
        with self.conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(queries.load("report")[name], {**self.params, **more}).fetchall()

    def first(self, name: str, **more: Any) -> Row | None:
        found = self.rows(name, **more)
        return found[0] if found else None

    def symbol(self, instrument_id: int | None) -> str:
        return "" if instrument_id is None else self.symbols[instrument_id]


def load_session_report(
    conn: psycopg.Connection,
    book: str,
    bar_end_at: datetime,
    *,
    limits: Limits,
    thresholds: Mapping[str, float],
    approval_required: bool,
    window: tuple[datetime, datetime] | None = None,
    submitted: bool = False,
) -> SessionReport:
    """Read the report of a settled bar.

    Parameters: limits, as configured; thresholds, the score below which a strategy stays out, by its name;
    approval_required, whether a person signs the sheet; window, when it may be sent; submitted, see the module.
    Leaves a read transaction open.
    Raises BookError when the book has no state of that bar.
    """
    read, state = _reader(conn, book, bar_end_at)
    before = read.first("previous_state")
    positions = _positions(read, before)
    decision = read.first("decision")
    version = decision["version"] if decision else 0
    run = (read.first("run", version=version) if submitted else None) or {"outcome": "", "verdict": ""}
    real = state["kind"] != "simulated"
    sheet = read.rows("sheet", version=version)
    quality = _quality(read, state["source"])
    suite = quality.suite_version if quality else ""
    equity_e4, base_e4, peak_e4 = state["equity_e4"], state["prev_session_equity_e4"], state["peak_equity_e4"]
    gross_usd = sum((abs(line.value_usd) for line in positions), ZERO)
    return SessionReport(
        book=book,
        book_kind=state["kind"],
        account_name=state["account"],
        session_date=state["session_date"],
        bar_end_at=bar_end_at,
        timeframe=state["timeframe"],
        previous_session_date=before["session_date"] if before else None,
        next_bar_end_at=sheet[0]["next_bar_end_at"] if sheet else None,
        outcome=run["outcome"],
        account=_account(state, _receivables(read, bar_end_at)),
        previous_account=_account(before, _receivables(read, before["bar_end_at"])) if before else None,
        flow_usd=usd(sum(row["amount_e4"] for row in read.rows("flow"))),
        gross_frac=gross_usd / usd(equity_e4) if equity_e4 > 0 else ZERO,
        daily_return_frac=Decimal(equity_e4) / base_e4 - 1 if base_e4 > 0 else ZERO,
        drawdown_frac=1 - Decimal(equity_e4) / peak_e4 if peak_e4 > 0 else ZERO,
        turnover_frac=_frac(decision["turnover_ppm"]) if decision else None,
        limits=limits,
        equity=_equity(read),
        positions=positions,
        strategies=tuple(StrategyLine(threshold=thresholds.get(row["name"]), **row) for row in read.rows("strategies")),
        signals=_signals(read),
        targets=_targets(read, version),
        sheet=tuple(_order(read, row, with_status=submitted) for row in sheet),
        worked=tuple(_order(read, row, with_status=True) for row in read.rows("worked")),
        fills=_fills(read, state["session_date"]),
        quality=quality,
        warnings=tuple(WarningLine(**row) for row in read.rows("warnings", suite=suite)),
        quarantine=tuple(QuarantineLine(**row) for row in read.rows("quarantine")),
        events=tuple(EventLine(symbol=read.symbol(row.pop("instrument_id")), **row) for row in read.rows("events")),
        state_changes=_state_changes(read),
        limit_events=tuple(
            LimitLine(symbol=read.symbol(row.pop("instrument_id")), **row)
            for row in read.rows("limit_events", version=version)
        ),
        charts=_charts(read, sheet),
        hashes=_hashes(decision),
        approval_required=approval_required,
        verdict=run["verdict"],
        signature=_signature(run),
        window=window,
        steps=_steps(read, version) if real and submitted else (),
        differences=_differences(read),
        risk=(read.first("risk") or {"measures": None})["measures"],
    )


def _signature(run: Row) -> Signature | None:
    if run["verdict"] not in ("approved", "rejected", "expired"):
        return None
    return Signature(**{name: run[name] for name in ("verdict", "actor", "decided_at", "note")})


def _steps(read: _Reader, version: int) -> tuple[OrderStep, ...]:
    rows = read.rows("steps", version=version)
    return tuple(OrderStep(symbol=read.symbol(row.pop("instrument_id")), **row) for row in rows)


def _differences(read: _Reader) -> tuple[DifferenceLine, ...]:
    return tuple(DifferenceLine(**row) for row in read.rows("differences"))


def _reader(conn: psycopg.Connection, book: str, bar_end_at: datetime) -> tuple[_Reader, Row]:
    """Return a reader for this bar and the state of the book at it. Raises BookError where there is none."""
    bare = _Reader(conn=conn, params={"book": book, "bar_end": bar_end_at}, symbols={})
    state = bare.first("book")
    if state is None:
        raise BookError(
            f"book {book!r} has not settled the bar of {bar_end_at:%Y-%m-%d %H:%M} UTC.",
            next_step="run its session first: python -m tradecore run-session DATE",
            book=book,
        )
    params = {name: state[name] for name in ("source", "timeframe", "universe")}
    day = state["session_date"]
    symbols = {row["instrument_id"]: row["symbol"] for row in bare.rows("symbols", session=day)}
    return _Reader(conn=conn, params={**bare.params, **params, "session": day}, symbols=symbols), state


def _equity(read: _Reader) -> tuple[EquityPoint, ...]:
    return tuple(
        EquityPoint(session_date=row["session_date"], equity_usd=usd(row["equity_e4"]), flow_usd=usd(row["flow_e4"]))
        for row in read.rows("equity")
    )


def _state_changes(read: _Reader) -> tuple[StateChange, ...]:
    return tuple(
        StateChange(
            from_state=STATE_NAMES[row["from_state"]],
            to_state=STATE_NAMES[row["to_state"]],
            actor=row["actor"],
            reason=row["reason"],
        )
        for row in read.rows("state_events")
    )


def _account(row: Row, receivables_e4: int) -> Account:
    return Account(
        equity_usd=usd(row["equity_e4"]),
        cash_usd=usd(row["cash_e4"]),
        receivables_usd=usd(receivables_e4),
        peak_equity_usd=usd(row["peak_equity_e4"]),
        realised_usd=usd(row["realised_e4"]),
        fees_usd=usd(row["fees_e4"]),
        dividends_usd=usd(row["dividends_e4"]),
        trading_state=STATE_NAMES[row["trading_state"]],
        state_sessions=row["state_sessions"],
        ordered_state=STATE_NAMES[row["ordered_state"]],
    )


def _receivables(read: _Reader, bar_end_at: datetime) -> int:
    return sum(row["amount_e4"] for row in read.rows("receivables", bar_end=bar_end_at))


def _positions(read: _Reader, before: Row | None) -> tuple[PositionLine, ...]:
    """Return a line per name held now or before, or traded in between; the largest first."""
    now = {row["instrument_id"]: row for row in read.rows("positions")}
    past = {row["instrument_id"]: row for row in read.rows("positions", bar_end=before["bar_end_at"])} if before else {}
    traded: dict[int, int] = {}
    for fill in read.rows("fills"):
        cash = _worth(fill["qty_e6"], fill["price_e4"])
        traded[fill["instrument_id"]] = traded.get(fill["instrument_id"], 0) + cash
    for event in read.rows("events"):
        if event["kind"] == "delisted":  # as if sold
            traded[event["instrument_id"]] = traded.get(event["instrument_id"], 0) - event["amount"]
    nothing = {"qty_e6": 0, "mark_e4": 0, "stale_bars": 0, "cost_e4": 0}
    lines = []
    for instrument in {**now, **past, **traded}:
        row, old = now.get(instrument, nothing), past.get(instrument, nothing)
        if row["qty_e6"] == 0 and old["qty_e6"] == 0 and instrument not in traded:
            continue
        lines.append(
            PositionLine(
                symbol=read.symbol(instrument),
                qty_shares=shares(row["qty_e6"]),
                mark_usd=usd(row["mark_e4"]),
                value_usd=usd(_worth(row["qty_e6"], row["mark_e4"])),
                cost_usd=usd(row["cost_e4"]),
                previous_qty_shares=shares(old["qty_e6"]),
                previous_value_usd=usd(_worth(old["qty_e6"], old["mark_e4"])),
                traded_usd=usd(traded.get(instrument, 0)),
                stale_bars=row["stale_bars"],
            )
        )
    return tuple(sorted(lines, key=lambda line: (-abs(line.value_usd), line.symbol)))


def _signals(read: _Reader) -> tuple[SignalLine, ...]:
    lines = [
        SignalLine(
            strategy=row["strategy"],
            symbol=read.symbol(row["instrument_id"]),
            score=None if math.isnan(row["score"]) else row["score"],
        )
        for row in read.rows("signals")
    ]
    return tuple(sorted(lines, key=lambda line: (line.strategy, line.symbol)))


def _targets(read: _Reader, version: int) -> tuple[TargetLine, ...]:
    lines = [
        TargetLine(
            symbol=read.symbol(row["instrument_id"]),
            weight_frac=from_quanta(row["weight_ppm"], WEIGHT_SCALE),
            qty_shares=shares(row["qty_e6"]),
            ref_price_usd=usd(row["ref_price_e4"]),
            has_opinion=row["has_opinion"],
        )
        for row in read.rows("targets", version=version)
    ]
    return tuple(sorted(lines, key=lambda line: line.symbol))


def _order(read: _Reader, row: Row, *, with_status: bool) -> OrderLine:
    return OrderLine(
        line_no=row["line_no"],
        symbol=read.symbol(row["instrument_id"]),
        order_qty_shares=shares(row["order_qty_e6"]),
        order_type=row["order_type"],
        time_in_force=row["time_in_force"],
        remainder=row["remainder"],
        ref_price_usd=usd(row["ref_price_e4"]),
        split_num=row["split_num"],
        split_den=row["split_den"],
        reason=row["reason"],
        client_order_id=row["client_order_id"],
        status=row["status"] if with_status else "",
        status_detail=row["status_detail"] if with_status else "",
        filled_shares=shares(row["filled_e6"]),
    )


def _fills(read: _Reader, day: date) -> tuple[FillLine, ...]:
    """Return the fills, each with the decision's price in this session's units.

    The reference price is in the units that planning expected; a split that came or did not come meanwhile, or while
    an order was carried, is undone here, so that the shortfall compares like with like.
    """
    rows = read.rows("fills")
    if not rows:
        return ()
    splits = read.rows(
        "splits",
        instruments=[row["instrument_id"] for row in rows],
        after=min(row["decided_on"] for row in rows),
        session=day,
    )
    lines = []
    for row in rows:
        came = Fraction(1)
        for split in splits:
            if split["instrument_id"] == row["instrument_id"] and split["ex_date"] > row["decided_on"]:
                came *= Fraction(split["ratio_num"], split["ratio_den"])
        ref_e4 = row["ref_price_e4"] * Fraction(row["split_num"], row["split_den"]) / came
        lines.append(
            FillLine(
                symbol=read.symbol(row["instrument_id"]),
                qty_shares=shares(row["qty_e6"]),
                price_usd=usd(row["price_e4"]),
                open_price_usd=usd(row["open_price_e4"]),
                ref_price_usd=usd(round(ref_e4)),
                fee_usd=usd(row["fee_e4"]),
            )
        )
    return tuple(lines)


def _quality(read: _Reader, source: str) -> QualityLine | None:
    row = read.first("quality")
    if row is None:
        return None
    return QualityLine(
        source=source,
        rows_checked=row["rows_checked"],
        rows_failed=row["rows_failed"],
        members_due=row["members_due"],
        members_seen=row["members_seen"],
        coverage_frac=Decimal(str(round(row["coverage_frac"], 6))),
        gate_open=row["gate_open"],
        gate_reason=row["gate_reason"],
        suite_version=row["suite_version"],
        rows_warned=row["rows_warned"],
        docs_path=row["docs_path"],
    )


def _charts(read: _Reader, sheet: list[Row]) -> tuple[NameChart, ...]:
    """Return a chart per name traded in the window or about to be: the latest traded first when they are too many."""
    first_at = read.rows("window", bars=CHART_BARS)[0]["first_at"]
    wanted = dict.fromkeys(
        [
            *(row["instrument_id"] for row in sheet),
            *(row["instrument_id"] for row in read.rows("traded", first_at=first_at)),
        ]
    )
    instruments = list(wanted)[:CHARTS]
    candles: dict[int, list[Candle]] = {}
    for row in read.rows("candles", instruments=instruments, bars=CHART_BARS):
        candles.setdefault(row["instrument_id"], []).append(
            Candle(
                bar_end_at=row["bar_end_at"],
                session_date=row["session_date"],
                open_usd=usd(row["open_e4"]),
                high_usd=usd(row["high_e4"]),
                low_usd=usd(row["low_e4"]),
                close_usd=usd(row["close_e4"]),
                volume=row["volume"],
                adj_factor=row["adj_factor"],
            )
        )
    entries: dict[int, list[Entry]] = {}
    for row in read.rows("entries", instruments=instruments, first_at=first_at):
        entries.setdefault(row["instrument_id"], []).append(
            Entry(bar_end_at=row["bar_end_at"], qty_shares=shares(row["qty_e6"]), price_usd=usd(row["price_e4"]))
        )
    charts = [
        NameChart(symbol=read.symbol(i), candles=tuple(bars), entries=tuple(entries.get(i, ())))
        for i, bars in candles.items()
    ]
    return tuple(sorted(charts, key=lambda chart: chart.symbol))


def _hashes(decision: Row | None) -> Hashes:
    if decision is None:
        return Hashes(inputs="", data="", config="", code="", sheet="")
    names = {name: decision[f"{name}_hash"] for name in ("inputs", "data", "config", "code", "sheet")}
    return Hashes(**names, proof=decision["proof"] or "")


def _worth(qty_e6: int, price_e4: int) -> int:
    """Return round(qty * price) in 1e-4 USD, half away from zero: the books' own rule."""
    product = qty_e6 * price_e4
    rounded = (abs(product) + QTY_SCALE // 2) // QTY_SCALE
    return rounded if product >= 0 else -rounded


def _frac(ppm: int | None) -> Decimal | None:
    return None if ppm is None else from_quanta(ppm, WEIGHT_SCALE)
