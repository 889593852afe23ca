"""`step`: one bar of a book, pure at this level: books go in and new books come out. `fold` runs it over history.

Production calls `settle` and `decide` once per bar with the book from the database; a backtest is `fold`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tradecore._kernels import mul_div_trunc, trunc_to
from tradecore.backtest import _kernels as kernels
from tradecore.backtest.deciding._kernels import decide_bar
from tradecore.errors import BookError
from tradecore.indicators._kernels import volatility_panel
from tradecore.model import (
    EV_THROTTLE,
    F_COLUMNS,
    GIVEN_WEIGHT,
    H_NS,
    J_ENDS,
    J_EVENTS,
    J_FILLS,
    J_ORDERS,
    LIMIT,
    MARKET,
    N_ORDERS,
    O_COLUMNS,
    ON_CLOSE,
    REMAINDERS,
    SIZING_METHODS,
    STOP,
    STOP_LIMIT,
    TRAILING,
    Book,
    Capital,
    Decision,
    Floats,
    Given,
    Instruments,
    Ints,
    Journal,
    Market,
    StepParams,
    copy_book,
    new_decision,
    new_scratch,
    no_limits,
)
from tradecore.portfolio._kernels import log_event
from tradecore.portfolio.planning._kernels import plan_orders
from tradecore.risk import outlook as risk_outlook
from tradecore.risk.measures import worst_rows
from tradecore.risk.outlook import Outlook
from tradecore.units import MONEY_SCALE, to_quanta

if TYPE_CHECKING:
    from tradecore.settings import Execution, Risk

PPM = 1_000_000
JOURNAL_ROWS = 20_000
ORDER_STYLES = {
    "market_on_open": MARKET,
    "market": MARKET,
    "market_on_close": ON_CLOSE,
    "limit": LIMIT,
    "stop": STOP,
    "stop_limit": STOP_LIMIT,
    "trailing_stop": TRAILING,
}


def step_params(risk: Risk, execution: Execution) -> StepParams:
    """Return the settings of risk and execution as the scalars of a step."""
    return StepParams(
        slippage_ppm=round(execution.slippage_bps * 100),
        commission_ppm=round(execution.commission_bps * 100),
        commission_per_share_e6=to_quanta(execution.commission_per_share_usd, 1_000_000),
        commission_min_e4=to_quanta(execution.commission_min_usd, MONEY_SCALE),
        participation_ppm=round(execution.participation_frac * PPM),
        remainder=REMAINDERS.index(execution.remainder),
        max_order_age_bars=execution.max_order_age_bars,
        sizing=_sizing(risk.position_sizing_method),
        max_position_ppm=round(risk.max_position_size * PPM),
        max_exposure_ppm=round(risk.max_exposure * PPM),
        max_turnover_ppm=round(risk.max_turnover * PPM),
        min_order_e4=to_quanta(str(risk.min_order_notional_usd), MONEY_SCALE),
        band_ppm=round(risk.rebalance_band_frac * PPM),
        max_daily_loss_ppm=round(risk.max_daily_loss * PPM),
        max_drawdown_ppm=round(risk.max_drawdown * PPM),
        reduce_lifts=risk.reduce_lifts_after_sessions or 0,
        halt_lifts=risk.halt_lifts_after_sessions or 0,
        max_position=float(risk.max_position_size),
        max_exposure=float(risk.max_exposure),
        target_volatility=float(risk.target_volatility),
        shorts=int(risk.allow_short),
        margin_ppm=round(execution.margin_frac * PPM),
        credit_ppm=round(execution.interest_credit_frac * PPM),
        debit_ppm=round(execution.interest_debit_frac * PPM),
        borrow_ppm=round(execution.borrow_frac * PPM),
        order_type=ORDER_STYLES[execution.order_style],
        collar_ppm=round(execution.limit_collar_bps * 100),
        trigger_ppm=round(execution.stop_trigger_bps * 100),
        stop_loss_ppm=round((execution.stop_loss_frac or 0) * PPM),
        take_profit_ppm=round((execution.take_profit_frac or 0) * PPM),
        **_limit_params(risk),
    )


def _sizing(method: str) -> int:
    return SIZING_METHODS.index(method) if method in SIZING_METHODS else GIVEN_WEIGHT


def _limit_params(risk: Risk) -> dict[str, int]:
    """Return the scalars of the limits beside name, gross and turnover; all off as shipped."""
    at, tail = risk.limits, risk.tail

    def ppm(value: float | None) -> int:
        return -1 if value is None else round(value * PPM)

    shocks = tail.max_stress is not None and bool(tail.shocks)
    found = {
        "max_adv_ppm": ppm(at.max_adv_frac),
        "max_cluster_ppm": ppm(at.max_cluster),
        "max_names": at.max_names or 0,
        "min_names": at.min_names or 0,
        "max_leverage_ppm": ppm(at.max_leverage),
        "max_net_ppm": ppm(at.max_net),
        "max_beta_ppm": ppm(at.max_beta),
        "max_stress_ppm": ppm(tail.max_stress) if shocks else -1,
        "max_tail_ppm": ppm(tail.max_loss),
    }
    on = bool(at.groups) or at.max_names or at.min_names or any(v >= 0 for k, v in found.items() if k.endswith("ppm"))
    mean = int(tail.measure == "expected_shortfall")
    worst = worst_rows(tail.lookback_bars, tail.confidence)
    return {"limits": int(bool(on)), **found, "tail_worst": worst, "tail_mean": mean}


def new_journal(book: Book, rows: int = 0) -> Journal:
    """Return an empty journal with room for at least one bar of this book."""
    n, n_orders = book.qty.size, book.order.shape[0]
    return Journal(
        events=np.zeros((rows + kernels.EVENTS_A_NAME * n + 3 * n_orders + kernels.EVENTS_A_BAR, 5), np.int64),
        fills=np.zeros((rows + n_orders + 2 * n, F_COLUMNS), np.int64),
        ends=np.zeros((rows + 2 * n_orders, 5), np.int64),
        orders=np.zeros((rows + n, O_COLUMNS), np.int64),
        counts=np.zeros(4, np.int64),
    )


def used(journal: Journal) -> Journal:
    """Return the rows of a journal that are in use, as copies."""
    c = journal.counts
    return Journal(
        events=journal.events[: c[J_EVENTS]].copy(),
        fills=journal.fills[: c[J_FILLS]].copy(),
        ends=journal.ends[: c[J_ENDS]].copy(),
        orders=journal.orders[: c[J_ORDERS]].copy(),
        counts=c.copy(),
    )


def with_room(book: Book, params: StepParams) -> Book:
    """Return a copy of the book with room for one more lot and one more order per instrument."""
    n = book.qty.size
    need = int(book.lot_count.max(initial=0)) + 2
    wide = copy_book(book)
    if wide.lot_qty.shape[1] <= need:
        pad = ((0, 0), (0, max(8, need)))
        wide = wide._replace(
            lot_qty=np.pad(wide.lot_qty, pad),
            lot_cost=np.pad(wide.lot_cost, pad),
            lot_opened=np.pad(wide.lot_opened, pad),
        )
    rows = n * (params.max_order_age_bars + 2)
    if wide.order.shape[0] < rows:
        more = ((0, rows - wide.order.shape[0]), (0, 0))
        wide = wide._replace(order=np.pad(wide.order, more), want=np.pad(wide.want, more))
    return wide


def canonical_book(book: Book) -> Book:
    """Return the book in its one canonical form: lots from column 0, sorted receivables, no unused rows.

    Two books are equal if and only if all arrays of their canonical forms are.
    """
    n_lots = int(book.lot_count.max(initial=0))
    lots = [np.zeros((book.qty.size, n_lots), np.int64) for _ in range(3)]
    for i in range(book.qty.size):
        head, count = int(book.lot_head[i]), int(book.lot_count[i])
        for array, source in zip(lots, (book.lot_qty, book.lot_cost, book.lot_opened), strict=True):
            array[i, :count] = source[i, head : head + count]
    order = np.argsort(np.where(book.recv_day == 0, np.iinfo(np.int64).max, book.recv_day), axis=1, kind="stable")
    m = int(book.acct[N_ORDERS])
    return book._replace(
        acct=book.acct.copy(),
        qty=book.qty.copy(),
        mark=book.mark.copy(),
        stale=book.stale.copy(),
        alloc=book.alloc.copy(),
        lot_qty=lots[0],
        lot_cost=lots[1],
        lot_opened=lots[2],
        lot_head=np.zeros_like(book.lot_head),
        lot_count=book.lot_count.copy(),
        recv_day=np.take_along_axis(book.recv_day, order, 1),
        recv_amount=np.take_along_axis(book.recv_amount, order, 1),
        order=book.order[:m].copy(),
        want=book.want[:m].copy(),
    )


def settle(book: Book, bar: Market, instruments: Instruments, params: StepParams) -> tuple[Book, Journal]:
    """Return the book after a bar ([n] arrays in `bar`) and what happened. Raises BookError: too many receivables."""
    after = with_room(book, params)
    journal = new_journal(after)
    if not kernels.settle_bar(after, bar, instruments, params, journal, new_scratch(after)):
        raise _too_many_receivables()
    return after, used(journal)


def settle_given(
    book: Book, bar: Market, given: Given, instruments: Instruments, params: StepParams
) -> tuple[Book, Journal]:
    """Return the book after a bar at a real venue, whose fills and ends are given, and what happened.

    The journal has each of the fills, in their order. Raises BookError as `settle`.
    """
    after = with_room(book, params)
    journal = new_journal(after, given.fills.shape[0])
    if not kernels.settle_given(after, bar, given, instruments, params, journal, new_scratch(after)):
        raise _too_many_receivables()
    return after, used(journal)


def _too_many_receivables() -> BookError:
    return BookError(
        "an instrument has more than 8 pending dividend payments",
        next_step="check the pay dates of its corporate actions",
    )


def decide(
    book: Book,
    score: Floats,
    capital: Capital,
    volatility: Floats,
    bar: Market,
    upcoming: Market,
    instruments: Instruments,
    params: StepParams,
    outlook: Outlook | None = None,
    past: Floats | None = None,
) -> tuple[Decision, Journal]:
    """Return the targets for the next bar and the limits that changed them; score [S, n], volatility [n].

    outlook: of this bar; needed where the sizing or a limit looks at returns. past: the scores before, for throttles.
    """
    journal = new_journal(book)
    decision = new_decision(*score.shape)
    limits = no_limits(score.shape[1])
    if outlook is not None:
        decides = np.ones(1, np.bool_)
        part = risk_outlook.throttled(outlook, score[None], past)
        score = risk_outlook.sized(outlook, score[None], capital, bar.traded[None], bar.left[None], decides, part)[0]
        for s in np.flatnonzero(part[0] < 1.0):
            log_event(journal, EV_THROTTLE, -2 - int(s), PPM, int(part[0, s] * PPM), int(bar.head[H_NS]))
        limits = risk_outlook.limits(outlook, 1) if params.limits else limits
    decide_bar(
        book,
        score,
        capital,
        volatility,
        bar,
        upcoming.split_num,
        upcoming.split_den,
        instruments,
        params,
        risk_outlook.limits_row(limits, 0),
        journal,
        new_scratch(book),
        decision,
    )
    return decision, used(journal)


def plan(
    book: Book, decision: Decision, bar: Market, upcoming: Market, instruments: Instruments, params: StepParams
) -> tuple[Book, Journal]:
    """Return the book with its new working orders, and those orders in the journal."""
    after = with_room(book, params)
    journal = new_journal(after)
    num, den = upcoming.split_num, upcoming.split_den
    plan_orders(after, decision, instruments, num, den, params, journal, new_scratch(after), bar.head[0])
    return after, used(journal)


def in_next_units(book: Book, upcoming: Market, instruments: Instruments) -> Ints:
    """Return the quantities [n] of the book in the units of the next bar."""
    qty = [
        trunc_to(mul_div_trunc(q, num, den), unit)
        for q, num, den, unit in zip(book.qty, upcoming.split_num, upcoming.split_den, instruments.step, strict=True)
    ]
    return np.array(qty, np.int64)


def volatilities(close: Floats, lookback: int, bars_per_year: float) -> Floats:
    """Return the annualised volatility [T, n] of adjusted closes; NaN before lookback + 1 rows or where one is NaN."""
    out = np.full(close.shape, np.nan)
    if close.shape[0] > lookback:
        volatility_panel(np.ascontiguousarray(close), lookback, lookback, bars_per_year, out)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldResult:
    """A backtest: `table` [T, 4 + 2n] holds cash, equity, state, working orders, qty, mark after each bar.

    Of one that keeps no records `table` is [T, 4], the first four, and the journal is empty.
    """

    book: Book
    table: Ints
    journal: Journal
    n: int

    @property
    def equity_e4(self) -> Ints:
        return np.asarray(self.table[:, 1])

    @property
    def qty_e6(self) -> Ints:
        return np.asarray(self.table[:, 4 : 4 + self.n])


def fold(
    book: Book,
    market: Market,
    scores: Floats,
    capital: Capital,
    volatility: Floats,
    instruments: Instruments,
    params: StepParams,
    decides: np.ndarray | None = None,
    *,
    records: bool = True,
    outlook: Outlook | None = None,
) -> FoldResult:
    """Run all bars of market but the last, which only tells the splits that follow; decide where decides [T] says.

    scores [T, S, n], volatility [T, n] for the same rows as market. The given book stays as it is. Without records
    only the book and its value are followed: for many folds of which the best are run again. outlook: of these bars.
    """
    n_bars, n = market.head.shape[0] - 1, book.qty.size
    decides = np.ones(n_bars, np.bool_) if decides is None else decides
    limits = no_limits(n)
    if outlook is not None:
        part = risk_outlook.throttled(outlook, scores, None)
        scores = risk_outlook.sized(outlook, scores, capital, market.traded, market.left, decides, part)
        limits = risk_outlook.limits(outlook, n_bars) if params.limits else limits
    out = np.zeros((n_bars, 4 + 2 * n if records else 4), np.int64)
    book, decision = with_room(book, params), new_decision(scores.shape[1], n)
    scratch = new_scratch(book)
    journal, kept, t = new_journal(book, JOURNAL_ROWS if records else 0), [], 0
    while True:
        t, code = kernels.fold(
            book,
            market,
            scores,
            capital,
            volatility,
            decides,
            instruments,
            params,
            limits,
            journal if records else None,
            scratch,
            decision,
            t,
            out,
        )
        if code == kernels.NEED_RECEIVABLE_SLOT:
            raise _too_many_receivables()
        kept.append(used(journal))
        if code == kernels.DONE:
            break
        book = with_room(book, params)
        journal.counts[:] = 0
    rows = {name: np.concatenate([getattr(j, name) for j in kept]) for name in Journal._fields[:4]}
    joined = Journal(**rows, counts=np.sum([j.counts for j in kept], axis=0))
    return FoldResult(book=book, table=out, journal=joined, n=n)
