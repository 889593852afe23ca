"""Records that rooms hand to each other: the Book, the market bar, the parameters of a step.

Arrays are NamedTuples because kernels take them as they are; `n` instruments and `S` strategies in a fixed order.
Units: see units.py. The meaning of every field over time: docs/STEP.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Columns of Book.acct
(
    CASH,
    EQUITY,
    PEAK,
    PREV_SESSION_EQUITY,
    REALISED,
    FEES,
    DIVIDENDS,
    STATE,
    STATE_SESSIONS,
    ORDERED_STATE,  # the state that a person ordered, and that no count of sessions lifts
    N_ORDERS,
) = range(11)
ACCT_COLUMNS = 11
# Trading states
ACTIVE, REDUCING, HALTED = range(3)
STATE_NAMES = ("ACTIVE", "REDUCING", "HALTED")
# Columns of an order row
(
    O_INSTR,
    O_QTY,
    O_REM,
    O_TYPE,
    O_TIF,
    O_REMAINDER,
    O_LIMIT,
    O_STOP,
    O_PARENT,
    O_OCO,
    O_AGE,
    O_SPLIT_NUM,
    O_SPLIT_DEN,
    O_DECIDED_NS,
    O_LINE,
    O_REF,
) = range(16)
O_COLUMNS = 16
MARKET, LIMIT, STOP_LIMIT, STOP, TRAILING, ON_CLOSE = range(6)  # with a limit: the 2nd and 3rd; with a stop: 3rd to 5th
DAY = 0
CANCEL_REST, CARRY_REST = range(2)
ORDER_TYPES = ("market", "limit", "stop_limit", "stop", "trailing_stop", "market_on_close")
TIMES_IN_FORCE = ("day",)
REMAINDERS = ("cancel", "carry")
# Order ends
FILLED, CANCELED, EXPIRED = range(3)
END_NAMES = ("FILLED", "CANCELED", "EXPIRED")
# Columns of a fill row
F_DECIDED_NS, F_INSTR, F_LINE, F_QTY, F_PRICE, F_OPEN, F_FEE, F_BAR_NS, F_REM = range(9)
F_COLUMNS = 9
# Events: (kind, instrument or -1, before, after, bar_end_ns)
(
    EV_SPLIT,
    EV_DIVIDEND,
    EV_DIVIDEND_ASSUMED_PAID,
    EV_RECEIVABLE_PAID,
    EV_STALE,
    EV_CASH_SHORT,
    EV_STATE,
    EV_CASH_IN_LIEU,
    EV_NAME_CAP,
    EV_GROSS_CAP,
    EV_TURNOVER_CAP,
    EV_NO_OPINION,
    EV_BELOW_MIN,
    EV_INSIDE_BAND,
    EV_REDUCE_ONLY,
    EV_HALTED,
    EV_REPLACED,
    EV_DEPOSIT,
    EV_LEFT_UNIVERSE,
    EV_CHARGE,
    EV_SHORT,
    EV_STOP_LOSS,
    EV_TAKE_PROFIT,
    EV_INTEREST,
    EV_BORROW,
    EV_LIQUIDITY_CAP,
    EV_GROUP_CAP,
    EV_CLUSTER_CAP,
    EV_MAX_NAMES,
    EV_MIN_NAMES,
    EV_LEVERAGE_CAP,
    EV_NET_CAP,
    EV_BETA_CAP,
    EV_STRESS_CAP,
    EV_TAIL_CAP,
    EV_THROTTLE,
    EV_DELISTED,
) = range(37)
EVENT_NAMES = (
    "split",
    "dividend",
    "dividend_paid_on_ex_date",
    "receivable_paid",
    "stale_mark",
    "cash_short",
    "state",
    "cash_in_lieu",
    "name_cap",
    "gross_cap",
    "turnover_cap",
    "no_opinion",
    "below_min_notional",
    "inside_band",
    "reduce_only",
    "halted",
    "working_order_replaced",
    "deposit",
    "left_universe",
    "charge",
    "short_position",
    "stop_loss",
    "take_profit",
    "interest",
    "borrow_cost",
    "liquidity_cap",
    "group_cap",
    "cluster_cap",
    "max_names",
    "min_names",
    "leverage_cap",
    "net_cap",
    "beta_cap",
    "stress_cap",
    "tail_cap",
    "throttle",
    "delisted",
)
LIMIT_EVENTS = range(EV_LIQUIDITY_CAP, EV_THROTTLE + 1)
DECISION_EVENTS = frozenset((*range(EV_NAME_CAP, EV_DEPOSIT), EV_LEFT_UNIVERSE, *LIMIT_EVENTS))
RECEIVABLE_SLOTS = 8

EQUAL_WEIGHT, VOLATILITY_ADJUSTED, GIVEN_WEIGHT = range(3)  # given: scores are weights already (risk/outlook.py)
SIZING_METHODS = ("equal_weight", "volatility_adjusted")


class Book(NamedTuple):
    """All that crosses a bar. Mutable arrays: kernels change them in place, `copy_book` is the way to keep one."""

    acct: Ints  # [11] columns above
    qty: Ints  # [n] e6
    mark: Ints  # [n] e4, 0 = never seen
    stale: Ints  # [n] bars since the mark
    alloc: Ints  # [S, n] e6
    lot_qty: Ints  # [n, L] e6, FIFO from lot_head; all of an instrument have the sign of its position
    lot_cost: Ints  # [n, L] e4, total cost of the lot; of a short lot what it brought, negative
    lot_opened: Ints  # [n, L] bar_end_ns
    lot_head: Ints  # [n]
    lot_count: Ints  # [n]
    recv_day: Ints  # [n, R] pay day, 0 = free slot
    recv_amount: Ints  # [n, R] e4
    order: Ints  # [W, 16] working orders, the first acct[N_ORDERS] rows
    want: Ints  # [W, S] e6, what each strategy wanted to hold after the order


class Instruments(NamedTuple):
    """Tick (e4) and quantity step (e6) of each instrument, [n]."""

    tick: Ints
    step: Ints


class Capital(NamedTuple):
    """share [S] of the capital that each strategy sizes on, and member [S, n]: which instruments are its own."""

    share: Floats
    member: Bools


class Market(NamedTuple):
    """Bars of T ends, each [T, n] unless said; `traded` False rows hold zeros. Split and dividend take effect before
    the open of their bar (split_num 0: delisted, each share paid with `dividend`); `left` says who is no longer in the
    universe; `head` is [T, 8]: bar_end_ns, day, first of
    session, last of session, deposit e4, person's state or -1, days since the session before (0 within a session), and
    1 where it is known that no name splits or goes ex at the bar (0: whoever needs it looks)."""

    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    traded: Bools
    split_num: Ints
    split_den: Ints
    dividend: Ints
    pay_day: Ints
    left: Bools
    head: Ints


H_NS, H_DAY, H_FIRST, H_LAST, H_DEPOSIT, H_PERSON, H_DAYS, H_QUIET = range(8)
H_COLUMNS = 8


class StepParams(NamedTuple):
    """Scalars of a step; fractions in ppm, money e4. Built by `backtest.step.step_params` from the settings."""

    slippage_ppm: int
    commission_ppm: int
    commission_per_share_e6: int
    commission_min_e4: int
    participation_ppm: int
    remainder: int
    max_order_age_bars: int
    sizing: int
    max_position_ppm: int
    max_exposure_ppm: int
    max_turnover_ppm: int
    min_order_e4: int
    band_ppm: int
    max_daily_loss_ppm: int
    max_drawdown_ppm: int
    reduce_lifts: int
    halt_lifts: int
    max_position: float
    max_exposure: float
    target_volatility: float
    shorts: int = 0  # 1: scores below 0 are sold short
    margin_ppm: int = 0
    credit_ppm: int = 0  # interest and borrow cost a year, days / 360
    debit_ppm: int = 0
    borrow_ppm: int = 0
    order_type: int = MARKET
    collar_ppm: int = 0
    trigger_ppm: int = 0
    stop_loss_ppm: int = 0
    take_profit_ppm: int = 0
    limits: int = 0  # 1: some of those below are on, or groups or shocks are given; -1 (of counts 0): this one is off
    max_adv_ppm: int = -1
    max_cluster_ppm: int = -1
    max_names: int = 0
    min_names: int = 0
    max_leverage_ppm: int = -1
    max_net_ppm: int = -1
    max_beta_ppm: int = -1
    max_stress_ppm: int = -1
    max_tail_ppm: int = -1
    tail_worst: int = 1  # which of the worst scenarios is the value at risk
    tail_mean: int = 0  # 1: the mean of those up to it, the expected shortfall


class Limits(NamedTuple):
    """What the limits of a decision read beside the weights; G groups, K shocks, L scenarios; rows of T bars, of which
    `limits_at` takes one. Nothing is asked for: one row of zeros."""

    group_start: Ints  # [G + 1] where each group's names begin in group_name
    group_name: Ints  # [M] columns
    group_ppm: Ints  # [G]
    loss: Floats  # [K, n] loss of a unit of each name in a shock
    room: Floats  # [3, L]
    scenario: Floats  # [T + L - 1, n] returns
    market: Floats  # [T + L - 1] the index's, for who is not known
    beta: Floats  # [T, n]
    cluster: Ints  # [T, n] lowest member
    traded_e4: Ints  # [T, n] average traded value
    known: Bools  # [T, n] has returns in all scenarios


class Journal(NamedTuple):
    """What happened, appended by the kernels: events [E, 5], fills [F, 9], ends of orders [F, 5] (decided_ns, instr,
    line, status, bar_end_ns), new orders [F, 16]; counts [4] says how many rows of each are in use."""

    events: Ints
    fills: Ints
    ends: Ints
    orders: Ints
    counts: Ints


J_EVENTS, J_FILLS, J_ENDS, J_ORDERS = range(4)

# Columns of a given fill: the order's key (decided_ns -1: none of ours), instrument, signed quantity e6, price e4,
# unsigned notional e4, fee e4, and whether it is a part of the order itself (0: a leg of its bracket)
G_DECIDED_NS, G_LINE, G_INSTR, G_QTY, G_PRICE, G_NOTIONAL, G_FEE, G_OWN = range(8)
G_COLUMNS = 8


class Given(NamedTuple):
    """What a real venue did at a bar: fills [G, 8] in their order, ends of orders [E, 3] (decided_ns, line, status),
    interest less fees outside of fills (charges e4), and the strategy that fills of nobody's orders go to (manual; -1:
    there is none)."""

    fills: Ints
    ends: Ints
    charges: int
    manual: int


class Decision(NamedTuple):
    """Targets for the next bar, in next-bar units: kernel output. weight [S, n] ppm after the caps, contribution
    [S, n] e6, target [n] e6, ref [n] e4, opinion [n], qty [n] e6 held."""

    weight: Ints
    contribution: Ints
    target: Ints
    ref: Ints
    opinion: Bools
    qty: Ints
    alloc: Ints


# Rows of Scratch.alone: what a name's order gets at the open, were it alone
A_REST, A_PRICE, A_NOTIONAL, A_FEE = range(4)
A_ROWS = 4
# What Scratch.pending counts: receivables of the book, working orders that know of a split, what is owed to the book e4
P_COUNT, P_SPLIT, P_OWED = range(3)
NEVER = 2**62


class Scratch(NamedTuple):
    """Room that the kernels of a step work in, so that they allocate nothing: what it holds means nothing outside of
    one call, but pending [3] and due [n], the next pay day of each name's receivables, which sum up the book; quiet
    [1]: 1 where it is known that no name splits at the next bar; breakers [2, 2]: the peak and the session's first
    equity that the breakers' limits beside them were computed from. used, working, lacking, kept_ppm, total, flat,
    entered [n], listed [n + 1] and alone [4, n]; active [S, n]; keep, filled, blocked [W], turn and buying [W + 1] by
    working order."""

    used: Ints
    working: Ints
    lacking: Ints
    kept_ppm: Ints
    total: Ints
    listed: Ints
    alone: Ints
    flat: Bools
    entered: Bools
    active: Bools
    keep: Bools
    filled: Bools
    blocked: Bools
    turn: Ints
    buying: Ints
    pending: Ints
    due: Ints
    quiet: Ints
    breakers: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """An instrument as a session knows it: its symbol then, tick in 1e-4 USD, step in 1e-6 share."""

    instrument_id: int
    symbol: str
    tick_e4: int
    qty_step_e6: int

    def __post_init__(self) -> None:
        if self.tick_e4 <= 0 or self.qty_step_e6 <= 0:
            raise ValueError(f"{self.symbol}: tick and quantity step must be positive")


def new_book(*, cash_e4: int, n_instruments: int, n_strategies: int, n_lots: int, n_orders: int) -> Book:
    """Open a book with cash only: equity, peak and the previous session's equity are the cash."""
    acct = np.zeros(ACCT_COLUMNS, np.int64)
    acct[[CASH, EQUITY, PEAK, PREV_SESSION_EQUITY]] = cash_e4
    n, s = n_instruments, n_strategies
    ints = np.int64
    return Book(
        acct=acct,
        qty=np.zeros(n, ints),
        mark=np.zeros(n, ints),
        stale=np.zeros(n, ints),
        alloc=np.zeros((s, n), ints),
        lot_qty=np.zeros((n, n_lots), ints),
        lot_cost=np.zeros((n, n_lots), ints),
        lot_opened=np.zeros((n, n_lots), ints),
        lot_head=np.zeros(n, ints),
        lot_count=np.zeros(n, ints),
        recv_day=np.zeros((n, RECEIVABLE_SLOTS), ints),
        recv_amount=np.zeros((n, RECEIVABLE_SLOTS), ints),
        order=np.zeros((n_orders, O_COLUMNS), ints),
        want=np.zeros((n_orders, s), ints),
    )


def new_scratch(book: Book) -> Scratch:
    """Return the room that a step of this book needs."""
    s, n, w = *book.alloc.shape, book.order.shape[0]
    ints, bools = np.int64, np.bool_
    working = book.order[: book.acct[N_ORDERS]]
    split_known = np.count_nonzero(working[:, [O_SPLIT_NUM, O_SPLIT_DEN]] != 1)
    return Scratch(
        used=np.zeros(n, ints),
        working=np.zeros(n, ints),
        lacking=np.zeros(n, ints),
        kept_ppm=np.zeros(n, ints),
        total=np.zeros(n, ints),
        listed=np.zeros(n + 1, ints),
        alone=np.zeros((A_ROWS, n), ints),
        flat=np.zeros(n, bools),
        entered=np.zeros(n, bools),
        active=np.zeros((s, n), bools),
        keep=np.zeros(w, bools),
        filled=np.zeros(w, bools),
        blocked=np.zeros(w, bools),
        turn=np.zeros(w + 1, ints),
        buying=np.zeros(w + 1, ints),
        pending=np.array([np.count_nonzero(book.recv_day), split_known, book.recv_amount.sum()], ints),
        due=np.where(book.recv_day > 0, book.recv_day, NEVER).min(axis=1, initial=NEVER),
        quiet=np.zeros(1, ints),
        breakers=np.zeros((2, 2), ints),
    )


def no_limits(n_instruments: int) -> Limits:
    """Return the limits of a step that has none but those in its parameters."""
    n, row = n_instruments, np.zeros((1, n_instruments), np.int64)
    return Limits(
        group_start=np.zeros(1, np.int64),
        group_name=np.zeros(0, np.int64),
        group_ppm=np.zeros(0, np.int64),
        loss=np.zeros((0, n)),
        room=np.zeros((3, 0)),
        scenario=np.zeros((0, n)),
        market=np.zeros(0),
        beta=np.ones((1, n)),
        cluster=row,
        traded_e4=row,
        known=np.zeros((1, n), np.bool_),
    )


def new_decision(n_strategies: int, n_instruments: int) -> Decision:
    """Return a decision for decide_bar to fill in."""
    s, n, ints = n_strategies, n_instruments, np.int64
    return Decision(
        weight=np.zeros((s, n), ints),
        contribution=np.zeros((s, n), ints),
        target=np.zeros(n, ints),
        ref=np.zeros(n, ints),
        opinion=np.zeros(n, np.bool_),
        qty=np.zeros(n, ints),
        alloc=np.zeros((s, n), ints),
    )


def copy_book(book: Book) -> Book:
    """Return a book whose arrays are its own."""
    return Book(*(a.copy() for a in book))
