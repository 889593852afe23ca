"""Random small markets, as the reference's bars and as tradecore's arrays, and books of both in one form."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from reference import RefBar, RefParams, RefQuote
from tradecore.model import (
    F_FEE,
    F_INSTR,
    F_PRICE,
    F_QTY,
    N_ORDERS,
    O_AGE,
    O_INSTR,
    O_LIMIT,
    O_QTY,
    O_REM,
    O_SPLIT_DEN,
    O_SPLIT_NUM,
    O_STOP,
    O_TYPE,
    ORDER_TYPES,
    REMAINDERS,
    SIZING_METHODS,
    Book,
    Capital,
    Instruments,
    Market,
    StepParams,
)

SPLITS = ((2, 1), (3, 1), (3, 2), (7, 5), (1, 2), (1, 3), (1, 10), (1, 500), (11, 10))
ACCT = (
    "cash",
    "equity",
    "peak",
    "prev_session_equity",
    "realised",
    "fees",
    "dividends",
    "state",
    "state_sessions",
    "ordered_state",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A market of T bars (one more only tells its splits), parameters, and what the strategies think."""

    cash: Decimal
    bars: list[RefBar]
    params: RefParams
    scores: np.ndarray  # [T, S, n]
    volatility: np.ndarray  # [T, n]
    decides: np.ndarray  # [T]
    known_splits: list[list[tuple[int, int]]]  # per bar, of the next one


def random_world(
    seed: int,
    n: int,
    bars: int,
    strategies: int,
    *,
    calm: bool = False,
    surprises: bool = False,
    styled: bool = False,
) -> World:
    """Draw a world. `calm`: nothing but prices, so that shrinking shows what an example needs. `styled`: with order
    kinds, brackets, shorts, margin, interest and borrow cost, each of them now and then."""
    rng = random.Random(seed)
    p = (lambda _: 0.0) if calm else (lambda most: rng.choice((0.0, most / 4, most)))
    odds = {
        "gap": p(0.3),
        "split": p(0.25),
        "dividend": p(0.3),
        "deposit": p(0.1),
        "person": p(0.1),
        "undecided": p(0.2),
        "left": p(0.3),
    }
    quotes = _quotes(rng, n, bars + 1, odds)
    per_session = rng.choice((1, 1, 2))
    ref_bars = []
    for t in range(bars + 1):
        day = 15_000 + t // per_session
        ref_bars.append(
            RefBar(
                day=day,
                bar_end_ns=(day * 10 + t % per_session) * 10**12,
                quotes=quotes[t],
                first_of_session=t % per_session == 0,
                days_since=0 if t % per_session else 1 + day % 3,
                last_of_session=t % per_session == per_session - 1,
                deposit=Decimal(rng.randrange(1, 10**8)) / 10**4 if rng.random() < odds["deposit"] else Decimal(0),
                person_state=rng.randrange(3) if rng.random() < odds["person"] else None,
            )
        )
    _actions(rng, ref_bars, odds)
    if not calm:
        _delistings(random.Random(-seed), ref_bars)
    for i in range(n):
        if rng.random() < odds["left"]:
            for bar in ref_bars[rng.randrange(bars) :]:
                bar.quotes[i].left = True
    known = [[q.split for q in bar.quotes] for bar in ref_bars[1:]]
    if surprises:
        known = [[s if rng.random() < 0.5 else rng.choice(((1, 1), (2, 1))) for s in row] for row in known]
    params = _params(rng, n, strategies)
    if styled:
        _style(rng, params, [q for bar in ref_bars for q in bar.quotes])
    return World(
        cash=Decimal(rng.choice((1_000, 100_000, 5_000_000))) + Decimal(rng.randrange(10**4)) / 10**4,
        bars=ref_bars,
        params=params,
        scores=_scores(rng, params, bars, strategies, n, short=params.allow_short),
        volatility=np.array([[_volatility(rng) for _ in range(n)] for _ in range(bars)]),
        decides=np.array([rng.random() >= odds["undecided"] for _ in range(bars)]),
        known_splits=known,
    )


def _quotes(rng: random.Random, n: int, bars: int, odds: dict[str, float]) -> list[list[RefQuote]]:
    swing = rng.choice((0.01, 0.04, 0.15))
    liquid = rng.choice((30, 3_000, 10**6))
    tick = [rng.choice((Decimal("0.01"), Decimal("0.0001"), Decimal("0.05"))) for _ in range(n)]
    step = [rng.choice((Decimal(1), Decimal("0.001"), Decimal("0.000001"))) for _ in range(n)]
    last = [rng.choice((0.8, 20.0, 100.0, 600.0)) for _ in range(n)]
    rows = []
    for _ in range(bars):
        row = []
        for i in range(n):
            first = last[i] * math.exp(rng.gauss(0, swing))
            last[i] = min(max(first * math.exp(rng.gauss(0, swing)), 0.1), 5_000.0)
            opened, closed = (max(round(Decimal(x) / tick[i]) * tick[i], tick[i]) for x in (first, last[i]))
            traded = rng.random() >= odds["gap"]
            zero = Decimal(0)
            row.append(
                RefQuote(
                    open=opened if traded else zero,
                    high=max(opened, closed) if traded else zero,
                    low=min(opened, closed) if traded else zero,
                    close=closed if traded else zero,
                    volume=rng.randrange(liquid) if traded else 0,
                    traded=traded,
                    tick=tick[i],
                    qty_step=step[i],
                )
            )
        rows.append(row)
    return rows


def _actions(rng: random.Random, bars: list[RefBar], odds: dict[str, float]) -> None:
    """Splits (prices stay as they are: money is only counted) and dividends, before a session's open."""
    for bar in bars:
        for quote in bar.quotes:
            if not bar.first_of_session:
                continue
            if rng.random() < odds["split"]:
                quote.split = rng.choice(SPLITS)
            if rng.random() < odds["dividend"]:
                quote.dividend = Decimal(rng.randrange(1, 3_000_000)) / 10**6
                quote.pay_day = rng.choice((None, bar.day, bar.day + 1, bar.day + 5))


def _delistings(rng: random.Random, bars: list[RefBar]) -> None:
    """Now and then a name ends at a stated price, also nothing or many times the last one; its quotes may go on."""
    odds = rng.choice((0.0, 0.0, 0.03))
    for bar in bars:
        for quote in bar.quotes:
            if bar.first_of_session and rng.random() < odds:
                quote.split, quote.pay_day = (0, 1), None
                quote.dividend = rng.choice((Decimal(0), Decimal(rng.randrange(1, 10**8)) / 10**6))


def _params(rng: random.Random, n: int, strategies: int) -> RefParams:
    raw = [rng.randrange(1, 10) for _ in range(strategies)]
    members = [set(rng.sample(range(n), rng.randrange(1, n + 1))) for _ in range(strategies)]

    def frac(*choices: str) -> Decimal:
        return Decimal(rng.choice(choices))

    return RefParams(
        capital_shares=[x / sum(raw) for x in raw] if rng.random() < 0.7 else [1.0] * strategies,
        slippage_bps=frac("0", "2", "2.5", "75"),
        commission_bps=frac("0", "1", "0.33", "30"),
        commission_per_share=frac("0", "0.005", "0.000013"),
        commission_min=frac("0", "0.35", "5"),
        participation_frac=frac("0.1", "0.003333", "1"),
        remainder=rng.choice(("cancel", "carry")),
        max_order_age_bars=rng.choice((1, 2, 5)),
        max_position=frac("0.15", "0.333333", "1", "1"),
        max_exposure=frac("0.9", "0.4", "1", "1"),
        max_turnover=frac("1", "1", "0.2", "0.037"),
        min_order_notional=frac("0", "100", "2500"),
        rebalance_band=frac("0", "0.01", "0.1"),
        sizing=rng.choice(("equal_weight", "volatility_adjusted")),
        target_volatility=rng.choice((0.2, 0.05)),
        max_daily_loss=frac("0.03", "0.001", "0.5", "0.5"),
        max_drawdown=frac("0.15", "0.01", "0.9", "0.9"),
        reduce_lifts_after_sessions=rng.choice((1, 2)),
        halt_lifts_after_sessions=rng.choice((0, 1, 3)),
        members=members,
    )


def _style(rng: random.Random, params: RefParams, quotes: list[RefQuote]) -> None:
    """Switch on what is off as shipped, and give bars the wicks that it needs."""

    def frac(*choices: str) -> Decimal:
        return Decimal(rng.choice(choices))

    params.order_kind = rng.choice(ORDER_TYPES)
    params.collar_bps, params.trigger_bps = frac("0", "20", "150", "900"), frac("0", "30", "100", "400")
    if rng.random() < 0.6:
        params.stop_loss_frac = frac("0.004", "0.02", "0.08")
    if rng.random() < 0.6:
        params.take_profit_frac = frac("0.004", "0.02", "0.08", "1.5")
    params.allow_short = rng.random() < 0.6
    params.margin_frac = frac("0", "0", "0.5", "1")
    params.max_exposure = Decimal(1) + params.margin_frac + params.allow_short
    params.max_turnover = frac("2", "2", "0.2", "0.037")
    params.credit_frac, params.debit_frac = frac("0", "0.02", "0.051"), frac("0", "0.06", "0.113")
    params.borrow_frac = frac("0", "0.003", "0.9")
    wick = rng.choice((0.002, 0.01, 0.05))
    for quote in quotes:
        if quote.traded:
            up, down = (int(float(quote.close) * abs(rng.gauss(0, wick)) / float(quote.tick)) for _ in range(2))
            quote.high += up * quote.tick
            quote.low = max(quote.low - down * quote.tick, quote.tick)


def _scores(
    rng: random.Random, params: RefParams, bars: int, strategies: int, n: int, *, short: bool = False
) -> np.ndarray:
    silent = rng.choice((0.0, 0.2, 0.6))
    bold = rng.random() < 0.3  # fully invested: cash runs short
    scores = np.full((bars, strategies, n), np.nan)
    assert params.members is not None
    for s, members in enumerate(params.members):
        for i in members:
            for t in range(bars):
                if rng.random() >= silent:
                    some = (0.0, 1.0, rng.randrange(10**9 + 1) / 1e9, rng.uniform(-0.2, 1.2))
                    scores[t, s, i] = rng.choice((0.0, 1.0, 1.0, 1.0) if bold else some)
                    if short and rng.random() < 0.5:
                        scores[t, s, i] = -scores[t, s, i]
    return np.round(scores, 9)


def _volatility(rng: random.Random) -> float:
    return rng.choice((math.nan, 0.0, *[rng.uniform(0.02, 1.0) for _ in range(6)]))


# ----------------------------------------------------------------------------------- the same for tradecore


def _ints(value: Decimal | int, scale: int) -> int:
    exact = Decimal(value) * scale
    assert exact == int(exact), f"{value} is between two quanta"
    return int(exact)


def market(bars: list[RefBar], splits: list[list[tuple[int, int]]] | None = None) -> Market:
    """Return the bars as arrays [T, n]; `splits` replaces the bars' own."""
    n = len(bars[0].quotes)

    def cells(value: Any) -> np.ndarray:
        return np.array([[value(q) for q in bar.quotes] for bar in bars], np.int64).reshape(len(bars), n)

    ratio = np.array(splits or [[q.split for q in bar.quotes] for bar in bars], np.int64).reshape(len(bars), n, 2)
    head = [
        [
            bar.bar_end_ns,
            bar.day,
            bar.first_of_session,
            bar.last_of_session,
            _ints(bar.deposit, 10**4),
            -1 if bar.person_state is None else bar.person_state,
            bar.days_since,
            t % 2 == 0 and all(q.split == (1, 1) and q.dividend == 0 for q in bar.quotes) and splits is None,
        ]
        for t, bar in enumerate(bars)
    ]
    return Market(
        open=cells(lambda q: _ints(q.open, 10**4)),
        high=cells(lambda q: _ints(q.high, 10**4)),
        low=cells(lambda q: _ints(q.low, 10**4)),
        close=cells(lambda q: _ints(q.close, 10**4)),
        volume=cells(lambda q: q.volume),
        traded=cells(lambda q: q.traded).astype(np.bool_),
        split_num=np.ascontiguousarray(ratio[:, :, 0]),
        split_den=np.ascontiguousarray(ratio[:, :, 1]),
        dividend=cells(lambda q: _ints(q.dividend, 10**6)),
        pay_day=cells(lambda q: q.pay_day or 0),
        left=cells(lambda q: q.left).astype(np.bool_),
        head=np.array(head, np.int64),
    )


def row(bars: Market, t: int) -> Market:
    """Return bar t as arrays [n]."""
    return Market(*(array[t] for array in bars))


def instruments(bar: RefBar) -> Instruments:
    """Return ticks and steps."""
    return Instruments(
        tick=np.array([_ints(q.tick, 10**4) for q in bar.quotes], np.int64),
        step=np.array([_ints(q.qty_step, 10**6) for q in bar.quotes], np.int64),
    )


def capital(params: RefParams, n: int) -> Capital:
    """Return shares of capital and membership."""
    members = params.members or [set(range(n)) for _ in params.capital_shares]
    return Capital(
        share=np.array(params.capital_shares),
        member=np.array([[i in chosen for i in range(n)] for chosen in members], np.bool_),
    )


def step_params(p: RefParams) -> StepParams:
    """Return the parameters in ppm and quanta."""
    return StepParams(
        slippage_ppm=_ints(p.slippage_bps, 100),
        commission_ppm=_ints(p.commission_bps, 100),
        commission_per_share_e6=_ints(p.commission_per_share, 10**6),
        commission_min_e4=_ints(p.commission_min, 10**4),
        participation_ppm=_ints(p.participation_frac, 10**6),
        remainder=REMAINDERS.index(p.remainder),
        max_order_age_bars=p.max_order_age_bars,
        sizing=SIZING_METHODS.index(p.sizing),
        max_position_ppm=_ints(p.max_position, 10**6),
        max_exposure_ppm=_ints(p.max_exposure, 10**6),
        max_turnover_ppm=_ints(p.max_turnover, 10**6),
        min_order_e4=_ints(p.min_order_notional, 10**4),
        band_ppm=_ints(p.rebalance_band, 10**6),
        max_daily_loss_ppm=_ints(p.max_daily_loss, 10**6),
        max_drawdown_ppm=_ints(p.max_drawdown, 10**6),
        reduce_lifts=p.reduce_lifts_after_sessions,
        halt_lifts=p.halt_lifts_after_sessions,
        max_position=float(p.max_position),
        max_exposure=float(p.max_exposure),
        target_volatility=p.target_volatility,
        shorts=int(p.allow_short),
        margin_ppm=_ints(p.margin_frac, 10**6),
        credit_ppm=_ints(p.credit_frac, 10**6),
        debit_ppm=_ints(p.debit_frac, 10**6),
        borrow_ppm=_ints(p.borrow_frac, 10**6),
        order_type=ORDER_TYPES.index(p.order_kind),
        collar_ppm=_ints(p.collar_bps, 100),
        trigger_ppm=_ints(p.trigger_bps, 100),
        stop_loss_ppm=_ints(p.stop_loss_frac or 0, 10**6),
        take_profit_ppm=_ints(p.take_profit_frac or 0, 10**6),
    )


def book_quanta(book: Book) -> dict[str, Any]:
    """Return tradecore's book in the form of `reference.quanta`."""
    n = book.qty.size
    state: dict[str, Any] = {name: int(book.acct[k]) for k, name in enumerate(ACCT)}
    state.update({name: getattr(book, name).tolist() for name in ("qty", "mark", "stale", "alloc")})
    state["lots"], state["receivables"] = [], []
    for i in range(n):
        lots = slice(int(book.lot_head[i]), int(book.lot_head[i] + book.lot_count[i]))
        columns = (book.lot_qty[i, lots], book.lot_cost[i, lots], book.lot_opened[i, lots])
        state["lots"].append([tuple(map(int, lot)) for lot in zip(*columns, strict=True)])
        due: dict[int, int] = {}
        for day, amount in zip(book.recv_day[i].tolist(), book.recv_amount[i].tolist(), strict=True):
            if day:
                due[day] = due.get(day, 0) + amount
        state["receivables"].append(sorted(due.items()))
    state["orders"] = [
        (
            int(o[O_INSTR]),
            int(o[O_QTY]),
            int(o[O_REM]),
            int(o[O_AGE]),
            (int(o[O_SPLIT_NUM]), int(o[O_SPLIT_DEN])),
            tuple(int(w) for w in wants),
            ORDER_TYPES[o[O_TYPE]],
            int(o[O_LIMIT]),
            int(o[O_STOP]),
        )
        for o, wants in zip(book.order[: book.acct[N_ORDERS]], book.want, strict=False)
    ]
    return state


def fill_quanta(fills: np.ndarray) -> list[tuple[int, ...]]:
    """Return (instrument, quantity, price, fee) of tradecore's fills."""
    return [tuple(int(f[c]) for c in (F_INSTR, F_QTY, F_PRICE, F_FEE)) for f in fills]
