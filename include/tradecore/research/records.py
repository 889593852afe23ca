"""What a backtest did as records: trades and tax lots. Pure. Round trips: trips.py, who earned what: attribution.py.

Money is Decimal USD, quantities Decimal shares, times aware UTC. `frames.py` has all of it as pandas frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from tradecore._kernels import mul_div_round
from tradecore.backtest.step import FoldResult
from tradecore.lot_matching import Method, Move, TaxLot, match, tax_lots
from tradecore.model import (
    EV_DELISTED,
    EV_SPLIT,
    EV_STOP_LOSS,
    EV_TAKE_PROFIT,
    EVENT_NAMES,
    F_BAR_NS,
    F_DECIDED_NS,
    F_FEE,
    F_INSTR,
    F_PRICE,
    F_QTY,
    H_NS,
    O_DECIDED_NS,
    O_INSTR,
    O_TYPE,
    ORDER_TYPES,
)
from tradecore.model import Market as Bars
from tradecore.units import from_ns, shares, usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One fill. kind: of its order, or of the bracket that it is of (stop_loss, take_profit)."""

    at: datetime
    symbol: str
    qty: Decimal
    price_usd: Decimal
    notional_usd: Decimal
    fee_usd: Decimal
    kind: str


def trades(fold: FoldResult, symbols: Sequence[str]) -> list[Trade]:
    """Return the fills in their order."""
    kinds = {(o[O_DECIDED_NS], o[O_INSTR]): ORDER_TYPES[o[O_TYPE]] for o in fold.journal.orders.tolist()}
    brackets = (EV_STOP_LOSS, EV_TAKE_PROFIT)
    closed = {(e[4], e[1]): EVENT_NAMES[e[0]] for e in fold.journal.events.tolist() if e[0] in brackets}
    return [
        Trade(
            at=from_ns(f[F_BAR_NS]),
            symbol=symbols[f[F_INSTR]],
            qty=shares(f[F_QTY]),
            price_usd=usd(f[F_PRICE]),
            notional_usd=usd(_notional(f)),
            fee_usd=usd(f[F_FEE]),
            kind=closed[f[F_BAR_NS], f[F_INSTR]] if f[F_DECIDED_NS] < 0 else kinds[f[F_DECIDED_NS], f[F_INSTR]],
        )
        for f in fold.journal.fills.tolist()
    ]


def _notional(fill: list[int]) -> int:
    return int(mul_div_round(abs(fill[F_QTY]), fill[F_PRICE], 1_000_000))


def moves(fold: FoldResult, market: Bars) -> Iterator[tuple[Move, int]]:
    """Yield each split or delisting of a holding and each fill with its fee, bar by bar, the fills of a bar last."""
    row_of = {int(ns): t for t, ns in enumerate(market.head[:, H_NS])}
    splits = [e for e in fold.journal.events.tolist() if e[0] in (EV_SPLIT, EV_DELISTED)]
    fills = fold.journal.fills.tolist()
    k = 0
    for ns in sorted({e[4] for e in splits} | {f[F_BAR_NS] for f in fills}):
        t = row_of[ns]
        for e in splits:
            if e[4] == ns and e[0] == EV_DELISTED:
                yield Move(at_ns=ns, instrument=e[1], qty=-e[2], notional=abs(e[3])), 0
            elif e[4] == ns:
                ratio = (int(market.split_num[t, e[1]]), int(market.split_den[t, e[1]]))
                yield Move(at_ns=ns, instrument=e[1], qty=e[3], ratio=ratio), 0
        while k < len(fills) and fills[k][F_BAR_NS] == ns:
            f = fills[k]
            yield Move(at_ns=ns, instrument=f[F_INSTR], qty=f[F_QTY], notional=_notional(f)), f[F_FEE]
            k += 1


def lots(fold: FoldResult, market: Bars, symbols: Sequence[str], method: Method = "fifo") -> list[TaxLot]:
    """Return the closed lots in the order of their sale, then the open ones by symbol."""
    return tax_lots(*match((move for move, _ in moves(fold, market)), method), dict(enumerate(symbols)))
