"""Where the change of equity since the last session came from: lines that sum to it exactly. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from tradecore.report_model import ZERO, PositionLine, SessionReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """One source of the change: a name, or what belongs to none."""

    label: str
    amount_usd: Decimal


def price_gain_usd(line: PositionLine) -> Decimal:
    """Return what a name gained this session: value now - value before - cash spent on it, fees left out."""
    return line.value_usd - line.previous_value_usd - line.traded_usd


def contributions(report: SessionReport) -> tuple[Contribution, ...]:
    """Split the change of equity into names, dividends, fees, deposits and the rest; zero lines are left out.

    The rest is cash paid for fractions after a split, which no other line shows. Empty at the first bar.
    """
    before, now = report.previous_account, report.account
    if before is None:
        return ()
    named = [Contribution(label=line.symbol, amount_usd=price_gain_usd(line)) for line in report.positions]
    named.sort(key=lambda item: (-abs(item.amount_usd), item.label))
    other = [
        Contribution(label="Dividends", amount_usd=now.dividends_usd - before.dividends_usd),
        Contribution(label="Fees", amount_usd=before.fees_usd - now.fees_usd),
        Contribution(label="Deposits", amount_usd=report.flow_usd),
    ]
    rest = now.equity_usd - before.equity_usd - sum((item.amount_usd for item in (*named, *other)), ZERO)
    lines = (*named, *other, Contribution(label="Cash in lieu", amount_usd=rest))
    return tuple(item for item in lines if item.amount_usd != 0)
