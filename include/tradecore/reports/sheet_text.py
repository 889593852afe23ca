"""An order sheet as a person reads it before signing: what will be sent, the limits before and after, why. Pure."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from tradecore.report_model import ZERO, OrderLine, SessionReport
from tradecore.reports import formats
from tradecore.reports.happened import limit_text


def sheet_text(report: SessionReport, *, answer_by: datetime) -> str:
    """Return the sheet as Markdown; a whole hash in it says which one is signed."""
    total = sum((order.notional_usd for order in report.sheet), ZERO)
    lines = [
        f"Book **{report.book}** ({report.book_kind}) after {formats.day(report.session_date)}, equity "
        f"{formats.usd(report.account.equity_usd)}, {report.account.trading_state}.",
        "",
        f"Sheet `{report.hashes.sheet}`",
        "",
        f"Without an answer by {answer_by:%Y-%m-%d %H:%M:%S} UTC nothing of it is sent.",
        "",
        "| # | Name | Side | Shares | Reference | Notional | Type | Why |",
        "|--:|------|------|-------:|----------:|---------:|------|-----|",
        *(_order(order) for order in report.sheet),
        f"| | {len(report.sheet)} orders | | | | {formats.usd(total)} | | |",
        "",
        "| Limit | Before | After | Allowed |",
        "|-------|-------:|------:|--------:|",
        *(f"| {name} | {before} | {after} | {allowed} |" for name, before, after, allowed in _limits(report)),
    ]
    changed = [f"* {line.symbol} {limit_text(line)}".rstrip() for line in report.limit_events]
    if changed:
        lines += ["", "What the limits changed:", "", *changed]
    return "\n".join(lines) + "\n"


def _order(order: OrderLine) -> str:
    side = "Buy" if order.order_qty_shares > 0 else "Sell"
    why = order.reason if order.split_num == order.split_den else f"{order.reason}, for a split"
    cells = (
        str(order.line_no + 1),
        order.symbol,
        side,
        formats.shares(abs(order.order_qty_shares)),
        formats.usd(order.ref_price_usd),
        formats.usd(order.notional_usd),
        f"{order.order_type}, {order.time_in_force}",
        why,
    )
    return f"| {' | '.join(cells)} |"


def _limits(report: SessionReport) -> list[tuple[str, str, str, str]]:
    """Return (name, before, after the sheet, limit) of each limit that a sheet can come near."""
    equity = report.account.equity_usd
    held = [abs(line.value_usd) / equity if equity > 0 else ZERO for line in report.positions]
    planned = [abs(line.weight_frac) for line in report.targets]
    limits = report.limits

    def largest(fractions: list[Decimal]) -> str:
        return formats.percent(max(fractions, default=ZERO))

    return [
        (
            "Gross exposure",
            formats.percent(report.gross_frac),
            formats.percent(sum(planned, ZERO)),
            formats.percent(limits.max_exposure_frac),
        ),
        ("Largest position", largest(held), largest(planned), formats.percent(limits.max_position_frac)),
        ("Turnover", formats.NOTHING, formats.percent(report.turnover_frac), formats.percent(limits.max_turnover_frac)),
        (
            "Loss of the session",
            formats.percent(max(-report.daily_return_frac, ZERO)),
            formats.NOTHING,
            formats.percent(limits.max_daily_loss_frac),
        ),
        ("Drawdown", formats.percent(report.drawdown_frac), formats.NOTHING, formats.percent(limits.max_drawdown_frac)),
    ]
