"""The story of a session: one short function a stage, in order. Airflow tasks and the CLI call these and nothing else.

    ingest    bars and corporate actions from the feed, kept as the vendor gave them
    validate  the expectation suite; quarantine; the gate opens or closes
    settle    the bar happens to the book: splits, dividends, fills, marks, breakers. Gate or no gate
    signal    each strategy scores what was known at the close
    risk      scores become target quantities within the limits
    plan      targets - (book + working orders) = the order sheet for the next bar, and its hash
    report    what happened, what will be sent, what needs a person
    approve   a person's signature under the sheet's hash, where one is asked for
    submit    inside the venue's window, once per client order id
    close     the bar is done: the next one may move the book
    prove     the daily proof: the bar computed again from what its decision names gives the same hashes

Each stage commits its own transaction, may run again, and returns keys and counts, never data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime

import psycopg

from tradecore import (
    approval,
    breakers,
    cancelling,
    decision,
    ingestion,
    interventions,
    market,
    portfolio_risk,
    reconciliation,
    reporting,
    scoring,
    submission,
    symbols,
    validating,
    waiting,
)
from tradecore import context as context_of
from tradecore.approval import question, sheets
from tradecore.context import (
    Context,
    alert_missed_action,
    context,
    contexts,
    deliver_quietly,
    held_instruments,
    last_available_session,
    require_turn,
    session_by_hand,
    turn,
)
from tradecore.errors import ProofDiffers, StrategyError, TradecoreError
from tradecore.ingestion import load_history
from tradecore.interventions import at_venue, change_state
from tradecore.opening import open_book
from tradecore.settings import Settings
from tradecore.settlement import settle_bar
from tradecore.storage import books
from tradecore.storage.connection import book_lock

Result = dict[str, object]
log = logging.getLogger(__name__)


def ingest(ctx: Context) -> Result:
    """Fetch the session and the last few before it; append what is new; actions up to the next session."""
    ctx.conn.execute(
        books.SQL["start_run"],
        {"book": ctx.book, "bar_end": ctx.bar_end_at, "session": ctx.session_date, "now": ctx.now},
    )
    ctx.conn.commit()
    first = ctx.session_date
    for _ in range(ctx.settings.trading.data.restate_sessions):
        first = ctx.calendar.previous_session(first)
    until = ctx.calendar.next_session(ctx.session_date)
    result = ingestion.ingest_range(
        ctx.settings,
        ctx.conn,
        ctx.calendar,
        first=first,
        last=ctx.session_date,
        actions_until=until,
        now=ctx.now,
        held=held_instruments(ctx),
    )
    if ctx.record.kind != "simulated":  # a simulated one is put right when it settles
        missed = ctx.conn.execute(
            books.SQL["missed_actions"],
            {"book": ctx.book, "source": ctx.record.source, "first": first, "last": ctx.session_date},
        ).fetchall()
        for symbol, ex_date, kind in missed:
            alert_missed_action(ctx, symbol, ex_date, kind)
    deliver_quietly(ctx)
    return result


def validate(ctx: Context) -> Result:
    """Check what is new, put failing rows into quarantine, select the rest; say whether the gate is open."""
    result = validating.validate_range(
        ctx.settings,
        ctx.conn,
        ctx.calendar,
        sessions=validating.look_back(ctx),
        now=ctx.now,
        held=held_instruments(ctx),
        docs=True,
    )
    validating.write_manifest(ctx)
    is_open, reason = decision.gate(ctx)
    if not is_open:
        ctx.alert(
            kind="gate",
            severity="error",
            stage="validate",
            title="The data gate is closed",
            body=reason,
            next_step="see the data quality section of the report; settle runs all the same, nothing is ordered",
        )
    deliver_quietly(ctx)
    page = validating.docs_page(ctx)
    if page:
        log.info("Data Docs of session %s: %s", ctx.session_date, ctx.settings.local_dir / page)
    return {**result, "gate_open": is_open, "gate_reason": reason, "data_docs": page}


def settle(ctx: Context) -> Result:
    """Let the bar happen to the book; at a real venue, compare it with what the broker has."""
    result = settle_bar(ctx)
    result |= reconciliation.reconcile(ctx, "settle")
    result |= _break(ctx)
    result |= cancelling.end_forbidden(ctx)  # a breaker's halt too, and behind a closed gate
    deliver_quietly(ctx)
    return result


def _break(ctx: Context) -> Result:
    """Let the breakers that look beyond the book order its state."""
    if not ctx.settings.trading.risk.breakers.on:
        return {}
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        result = {} if ctx.status() == "closed" else breakers.check(ctx)
    ctx.conn.commit()
    return result


def strategies(ctx: Context) -> list[str]:
    """Return the names of the strategies to score."""
    return [r.name for r in market.rules(ctx.settings)]


def signal(ctx: Context, name: str) -> Result:
    """Score one strategy, behind the gate. A failure is recorded and alerted, then raised: the others go on."""
    if ctx.status() == "closed":
        ctx.conn.rollback()
        return {"strategy": name, "already": True}
    is_open, reason = decision.gate(ctx)
    if not is_open:
        ctx.conn.rollback()
        return {"strategy": name, "skipped": f"gate closed: {reason}"}
    return scoring.score(ctx, name)


def risk(ctx: Context) -> Result:
    """Combine, size and limit: targets for the next bar. No decision where the gate is closed."""
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        if ctx.status() == "closed":
            return {"already": True}
        is_open, reason = decision.gate(ctx)
        result: Result = decision.decide(ctx) if is_open else {"decision": "none", "reason": f"gate closed: {reason}"}
    deliver_quietly(ctx)
    return result


def plan(ctx: Context) -> Result:
    """Write the order sheet of the newest decision; at a real venue, once the book is compared anew."""
    closed = ctx.status() == "closed"
    ctx.conn.rollback()
    if not closed:
        reconciliation.reconcile(ctx, "plan")
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        if ctx.status() == "closed":
            return {"already": True}
        result = decision.make_sheet(ctx)
        if decision.newest(ctx) is not None:
            ctx.set_status("decided")
    ctx.conn.commit()
    return {**result, **_break(ctx)}


def report(ctx: Context) -> Result:
    """Measure what the book could lose and write the bar's HTML report; the same data give the same file. Once the bar
    is closed, with the addendum."""
    if ctx.status() != "closed":
        portfolio_risk.measure(ctx)
    return {"report": str(reporting.keep(ctx))}


def approve(ctx: Context, *, verdict: str = "", actor: str = "", sheet_hash: str = "", note: str = "") -> Result:
    """Say how the newest sheet stands, or record a person's answer ('approved', 'rejected') to the sheet of a hash.

    Raises ApprovalRefused for an answer that comes too late or to a sheet that was replaced.
    """
    if verdict:
        return approval.answer(ctx, verdict=verdict, actor=actor, sheet_hash=sheet_hash, note=note)
    found = approval.look(ctx)
    if found["approval"] == "pending":
        submission.keep_stops(ctx)
    return found


def window(ctx: Context) -> Result:
    """Say when this bar's orders may be sent, and what they wait for now ('' for nothing)."""
    found, held = waiting.window(ctx), waiting.wait(ctx)
    ctx.conn.rollback()
    return {
        "open": found.holds(ctx.now),
        "opens_at": found.opens_at,
        "closes_at": found.closes_at,
        "passed": found.passed(ctx.now),
        "waiting": held.what if held else "",
        "again_s": held.seconds(ctx.now) if held else 0.0,
    }


def submit(ctx: Context) -> Result:
    """Send the approved sheet, each order once, within the venue's window. The rules: docs/EXECUTION.md.

    While a person may still answer nothing is sent and the bar stays as it is; `waiting` says so, `again_s` how long.
    """
    held = waiting.for_person(ctx)
    ctx.conn.rollback()
    if held is not None:
        submission.keep_stops(ctx)
        return {"sent": 0, "waiting": held.what, "again_s": held.seconds(ctx.now), "next": held.next_step}
    return submission.submit(ctx)


def close(ctx: Context, failed: Sequence[str] = ()) -> Result:
    """Close the bar so that the next one may move the book: 'settled, no decision' where nothing was decided.

    Then what is held without a stop is told of, too: a closed gate, or a stage that failed, passes by `submit`.
    """
    undecided = ("settled", "decided") if failed else ("settled",)
    status = ctx.status()
    ctx.conn.rollback()
    if status in undecided:
        submission.tell_lacking(ctx)
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        if ctx.status() in undecided:
            outcome = "settled, no decision" + (f": {', '.join(failed)} failed" if failed else "")
            ctx.set_status("closed", outcome)
    ctx.conn.commit()
    row = ctx.conn.execute(books.SQL["run"], ctx.key).fetchone()
    ctx.conn.rollback()
    if row and row[0] == "closed" and _reported(ctx):
        report(ctx)
    deliver_quietly(ctx)
    return {"status": str(row[0]) if row else "not started", "outcome": str(row[1]) if row else ""}


def _reported(ctx: Context) -> bool:
    found = ctx.conn.execute(decision.SQL["report"], ctx.key).fetchone() is not None
    ctx.conn.rollback()
    return found


def prove(ctx: Context) -> Result:
    """Compute the bar again as of its decision and compare the hashes of every stage; undoes nothing.

    Raises ProofDiffers, with the first stage that differs, once that is stored and alerted.
    """
    from tradecore.research.replay import proof

    if ctx.status() not in context_of.SETTLED:
        ctx.conn.rollback()
        return {"proof": "nothing to prove: not settled"}
    result = proof.prove(ctx)
    if result.pop("for_the_report") and _reported(ctx):
        report(ctx)
    deliver_quietly(ctx)
    if result["stage"]:
        changed = ", ".join(str(name) for name in result["changed_inputs"]) or "no input"
        raise ProofDiffers(
            f"session {ctx.session_date} of book {ctx.book!r} computed again differs from stage {result['stage']} on; "
            f"changed since: {changed}.",
            next_step=f"python -m tradecore replay {ctx.session_date} --book {ctx.book}",
            stage=result["stage"],
            result=result,
        )
    return result


def run_bar(ctx: Context, say: Callable[[str, Result], None] = lambda stage, result: None) -> dict[str, Result]:
    """Run every stage of one bar in order, as the DAG does. Raises OutOfOrder when it is not this bar's turn."""
    done: dict[str, Result] = {}
    failed: list[str] = []

    def run(stage: str, call: Callable[[], Result]) -> Result:
        done[stage] = call()
        say(stage, done[stage])
        return done[stage]

    market.rules(ctx.settings)  # a parameter that cannot be is refused before anything is fetched
    if not turn(ctx):
        require_turn(ctx)  # nobody waits here as the DAG does
    run("ingest", lambda: ingest(ctx))
    ctx = replace(ctx, settings=symbols.current(ctx.settings, ctx.conn))  # a name may have changed
    ctx.conn.rollback()
    gate_open = bool(run("validate", lambda: validate(ctx))["gate_open"])
    run("settle", lambda: settle(ctx))
    if gate_open:
        for name in strategies(ctx):
            try:
                run(f"signal {name}", lambda name=name: signal(ctx, name))  # type: ignore[misc]
            except StrategyError as error:
                run(f"signal {name}", lambda error=error: {"failed": error.message})  # type: ignore[misc]
        for stage, function in (("risk", risk), ("plan", plan)):
            try:
                run(stage, lambda function=function: function(ctx))  # type: ignore[misc]
            except TradecoreError:
                failed.append(stage)
                close(ctx, failed)
                raise
    run("report", lambda: report(ctx))
    run("approve", lambda: approve(ctx))
    run("submit", lambda: submit(ctx))
    run("close", lambda: close(ctx, failed))
    return done


def run_session(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    book: str,
    session_date: date,
    now: datetime,
    say: Callable[[str, Result], None] = lambda stage, result: None,
    open_venue: Callable[[Context], Context] = lambda ctx: ctx,
) -> list[dict[str, Result]]:
    """Run every stage of each bar of a session; open_venue gives a bar the desk that a real book needs."""
    bars = contexts(settings, conn, book=book, session_date=session_date, now=now)
    return [run_bar(open_venue(ctx), say) for ctx in bars]


def flatten(
    settings: Settings, conn: psycopg.Connection, *, book: str, actor: str, reason: str, now: datetime
) -> Result:
    """Order a book to sell all that it holds: REDUCING from now on, and each decision is for nothing until `resume`.

    The newest bar decides anew if nothing of it was sent yet; else the next one does. Orders pass the same plan, checks
    and ledger as any other.
    """
    ctx, again, said = interventions.order_flat(settings, conn, book=book, actor=actor, reason=reason, now=now)
    return said | ({**risk(ctx), **plan(ctx)} if again else {})


__all__ = [
    "Context",
    "approve",
    "at_venue",
    "change_state",
    "close",
    "context",
    "contexts",
    "flatten",
    "ingest",
    "last_available_session",
    "load_history",
    "open_book",
    "plan",
    "prove",
    "question",
    "report",
    "risk",
    "run_bar",
    "run_session",
    "session_by_hand",
    "settle",
    "sheets",
    "signal",
    "strategies",
    "submit",
    "turn",
    "validate",
    "window",
]
