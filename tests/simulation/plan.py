"""What goes wrong in a run: the three axes of the fault matrix, a cell's plan, a seed's plan. Plain data, no action."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import asdict, dataclass, replace
from typing import Any

from simulation.world import Variant

CRASHES = {
    "before_ledger_commit": "settle is killed when its COMMIT has not left",
    "after_ledger_commit": "settle is killed when its COMMIT is done and nobody was told",
    "before_send": "submit is killed after SUBMITTING was committed, before the request leaves",
    "sent_no_reply": "submit is killed with the request under way; it reaches the venue seconds later",
    "reply_lost": "submit is killed when the venue has acted and the answer is under way",
    "after_ack": "submit is killed with the answer in hand, before the commit that stores it",
    "in_partial_fill": "an observer is killed while it stores a fill of an order that is partly filled",
    "before_fill_commit": "an observer is killed when the COMMIT that stores fills has not left",
    "during_cancel": "submit is killed when the venue has acted on a cancel",
    "during_reconciliation": "a process is killed while it writes what reconciliation found",
    "database_failover": "every session of the database ends at a COMMIT, whose fate its process does not learn",
    "clock_step": "the machine's clock is an hour off for ten minutes, from a request on",
    "disk_full": "the database refuses a write, once: no space",
    "power_cut": "every process ends at once; the machine is back minutes later",
}
FAULTS = {
    "timeout_accepted": "an order is taken, no answer comes",
    "timeout_not_accepted": "an order never arrives, no answer comes",
    "429": "too many requests",
    "500": "server error, not taken",
    "504_accepted": "gateway timeout, taken",
    "422_duplicate": "taken, then answered as its own duplicate",
    "403_wash": "refused as a wash trade",
    "late_fill": "the owner cancels an order at the venue; it is filled all the same, hours later",
    "dropped_or_doubled_fill": "a fill is missing from the list for hours, or comes twice",
}
ACTS = {
    "retry": "the task is tried again",
    "clear": "a person clears the run from settle on",
    "backfill": "a second run of the same session starts beside it",
    "manual": "the run is given up; a person triggers the session later, and one that is long past",
    "survivor": "the scheduler is killed: its child stays, asleep for a while, and the task starts again beside it",
    "two_at_once": "two runs of the session start together",
}
UNREACHABLE = {
    ("power_cut", None, "survivor"): "no process survives a power cut",
}
VENUE_FAULT = {
    "timeout_accepted": "timeout_accepted",
    "timeout_not_accepted": "timeout_refused",
    "429": "429",
    "500": "500",
    "504_accepted": "504_accepted",
    "422_duplicate": "422_duplicate",
    "403_wash": "403_wash",
}
Cell = tuple[str, str, str]
CELLS: tuple[Cell, ...] = tuple(itertools.product(CRASHES, FAULTS, ACTS))


def unreachable(cell: Cell) -> str:
    """Return why a cell cannot be reached, or ''."""
    for pattern, reason in UNREACHABLE.items():
        if all(want in (None, have) for want, have in zip(pattern, cell, strict=True)):
            return reason
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that goes wrong. `axis`: crash, fault, act, or person (halt, reject); `nth`: at its n-th occasion;
    `seconds`: how long it takes or waits."""

    axis: str
    kind: str
    session: int
    nth: int = 1
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run, wholly: what is repeated from (cell, seed) or from the JSON that a failure prints."""

    seed: int
    variant: Variant
    events: tuple[Event, ...]
    cell: Cell | None = None

    def without(self, event: Event) -> Plan:
        """Return the plan less one event."""
        return replace(self, events=tuple(e for e in self.events if e is not event), cell=None)

    def as_json(self) -> str:
        document = asdict(self)
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def of_json(cls, text: str) -> Plan:
        document: dict[str, Any] = json.loads(text)
        return cls(
            seed=document["seed"],
            variant=Variant(**document["variant"]),
            events=tuple(Event(**e) for e in document["events"]),
            cell=tuple(document["cell"]) if document["cell"] else None,
        )


def of_cell(cell: Cell, seed: int = 0) -> Plan:
    """Return the plan of a cell: its crash, fault and act in one session, nothing else; the seed varies the rest."""
    crash, fault, act = cell
    chance = random.Random(f"cell {'/'.join(cell)} {seed}")
    at = chance.choice((0, 1))
    variant = Variant(
        seed=seed,
        cash_usd=100_000 + chance.randrange(0, 9) * 7_531,
        style="market" if crash in ("in_partial_fill", "during_cancel") else "market_on_open",
        bracket=crash == "during_cancel",
        partial_frac="1" if crash == "in_partial_fill" else "0.1",
        sessions=3 if crash != "during_cancel" else 4,
    )
    return Plan(
        seed=seed,
        variant=variant,
        cell=cell,
        events=(
            Event(axis="crash", kind=crash, session=at, seconds=_crash_s(crash, chance)),
            Event(axis="fault", kind=fault, session=at, nth=chance.choice((1, 2)), seconds=_fault_s(fault, chance)),
            Event(axis="act", kind=act, session=at, seconds=chance.choice((0.5, 20.0, 90.0, 900.0))),
        ),
    )


def of_seed(seed: int) -> Plan:
    """Return the plan of a seed: none to four faults of each kind anywhere, any style, now and then a person's hand."""
    chance = random.Random(f"plan {seed}")
    sessions = chance.choice((3, 4))
    style = chance.choice(("market_on_open", "market_on_open", "market", "market_on_close", "limit"))
    variant = Variant(
        seed=seed,
        cash_usd=chance.randrange(60_000, 160_000),
        style=style,
        algorithm="twap" if style in ("market", "limit") and chance.random() < 0.3 else "none",
        approval=chance.random() < 0.3,
        bracket=style in ("market", "limit") and chance.random() < 0.3,
        partial_frac=chance.choice(("0", "0.1", "0.5", "1")),
        sessions=sessions,
    )
    if variant.algorithm == "twap":
        variant = replace(variant, bracket=False)
    events: list[Event] = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        crash = chance.choice(list(CRASHES))
        events.append(
            Event(
                axis="crash",
                kind=crash,
                session=chance.randrange(sessions),
                nth=chance.choice((1, 1, 2, 3)),
                seconds=_crash_s(crash, chance),
            )
        )
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        fault = chance.choice(list(FAULTS))
        events.append(
            Event(
                axis="fault",
                kind=fault,
                session=chance.randrange(sessions),
                nth=chance.choice((1, 1, 2, 3)),
                seconds=_fault_s(fault, chance),
            )
        )
    events += [
        Event(
            axis="act",
            kind=chance.choice(list(ACTS)),
            session=chance.randrange(sessions),
            seconds=chance.choice((0.5, 5.0, 60.0, 900.0)),
        )
        for _ in range(chance.choice((0, 1, 1, 2)))
    ]
    events += [
        Event(
            axis="person" if kind != "broker_down" else "outage",
            kind=kind,
            session=chance.randrange(sessions),
            nth=chance.choice((1, 2, 3)),
            seconds=chance.uniform(0.0, 3_600.0),
        )
        for kind in ("halt", "void", "broker_down")
        if chance.random() < 0.15
    ]
    return Plan(seed=seed, variant=variant, events=tuple(events))


def _crash_s(crash: str, chance: random.Random) -> float:
    if crash == "sent_no_reply":
        return chance.choice((0.2, 2.0, 8.0))  # within the request's own time-out: later it would not arrive
    if crash == "clock_step":
        return chance.choice((3_600.0, -3_600.0, 90.0, -90.0))
    return chance.choice((1.0, 30.0, 300.0))


def _fault_s(fault: str, chance: random.Random) -> float:
    if fault in ("late_fill", "dropped_or_doubled_fill"):
        return chance.choice((30.0, 3_600.0, 14 * 3_600.0, 24 * 3_600.0))
    return chance.choice((0.0, 5.0, 60.0))
