"""Which versions are the current bars, and the forward factor of each: a few statements, however many instruments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import psycopg

from tradecore.bars import next_factor
from tradecore.storage import binary, rollups
from tradecore.storage.bars import SQL, Action, VersionRow, read_actions
from tradecore.units import prices_to_e4, to_day, to_ns

PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """A bar in the chain of an instrument's factors: factor as stored, or staged = its place among the new ones."""

    bar_end_at: datetime
    session_date: date
    close_e4: int
    factor: float = 1.0
    staged: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Neighbouring stored bars whose factor becomes this one."""

    instrument_id: int
    first_at: datetime
    last_at: datetime
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """When a change of a source's data counts as known, and up to which bar end decisions were made on them."""

    at: datetime
    decided_until: datetime | None


def next_stamp(conn: psycopg.Connection, source: str, now: datetime) -> Stamp:
    """Return the time to stamp changes or a manifest with: later than all before it. Locks the data until the commit.

    Clocks of processes differ, and a transaction may end after one that began later: the stamps do not.
    """
    conn.execute(SQL["lock_data"])
    newest = conn.execute(SQL["next_stamp"], {"source": source, "now": now}).fetchone()
    decided = conn.execute(SQL["decided_until"], {"source": source}).fetchone()
    return Stamp(at=newest[0] if newest else now, decided_until=decided[0] if decided else None)


def set_clock(conn: psycopg.Connection, source: str, at: datetime) -> None:
    """Write down that something was stamped."""
    conn.execute(SQL["set_clock"], {"source": source, "at": at})


def select_bars(
    conn: psycopg.Connection,
    *,
    timeframe: str,
    source: str,
    passed: Sequence[VersionRow],
    failed: Sequence[VersionRow],
    now: datetime,
) -> list[VersionRow]:
    """Make validated versions the current bars, with their forward factors; drop what fails now and was selected.

    What they replace is kept, and they count as known from the next stamp on; a bulk load's from their assumed known_at
    on, but for bars that a decision has looked for already. A bar that an earlier statement of the vendor left stays
    where a later one failed: it was validated before it was selected. Factors behind a changed bar are computed anew.
    Returns the failed versions whose earlier bar stays.
    """
    stamp = next_stamp(conn, source, now)
    where = {"timeframe": timeframe, "source": source, "now": stamp.at}
    bad: dict[int, list[datetime]] = defaultdict(list)
    for row in failed:
        bad[row.instrument_id].append(row.bar_end_at)
    lists = {
        "instruments": [r.instrument_id for r in failed],
        "bar_ends": [r.bar_end_at for r in failed],
        "known": [r.known_at for r in failed],
    }
    if failed:
        conn.execute(SQL["delete_bars"], {**where, **lists})
    prices = prices_to_e4(np.array([(r.open, r.high, r.low, r.close) for r in passed]).reshape(len(passed), 4))
    staged: dict[int, list[_Link]] = defaultdict(list)
    for k, (row, close) in enumerate(zip(passed, prices[:, 3].tolist(), strict=True)):
        link = _Link(bar_end_at=row.bar_end_at, session_date=row.session_date, close_e4=close, staged=k)
        staged[row.instrument_id].append(link)
    since = {i: min(link.bar_end_at for link in links) for i, links in staged.items()}
    for instrument, ends in bad.items():
        since[instrument] = min([*ends, since.get(instrument, ends[0])])
    factors, runs = _factors(conn, timeframe, source, since, staged, len(passed))
    if passed:
        _upsert(conn, where, passed, prices, factors, [_selected_at(row, stamp) for row in passed])
    _set_factors(conn, where, runs)
    _roll_up(conn, timeframe, since, [*(r.bar_end_at for r in (*passed, *failed)), *(r.last_at for r in runs)])
    set_clock(conn, source, stamp.at)
    earlier = set(conn.execute(SQL["earlier_bars"], {**where, **lists}).fetchall()) if failed else set()
    return [r for r in failed if (r.instrument_id, r.bar_end_at) in earlier]


def refresh_factors(
    conn: psycopg.Connection, *, timeframe: str, source: str, since: Mapping[int, datetime], at: datetime
) -> None:
    """Compute the forward factors of instruments' bars from {instrument: since} on; store those that changed, as known
    from `at` on."""
    _, runs = _factors(conn, timeframe, source, since, {}, 0)
    _set_factors(conn, {"timeframe": timeframe, "source": source, "now": at}, runs)
    _roll_up(conn, timeframe, {r.instrument_id: r.first_at for r in reversed(runs)}, [r.last_at for r in runs])


def _roll_up(conn: psycopg.Connection, timeframe: str, since: Mapping[int, datetime], ends: Sequence[datetime]) -> None:
    """Bring weeks and months up to date behind daily bars that changed."""
    if timeframe == "1d" and since and ends:
        rollups.refresh(conn, of_table=rollups.BARS, instruments=since, first=min(since.values()), last=max(ends))


def _selected_at(row: VersionRow, stamp: Stamp) -> datetime:
    seen = stamp.decided_until is not None and row.bar_end_at <= stamp.decided_until
    return min(row.known_at, stamp.at) if row.known_at_assumed and not seen else stamp.at


def _upsert(
    conn: psycopg.Connection,
    where: Mapping[str, object],
    passed: Sequence[VersionRow],
    prices: np.ndarray,
    factors: np.ndarray,
    selected: Sequence[datetime],
) -> None:
    """COPY the bars into a stage, then one insert that touches only what differs."""
    conn.execute(SQL["create_bar_stage"])
    conn.execute("TRUNCATE stage_bars")
    columns: dict[str, binary.Column] = {
        "instrument_id": np.array([r.instrument_id for r in passed], np.int32),
        "bar_end_at": binary.timestamps(np.array([to_ns(r.bar_end_at) for r in passed], np.int64)),
        "session_date": binary.dates(np.array([to_day(r.session_date) for r in passed], np.int64)),
        "known_at": binary.timestamps(np.array([to_ns(r.known_at) for r in passed], np.int64)),
        **{f"{name}_e4": prices[:, k] for k, name in enumerate(PRICES)},
        "volume": np.rint([r.volume for r in passed]).astype(np.int64),
        "adj_factor": factors,
        "selected_at": binary.timestamps(np.array([to_ns(at) for at in selected], np.int64)),
    }
    binary.copy_in(conn, "stage_bars", columns)
    conn.execute(SQL["keep_replaced"], where)
    conn.execute(SQL["upsert_bars"], where)


def _factors(
    conn: psycopg.Connection,
    timeframe: str,
    source: str,
    since: Mapping[int, datetime],
    staged: Mapping[int, Sequence[_Link]],
    count: int,
) -> tuple[np.ndarray, list[_Run]]:
    """Return the factors [count] of staged bars, and the runs of stored bars whose factor changes."""
    out, runs = np.ones(count), list[_Run]()
    if not since:
        return out, runs
    key = {"timeframe": timeframe, "source": source, "instruments": list(since), "since": list(since.values())}
    before = {r[0]: (float(r[1]), r[2]) for r in conn.execute(SQL["factors_before"], key).fetchall()}
    chains: dict[int, dict[datetime, _Link]] = {i: {} for i in since}
    for instrument, session, end, close, factor in conn.execute(SQL["bars_from"], key).fetchall():
        chains[instrument][end] = _Link(bar_end_at=end, session_date=session, close_e4=close, factor=factor)
    for instrument, links in staged.items():
        chains[instrument].update({link.bar_end_at: link for link in links})
    last = max((link.session_date for chain in chains.values() for link in chain.values()), default=None)
    if last is None:
        return out, runs
    after = min(before[i][1] if i in before else date(1900, 1, 1) for i in since)
    actions: dict[int, list[Action]] = defaultdict(list)
    for action in read_actions(conn, source=source, instruments=list(since), after=after, until=last):
        actions[action.instrument_id].append(action)
    for instrument, chain in chains.items():
        links = sorted(chain.values(), key=lambda link: link.bar_end_at)
        values = _forward(links, actions[instrument], before.get(instrument))
        for link, value in zip(links, values, strict=True):
            if link.staged >= 0:
                out[link.staged] = value
        runs += _changed(instrument, links, values)
    return out, runs


def _forward(links: Sequence[_Link], actions: Iterable[Action], before: tuple[float, date] | None) -> list[float]:
    """Return the factors of a chain: from the bar before it, an action counts at the first bar from its ex-date on."""
    factor, previous = before if before else (1.0, None)
    due = [a for a in actions if a.adjusts and (previous is None or a.ex_date > previous)]
    values, k = [], 0
    for link in links:
        num, den, dividend = 1, 1, 0
        while k < len(due) and due[k].ex_date <= link.session_date:
            num, den = num * due[k].ratio_num, den * due[k].ratio_den
            dividend += due[k].dividend_e6
            k += 1
        if previous is not None and (num != den or dividend):
            factor = next_factor(factor, link.close_e4, num, den, dividend)
        previous = link.session_date
        values.append(factor)
    return values


def _changed(instrument: int, links: Sequence[_Link], values: Sequence[float]) -> list[_Run]:
    """Return the stored bars whose factor changes, neighbours with one factor together."""
    runs: list[_Run] = []
    unbroken = False  # every bar since the first of the last run has its factor, or gets it
    for link, value in zip(links, values, strict=True):
        unbroken = unbroken and runs[-1].factor == value
        if link.staged >= 0 or link.factor == value:
            continue
        first_at = runs.pop().first_at if unbroken else link.bar_end_at
        runs.append(_Run(instrument_id=instrument, first_at=first_at, last_at=link.bar_end_at, factor=value))
        unbroken = True
    return runs


def _set_factors(conn: psycopg.Connection, where: Mapping[str, object], runs: Sequence[_Run]) -> None:
    if runs:
        lists = {
            "instruments": [r.instrument_id for r in runs],
            "firsts": [r.first_at for r in runs],
            "lasts": [r.last_at for r in runs],
            "factors": [r.factor for r in runs],
        }
        conn.execute(SQL["keep_refactored"], {**where, **lists})
        conn.execute(SQL["set_factors"], {**where, **lists})
