"""What must hold: when an order is about to be sent, when it reaches the venue, and when all is over."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from simulation.world import BOOK

if TYPE_CHECKING:
    from simulation.trial import Task, Trial

OURS = "tc-"
NEW_YORK = ZoneInfo("America/New_York")
SKEW = timedelta(seconds=31)
BUSINESS = (
    "book_states",
    "book_positions",
    "book_lots",
    "book_allocations",
    "book_receivables",
    "book_working_orders",
    "book_events",
    "cash_events",
    "decisions",
    "targets",
    "intents",
    "order_events",
    "fills",
    "broker_fills",
    "broker_orders",
    "broker_activities",
    "explained_differences",
    "approvals",
    "state_events",
    "bar_runs",
)
VOLATILE = {"changed_at", "first_seen_at", "seen_at", "looked_at", "decided_at", "happened_at"}
ENDED = ("FILLED", "CANCELED", "EXPIRED", "REJECTED", "VOIDED", "NOT_SENT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the database said when a process had got the book's lock."""

    halted: bool
    signed: dict[tuple[datetime, int], bool]
    clean: dict[datetime, bool]
    breaks: int


def rows(trial: Trial, query: str, *args: Any) -> list[tuple[Any, ...]]:
    """Read with the administrator's connection, beside everything that is simulated."""
    return trial.ground.monitor.execute(query, args).fetchall()  # type: ignore[call-overload,no-any-return]


def facts(trial: Trial) -> Facts:
    """Read what decides whether anything may be sent."""
    state = rows(
        trial,
        "SELECT bar_end_at, trading_state FROM book_states WHERE book = %s ORDER BY bar_end_at DESC LIMIT 1",
        BOOK,
    )
    person = (
        rows(
            trial,
            "SELECT to_state FROM state_events WHERE book = %s AND actor <> 'breaker' AND bar_end_at > %s"
            " ORDER BY bar_end_at DESC, event_no DESC LIMIT 1",
            BOOK,
            state[0][0],
        )
        if state
        else []
    )
    signed = {
        (r[0], r[1]): r[2] in ("approved", "not_required") and r[3] == r[4]
        for r in rows(
            trial,
            "SELECT a.bar_end_at, a.version, a.verdict, a.sheet_hash, d.sheet_hash FROM approvals a"
            " JOIN decisions d USING (book, bar_end_at, version) WHERE a.book = %s",
            BOOK,
        )
    }
    clean = {
        r[0]: bool(r[1])
        for r in rows(
            trial,
            "SELECT DISTINCT ON (bar_end_at) bar_end_at, comparable AND clean FROM reconciliations WHERE book = %s"
            " ORDER BY bar_end_at, looked_at DESC, run_no DESC",
            BOOK,
        )
    }
    breaks = rows(trial, "SELECT count(*) FROM breaks WHERE book = %s AND status = 'open'", BOOK)[0][0]
    halted = bool((state and state[0][1] == 2) or (person and person[0][0] == 2))
    return Facts(halted=halted, signed=signed, clean=clean, breaks=int(breaks))


def at_submitting(trial: Trial, task: Task) -> list[str]:
    """Right after the commit of SUBMITTING: was it allowed, by what stood in the database when the lock was taken?"""
    problems = []
    known = task.at_lock
    now = trial.kernel.now
    for order_id in task.submitting:
        found = rows(
            trial,
            "SELECT bar_end_at, next_bar_end_at, version, leg FROM intents WHERE client_order_id = %s",
            order_id,
        )
        if not found:
            problems.append(f"SUBMITTING without an intent: {order_id}")
            continue
        decided, until, version, leg = found[0]
        checks = rows(
            trial,
            "SELECT DISTINCT ON (check_no) name, passed FROM check_results WHERE client_order_id = %s"
            " ORDER BY check_no, run_no DESC",
            order_id,
        )
        if not checks:
            problems.append(f"sent without checks: {order_id}")
        problems += [f"sent past check {name}: {order_id}" for name, passed in checks if not passed]
        if known is None:
            problems.append(f"SUBMITTING without the book's lock: {order_id}")
            continue
        if leg == 0 and known.halted:  # a stop of what is kept needs neither a signature nor an ACTIVE book
            problems.append(f"sent while HALTED: {order_id}")
        if leg == 0 and not known.signed.get((decided, version)):
            problems.append(f"sent without a valid approval: {order_id}")
        if leg == 0 and not known.clean.get(decided):
            problems.append(f"sent without a clean reconciliation: {order_id}")
        if leg == 0 and known.breaks:
            problems.append(f"sent with {known.breaks} open breaks: {order_id}")
        problems += _sent_again_blindly(trial, order_id)
        opens, closes = venue_hours(trial, decided)
        if not decided <= now < until + SKEW:
            problems.append(f"a past session was to be sent: {order_id}")
        elif leg == 0 and not opens - SKEW <= now < closes + SKEW:  # a stop of what is kept may come to rest any time
            problems.append(f"to be sent outside of the venue's hours: {order_id}")
    return problems


def _sent_again_blindly(trial: Trial, order_id: str) -> list[str]:
    """An order that was sent before is sent again only where nothing had left, or after two look-ups, long apart."""
    events = rows(
        trial,
        "SELECT status, detail, happened_at FROM order_events WHERE client_order_id = %s ORDER BY event_no",
        order_id,
    )
    sent = [k for k, (status, _, _) in enumerate(events) if status == "SUBMITTING"]
    if len(sent) < 2:
        return []
    between = events[sent[-2] + 1 : sent[-1]]
    if any(status == "APPROVED" for status, _, _ in between):
        return []
    missed = [at for status, detail, at in between if status == "UNKNOWN" and detail.startswith("not found")]
    if len(missed) < 2:
        return [f"sent again after {len(missed)} look-ups: {order_id}"]
    gap_s = trial.settings.trading.execution.lookup_gap_s
    apart_s = (missed[-1] - missed[0]).total_seconds()
    return [f"sent again after look-ups {apart_s:.0f} s apart: {order_id}"] if apart_s < gap_s else []


def venue_hours(trial: Trial, decided: datetime) -> tuple[datetime, datetime]:
    """Return from when to when the venue takes what was decided at a bar's end, by the style of the run's orders."""
    style, day = trial.plan.variant.style, decided.date()
    following = trial.calendar.session(trial.calendar.next_session(day))
    evening = datetime.combine(day, time(19), NEW_YORK).astimezone(UTC)
    if style == "market_on_open":
        return evening, following.open_at - timedelta(minutes=2)
    if style == "market_on_close":
        return evening, following.close_at - timedelta(minutes=10)
    return following.open_at, following.close_at


def at_post(trial: Trial) -> list[str]:
    """Each time the venue has acted on an order: the newest one of ours is one that was committed, in its window."""
    state = trial.venue.state
    ours = [o for o in state.orders.values() if o.client_order_id.startswith(OURS) and o.parent is None]
    problems = []
    if not ours:
        return []
    newest = max(ours, key=lambda o: (o.created_at, o.id))
    if newest.created_at != trial.kernel.now:
        return []
    status = rows(
        trial,
        "SELECT 1 FROM order_events WHERE client_order_id = %s AND status = 'SUBMITTING' LIMIT 1",
        newest.client_order_id,
    )
    if not status:
        problems.append(f"at the venue without a committed SUBMITTING: {newest.client_order_id}")
    intent = rows(
        trial, "SELECT bar_end_at, next_bar_end_at FROM intents WHERE client_order_id = %s", newest.client_order_id
    )
    if intent and not intent[0][0] <= trial.kernel.now < intent[0][1]:
        problems.append(f"a past session sent an order: {newest.client_order_id}")
    return problems


def at_the_end(trial: Trial) -> list[str]:
    """All that must hold when every session is over and settled."""
    return [
        *_one_order_an_intent(trial),
        *_nothing_in_doubt(trial),
        *_states_agree(trial),
        *_books_agree(trial),
    ]


def figures(trial: Trial) -> dict[str, int]:
    """Count what must be 0 when all is over: orders sent twice, fills lost, fills booked twice, cents off."""
    known = {r[0] for r in rows(trial, "SELECT client_order_id FROM intents WHERE book = %s", BOOK)}
    parents = [o.client_order_id for o in trial.venue.state.orders.values() if o.parent is None]
    at_venue = {a.id for a in trial.venue.state.activities if a.document["activity_type"] == "FILL"}
    booked = [
        r[0]
        for r in rows(trial, "SELECT fill_id FROM broker_fills WHERE book = %s AND booked_bar_end_at IS NOT NULL", BOOK)
    ]
    in_ledger = int(rows(trial, "SELECT count(*) FROM fills WHERE book = %s", BOOK)[0][0])
    ledger, venue, explained = _cash(trial)
    return {
        "duplicates": len(parents) - len(known & set(parents)),
        "lost": len(at_venue - set(booked)),
        "doubled": len(set(booked) - at_venue) + abs(in_ledger - len(booked)),
        "cents": abs(int((venue - ledger - explained).quantize(Decimal("0.01")) * 100)),
    }


def _cash(trial: Trial) -> tuple[Decimal, Decimal, Decimal]:
    """Return the cash of the ledger, of the venue, and what of their difference is explained."""
    last = rows(
        trial, "SELECT bar_end_at, cash_e4 FROM book_states WHERE book = %s ORDER BY bar_end_at DESC LIMIT 1", BOOK
    )
    explained = rows(
        trial,
        "SELECT coalesce(sum(amount), 0) FROM explained_differences WHERE book = %s AND kind <> 'position'",
        BOOK,
    )
    return Decimal(last[0][1]) / 10_000, trial.venue.state.cash, Decimal(explained[0][0])


def _one_order_an_intent(trial: Trial) -> list[str]:
    """At most one order at the venue for each line of a sheet, none that we did not intend."""
    problems = []
    known = {
        r[0]: tuple(r[1:])
        for r in rows(
            trial, "SELECT client_order_id, bar_end_at, instrument_id, line_no FROM intents WHERE book = %s", BOOK
        )
    }
    sent: Counter[tuple[Any, ...]] = Counter()
    for order in trial.venue.state.orders.values():
        if order.parent is not None:
            continue
        if order.client_order_id not in known:
            problems.append(f"an order at the venue that nobody intended: {order.client_order_id}")
            continue
        sent[known[order.client_order_id]] += 1
    problems += [f"{n} orders at the venue for one intent: {key}" for key, n in sent.items() if n > 1]
    return problems


def _nothing_in_doubt(trial: Trial) -> list[str]:
    """Every order has ended; nothing is UNKNOWN, or the book is HALTED and an alert is out."""
    problems = []
    left = rows(
        trial, "SELECT client_order_id, status FROM orders WHERE book = %s AND NOT status = ANY(%s)", BOOK, list(ENDED)
    )
    working = {o.client_order_id for o in trial.venue.state.open_orders()}
    parents = {r[0] for r in rows(trial, "SELECT DISTINCT parent_id FROM intents WHERE parent_id IS NOT NULL")}
    halted = rows(trial, "SELECT 1 FROM alerts WHERE severity = 'critical' AND book = %s", BOOK)
    for order_id, status in left:
        if order_id in working or order_id in parents:
            continue
        if status in ("UNKNOWN", "SUBMITTING") and halted and facts(trial).halted:
            continue
        problems.append(f"{order_id} is {status} at the end")
    runs = rows(trial, "SELECT session_date, status FROM bar_runs WHERE book = %s AND status <> 'closed'", BOOK)
    problems += [f"session {day} is {status} at the end" for day, status in runs]
    return problems


def _states_agree(trial: Trial) -> list[str]:
    """What the venue has is known to be there, and what it filled is FILLED; else the book is HALTED."""
    ours = dict(rows(trial, "SELECT client_order_id, status FROM orders WHERE book = %s", BOOK))
    problems = []
    for order in trial.venue.state.orders.values():
        status = ours.get(order.client_order_id, "")
        never = status in ("PLANNED", "APPROVED", "REJECTED", "NOT_SENT", "VOIDED") and order.status != "rejected"
        if never or (status and order.status == "filled" and status != "FILLED"):
            problems.append(f"{order.client_order_id} is {order.status} at the venue and {status} here")
    return [] if problems and facts(trial).halted else problems


def _books_agree(trial: Trial) -> list[str]:
    """Fills = change of position = the venue's holdings; cash agrees to the cent; every fill once.

    Also where a sale that was confirmed as cancelled fills a day later, when its successor has sold the shares: the
    book is short then, as the venue is, and says so.
    """
    problems = []
    symbols = dict(rows(trial, "SELECT instrument_id, symbol FROM instrument_symbols"))
    last = rows(
        trial, "SELECT bar_end_at, cash_e4 FROM book_states WHERE book = %s ORDER BY bar_end_at DESC LIMIT 1", BOOK
    )
    if not last:
        return ["the book has no state"]
    held = {
        symbols[r[0]]: Decimal(r[1]) / 1_000_000
        for r in rows(
            trial,
            "SELECT instrument_id, qty_e6 FROM book_positions WHERE book = %s AND bar_end_at = %s AND qty_e6 <> 0",
            BOOK,
            last[0][0],
        )
    }
    booked: dict[str, Decimal] = defaultdict(Decimal)
    for instrument, qty in rows(trial, "SELECT instrument_id, qty_e6 FROM fills WHERE book = %s", BOOK):
        booked[symbols[instrument]] += Decimal(qty) / 1_000_000
    at_venue = {s: h.qty for s, h in trial.venue.state.holdings.items() if h.qty}
    shown = trial.kernel.now
    hidden = [a for a in trial.venue.state.activities if a.shown_at is None or a.shown_at > shown]
    if hidden:
        problems.append(f"{len(hidden)} fills have not been shown yet: the run ended too early")
    for symbol in sorted({*held, *booked, *at_venue}):
        ours, fills, theirs = (
            held.get(symbol, Decimal(0)),
            booked.get(symbol, Decimal(0)),
            at_venue.get(symbol, Decimal(0)),
        )
        if not ours == fills == theirs:
            problems.append(f"{symbol}: the ledger holds {ours}, its fills sum to {fills}, the venue has {theirs}")
    ledger, venue, explained = _cash(trial)
    if (venue - ledger).quantize(Decimal("0.01")) != explained.quantize(Decimal("0.01")):
        problems.append(f"cash: the ledger has {ledger}, the venue {venue}, explained are {explained}")
    shorts = rows(trial, "SELECT bar_end_at FROM book_positions WHERE book = %s AND qty_e6 < 0", BOOK)
    told = rows(trial, "SELECT count(*) FROM alerts WHERE kind = 'short' AND severity = 'critical'")[0][0]
    if shorts and not told:
        problems.append(f"short at {len(shorts)} bars, and nobody was told")
    return problems


def checksum(trial: Trial) -> dict[str, str]:
    """Return a hash of each business table, its rows in order, times of looking left out."""
    found = {}
    for table in BUSINESS:
        columns = [c for c in trial.ground.columns[table] if c not in VOLATILE]
        lines = sorted(str(r) for r in rows(trial, f"SELECT {', '.join(columns)} FROM {table}"))
        found[table] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return found
