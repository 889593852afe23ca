"""A person's signature under an order sheet: bound to the decision's version and the sheet's hash, until a deadline.

Nothing is sent of a sheet that a person is to sign and has not: no answer in time is 'expired'. A new version of the
decision voids what was signed; its sheet has another hash and is asked for anew.
"""

from __future__ import annotations

from datetime import datetime

from tradecore import decision, reporting, waiting
from tradecore.context import Context
from tradecore.errors import ApprovalRefused
from tradecore.storage import books
from tradecore.storage.connection import book_lock

Result = dict[str, object]
ANSWERS = ("approved", "rejected")
SHORTEST_HASH = 12  # as many characters as the report shows


def standing(ctx: Context) -> tuple[int, str, str, str] | None:
    """Return (version, sheet hash, verdict or 'pending', actor) of the newest sheet; None while there is none."""
    last = decision.newest(ctx)
    if last is None or last[2] is None:
        return None
    row = ctx.conn.execute(decision.SQL["approval"], (*ctx.key, last[0])).fetchone()
    if row is None or decision.needs_person(ctx, row):
        return last[0], last[2], "pending", ""
    return last[0], last[2], str(row[1]) if row[0] == last[2] else "voided", str(row[2])


def look(ctx: Context) -> Result:
    """Say how the newest sheet stands; record what needs no person, and what nobody answered in time."""
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        found = standing(ctx)
        if found is None or ctx.status() == "closed":
            return {"approval": "nothing to approve"}
        version, sheet, verdict, actor = found
        if verdict == "pending" and not ctx.settings.trading.execution.approval_required:
            verdict, actor = _record(ctx, version, sheet, *decision.NOBODY_ASKED)
        elif verdict == "pending" and not ctx.conn.execute(books.SQL["planned"], ctx.key).fetchall():
            verdict, actor = _record(ctx, version, sheet, "not_required", "no orders")
        elif verdict == "pending" and waiting.window(ctx).passed(ctx.now):
            verdict, actor = _expire(ctx, version, sheet)
    ctx.conn.commit()
    result: Result = {"approval": verdict, "version": version, "sheet": sheet}
    return result | ({"until": waiting.window(ctx).closes_at} if verdict == "pending" else {"actor": actor})


def answer(ctx: Context, *, verdict: str, actor: str, sheet_hash: str, note: str = "") -> Result:
    """Record a person's answer to the sheet of that hash (its first 12 characters are enough).

    Raises ApprovalRefused, and records nothing but the expiry, when it is too late, when another sheet has taken its
    place, or when another answer was given before.
    """
    if verdict not in ANSWERS or not actor:
        raise ValueError(f"an answer is one of {ANSWERS}, by somebody: {verdict!r} by {actor!r}")
    refused = ""
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        found = standing(ctx)
        refused = _why_not(ctx, found, verdict, sheet_hash)
        if found is not None and found[2] == "pending" and not refused:
            if waiting.window(ctx).passed(ctx.now):
                _expire(ctx, found[0], found[1])
                refused = f"it is too late: the answer was due by {_due(ctx)}"
            else:
                _record(ctx, found[0], found[1], verdict, actor, note)
                if verdict == "approved":
                    _mark_approved(ctx, actor)
    ctx.conn.commit()
    if refused or found is None:
        raise ApprovalRefused(
            f"session {ctx.session_date} of book {ctx.book!r}: {refused}.",
            next_step=f"see what stands: python -m tradecore approve {ctx.session_date} --book {ctx.book}",
            book=ctx.book,
            sheet=sheet_hash,
        )
    return {"approval": verdict, "version": found[0], "sheet": found[1], "actor": actor}


def _why_not(ctx: Context, found: tuple[int, str, str, str] | None, verdict: str, sheet_hash: str) -> str:
    """Return why this answer cannot be taken, or ''."""
    if found is None:
        return "there is no order sheet to sign"
    version, sheet, stands, actor = found
    if len(sheet_hash) < SHORTEST_HASH or not sheet.startswith(sheet_hash):
        return f"the answer is to sheet {sheet_hash[:12]}; the newest, version {version}, is {sheet[:12]}"
    if stands == "not_required":
        return "no person is asked for (execution.approval_required); to stop orders: python -m tradecore halt"
    if stands not in ("pending", verdict):
        return f"its sheet is {stands} already, by {actor}"
    if ctx.status() == "closed" and stands == "pending":
        return "the bar is closed"
    return ""


def sheets(ctx: Context) -> list[str]:
    """Return the hashes of this bar's sheets in the order of their versions; the last is the one that counts."""
    rows = ctx.conn.execute(decision.SQL["sheets"], ctx.key).fetchall()
    ctx.conn.rollback()
    return [str(row[0]) for row in rows]


def question(ctx: Context, sheet_hash: str) -> Result:
    """Return what a person is asked about the sheet of that hash: subject and text (Markdown), and the seconds left.

    Without a text where nobody is asked any more: `approval` says why, 'voided' for a sheet that was replaced.
    """
    stands = look(ctx)
    if stands["approval"] != "pending":
        return stands
    if stands["sheet"] != sheet_hash:
        return {"approval": "voided", "sheet": sheet_hash}
    from tradecore.reports.sheet_text import sheet_text  # what a person reads is nothing that `watch` loads

    report = reporting.session_report(ctx.settings, ctx.conn, ctx.book, ctx.bar_end_at)
    ctx.conn.rollback()
    closes_at = waiting.window(ctx).closes_at
    return stands | {
        "subject": f"{len(report.sheet)} orders of {ctx.book} for the session after {ctx.session_date}",
        "text": sheet_text(report, answer_by=closes_at),
        "seconds_left": max(1.0, (closes_at - ctx.now).total_seconds()),
    }


def _record(ctx: Context, version: int, sheet: str, verdict: str, actor: str, note: str = "") -> tuple[str, str]:
    ctx.conn.execute(decision.SQL["add_approval"], (*ctx.key, version, sheet, verdict, actor, ctx.now, note))
    return verdict, actor


def _expire(ctx: Context, version: int, sheet: str) -> tuple[str, str]:
    ctx.alert(
        kind="approval_expired",
        severity="error",
        stage="approve",
        key=str(version),
        title="Nobody signed the order sheet in time",
        body=f"Sheet {sheet[:12]} was to be answered by {_due(ctx)}; nothing of it is sent.",
        next_step="the next session plans anew; execution.approval_required says whether a person is asked",
    )
    return _record(ctx, version, sheet, "expired", "deadline")


def _mark_approved(ctx: Context, actor: str) -> None:
    waits = [str(row[0]) for row in ctx.conn.execute(books.SQL["planned"], ctx.key).fetchall() if row[11] == "PLANNED"]
    books.add_order_events(ctx.conn, waits, "APPROVED", bar_end=ctx.bar_end_at, now=ctx.now, detail=f"by {actor}")


def _due(ctx: Context) -> str:
    closes_at: datetime = waiting.window(ctx).closes_at
    return f"{closes_at:%Y-%m-%d %H:%M:%S} UTC"
