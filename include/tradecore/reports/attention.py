"""What needs a person: the few lines of a session that do not take care of themselves. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from tradecore.report_model import SessionReport
from tradecore.reports.formats import usd

RANKS = ("critical", "error", "warning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One thing to look at, and what to do about it."""

    severity: str
    what: str
    next_step: str


def attention(report: SessionReport) -> tuple[Attention, ...]:
    """Return what needs a person, the worst first; empty when nothing does."""
    found = [*_state(report), *_data(report), *_decision(report), *_orders(report), *_holdings(report)]
    return tuple(sorted(found, key=lambda item: RANKS.index(item.severity)))


def _state(report: SessionReport) -> Iterator[Attention]:
    state = report.account.trading_state
    ordered = state == report.account.ordered_state
    lift = "A person ordered it, and lifts it: python -m tradecore resume --reason ..."
    if state == "HALTED":
        yield Attention(
            severity="critical",
            what=f"The book is halted (for {report.account.state_sessions} sessions). It sends no orders.",
            next_step=lift
            if ordered
            else "Read the reason under 'What changed'. It ends as risk.halt_lifts_after_sessions says, or "
            "when a person lifts it.",
        )
    if state == "REDUCING":
        yield Attention(
            severity="warning",
            what="The book only reduces: it sells, and buys nothing.",
            next_step=lift
            if ordered
            else "Nothing, if the loss is understood: it ends after risk.reduce_lifts_after_sessions.",
        )
    if report.account.cash_usd < 0:
        yield Attention(
            severity="error",
            what=f"Cash is negative: {usd(report.account.cash_usd)}.",
            next_step="Check the fills and the corporate actions of this session.",
        )


def _data(report: SessionReport) -> Iterator[Attention]:
    quality = report.quality
    if quality is None:
        yield Attention(
            severity="error",
            what="The bars of this session were not validated.",
            next_step="Run the validate stage for this session; without it nothing is decided.",
        )
        return
    if not quality.gate_open:
        yield Attention(
            severity="error",
            what=f"The data gate is closed: {quality.gate_reason or 'see the quarantine'}. Nothing was decided.",
            next_step="Look at the quarantine below, ingest again when the vendor has corrected it; "
            "the next session runs in any case.",
        )
    elif quality.members_seen < quality.members_due:
        yield Attention(
            severity="warning",
            what=f"{quality.members_due - quality.members_seen} of {quality.members_due} names have no bar.",
            next_step="Nothing is sold for want of a bar. If it lasts, check the symbol at the vendor.",
        )
    if report.quarantine:
        rows = len({(line.symbol, line.record) for line in report.quarantine})
        yield Attention(
            severity="warning",
            what=f"{rows} row{'s' if rows > 1 else ''} kept out by validation.",
            next_step="Look at the quarantine below; a corrected bar comes in with the next ingest.",
        )


def _decision(report: SessionReport) -> Iterator[Attention]:
    for strategy in report.strategies:
        if not strategy.ok:
            yield Attention(
                severity="error",
                what=f"Strategy {strategy.name} failed: {strategy.error}",
                next_step="Its holdings follow its on_failure setting; the others traded. Fix it before the next "
                "session.",
            )
    if "differs" in report.hashes.proof:
        yield Attention(
            severity="error",
            what=f"The daily proof: {report.hashes.proof}.",
            next_step=f"python -m tradecore replay {report.session_date} --book {report.book} shows each difference "
            "and which input changed.",
        )
    if report.approval_required and report.sheet and not report.verdict:
        yield Attention(
            severity="warning",
            what=f"The order sheet ({len(report.sheet)} orders) waits for approval.",
            next_step="Approve or reject it in Airflow before the window closes; unanswered it is not sent.",
        )
    for line in report.differences:
        if not line.explained:
            yield Attention(
                severity="error",
                what=f"Ledger and broker differ: {line.kind} {line.subject}, {line.amount:+f}. {line.detail}",
                next_step="python -m tradecore breaks: nothing is sent until it is gone, or accepted by name.",
            )


def _orders(report: SessionReport) -> Iterator[Attention]:
    rules = {
        "UNKNOWN": ("critical", "Look it up at the broker by its client order id; nothing is sent until it is known."),
        "REJECTED": ("error", "Read the broker's reason; the next decision plans anew from what is held."),
        "NOT_SENT": ("warning", "Nothing, if the window had passed; the next decision plans anew."),
    }
    for order in (*report.worked, *report.sheet):
        if order.status in rules:
            severity, next_step = rules[order.status]
            detail = f" ({order.status_detail})" if order.status_detail else ""
            yield Attention(
                severity=severity,
                what=f"Order {order.line_no + 1} ({order.symbol}) is {order.status.replace('_', ' ').lower()}{detail}.",
                next_step=next_step,
            )


def _holdings(report: SessionReport) -> Iterator[Attention]:
    limits = report.limits
    for line in report.positions:
        if line.qty_shares != 0 and line.stale_bars >= limits.stale_after_sessions:
            yield Attention(
                severity="warning",
                what=f"{line.symbol} is held and has had no bar for {line.stale_bars} sessions; its mark is old.",
                next_step="Halted, delisted or renamed? Enter the corporate action; nothing is sold by itself.",
            )
    equity = report.account.equity_usd
    over = [
        line.symbol
        for line in report.positions
        if equity > 0 and abs(line.value_usd) / equity > limits.max_position_frac * Decimal("1.1")
    ]
    if over:
        yield Attention(
            severity="warning",
            what=f"More than a tenth above the position limit: {', '.join(over)}.",
            next_step="Nothing, if the order sheet trims it; otherwise find out why it did not.",
        )
