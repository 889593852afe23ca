"""What a session report shows, as plain records: storage fills them, reports render them.

Money, prices and quantities are Decimal (USD, shares; quantities signed), fractions Decimal (0.15 = 15 %),
scores float. Nothing here depends on the clock, so the same data gives the same report to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityPoint:
    """Equity after a session's last bar, and what came in (+) or went out (-) from outside during it."""

    session_date: date
    equity_usd: Decimal
    flow_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The configured limits, as fractions of equity (max_drawdown: of the peak)."""

    max_position_frac: Decimal
    max_exposure_frac: Decimal
    max_daily_loss_frac: Decimal
    max_drawdown_frac: Decimal
    max_turnover_frac: Decimal
    stale_after_sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The book's scalars after a bar. Realised, fees and dividends are totals since inception."""

    equity_usd: Decimal
    cash_usd: Decimal
    receivables_usd: Decimal
    peak_equity_usd: Decimal
    realised_usd: Decimal
    fees_usd: Decimal
    dividends_usd: Decimal
    trading_state: str
    state_sessions: int
    ordered_state: str  # by a person; ACTIVE is none


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionLine:
    """A name held now or before. `traded_usd` is cash spent on fills of this session (negative: received)."""

    symbol: str
    qty_shares: Decimal
    mark_usd: Decimal
    value_usd: Decimal
    cost_usd: Decimal
    previous_qty_shares: Decimal
    previous_value_usd: Decimal
    traded_usd: Decimal
    stale_bars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyLine:
    """Whether a strategy ran; its error if it did not. `threshold` is the score below which it stays out."""

    name: str
    ok: bool
    error: str
    threshold: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalLine:
    """A strategy's score for a name; None is 'no opinion', which keeps what is held."""

    strategy: str
    symbol: str
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLine:
    """What the book should hold after the next bar, in next-session units."""

    symbol: str
    weight_frac: Decimal
    qty_shares: Decimal
    ref_price_usd: Decimal
    has_opinion: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """An order of the sheet. `status` is '' before submission, then how it stood at the report's bar."""

    line_no: int
    symbol: str
    order_qty_shares: Decimal
    order_type: str
    time_in_force: str
    remainder: str
    ref_price_usd: Decimal
    split_num: int
    split_den: int
    reason: str
    client_order_id: str
    status: str
    status_detail: str
    filled_shares: Decimal

    @property
    def notional_usd(self) -> Decimal:
        """Absolute size at the reference price."""
        return abs(self.order_qty_shares * self.ref_price_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class FillLine:
    """A fill of this session. `ref_price_usd` is the price it was decided with, in this session's units."""

    symbol: str
    qty_shares: Decimal
    price_usd: Decimal
    open_price_usd: Decimal
    ref_price_usd: Decimal
    fee_usd: Decimal

    @property
    def slippage_usd(self) -> Decimal:
        """What the fill cost against the session's open: positive is worse for us, buying or selling."""
        return self.qty_shares * (self.price_usd - self.open_price_usd)

    @property
    def slippage_bps(self) -> Decimal | None:
        """The same in 1e-4 of the open's notional; None without an open."""
        return _bps(self.slippage_usd, self.qty_shares * self.open_price_usd)

    @property
    def shortfall_usd(self) -> Decimal:
        """What the fill cost against the decision's price (implementation shortfall, fee left out)."""
        return self.qty_shares * (self.price_usd - self.ref_price_usd)

    @property
    def shortfall_bps(self) -> Decimal | None:
        """The same in 1e-4 of the notional at the decision's price."""
        return _bps(self.shortfall_usd, self.qty_shares * self.ref_price_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityLine:
    """The verdict of the validation suite on the session's bars."""

    source: str
    rows_checked: int
    rows_failed: int
    members_due: int
    members_seen: int
    coverage_frac: Decimal
    gate_open: bool
    gate_reason: str
    suite_version: str
    rows_warned: int = 0
    docs_path: str = ""  # of the page of Data Docs, below the folder of the reports' folder; '': none


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineLine:
    """A row that was kept out, with the expectation that it failed."""

    symbol: str
    expectation: str
    message: str
    record: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningLine:
    """A row that was taken in, or closed the gate, with what was found about it."""

    symbol: str
    severity: str
    expectation: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyLine:
    """Something odd in the history of a name, as the audit found it."""

    kind: str
    symbol: str
    session: date
    last: date
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """What happened to the book at this bar. `amount` is in the kind's own quanta, as the kernel logged it."""

    kind: str
    symbol: str
    amount: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """A change of ACTIVE / REDUCING / HALTED, by whom and why."""

    from_state: str
    to_state: str
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitLine:
    """A limit that changed a target or left out an order; the values are in the rule's own quanta."""

    rule: str
    symbol: str
    before_value: int
    after_value: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """One bar, raw prices; `adj_factor` puts bars before and after splits and dividends on one scale."""

    bar_end_at: datetime
    session_date: date
    open_usd: Decimal
    high_usd: Decimal
    low_usd: Decimal
    close_usd: Decimal
    volume: int
    adj_factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A fill to be drawn on its candle, raw price and quantity of that day."""

    bar_end_at: datetime
    qty_shares: Decimal
    price_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class NameChart:
    """The bars of one name up to this session, oldest first, and the book's fills among them."""

    symbol: str
    candles: tuple[Candle, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashes:
    """Names of what the decision was made from; empty strings where nothing was decided. proof: the daily proof, in
    words, where it differs: a page that is made again after an equal one stays as it was."""

    inputs: str
    data: str
    config: str
    code: str
    sheet: str
    proof: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStep:
    """One event of an order at a real venue, by that process's clock: the one thing here that two runs do not share."""

    symbol: str
    client_order_id: str
    status: str
    happened_at: datetime
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A person's answer to the sheet, or that none came: verdict approved, rejected or expired."""

    verdict: str
    actor: str
    decided_at: datetime
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceLine:
    """A difference between ledger and broker noticed at this bar, in USD or shares. `explained` ones stop nothing."""

    kind: str
    subject: str
    amount: Decimal
    detail: str
    explained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReport:
    """Everything that the report of one bar of one book shows.

    `equity` runs from the opening to this session. `previous_*` is None at the first bar. `sheet` holds the
    orders for the next bar, `worked` those that were due at this one and what became of them. `verdict`
    is the approval's, '' while there is none. `window` is when the sheet may be sent, None for a simulated book that
    nobody signs for; `steps` are of books at a real venue.
    """

    book: str
    book_kind: str
    account_name: str
    session_date: date
    bar_end_at: datetime
    timeframe: str
    previous_session_date: date | None
    next_bar_end_at: datetime | None
    outcome: str
    account: Account
    previous_account: Account | None
    flow_usd: Decimal
    gross_frac: Decimal
    daily_return_frac: Decimal
    drawdown_frac: Decimal
    turnover_frac: Decimal | None
    limits: Limits
    equity: tuple[EquityPoint, ...]
    positions: tuple[PositionLine, ...]
    strategies: tuple[StrategyLine, ...]
    signals: tuple[SignalLine, ...]
    targets: tuple[TargetLine, ...]
    sheet: tuple[OrderLine, ...]
    worked: tuple[OrderLine, ...]
    fills: tuple[FillLine, ...]
    quality: QualityLine | None
    quarantine: tuple[QuarantineLine, ...]
    events: tuple[EventLine, ...]
    state_changes: tuple[StateChange, ...]
    limit_events: tuple[LimitLine, ...]
    charts: tuple[NameChart, ...]
    hashes: Hashes
    approval_required: bool
    verdict: str
    signature: Signature | None = None
    window: tuple[datetime, datetime] | None = None
    steps: tuple[OrderStep, ...] = ()
    differences: tuple[DifferenceLine, ...] = ()
    risk: Mapping[str, Any] | None = None  # risk/measures/summary.py
    warnings: tuple[WarningLine, ...] = ()
    anomalies: tuple[AnomalyLine, ...] = ()
    audit_first: date | None = None  # the anomalies are of the sessions from then on

    def __post_init__(self) -> None:
        if not self.equity or self.equity[-1].session_date != self.session_date:
            raise ValueError(f"the equity curve of {self.book} does not end at {self.session_date}")


def _bps(cost_usd: Decimal, notional_usd: Decimal) -> Decimal | None:
    return None if notional_usd == 0 else cost_usd / abs(notional_usd) * 10_000
