"""Two vendors and one bar: whom to ask, whose bar counts, and what is written down of it. Nothing is made up.

| the first vendor | the second is asked | counts |
|---|---|---|
| gave no bar, or failed as a whole | yes | the second's; neither's if it has none or one that cannot be |
| gave one that cannot be, or two | yes | the second's if it can be, else the first's: validation judges it |
| gave one that jumps | yes | the second's if that does not jump; else as they agree or differ |
| gave another one | with compare: all | the first's if they agree, else as on_dispute says |

A decision is made again whenever one of the two restates its bar; the newest is in force.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import numpy as np
import psycopg

from tradecore import operations
from tradecore.errors import FeedError, NoDataYet
from tradecore.feeding import second_feed_of
from tradecore.feeds.base import BarBatch, CorporateAction, Rows, SymbolFailure, make_rows
from tradecore.provenance import hash_of
from tradecore.sessions import Calendar
from tradecore.settings import Settings
from tradecore.storage import arbitrations
from tradecore.storage import bars as stored
from tradecore.storage.arbitrations import Decision, Prices
from tradecore.storage.bars import VersionRow
from tradecore.units import from_ns, to_ns

Key = tuple[str, int]  # symbol, bar end in ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why a bar of the first vendor is not taken as it is. before_usd, of a jump: the close before it in its shares."""

    reason: str
    session_date: date
    before_usd: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the second vendor was asked and gave. failed: its error, where it could not be asked."""

    second: str
    doubts: Mapping[Key, Doubt]
    rows: Rows
    failed: str = ""


def instead(
    settings: Settings,
    conn: psycopg.Connection,
    calendar: Calendar,
    error: FeedError,
    names: Sequence[str],
    *,
    first: date,
    last: date,
    actions_until: date,
    now: datetime,
    assumed: bool,
) -> tuple[BarBatch, list[CorporateAction]]:
    """Return what stands for the first vendor's answer when it gave none: no bars, and the second's corporate actions.

    Raises the first's error where no second is configured, the bars may still come, or the second fails too.
    """
    second = second_feed_of(settings, conn)
    patience = timedelta(minutes=settings.trading.data.second.patience_minutes if settings.trading.data.second else 0)
    waits = isinstance(error, NoDataYet) and not assumed and now < calendar.session(last).close_at + patience
    if second is None or waits:
        raise error
    try:
        actions = list(second.actions(names, first, actions_until))
    except FeedError as other:
        raise error from other
    failures = tuple(SymbolFailure(symbol=name, error=error) for name in names)
    return BarBatch(rows=make_rows(()), failures=failures), actions


def consult(
    settings: Settings,
    conn: psycopg.Connection,
    calendar: Calendar,
    batch: BarBatch,
    actions: Iterable[CorporateAction],
    names: Sequence[str],
    *,
    first: date,
    last: date,
    now: datetime,
    assumed: bool,
) -> Opinion | None:
    """Ask the second vendor for the bars of the first's answer that are in doubt; None where there is no second.

    Raises the second's error if the first gave nothing at all.
    """
    second, config = second_feed_of(settings, conn), settings.trading.data.second
    if second is None or config is None:
        return None
    patience = timedelta(0) if assumed else timedelta(minutes=config.patience_minutes)
    doubts = _doubts(settings, calendar, batch, actions, names, first, last)
    doubts = {k: d for k, d in doubts.items() if d.reason != "missing" or from_ns(k[1]) + patience <= now}
    if config.compare != "all":
        settled = _settled(settings, conn, batch, first, last, calendar)
        doubts = {key: doubt for key, doubt in doubts.items() if key not in settled}
    opinion = Opinion(second=config.feed, doubts=doubts, rows=make_rows(()))
    if not doubts:
        return opinion
    days, symbols = [d.session_date for d in doubts.values()], sorted({symbol for symbol, _ in doubts})
    try:
        found = second.bars(symbols, settings.trading.book.timeframe, min(days), max(days), calendar).rows
    except FeedError as error:
        if not batch.rows.size:
            raise
        return replace(opinion, failed=f"{config.feed}: {error.message}")
    wanted = [key in doubts for key in zip(found["symbol"].tolist(), found["bar_end_ns"].tolist(), strict=True)]
    return replace(opinion, rows=found[np.array(wanted, np.bool_)])


def keep(
    settings: Settings,
    conn: psycopg.Connection,
    calendar: Calendar,
    opinion: Opinion | None,
    ids: Mapping[str, int],
    versions: np.ndarray,
    *,
    first: date,
    last: date,
    now: datetime,
) -> dict[str, object]:
    """Write down the second's bars (versions: as rows of bar_versions) and the decisions that say something new.

    In the caller's transaction, after the first's bars were written. Returns counts.
    """
    if opinion is None:
        return {}
    trading, timeframe = settings.trading, settings.trading.book.timeframe
    stored.append_versions(conn, timeframe=timeframe, source=opinion.second, rows=versions, now=now)
    symbols = {i: symbol for symbol, i in ids.items()}
    before = _in_force(settings, conn, calendar, list(symbols), first, last)
    doubts = {(ids[symbol], from_ns(ns)): doubt for (symbol, ns), doubt in opinion.doubts.items()}
    keys = sorted({*doubts, *before})
    firsts = _newest(conn, trading.data.feed, timeframe, keys)
    seconds = _newest(conn, opinion.second, timeframe, keys)
    new = []
    for key in keys:
        made = decide(settings, key, doubts.get(key), firsts.get(key, []), seconds.get(key, []), before.get(key))
        if made is not None and not made.says_what(before.get(key)):
            new.append(made)
    arbitrations.add(conn, new, source=trading.data.feed, timeframe=timeframe, now=now)
    _tell(settings, conn, new, symbols, now)
    chosen = {f"from_{name}": sum(d.chosen == name for d in new) for name in ("first", "second", "none")}
    return {
        "second": opinion.second,
        "in_doubt": len(doubts),
        **chosen,
        **({"failed": opinion.failed} if opinion.failed else {}),
    }


def decide(
    settings: Settings,
    key: tuple[int, datetime],
    doubt: Doubt | None,
    first: Sequence[VersionRow],
    second: Sequence[VersionRow],
    before: Decision | None,
) -> Decision | None:
    """Return the decision on one bar, None where nothing is to be decided: both are there and agree, as ever."""
    config, limit = settings.trading.data.second, float(settings.trading.validation.max_jump_frac)
    assert config is not None
    a, b = _prices(first), _prices(second)
    a_can_be, b_can_be = len(first) == 1 and _possible(a), len(second) == 1 and _possible(b)
    difference = (
        None
        if a is None or b is None
        else max(abs(x / y - 1) if y else math.inf for x, y in zip(a[:4], b[:4], strict=True))
    )
    agree = difference is not None and difference <= config.tolerance_frac
    jumped = doubt is not None and doubt.reason == "jump"
    before_usd = doubt.before_usd if doubt else math.nan
    if a is None:
        reason, chosen = "missing", "second" if b_can_be else "none"
    elif not a_can_be:
        reason, chosen = "impossible", "second" if b_can_be else "first"
    elif before is not None and before.first == a and (b is None or before.second_bar == b) and not jumped:
        return None  # nobody said anything new
    elif not b_can_be or agree:
        reason = "jump" if jumped else "arrived" if before is not None and before.first is None else "agreed"
        chosen = "first"
        if before is None and not jumped:
            return None
    elif jumped and b is not None and abs(b[3] / before_usd - 1) <= limit:
        reason, chosen = "jump", "second"
    else:
        reason = "jump" if jumped else "disputed"
        chosen = {"first": "first", "second": "second", "neither": "none"}[config.on_dispute]
    given = first or second
    session = (
        given[0].session_date if given else doubt.session_date if doubt else before.session_date if before else None
    )
    assert session is not None
    return Decision(
        instrument_id=key[0],
        bar_end_at=key[1],
        session_date=session,
        second=config.feed,
        reason=reason,
        chosen=chosen,
        difference_frac=difference if difference is None or math.isfinite(difference) else None,
        first=a,
        first_known_at=first[0].known_at if first else None,
        second_bar=b,
        second_known_at=second[0].known_at if second else None,
        second_assumed=second[0].known_at_assumed if second else False,
    )


def in_their_place(
    settings: Settings, conn: psycopg.Connection, versions: Sequence[VersionRow], instruments: Sequence[int],
    first: datetime, last: datetime,
) -> list[VersionRow]:  # fmt: skip
    """Return the newest statements of the first vendor with the second's in the place of those that do not count."""
    found = arbitrations.in_force(
        conn,
        source=settings.trading.data.feed,
        timeframe=settings.trading.book.timeframe,
        instruments=instruments,
        first=first,
        last=last,
    )
    if not found:
        return list(versions)
    other = {key: d for key, d in found.items() if d.chosen != "first"}
    kept = [v for v in versions if (v.instrument_id, v.bar_end_at) not in other]
    kept += [d.version() for d in other.values() if d.chosen == "second"]
    return sorted(kept, key=lambda v: (v.instrument_id, v.bar_end_at, v.dup_no))


def _doubts(
    settings: Settings,
    calendar: Calendar,
    batch: BarBatch,
    actions: Iterable[CorporateAction],
    names: Sequence[str],
    first: date,
    last: date,
) -> dict[Key, Doubt]:
    """Return what is missing, cannot be, jumps against the bar before it, or (compare: all) is there."""
    members, timeframe = settings.trading.universe.members, settings.trading.book.timeframe
    days = calendar.sessions_in_range(first, last)
    ends = [(day, to_ns(end)) for day in days for end in calendar.bar_ends(day, timeframe)]
    ratio = {(a.symbol, a.ex_date): a.ratio_num / a.ratio_den for a in actions if a.ratio_num != a.ratio_den}
    every = settings.trading.data.second is not None and settings.trading.data.second.compare == "all"
    limit = float(settings.trading.validation.max_jump_frac)
    groups: dict[Key, list[Prices]] = {}
    for symbol, _, ns, *prices in batch.rows.tolist():
        groups.setdefault((symbol, ns), []).append(tuple(prices))
    out: dict[Key, Doubt] = {}
    for symbol in names:
        before, day_before = math.nan, None
        for day, ns in ends:
            found = groups.get((symbol, ns), ())
            if day != day_before:
                before /= ratio.get((symbol, day), 1.0)
                day_before = day
            due = symbol not in members or members[symbol].is_due(day)
            if not found:
                if due:
                    out[symbol, ns] = Doubt(reason="missing", session_date=day)
            elif len(found) > 1 or not _possible(found[0]):
                out[symbol, ns] = Doubt(reason="impossible", session_date=day)
            elif abs(found[0][3] / before - 1) > limit:
                out[symbol, ns] = Doubt(reason="jump", session_date=day, before_usd=before)
            else:
                before = found[0][3]
                if every:
                    out[symbol, ns] = Doubt(reason="compare", session_date=day)
    return out


def _settled(
    settings: Settings, conn: psycopg.Connection, batch: BarBatch, first: date, last: date, calendar: Calendar
) -> set[Key]:
    """Return the bars that the second has given already, while the first says what it said then."""
    members = stored.read_universe(conn, settings.trading.universe.name)
    names = {m.instrument.instrument_id: m.instrument.symbol for m in members}
    said: dict[Key, Prices] = {(row[0], row[2]): tuple(row[3:]) for row in batch.rows.tolist()}
    found = _in_force(settings, conn, calendar, list(names), first, last)
    keys = {(names[i], to_ns(end)): d for (i, end), d in found.items()}
    return {key for key, d in keys.items() if d.second_bar is not None and d.first == said.get(key)}


def _in_force(
    settings: Settings,
    conn: psycopg.Connection,
    calendar: Calendar,
    instruments: Sequence[int],
    first: date,
    last: date,
) -> dict[tuple[int, datetime], Decision]:
    days = calendar.sessions_in_range(first, last)
    if not days:
        return {}
    return arbitrations.in_force(
        conn,
        source=settings.trading.data.feed,
        timeframe=settings.trading.book.timeframe,
        instruments=instruments,
        first=calendar.session(days[0]).open_at,
        last=calendar.session(days[-1]).close_at,
    )


def _tell(
    settings: Settings, conn: psycopg.Connection, new: Sequence[Decision], symbols: Mapping[int, str], now: datetime
) -> None:
    """Tell a person once of bars on which the vendors differ."""
    differ = [d for d in new if d.reason in ("disputed", "jump") and d.first is not None and d.second_bar is not None]
    if not differ:
        return
    text = "; ".join(
        f"{symbols[d.instrument_id]} {d.session_date}: {d.first[3] if d.first else '-'} against "
        f"{d.second_bar[3] if d.second_bar else '-'}, {d.chosen} counts"
        for d in differ[:10]
    )
    operations.raise_alert(
        settings,
        conn,
        severity="warning",
        kind="vendors_differ",
        stage="ingest",
        title=f"{settings.trading.data.feed} and {differ[0].second} differ on {len(differ)} bar(s)",
        body=text + ("; ..." if len(differ) > 10 else "."),
        next_step="python -m tradecore data decisions FIRST LAST shows both; data.second.on_dispute says whose counts",
        now=now,
        dedup_key="vendors_differ:" + hash_of([repr((d.key, d.first, d.second_bar)) for d in differ]),
    )


def tell_of_failure(settings: Settings, conn: psycopg.Connection, error: FeedError, last: date, now: datetime) -> None:
    """Tell a person once a session that the second vendor stands in for the first."""
    data = settings.trading.data
    operations.raise_alert(
        settings,
        conn,
        severity="warning",
        kind="vendor_failed",
        stage="ingest",
        session_date=last,
        title=f"{data.feed} gave nothing: {data.second.feed if data.second else ''} stands in",
        body=f"{type(error).__name__}: {error.message}",
        next_step=error.next_step,
        now=now,
        dedup_key=f"vendor_failed:{data.feed}:{last}",
    )


def _newest(
    conn: psycopg.Connection, source: str, timeframe: str, keys: Sequence[tuple[int, datetime]]
) -> dict[tuple[int, datetime], list[VersionRow]]:
    """Return what a source said last of some bars, by instrument and bar end."""
    out: dict[tuple[int, datetime], list[VersionRow]] = {}
    if not keys:
        return out
    instruments, ends = sorted({i for i, _ in keys}), sorted({end for _, end in keys})
    for row in stored.latest_versions(conn, timeframe=timeframe, source=source, instruments=instruments, bar_ends=ends):
        out.setdefault((row.instrument_id, row.bar_end_at), []).append(row)
    return out


def _prices(rows: Sequence[VersionRow]) -> Prices | None:
    if not rows:
        return None
    r = rows[0]
    return r.open, r.high, r.low, r.close, r.volume


def _possible(prices: Prices | None) -> bool:
    """Tell whether a bar can be at all: finite, above 0, high at the top, low at the bottom."""
    if prices is None or not all(math.isfinite(p) for p in prices):
        return False
    opened, high, low, close, volume = prices
    return low > 0 and volume >= 0 and high >= max(opened, close) and low <= min(opened, close)
