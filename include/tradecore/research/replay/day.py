"""A day as arrays, and its stages computed from them: settle, signal, risk, plan, and the next bar's equity. Pure.

The calls are those of settlement.py, pipeline.signal and decision.py, on the same kernels; nothing is read or stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from tradecore import market, provenance
from tradecore.backtest import step
from tradecore.bars import Panel
from tradecore.context import book_calendar
from tradecore.errors import StrategyError
from tradecore.model import (
    CASH,
    EQUITY,
    F_FEE,
    F_INSTR,
    F_PRICE,
    F_QTY,
    N_ORDERS,
    O_DECIDED_NS,
    O_INSTR,
    O_LINE,
    O_QTY,
    O_REF,
    O_SPLIT_DEN,
    O_SPLIT_NUM,
    STATE,
    STATE_NAMES,
    Book,
    Decision,
    Journal,
    Market,
    StepParams,
)
from tradecore.settings import Settings
from tradecore.storage import books
from tradecore.storage.books import Axes

Record = dict[str, Any]
STAGES = ("data", "settle", "signal", "risk", "plan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What a day is computed from, in the order of `axes`. `before` None: the venue settled it, `after` is a fact."""

    book: str
    bar_end_at: datetime
    axes: Axes
    panel: Panel  # the window up to this bar
    bar: Market  # [2, n]: this bar, and the actions of the next
    met: Market  # [2, n]: this bar as it was settled: the same, but where the data were read anew before the decision
    before: Book | None  # with the orders that the venue had when the bar came
    after: Book  # as it was decided on
    after_hash: str  # of the state that was stored
    ended: tuple[tuple[int, int], ...]  # (decided ns, line) of orders that a person ended before the decision
    failed: tuple[str, ...]  # strategies that failed then, and count as failed now
    decided: bool  # whether there was a decision
    following: Market | None  # [2, n]: the next bar, and the actions of the one after it
    past: np.ndarray | None = None  # [bars, S, n] the scores stored before it, where a throttle asks for them


def compute(day: Day, settings: Settings) -> Record:
    """Return the records of every stage, canonical: integers, scores as integers of 1e-9, keys as text.

    A strategy that fails now and did not fail then has the error's text in the place of its scores.
    """
    params = step.step_params(settings.trading.risk, settings.trading.execution)
    out: Record = {"config": settings.config_hash(), "code": provenance.code_hash(settings.home)}
    book = day.after
    if day.before is not None:
        settled, out["settle"] = _settle(day, day.before, params)
        if out["settle"]["state_hash"] != day.after_hash:
            book = _without(settled, day.ended)
    if day.decided:
        out |= _decide(day, settings, params, book)
    return out


def _settle(day: Day, before: Book, params: StepParams) -> tuple[Book, Record]:
    after, journal = step.settle(before, market.bar_row(day.met, 0), _instruments(day), params)
    book = step.canonical_book(after)
    ids = day.axes.instruments
    fills = [[str(ids[f[F_INSTR]]), f[F_QTY], f[F_PRICE], f[F_FEE]] for f in journal.fills.tolist()]
    return book, {"state_hash": books.state_hash(book, day.axes), **account(book), "fills": fills}


def account(book: Book) -> Record:
    """Return what a book is worth, as the records have it."""
    acct = book.acct
    return {"cash_e4": int(acct[CASH]), "equity_e4": int(acct[EQUITY]), "state": STATE_NAMES[int(acct[STATE])]}


def _instruments(day: Day) -> Any:
    return market.instrument_arrays(day.panel.instruments)


def _without(book: Book, ended: tuple[tuple[int, int], ...]) -> Book:
    """Return a canonical book without the working orders of these keys."""
    keys = zip(book.order[:, O_DECIDED_NS].tolist(), book.order[:, O_LINE].tolist(), strict=True)
    kept = np.array([key not in ended for key in keys], np.bool_)
    acct = book.acct.copy()
    acct[N_ORDERS] = kept.sum()
    return book._replace(acct=acct, order=book.order[kept], want=book.want[kept])


def _decide(day: Day, settings: Settings, params: StepParams, book: Book) -> Record:
    rules, instruments = market.rules(settings), _instruments(day)
    scores, signal = _scores(day, rules)
    if any(r.name in day.failed and r.on_failure == "stop" for r in rules):
        return {"signal": signal}
    here, upcoming = market.bar_row(day.bar, 0), market.bar_row(day.bar, 1)
    capital = market.capital_of(rules, day.axes.strategies, day.panel.instruments)
    volatility = market.volatility_now(day.panel, settings, book_calendar(settings))
    outlook = market.outlook_of(day.panel, 1, settings, book_calendar(settings), day.axes.strategies)
    decision, _ = step.decide(book, scores, capital, volatility, here, upcoming, instruments, params, outlook, day.past)
    planned, journal = step.plan(book, decision, here, upcoming, instruments, params)
    out: Record = {"signal": signal, "risk": _risk(day, decision), "plan": _plan(day, journal)}
    if day.following is not None:
        after, _ = step.settle(planned, market.bar_row(day.following, 0), instruments, params)
        out["next"] = account(after)
    return out


def _scores(day: Day, rules: tuple[market.Rule, ...]) -> tuple[np.ndarray, Record]:
    """Return scores [S, n] and their records; a failed strategy has no opinion, or 0 where it says flatten."""
    scores = np.full((len(day.axes.strategies), len(day.axes.instruments)), np.nan)
    record: Record = {}
    for rule in rules:
        row = day.axes.strategies.index(rule.name)
        if rule.name in day.failed:
            record[rule.name] = None
            if rule.on_failure == "flatten":
                scores[row] = 0.0
            continue
        try:
            values = market.score_now(rule, day.panel)
        except StrategyError as error:
            record[rule.name] = error.message
            continue
        mine = market.columns_of(rule, day.panel.instruments)
        scores[row, mine] = values[mine]
        record[rule.name] = {str(day.axes.instruments[i]): score_e9(float(values[i])) for i in mine}
    return scores, record


def score_e9(score: float) -> int | None:
    """Return a score as an integer of 1e-9; None for no opinion."""
    return None if np.isnan(score) else round(score * 1e9)


def _risk(day: Day, decision: Decision) -> Record:
    ids, names = day.axes.instruments, day.axes.strategies
    return {
        "targets": {
            str(ids[i]): [int(decision.target[i]), int(decision.ref[i]), bool(decision.opinion[i])]
            for i in range(len(ids))
        },
        "contributions": {
            f"{names[s]} {ids[i]}": int(decision.contribution[s, i])
            for s, i in np.argwhere(decision.contribution != 0).tolist()
        },
    }


def _plan(day: Day, journal: Journal) -> Record:
    ids = day.axes.instruments
    orders = {
        str(ids[o[O_INSTR]]): [o[O_QTY], o[O_REF], o[O_SPLIT_NUM], o[O_SPLIT_DEN]] for o in journal.orders.tolist()
    }
    return {"orders": orders, "cancels": sorted([end[0], end[2]] for end in journal.ends.tolist())}


def hashes(record: Record) -> dict[str, str]:
    """Return the hash of each stage's records that are there."""
    return {stage: provenance.hash_of(record[stage]) for stage in STAGES if stage in record}
