"""A replay: read a day, compute it, compare. Nothing is written, nothing is sent: the book is one in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from tradecore import configurations
from tradecore.bars import Panel
from tradecore.config_models import Trading
from tradecore.context import Context
from tradecore.model import EQUITY
from tradecore.research.replay import changed, diff, reading, revision
from tradecore.research.replay.day import Record, compute, hashes
from tradecore.research.replay.reading import Found
from tradecore.units import usd

Result = dict[str, Any]
CHANGED_BARS = 500


def replay(
    ctx: Context,
    *,
    as_of: datetime | None = None,
    as_now: bool = False,
    change: Callable[[Trading], Trading] | None = None,
    code: str = "",
) -> Result:
    """Compute a settled bar again and return what differs from what happened.

    Parameters: as_of, data as known then, as_now, as known now (neither: as known when the bar was decided on);
    change, gives another configuration in the place of that of then; code, another revision.
    Raises BookError for a bar without a state; ConfigError for a configuration, a name or a revision that cannot be.
    """
    panel_then: Panel | None = None
    with reading.reading_only(ctx.conn):
        trading = None
        if change is not None:
            kept = configurations.find(ctx.conn, reading.then_of(ctx).config_hash)
            trading = change(kept or ctx.settings.trading)
        if as_of is not None or as_now:
            panel_then = reading.read(ctx, trading=trading).day.panel
        found = reading.read(ctx, as_of=as_of, as_now=as_now, trading=trading, happened_failures=not code)
    record = revision.compute(found.day, found.settings, code) if code else compute(found.day, found.settings)
    result = _compared(ctx, found, record)
    if panel_then is not None:
        result["bars"] = changed.window_changes(panel_then, found.day.panel)[:CHANGED_BARS]
    return result


def _compared(ctx: Context, found: Found, record: Record) -> Result:
    """Return the comparison of what happened and what was computed."""
    happened = dict(found.happened)
    if found.data_hash:
        record["data"] = found.data_hash
    symbols = {str(i.instrument_id): i.symbol for i in found.day.panel.instruments}
    found_differences = diff.differences(happened, record, symbols)
    stage = diff.first_stage(found_differences)
    if not stage:  # another next bar then tells of orders that were not sent, or of a real venue's fills
        found_differences = []
    return {
        "book": f"replay:{ctx.book.replace(':', '-')}-{ctx.session_date}",
        "of": ctx.book,
        "session": ctx.session_date,
        "bar_end_at": ctx.bar_end_at,
        "timeframe": ctx.record.timeframe,
        "as_of": found.then.as_of,
        "decided": found.day.decided,
        "equal": not stage,
        "stage": stage,
        "inputs": _inputs(found, record),
        "hashes": {"happened": hashes(happened), "replayed": hashes(record)},
        "pnl": _pnl(found, happened, record),
        "differences": [asdict(d) for d in found_differences],
        "text": diff.lines(found_differences),
    }


def _inputs(found: Found, record: Record) -> dict[str, str]:
    """Say of each input whether it is that of then."""

    def said(then: str, now: str) -> str:
        return "not known" if not then or not now else "same" if then == now else "different"

    return {
        "data": said(found.then.data_hash, found.data_hash),
        "config": said(found.then.config_hash, record["config"]),
        "code": said(found.then.code_hash, record["code"]),
    }


def _pnl(found: Found, happened: Record, record: Record) -> dict[str, dict[str, str]]:
    """Return the profit of the session, and of the next one, as it happened and as computed."""
    out: dict[str, dict[str, str]] = {}
    before = found.day.before
    if before is not None:
        start = int(before.acct[EQUITY])
        out["session"] = _side(happened["settle"]["equity_e4"] - start, record["settle"]["equity_e4"] - start)
    if "next" in happened and "next" in record:
        ours = record.get("settle", {}).get("equity_e4", int(found.day.after.acct[EQUITY]))
        theirs = happened.get("settle", {}).get("equity_e4", int(found.day.after.acct[EQUITY]))
        out["next_session"] = _side(happened["next"]["equity_e4"] - theirs, record["next"]["equity_e4"] - ours)
    return out


def _side(happened_e4: int, replayed_e4: int) -> dict[str, str]:
    return {"happened_usd": str(usd(happened_e4)), "replayed_usd": str(usd(replayed_e4))}


def text(result: Result) -> str:
    """Return a replay for people."""
    inputs = ", ".join(f"{name} {said}" for name, said in result["inputs"].items())
    within = result["timeframe"] != "1d"
    bar = f", the bar to {result['bar_end_at']:%H:%M} UTC," if within else ""
    head = f"{result['book']}: {result['of']} on {result['session']}{bar} computed again ({inputs})"
    verdict = "  equal in every stage" if result["equal"] else f"  DIFFERENT from stage {result['stage']} on"
    lines = [head, verdict, *result["text"]]
    for name, sides in result["pnl"].items():
        word = name.replace("_", " ").replace("session", "bar" if within else "session")
        lines.append(f"  P&L {word:<13} {sides['happened_usd']:>14} -> {sides['replayed_usd']} USD")
    if result.get("bars"):
        lines += ["  bars that are known otherwise:", changed.text(result["bars"])]
    return "\n".join(lines)
