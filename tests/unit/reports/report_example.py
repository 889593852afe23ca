"""A session report made by hand, small enough to check on paper: two names, one fill, one order."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tradecore.report_model import (
    Account,
    Candle,
    Entry,
    EquityPoint,
    FillLine,
    Hashes,
    Limits,
    NameChart,
    OrderLine,
    PositionLine,
    QualityLine,
    SessionReport,
    SignalLine,
    StrategyLine,
    TargetLine,
)

D = Decimal
SESSION = date(2005, 3, 1)
BAR_END = datetime(2005, 3, 1, 21, 0, tzinfo=UTC)

ACCOUNT = Account(
    equity_usd=D("101046.50"),
    cash_usd=D("86046.50"),
    receivables_usd=D("0"),
    peak_equity_usd=D("102000"),
    realised_usd=D("0"),
    fees_usd=D("3.50"),
    dividends_usd=D("50"),
    trading_state="ACTIVE",
    state_sessions=0,
    ordered_state="ACTIVE",
)


def account(**changes: Any) -> Account:
    return Account(**{name: changes.get(name, getattr(ACCOUNT, name)) for name in Account.__dataclass_fields__})


def order(**changes: Any) -> OrderLine:
    """Sell 100 MSFT at a reference of 25."""
    line: dict[str, Any] = {
        "line_no": 0,
        "symbol": "MSFT",
        "order_qty_shares": D("-100"),
        "order_type": "market",
        "time_in_force": "day",
        "remainder": "cancel",
        "ref_price_usd": D("25"),
        "split_num": 1,
        "split_den": 1,
        "reason": "rebalance to target",
        "client_order_id": "tc-1",
        "status": "",
        "status_detail": "",
        "filled_shares": D(0),
    }
    return OrderLine(**{**line, **changes})


def candles(n: int = 30, symbol: str = "AAPL", entries: tuple[Entry, ...] = ()) -> NameChart:
    bars = []
    for k in range(n):
        low = D(40 + (k * 7) % 11)
        end = BAR_END - timedelta(days=n - 1 - k)
        bars.append(
            Candle(
                bar_end_at=end,
                session_date=end.date(),
                open_usd=low + 1,
                high_usd=low + 3,
                low_usd=low,
                close_usd=low + (2 if k % 2 else D("0.5")),
                volume=1_000_000 + k,
                adj_factor=1.0,
            )
        )
    return NameChart(symbol=symbol, candles=tuple(bars), entries=entries)


def report(**changes: Any) -> SessionReport:
    """Equity 100 000 -> 101 000 -> 101 046.50. AAPL: +200 held, 100 more bought at 51 and marked at 50; MSFT: 0.

    The change of 46.50: AAPL 15 000 - 9 900 - 5 100 = 0; dividend 50; fee -3.50.
    """
    fields: dict[str, Any] = {
        "book": "sim",
        "book_kind": "simulated",
        "account_name": "sim",
        "session_date": SESSION,
        "bar_end_at": BAR_END,
        "timeframe": "1d",
        "previous_session_date": date(2005, 2, 28),
        "next_bar_end_at": BAR_END + timedelta(days=1),
        "outcome": "",
        "account": ACCOUNT,
        "previous_account": account(equity_usd=D("101000"), fees_usd=D(0), dividends_usd=D(0)),
        "flow_usd": D(0),
        "gross_frac": D("0.1484"),
        "daily_return_frac": D("0.00046"),
        "drawdown_frac": D("0.00935"),
        "turnover_frac": D("0.0247"),
        "limits": Limits(
            max_position_frac=D("0.15"),
            max_exposure_frac=D("0.9"),
            max_daily_loss_frac=D("0.03"),
            max_drawdown_frac=D("0.15"),
            max_turnover_frac=D(1),
            stale_after_sessions=3,
        ),
        "equity": (
            EquityPoint(session_date=date(2005, 2, 25), equity_usd=D("100000"), flow_usd=D(0)),
            EquityPoint(session_date=date(2005, 2, 28), equity_usd=D("101000"), flow_usd=D(0)),
            EquityPoint(session_date=SESSION, equity_usd=D("101046.50"), flow_usd=D(0)),
        ),
        "positions": (
            PositionLine(
                symbol="AAPL",
                qty_shares=D(300),
                mark_usd=D(50),
                value_usd=D(15000),
                cost_usd=D(14000),
                previous_qty_shares=D(200),
                previous_value_usd=D(9900),
                traded_usd=D(5100),
                stale_bars=0,
            ),
        ),
        "strategies": (StrategyLine(name="ma_crossover", ok=True, error="", threshold=0.75),),
        "signals": (
            SignalLine(strategy="ma_crossover", symbol="AAPL", score=0.9),
            SignalLine(strategy="ma_crossover", symbol="MSFT", score=None),
        ),
        "targets": (
            TargetLine(symbol="AAPL", weight_frac=D("0.15"), qty_shares=D(303), ref_price_usd=D(50), has_opinion=True),
        ),
        "sheet": (order(symbol="AAPL", order_qty_shares=D(3), ref_price_usd=D(50)),),
        "worked": (order(symbol="AAPL", order_qty_shares=D(100), status="FILLED", filled_shares=D(100)),),
        "fills": (
            FillLine(
                symbol="AAPL",
                qty_shares=D(100),
                price_usd=D(51),
                open_price_usd=D("50.90"),
                ref_price_usd=D("49.50"),
                fee_usd=D("3.50"),
            ),
        ),
        "quality": QualityLine(
            source="csv",
            rows_checked=2,
            rows_failed=0,
            members_due=2,
            members_seen=2,
            coverage_frac=D(1),
            gate_open=True,
            gate_reason="2 of 2 members due",
            suite_version="1",
        ),
        "quarantine": (),
        "events": (),
        "state_changes": (),
        "limit_events": (),
        "charts": (candles(entries=(Entry(bar_end_at=BAR_END, qty_shares=D(100), price_usd=D(51)),)),),
        "hashes": Hashes(inputs="a" * 64, data="b" * 64, config="c" * 64, code="d" * 64, sheet="e" * 64),
        "approval_required": False,
        "verdict": "",
    }
    return SessionReport(**{**fields, **changes})
