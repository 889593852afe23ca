"""The routes under /standin/: what a test, or a person with the sandbox, does to the venue."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from alpaca_standin.faults import Fault, FaultPlan
from alpaca_standin.market import Sessions, in_new_york
from alpaca_standin.state import ApiError, State

if TYPE_CHECKING:
    from alpaca_standin.server import App

ROUTES = """\
GET    /standin/                  this list
GET    /standin/counters          what arrived at POST /v2/orders: received, accepted, by client order id
GET    /standin/state             everything, as JSON
GET    /standin/clock             {"now", "speed"}
POST   /standin/clock             {"now": "2005-11-25T14:30Z"} | {"advance_s": 60} | {"speed": 0 | 1 | 600} |
                                  {"to": "open" | "close" | "evening"}: the next one (evening: 19:00 New York)
POST   /standin/prices            CSV (time,symbol,open,high,low,close,volume) or {"rows": [...], "minutes": 1}
POST   /standin/orders            an order that the account's owner places by hand; the body of POST /v2/orders
DELETE /standin/orders/ID         a cancel by hand
POST   /standin/activities        {"activity_type": "DIV", "symbol": "AAPL", "per_share_amount": "0.51"}
POST   /standin/splits            {"symbol": "AAPL", "num": 2, "den": 1}
GET    /standin/faults            {"pending": [...], "fired": [...]}
POST   /standin/faults            [{"kind": "timeout_accepted", "times": 1}] | {"seed": 7, "rate_frac": 0.2}
POST   /standin/configure         {"rate_limit_per_min": 0, "assets": {"AAPL": {"tradable": false}}}
POST   /standin/streams/cut       breaks all trade_updates connections
POST   /standin/reset             a new account; forgets all orders, faults and added prices
"""


def answer(app: App, method: str, path: str, content_type: str, body: bytes) -> tuple[int, Any]:
    """Answer one admin request under the server's lock. Raises ApiError."""
    name = path.removeprefix("/standin/").rstrip("/")
    if method == "GET":
        return 200, _get(app, name)
    if method == "DELETE" and name.startswith("orders/"):
        app.venue.cancel_by_hand(name.removeprefix("orders/"))
        return 204, None
    if method != "POST":
        raise ApiError(405, None, "method not allowed")
    if name == "prices" and "json" not in content_type:
        rows = list(csv.DictReader(io.StringIO(body.decode("utf-8"))))
        app.venue.add_bars(rows)
        return 200, {"rows": len(rows)}
    try:
        document = json.loads(body or b"{}")
        return 200, _post(app, name, document)
    except (ValueError, KeyError, TypeError) as error:
        raise ApiError(422, None, f"{name}: {type(error).__name__}: {error}") from error


def _get(app: App, name: str) -> Any:
    state = app.venue.state
    if name == "":
        return {"routes": ROUTES.splitlines()}
    if name == "counters":
        return asdict(state.counters)
    if name == "clock":
        return app.clock.document()
    if name == "faults":
        plan = app.venue.faults
        return {"pending": [asdict(fault) for fault in plan.faults if fault.times > 0], "fired": plan.fired}
    if name == "state":
        app.venue.advance(app.clock())
        return {**asdict(state, dict_factory=_plain), "config": {**asdict(state.config), "secret_key": "..."}}
    raise ApiError(404, None, f"there is no /standin/{name}; GET /standin/ lists what there is")


def _post(app: App, name: str, document: Any) -> Any:
    venue = app.venue
    if name == "clock":
        return _set_clock(app, document)
    if name == "prices":
        venue.add_bars(document["rows"], int(document.get("minutes", 1)))
        return {"rows": len(document["rows"])}
    if name == "orders":
        return venue.place_by_hand(document)
    if name == "activities":
        return venue.add_activity(document.pop("activity_type"), **document)
    if name == "splits":
        venue.split(document["symbol"], int(document["num"]), int(document["den"]))
        return {}
    if name == "faults":
        by_list = isinstance(document, list)
        venue.faults = FaultPlan(faults=[Fault(**row) for row in document]) if by_list else FaultPlan(**document)
        return {"pending": len(venue.faults.faults)}
    if name == "configure":
        venue.configure(**document)
        return {}
    if name == "streams/cut":
        app.stream_epoch += 1
        return {}
    if name == "reset":
        app.reset(State.new(app.config()))
        return {}
    raise ApiError(404, None, f"there is no /standin/{name}; GET /standin/ lists what there is")


def _plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a record as a dict; JSON has no word for infinite."""
    return {key: "never" if value == math.inf else value for key, value in pairs}


def _set_clock(app: App, document: dict[str, Any]) -> dict[str, Any]:
    """Set the clock, never back, and let the market move on to it."""
    now = app.clock()
    if "now" in document:
        now = datetime.fromisoformat(document["now"])
        if now.tzinfo is None:
            raise ApiError(422, None, f"{document['now']} needs a UTC offset")
    if "to" in document:
        now = _next(app.venue.market.sessions, str(document["to"]), now)
    now += timedelta(seconds=float(document.get("advance_s", 0)))
    known = app.venue.state.now
    if known is not None and now < known:
        raise ApiError(422, None, f"the clock is at {known.isoformat()} and cannot go back: reset, or start anew")
    speed = float(document.get("speed", 0.0 if {"now", "advance_s", "to"} & set(document) else app.clock.speed))
    app.set_clock(now, speed)
    app.venue.advance(now)
    return app.clock.document()


def _next(sessions: Sessions, what: str, now: datetime) -> datetime:
    """Return the next open, close or evening (19:00 New York, when OPG and CLS orders are taken again)."""
    session = sessions.after(now - timedelta(days=1))
    while True:
        moments = {"open": session.open_at, "close": session.close_at, "evening": in_new_york(session.label, 19)}
        if moments[what] > now:
            return moments[what]
        session = sessions.following(session.label)
