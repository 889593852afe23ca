"""Sentences for what the kernels logged: each kind has its own unit (docs/STEP.md, model.EVENT_NAMES). Pure."""

from __future__ import annotations

from tradecore.report_model import EventLine, LimitLine
from tradecore.reports import formats
from tradecore.units import WEIGHT_SCALE, from_quanta, shares, usd

_MONEY = {
    "dividend": "dividend of {}",
    "dividend_paid_on_ex_date": "dividend of {}, booked as paid on the ex-date: the pay date is unknown",
    "receivable_paid": "dividend of {} arrived",
    "cash_in_lieu": "{} in cash for a fraction of a share",
    "deposit": "deposit of {}",
    "interest": "{} of interest on cash",
    "borrow_cost": "{} for borrowing what is short",
    "delisted": "delisted: {} for what was held",
    "charge": "{} of interest less fees, booked as the broker reports it",
}
_QUANTITY = {
    "split": "split: {} shares now",
    "late_fill": "fill of {} shares of an earlier session, booked now",
    "still_working": "order of {} shares still works at the venue, though its session is over",
    "short_position": "{} shares: the book is short, though it is long only; the next sheet buys it back",
    "stop_loss": "stop-loss: {} shares left",
    "take_profit": "take-profit: {} shares left",
    "cash_short": "order cut to {} shares: cash did not allow more",
}
_FRACTION_RULES = {
    "name_cap": "position limit: {} asked for, {} allowed",
    "gross_cap": "gross exposure limit: {} asked for, {} allowed",
    "turnover_cap": "turnover limit: {} asked for, {} allowed",
    "liquidity_cap": "limit of the traded value: {} asked for, {} allowed",
    "group_cap": "group limit: {} asked for, {} allowed",
    "cluster_cap": "limit of names that move together: {} asked for, {} allowed",
    "max_names": "one name too many: {} asked for, {} allowed",
    "min_names": "too few names: {} asked for, {} allowed",
    "leverage_cap": "leverage limit: {} asked for, {} allowed",
    "net_cap": "net exposure limit: {} asked for, {} allowed",
    "beta_cap": "beta limit: {} asked for, {} allowed",
    "stress_cap": "stress limit: a loss of {} asked for, {} allowed",
    "throttle": "a strategy in its drawdown: {} of its capital before, {} now",
    "tail_cap": "limit of the expected loss: {} asked for, {} allowed",
}
_QUANTITY_RULES = {
    "reduce_only": "no order for {} shares: the book only reduces",
    "below_min_notional": "no order for {} shares: too small an amount",
    "inside_band": "no order for {} shares: inside the rebalancing band",
    "working_order_replaced": "the rest of an older order ({} shares) was replaced",
    "left_universe": "no longer in the universe: its {} shares are to be sold",
    "no_opinion": "no opinion: {} shares are kept",
}
_TOLD_ELSEWHERE = ("state",)  # the state events say it, with actor and reason


def event_text(line: EventLine) -> str:
    """Return what happened in words; '' for what another part of the report tells."""
    if line.kind in _TOLD_ELSEWHERE:
        return ""
    if line.kind in _MONEY:
        return _MONEY[line.kind].format(formats.usd(usd(line.amount)))
    if line.kind in _QUANTITY:
        return _QUANTITY[line.kind].format(formats.shares(shares(line.amount)))
    if line.kind == "stale_mark":
        return f"no bar: the mark is {line.amount} bar{'s' if line.amount != 1 else ''} old"
    return f"{formats.words(line.kind)} {line.detail}".strip()


def limit_text(line: LimitLine) -> str:
    """Return what a limit did in words."""
    if line.rule in _FRACTION_RULES:
        asked, allowed = (
            formats.percent(from_quanta(value, WEIGHT_SCALE)) for value in (line.before_value, line.after_value)
        )
        return _FRACTION_RULES[line.rule].format(asked, allowed) + (f" ({line.detail})" if line.detail else "")
    if line.rule in _QUANTITY_RULES:
        return _QUANTITY_RULES[line.rule].format(formats.shares(shares(abs(line.before_value))))
    if line.rule == "halted":
        return "no orders: the book is halted"
    return f"{formats.words(line.rule)} {line.detail}".strip()
