"""Bars, corporate actions and data quality in the database. COPY in and out; upserts that touch only what changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import psycopg

from tradecore.bars import Panel
from tradecore.model import Instrument
from tradecore.storage import binary, queries
from tradecore.units import from_day, from_ns, to_day

SQL = queries.load("bars")
BULK_ROWS = 20_000  # from here on a load or a read is worth a look at how it is best done


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a universe with the dates it is due from and until (exclusive)."""

    instrument: Instrument
    member_from: date
    member_to: date | None

    def due(self, session: date) -> bool:
        return self.member_from <= session and (self.member_to is None or session < self.member_to)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A corporate action as last known: ratio new:old for a split or stock dividend; dividend per share in 1e-6 USD, of
    a delisting the stated price; new_symbol of a symbol change."""

    instrument_id: int
    ex_date: date
    kind: str
    ratio_num: int
    ratio_den: int
    dividend_e6: int
    pay_date: date | None
    known_at: datetime
    new_symbol: str = ""

    @property
    def adjusts(self) -> bool:
        """Whether it changes what a share is worth while the instrument trades on."""
        return self.kind in ("split", "stock_dividend", "dividend")


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One raw vendor bar as it is stored, NaN and nonsense included."""

    instrument_id: int
    bar_end_at: datetime
    dup_no: int
    known_at: datetime
    known_at_assumed: bool
    session_date: date
    open: float
    high: float
    low: float
    close: float
    volume: float


def sync_universe(
    conn: psycopg.Connection,
    *,
    universe: str,
    calendar: str,
    currency: str,
    members: Mapping[str, tuple[int, int, date, date | None]],
) -> tuple[Member, ...]:
    """Make the database know a universe; members = {symbol: (tick_e4, qty_step_e6, from, to)}. Returns it by id."""
    conn.execute("SELECT pg_advisory_xact_lock(7240002)")
    known = {m.instrument.symbol: m for m in read_universe(conn, universe)}
    wanted = {
        s: (
            Instrument(
                instrument_id=known[s].instrument.instrument_id if s in known else 0,
                symbol=s,
                tick_e4=m[0],
                qty_step_e6=m[1],
            ),
            m[2],
            m[3],
        )
        for s, m in members.items()
    }
    if {s: (m.instrument, m.member_from, m.member_to) for s, m in known.items()} == wanted:
        return tuple(known.values())
    ids = []
    for symbol, (tick_e4, step_e6, first, last) in members.items():
        row = conn.execute(
            "SELECT instrument_id FROM instrument_symbols WHERE symbol = %s ORDER BY valid_from DESC LIMIT 1", (symbol,)
        ).fetchone()
        if row is None:
            row = conn.execute(SQL["add_instrument"], (calendar, currency, tick_e4, step_e6)).fetchone()
            assert row is not None
            conn.execute(SQL["add_symbol"], (symbol, date(1900, 1, 1), row[0]))
        else:
            conn.execute(
                "UPDATE instruments SET tick_e4 = %s, qty_step_e6 = %s WHERE instrument_id = %s",
                (tick_e4, step_e6, row[0]),
            )
        ids.append(row[0])
        conn.execute(
            "DELETE FROM universe_members WHERE universe = %s AND instrument_id = %s AND member_from <> %s",
            (universe, row[0], first),
        )
        conn.execute(SQL["add_member"], (universe, row[0], first, last))
    conn.execute(SQL["drop_other_members"], (universe, ids))
    return read_universe(conn, universe)


def read_universe(conn: psycopg.Connection, universe: str) -> tuple[Member, ...]:
    """Return the members of a universe, ever, by instrument id."""
    rows = conn.execute(SQL["universe"], {"universe": universe}).fetchall()
    return tuple(
        Member(
            instrument=Instrument(instrument_id=r[0], symbol=r[1], tick_e4=r[2], qty_step_e6=r[3]),
            member_from=r[4],
            member_to=r[5],
        )
        for r in rows
    )


def instruments_by_id(conn: psycopg.Connection, ids: Iterable[int]) -> dict[int, Instrument]:
    """Return instruments with their newest symbol."""
    rows = conn.execute(
        "SELECT DISTINCT ON (i.instrument_id) i.instrument_id, s.symbol, i.tick_e4, i.qty_step_e6 FROM"
        " instruments i JOIN instrument_symbols s USING (instrument_id) WHERE i.instrument_id = ANY(%s)"
        " ORDER BY i.instrument_id, s.valid_from DESC",
        (list(ids),),
    ).fetchall()
    return {r[0]: Instrument(instrument_id=r[0], symbol=r[1], tick_e4=r[2], qty_step_e6=r[3]) for r in rows}


def append_versions(
    conn: psycopg.Connection, *, timeframe: str, source: str, rows: np.ndarray, now: datetime
) -> list[date]:
    """Append raw bars that differ from what is known; return the sessions that got a new version.

    rows: structured array (instrument_id i4, bar_end_ns i8, dup_no i2, known_ns i8, assumed ?, session_day i4,
    open, high, low, close, volume f8). COPY BINARY into a stage, then one insert; straight into the table where nothing
    is known of what they cover. A bar that replaces another is known from `now` on. Locks the data until the commit.
    """
    if rows.size == 0:
        return []
    conn.execute(SQL["lock_data"])
    where = {
        "timeframe": timeframe,
        "source": source,
        "now": now,
        "instruments": np.unique(rows["instrument_id"]).tolist(),
        "first": from_ns(int(rows["bar_end_ns"].min())),
        "last": from_ns(int(rows["bar_end_ns"].max())),
    }
    columns = {
        "instrument_id": rows["instrument_id"],
        "bar_end_at": binary.timestamps(rows["bar_end_ns"]),
        "dup_no": rows["dup_no"],
        "known_at": binary.timestamps(rows["known_ns"]),
        "known_at_assumed": rows["assumed"],
        "session_date": binary.dates(rows["session_day"]),
        **{name: rows[name] for name in ("open", "high", "low", "close", "volume")},
    }
    if conn.execute(SQL["none_known"], where).fetchone() == (True,):
        binary.copy_in(conn, "bar_versions", columns, texts={"timeframe": timeframe, "source": source})
        return [from_day(day) for day in np.unique(rows["session_day"]).tolist()]
    conn.execute(SQL["create_stage"])
    conn.execute("TRUNCATE stage_versions")
    binary.copy_in(conn, "stage_versions", columns)
    if rows.size >= BULK_ROWS:
        conn.execute("ANALYZE stage_versions")
        conn.execute(SQL["roomy"])
    found = conn.execute(SQL["append_versions"], where, prepare=False).fetchall()
    return sorted(r[0] for r in found)


def latest_versions(
    conn: psycopg.Connection, *, timeframe: str, source: str, instruments: Sequence[int], bar_ends: Sequence[datetime]
) -> list[VersionRow]:
    """Return the newest version of each bar, with all its copies where the vendor gave several."""
    rows = conn.execute(
        SQL["latest_versions"],
        {"timeframe": timeframe, "source": source, "instruments": list(instruments), "bar_ends": list(bar_ends)},
    )
    return [
        VersionRow(
            instrument_id=r[0],
            session_date=r[1],
            bar_end_at=r[2],
            dup_no=r[3],
            known_at=r[4],
            known_at_assumed=r[5],
            open=r[6],
            high=r[7],
            low=r[8],
            close=r[9],
            volume=r[10],
        )
        for r in rows.fetchall()
    ]


def append_actions(
    conn: psycopg.Connection, *, source: str, actions: Iterable[Action], assumed: bool, now: datetime
) -> list[Action]:
    """Append corporate actions that differ from what is known; return those. A corrected one is known from `now` on."""
    new = []
    for a in actions:
        row = conn.execute(
            SQL["append_action"],
            {
                "instrument": a.instrument_id,
                "ex_date": a.ex_date,
                "kind": a.kind,
                "source": source,
                "known_at": a.known_at,
                "assumed": assumed,
                "num": a.ratio_num,
                "den": a.ratio_den,
                "dividend": a.dividend_e6,
                "pay_date": a.pay_date,
                "new_symbol": a.new_symbol,
                "now": now,
            },
        ).fetchone()
        if row is not None:
            new.append(a)
    return new


def withdraw_actions(
    conn: psycopg.Connection,
    *,
    source: str,
    instruments: Sequence[int],
    first: date,
    last: date,
    kept: Iterable[Action],
    now: datetime,
) -> list[Action]:
    """Append, as known from `now` on, that what is known of first..last and not among `kept` is withdrawn; return it.

    instruments: those whose actions the vendor has told in full.
    """
    still = [(a.instrument_id, a.ex_date, a.kind) for a in kept]
    rows = conn.execute(
        SQL["withdraw_actions"],
        {
            "source": source,
            "instruments": list(instruments),
            "first": first,
            "last": last,
            "now": now,
            "kept_instruments": [k[0] for k in still],
            "kept_dates": [k[1] for k in still],
            "kept_kinds": [k[2] for k in still],
        },
    ).fetchall()
    return [_action(r) for r in rows]


def read_actions(
    conn: psycopg.Connection,
    *,
    source: str,
    instruments: Sequence[int],
    after: date,
    until: date,
    as_of: datetime | None = None,
    kind: str | None = None,
) -> list[Action]:
    """Return the actions (of one kind) with after < ex_date <= until in force as known at as_of (None: now)."""
    rows = conn.execute(
        SQL["actions"],
        {
            "source": source,
            "instruments": list(instruments),
            "after": after,
            "until": until,
            "as_of": as_of,
            "kind": kind,
        },
    ).fetchall()
    found = [_action(r) for r in rows]
    return sorted(found, key=lambda a: (a.ex_date, a.instrument_id, a.kind))


def _action(row: Sequence[Any]) -> Action:
    names = ("instrument_id", "ex_date", "kind", "ratio_num", "ratio_den", "dividend_e6", "pay_date", "known_at")
    return Action(**dict(zip((*names, "new_symbol"), row, strict=True)))


_CELLS = ("open", "high", "low", "close", "volume")
_BAR = np.dtype([("bar_end_at", ">i8"), *((name, ">i8") for name in _CELLS), ("adj_factor", ">f8")])


def read_panel(
    conn: psycopg.Connection,
    *,
    timeframe: str,
    source: str,
    instruments: Sequence[Instrument],
    bar_end_ns: np.ndarray,
    day: np.ndarray,
    as_of: datetime | None = None,
) -> Panel:
    """Read the bars of instruments at the given bar ends [T] into a Panel; absent ones do not trade.

    as_of: the selection of that time, with the factors of then; None: the present one. The database packs the bars of
    an instrument into one value, which np.frombuffer reads.
    """
    shape = (bar_end_ns.size, len(instruments))
    cells = {name: np.zeros(shape, np.int64) for name in _CELLS}
    factor, traded = np.full(shape, np.nan), np.zeros(shape, np.bool_)
    if bar_end_ns.size and instruments:
        ids = [i.instrument_id for i in instruments]
        asked = {
            "as_of": as_of,
            "timeframe": timeframe,
            "source": source,
            "instruments": ids,
            "lowest": min(ids),
            "highest": max(ids),
            "first": from_ns(int(bar_end_ns[0])),
            "last": from_ns(int(bar_end_ns[-1])),
        }
        dense = max(ids) - min(ids) < 2 * len(ids)
        bulk = as_of is None and dense and bar_end_ns.size * len(ids) >= BULK_ROWS * 5
        name = "read_panel_bulk" if bulk else "read_panel" if as_of is None else "read_panel_as_of"
        if bulk:
            conn.execute(SQL["several_cores"])
        # not prepared: the best plan depends on how much is asked for
        packed = conn.cursor(binary=True).execute(SQL[name], asked, prepare=False)
        column = {instrument: k for k, instrument in enumerate(ids)}
        found = [(column[r[0]], r[1]) for r in packed.fetchall() if r[0] in column]
        rows, flat = _placed(found, bar_end_ns, len(ids))
        for name, array in cells.items():
            array.reshape(-1)[flat] = rows[name]
        factor.reshape(-1)[flat] = rows["adj_factor"]
        traded.reshape(-1)[flat] = True
    return Panel(
        instruments=tuple(instruments),
        bar_end_ns=bar_end_ns,
        day=day,
        open=cells["open"],
        high=cells["high"],
        low=cells["low"],
        close=cells["close"],
        volume=cells["volume"],
        traded=traded,
        adj_factor=factor,
    )


def _placed(found: Sequence[tuple[int, bytes]], bar_end_ns: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the packed bars of (column, bytes) pairs at the given bar ends [T], and the place of each in [T, n]."""
    rows = np.frombuffer(b"".join(data for _, data in found), _BAR)
    counts = np.array([len(data) // _BAR.itemsize for _, data in found], np.int64)
    column = np.repeat(np.array([k for k, _ in found], np.int64), counts)
    ns = binary.to_ns(rows["bar_end_at"])
    t = np.minimum(np.searchsorted(bar_end_ns, ns), bar_end_ns.size - 1)
    known = bar_end_ns[t] == ns
    if not known.all():  # bars between the ends asked for
        t, column, rows = t[known], column[known], rows[known]
    return rows, t * n + column


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """The verdict on one bar end of a universe."""

    content_hash: str
    gate_open: bool
    gate_reason: str
    coverage_frac: float
    rows_checked: int
    rows_failed: int
    members_due: int
    members_seen: int
    rows_warned: int = 0
    docs_path: str = ""


def known_quality(
    conn: psycopg.Connection, *, source: str, timeframe: str, bar_end: datetime, universe: str, suite: str
) -> Quality | None:
    """Return the newest verdict of this suite version, or None."""
    row = conn.execute(
        SQL["quality_known"],
        {"source": source, "timeframe": timeframe, "bar_end": bar_end, "universe": universe, "suite": suite},
    ).fetchone()
    return Quality(**dict(zip(Quality.__dataclass_fields__, row, strict=True))) if row else None


def add_quality(
    conn: psycopg.Connection,
    quality: Quality,
    *,
    source: str,
    timeframe: str,
    bar_end: datetime,
    universe: str,
    suite: str,
    session: date,
    now: datetime,
) -> None:
    """Record a verdict, keyed by content and suite version."""
    conn.execute(
        SQL["add_quality"],
        {
            "source": source,
            "timeframe": timeframe,
            "bar_end": bar_end,
            "universe": universe,
            "suite": suite,
            "session": session,
            "now": now,
            "hash": quality.content_hash,
            "checked": quality.rows_checked,
            "failed": quality.rows_failed,
            "due": quality.members_due,
            "seen": quality.members_seen,
            "coverage": quality.coverage_frac,
            "open": quality.gate_open,
            "reason": quality.gate_reason,
            "warned": quality.rows_warned,
            "docs": quality.docs_path,
        },
    )


def bars_by_source(conn: psycopg.Connection, *, timeframe: str, source: str, panel: Panel) -> dict[str, int]:
    """Return how many bars of a panel's range and names come from each vendor: {source: bars}."""
    key = {
        "timeframe": timeframe,
        "source": source,
        "instruments": [i.instrument_id for i in panel.instruments],
        "first": from_ns(int(panel.bar_end_ns[0])),
        "last": from_ns(int(panel.bar_end_ns[-1])),
    }
    return {str(name): int(count) for name, count in conn.execute(SQL["bars_by_source"], key).fetchall()}


def session_days(bar_ends: Sequence[tuple[date, datetime]]) -> tuple[np.ndarray, np.ndarray]:
    """Return (bar_end_ns, day) arrays [T] of (session, bar end) pairs."""
    from tradecore.units import to_ns

    return (
        np.array([to_ns(end.astimezone(UTC)) for _, end in bar_ends], np.int64),
        np.array([to_day(label) for label, _ in bar_ends], np.int64),
    )
