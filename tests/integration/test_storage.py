"""The database: migrations, what is append-only, what a restatement changes, and that a book comes back as it went."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import yaml
from project_home import FIRST, HISTORY, NOW, SAMPLE, SYMBOLS, Project, make, open_for_trading, rows
from psycopg import sql

from table_checksums import changed_tables, table_checksums
from tradecore import pipeline
from tradecore.backtest.step import canonical_book
from tradecore.context import book_calendar
from tradecore.errors import SchemaTooNew
from tradecore.model import (
    N_ORDERS,
    O_AGE,
    O_DECIDED_NS,
    O_INSTR,
    O_LIMIT,
    O_LINE,
    O_QTY,
    O_REF,
    O_REM,
    O_REMAINDER,
    O_SPLIT_DEN,
    O_SPLIT_NUM,
    O_STOP,
    RECEIVABLE_SLOTS,
    REMAINDERS,
    Book,
    new_book,
)
from tradecore.storage import bars, books, migrate, selection
from tradecore.storage.books import Axes
from tradecore.storage.connection import connect
from tradecore.units import to_ns

pytestmark = [pytest.mark.db, pytest.mark.hypertable]
REPO = Path(__file__).resolve().parents[2]
LATER = NOW + timedelta(hours=1)


# Migrations ---------------------------------------------------------------------------------------------------------


def test_upgrade_twice_changes_nothing(empty_database_url):
    with connect(empty_database_url) as conn:
        assert migrate.pending(conn)
        applied = migrate.upgrade(conn)
        assert applied[0].startswith("0001_")
        before = table_checksums(conn, row_versions=True)
        assert migrate.pending(conn) == []
        assert migrate.upgrade(conn) == []
        assert changed_tables(before, table_checksums(conn, row_versions=True)) == {}


def test_upgrade_by_several_processes_at_once_applies_each_migration_once(empty_database_url, tmp_path):
    environ = {**os.environ, "DATABASE_URL": empty_database_url, "TRADECORE_HOME": str(tmp_path), "PYTHONPATH": ""}
    environ["PYTHONPATH"] = str(REPO / "include")
    command = [sys.executable, "-m", "tradecore", "db", "upgrade", "--json"]
    running = [
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ended = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], [err for _, err in ended]
    applied = [name for out, _ in ended for name in json.loads(out)["applied"]]
    with connect(empty_database_url) as conn:
        known = [r[0] for r in rows(conn, "SELECT name FROM tradecore.schema_migrations ORDER BY number")]
        assert migrate.pending(conn) == []
    assert sorted(applied) == known, "each was applied by one of them, and by one only"


def test_upgrade_refuses_a_newer_schema_and_touches_nothing(database_url):
    with connect(database_url) as conn:
        conn.execute("INSERT INTO schema_migrations (number, name) VALUES (9001, '9001_from_tomorrow.sql')")
        conn.commit()
        before = table_checksums(conn, row_versions=True)
        with pytest.raises(SchemaTooNew, match="has migration 9001, this release knows up to"):
            migrate.upgrade(conn)
        assert changed_tables(before, table_checksums(conn, row_versions=True)) == {}


# Hypertables and plain tables -----------------------------------------------------------------------------------------

ON_SERVER: dict[str, dict[str, str]] = {}


def test_hypertables_and_plain_tables_hold_the_same_after_the_same_sessions(
    tmp_path, empty_database_url, server_name, monkeypatch
):
    """On TimescaleDB: one database with hypertables, one as on a plain server. On both: the other server's too."""
    with connect(empty_database_url) as conn:
        migrate.upgrade(conn)
        hyper = hypertables(conn)
        assert hyper == ({"bars", "bar_versions", "minute_bars", "trades"} if "Timescale" in server_name else set())
        seen = {"as migrated": traded(make(tmp_path / "a", empty_database_url), conn)}
        if hyper:
            chunks = rows(conn, "SELECT count(*) FROM show_chunks('tradecore.bars')")
            assert chunks[0][0] >= 2, "not exercised: all bars in one chunk"
            conn.execute("DROP SCHEMA tradecore CASCADE")
            conn.commit()
            plain = [m for m in migrate.migrations() if not m[2]]
            with monkeypatch.context() as patch:
                patch.setattr(migrate, "migrations", lambda: plain)
                migrate.upgrade(conn)
            assert hypertables(conn) == set()
            seen["plain tables"] = traded(make(tmp_path / "b", empty_database_url), conn)
    seen |= ON_SERVER
    ON_SERVER[server_name] = seen["as migrated"]
    for name, found in seen.items():
        assert changed_tables(found, seen["as migrated"]) == {}, f"{name} differs"


def hypertables(conn: psycopg.Connection) -> set[str]:
    if not migrate.has_timescaledb(conn):
        return set()
    query = "SELECT hypertable_name FROM timescaledb_information.hypertables WHERE hypertable_schema = 'tradecore'"
    return {r[0] for r in rows(conn, query)}


def traded(project: Project, conn: psycopg.Connection) -> dict[str, str]:
    """Trade three sessions, one with a restated bar, and return what all tables hold but the names of migrations.

    Before them comes a week of another year, so that what is read lies in several chunks.
    """
    for symbol in ("AAPL", "IBM", "MSFT"):
        head, *lines = project.lines(symbol)
        week = [line for line in (SAMPLE / f"{symbol}.csv").read_text().splitlines() if line[:9] == "2003-06-0"]
        (project.prices / f"{symbol}.csv").write_text("\n".join([head, *week, *lines]) + "\n")
    pipeline.load_history(project.settings(), conn, first=date(2003, 6, 2), last=date(2003, 6, 9), now=NOW)
    open_for_trading(project, conn)
    days = project.sessions(3)
    project.trade(conn, *days[:2])
    project.change("IBM", days[0], lambda line: line.replace(line.split(",")[4], line.split(",")[1]))
    project.trade(conn, days[2], now=LATER)
    assert rows(conn, "SELECT count(*) > 0 FROM fills") == [(True,)]
    return table_checksums(conn, leave_out=["schema_migrations"])


# Books ----------------------------------------------------------------------------------------------------------------


def test_book_saved_then_loaded_is_the_same(conn):
    """150 random books with lots, receivables, carried orders and allocations, at the edges of int64 too."""
    instruments = [add_instrument(conn, f"T{k}") for k in range(5)]
    seen: Counter[str] = Counter()
    for seed in range(150):
        rng = random.Random(seed)
        name, at = f"random:{seed}", NOW
        strategies = tuple(f"s{k}" for k in range(rng.randint(0, 3)))
        axes = Axes(instruments=tuple(sorted(rng.sample(instruments, rng.randint(0, 5)))), strategies=strategies)
        add_book(conn, name)
        book, ids = random_book(conn, rng, name, axes, seen)
        digest = books.save(conn, name=name, bar_end=at, session=at.date(), book=book, axes=axes, order_ids=ids)
        loaded = books.load(conn, name, at, axes, with_planned=False)
        again = canonical_book(loaded.book)
        for field, mine, other in zip(Book._fields, book, again, strict=True):
            assert mine.shape == other.shape and np.array_equal(mine, other), f"{field} of book {seed}"  # noqa: PT018
        assert loaded.order_ids == ids
        assert digest == loaded.state_hash == books.state_hash(again, axes)
        held = books.held_axes(conn, name, at, instruments=(), strategies=())
        assert books.load(conn, name, at, held, with_planned=False).order_ids == ids, "held_axes forgets nobody"
        conn.rollback()
    for what in ("lots", "receivables", "carried", "allocations", "short", "two strategies", "beyond 2**53"):
        assert seen[what] >= 20, f"not exercised: {what} in {dict(seen)}"


def add_instrument(conn: psycopg.Connection, symbol: str) -> int:
    row = conn.execute(bars.SQL["add_instrument"], ("XNYS", "USD", 100, 1_000_000)).fetchone()
    assert row is not None
    conn.execute(bars.SQL["add_symbol"], (symbol, date(1900, 1, 1), row[0]))
    conn.commit()
    return int(row[0])


def test_upgrade_tells_what_a_person_ordered_from_what_a_breaker_did(conn):
    """Books of an older layout: a person's halt, one since resumed, a breaker's, and a breaker's over a person's."""
    days = [datetime(2005, 1, d, 21, tzinfo=UTC) for d in (3, 4, 5)]
    cases: dict[str, tuple[list[int], list[tuple[int, int, str]], int]] = {
        "ordered": ([0, 2, 2], [(1, 2, "cli:ann")], 2),
        "resumed": ([2, 0, 2], [(0, 2, "cli:ann"), (1, 0, "cli:ann"), (2, 2, "breaker")], 0),
        "lifted": ([2, 0, 2], [(0, 2, "cli:ann"), (2, 2, "breaker")], 0),
        "breaker": ([0, 2, 2], [(1, 2, "breaker")], 0),
        "both": ([1, 1, 2], [(0, 1, "cli:ann"), (2, 2, "breaker")], 1),
    }
    conn.execute("ALTER TABLE book_states DROP COLUMN ordered_state")
    conn.execute("DELETE FROM schema_migrations WHERE number = 4")
    for name, (states, events, _) in cases.items():
        add_book(conn, name)
        for at, state in zip(days, states, strict=True):
            conn.execute(
                "INSERT INTO book_states VALUES (%s, %s, %s, 0, 0, 0, 0, 0, 0, 0, %s, 0, '')",
                (name, at, at.date(), state),
            )
        for day, to_state, actor in events:
            conn.execute(books.SQL["add_state_event"], (name, days[day], 1, 0, to_state, actor, ""))
    conn.commit()
    migrate.upgrade(conn)
    found = dict(conn.execute("SELECT book, ordered_state FROM book_states WHERE bar_end_at = %s", (days[-1],)))
    assert found == {name: expected for name, (_, _, expected) in cases.items()}


def add_book(conn: psycopg.Connection, name: str) -> None:
    record = dict.fromkeys(("calendar", "timeframe", "source", "universe"), "x")
    record |= {"book": name, "account": name, "kind": "simulated", "currency": "USD"}
    conn.execute(books.SQL["add_book"], {**record, "inception_at": NOW, "now": NOW})


def random_book(
    conn: psycopg.Connection, rng: random.Random, name: str, axes: Axes, seen: Counter[str]
) -> tuple[Book, dict[tuple[int, int], str]]:
    """Return a canonical book of random content, and its orders' ids; their intents are in the database."""
    n, strategies = len(axes.instruments), len(axes.strategies)
    biggest = rng.choice((10**6, 10**12, 2**62))
    lots = [rng.randint(0, 4) for _ in range(n)]
    orders = rng.randint(0, 4) if n else 0
    book = new_book(cash_e4=0, n_instruments=n, n_strategies=strategies, n_lots=max(lots, default=0), n_orders=orders)
    state = [rng.randint(0, 2), rng.randint(0, 400), rng.randint(0, 2)]
    book.acct[:N_ORDERS] = [rng.randint(-biggest, biggest) for _ in range(7)] + state
    for i in range(n):
        if rng.random() < 0.7:
            book.qty[i], book.mark[i] = rng.randint(-biggest, biggest), rng.randint(0, biggest)
        book.stale[i] = rng.choice((0, 0, 1, 300))
        lots[i] *= bool(book.qty[i])  # lots are of a position
        book.lot_count[i] = lots[i]
        for k in range(lots[i]):
            book.lot_qty[i, k], book.lot_cost[i, k] = rng.randint(-biggest, biggest), rng.randint(-biggest, biggest)
            book.lot_opened[i, k] = rng.randint(0, 2**62)
        due = sorted(rng.sample(range(10_000, 30_000), rng.choice((0, 0, 1, 3, RECEIVABLE_SLOTS))))
        book.recv_day[i, : len(due)] = due
        book.recv_amount[i, : len(due)] = [rng.randint(-biggest, biggest) for _ in due]
        for s in range(strategies):
            book.alloc[s, i] = rng.choice((0, rng.randint(-biggest, biggest)))
        seen.update({"lots": lots[i] > 1, "receivables": len(due) > 0, "short": bool(book.qty[i] < 0)})
    ids = {}
    decided = sorted(NOW - timedelta(days=rng.randint(1, 9)) for _ in range(orders))
    for k, at in enumerate(decided):
        row, i = book.order[k], rng.randrange(n)
        row[[O_SPLIT_NUM, O_SPLIT_DEN]] = 1
        row[O_INSTR], row[O_QTY] = i, rng.choice((-1, 1)) * rng.randint(1, biggest)
        row[O_REM], row[O_AGE], row[O_LINE] = int(row[O_QTY]) // 2 or row[O_QTY], rng.randint(1, 5), k + 1
        row[O_LIMIT], row[O_STOP], row[O_REF] = (rng.randint(0, biggest) for _ in range(3))
        row[O_REMAINDER], row[O_DECIDED_NS] = rng.randrange(len(REMAINDERS)), to_ns(at)
        for s in range(strategies):
            book.want[k, s] = rng.choice((0, rng.randint(-biggest, biggest)))
        ids[to_ns(at), k + 1] = f"{name}-{k}"
        add_intent(conn, name, f"{name}-{k}", at, axes.instruments[i], row)
    book.acct[N_ORDERS] = orders
    seen.update({"carried": orders > 0, "allocations": bool(book.alloc.any()), "two strategies": strategies > 1})
    seen["beyond 2**53"] += bool(np.abs(book.acct).max() > 2**53)
    return canonical_book(book), ids


def add_intent(conn: psycopg.Connection, name: str, order_id: str, at: datetime, instrument: int, row: Any) -> None:
    conn.execute(
        "INSERT INTO intents (client_order_id, book, account, bar_end_at, version, instrument_id, line_no, epoch,"
        " order_qty_e6, order_type, time_in_force, remainder, ref_price_e4, next_bar_end_at, reason)"
        " VALUES (%s, %s, %s, %s, 1, %s, %s, %s, %s, 'market', 'day', %s, %s, %s, 'test')",
        (
            *(order_id, name, name, at, instrument, int(row[O_LINE]), int(row[O_LINE]), int(row[O_QTY])),
            *(REMAINDERS[row[O_REMAINDER]], int(row[O_REF]), at),
        ),
    )


def leave(project: Project, symbol: str, on: date, how: str) -> None:
    """Have a name leave the universe: by a date, or by its line being taken out of the configuration."""
    config = yaml.safe_load(project.config.read_text())
    if how == "taken out":
        del config["universe"]["members"][symbol]
    else:
        config["universe"]["members"][symbol]["member_to"] = on
    project.config.write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.mark.parametrize("how", ["member_to", "taken out"])
def test_name_that_left_the_universe_is_settled_and_then_sold(tmp_path, database_url, conn, how: str):
    """An order for MSFT is out when it leaves: it fills, and what it filled is sold at the next open."""
    project = make(tmp_path, database_url)
    open_for_trading(project, conn)
    first, *later = project.sessions(9)
    project.trade(conn, first)
    sent = {r[0] for r in rows(conn, "SELECT symbol FROM orders JOIN instrument_symbols USING (instrument_id)")}
    assert "MSFT" in sent, "not exercised: no order for MSFT"
    leave(project, "MSFT", later[0], how)
    done = project.trade(conn, *later)
    mine = "FROM {} JOIN instrument_symbols USING (instrument_id) WHERE symbol = 'MSFT'"
    fills = rows(conn, f"SELECT qty_e6, bar_end_at::date {mine.format('fills')} ORDER BY fill_no, bar_end_at")
    assert [day for _, day in fills] == later[:2]
    assert fills[0][0] > 0, "bought at the first open"
    assert sum(q for q, _ in fills) == 0, "and sold at the second"
    told = rows(conn, f"SELECT bar_end_at::date, after_value {mine.format('risk_events')} AND rule = 'left_universe'")
    assert told == [(later[0], 0)]
    asked = rows(conn, f"SELECT max(session_date) {mine.format('bar_versions')}")
    assert asked == [(later[4 if how == "member_to" else 1],)], "while held, and while bars of a member are restated"
    assert [r["validate"]["gate_open"] for r in done] == [True] * len(later)
    assert rows(conn, "SELECT members_due FROM quality_results ORDER BY bar_end_at DESC LIMIT 1") == [(3,)]


def test_name_that_left_and_is_served_no_more_is_kept_and_stops_nobody_else(tmp_path, database_url, conn):
    project = make(tmp_path, database_url)
    open_for_trading(project, conn)
    first, *later = project.sessions(3)
    project.trade(conn, first)
    leave(project, "MSFT", later[0], "taken out")
    (project.prices / "MSFT.csv").unlink()
    done = project.trade(conn, *later)
    assert "MSFT" in done[0]["ingest"]["failures"][0]
    ended = "SELECT status FROM orders JOIN instrument_symbols USING (instrument_id) WHERE symbol = %s"
    assert rows(conn, ended, "MSFT") == [("EXPIRED",)], "it met no bar"


# Bars: append-only versions, restatements, corporate actions ----------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, database_url: str, conn: psycopg.Connection) -> Project:
    """A project that has traded its first three sessions."""
    project = make(tmp_path, database_url)
    open_for_trading(project, conn)
    project.trade(conn, *project.sessions(3))
    return project


DECIDED = (
    *("signals", "strategy_runs", "decisions", "targets", "target_contributions", "risk_events", "risk_snapshots"),
    *("intents", "order_events", "fills", "approvals", "book_states", "book_positions", "book_lots", "book_events"),
    *("bar_runs", "manifests", "cash_events", "state_events", "reports"),
)


def until(conn: psycopg.Connection, session: date) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows about the bars up to a session's, table by table, with xmin: whether they were rewritten."""
    at = f"(SELECT max(bar_end_at) FROM book_states WHERE session_date <= '{session}')"
    return {t: sorted(rows(conn, f"SELECT xmin::text, t.*::text FROM {t} t WHERE bar_end_at <= {at}")) for t in DECIDED}


def test_restated_bar_is_a_new_version_validated_again_and_changes_no_decided_session(project, conn):
    *_, day = days = project.sessions(4)
    restated = days[1]
    versions = rows(conn, "SELECT xmin::text, v.*::text FROM bar_versions v")
    judged = "SELECT count(*) FROM quality_results WHERE session_date = %s"
    assert rows(conn, judged, restated) == [(1,)]
    before = until(conn, days[2])
    old = project.change("IBM", restated, lambda line: line.replace(line.split(",")[4], "93.8"))
    assert float(old.split(",")[4]) != 93.8
    project.trade(conn, day, now=LATER)

    assert set(versions) < set(rows(conn, "SELECT xmin::text, v.*::text FROM bar_versions v")), "append-only"
    mine = "FROM {} JOIN instrument_symbols USING (instrument_id) WHERE symbol = 'IBM' AND session_date = %s"
    found = rows(conn, f"SELECT close, known_at, known_at_assumed {mine.format('bar_versions')} ORDER BY 2", restated)
    assert found == [(float(old.split(",")[4]), NOW, False), (93.8, LATER, False)]
    assert rows(conn, f"SELECT close_e4, known_at {mine.format('bars')}", restated) == [(938_000, LATER)]
    assert rows(conn, judged, restated) == [(2,)], "validated again"
    assert rows(conn, judged, days[0]) == [(1,)], "what did not change is not"
    assert until(conn, days[2]) == before

    # back to what it was: a third version, selected again, and the verdict on it is the one that counts
    project.change("IBM", restated, lambda line: old)
    project.trade(conn, project.sessions(5)[-1], now=LATER + timedelta(hours=1))
    assert rows(conn, f"SELECT count(*) {mine.format('bar_versions')}", restated) == [(3,)]
    assert rows(conn, f"SELECT close_e4 {mine.format('bars')}", restated) == [(round(float(old.split(",")[4]) * 1e4),)]
    again = pipeline.validate(ctx_of(project, conn, project.sessions(5)[-1]))
    assert again["validated"] == 0, "nothing is validated twice"


def ctx_of(project: Project, conn: psycopg.Connection, day: date) -> pipeline.Context:
    (ctx,) = pipeline.contexts(project.settings(), conn, book="sim", session_date=day, now=LATER + timedelta(hours=2))
    return ctx


def test_bad_restatement_leaves_the_good_bar_that_was_validated(project, conn):
    """IBM's bar is restated into nonsense, its neighbour's of the next session was never good: only one has a bar."""
    *_, third, day, after = project.sessions(5)
    mine = "FROM bars JOIN instrument_symbols USING (instrument_id) WHERE symbol = 'IBM' AND session_date = %s"
    before = rows(conn, f"SELECT bars.xmin::text, bars.*::text {mine}", third)
    old = project.change("IBM", third, lambda line: line.replace(line.split(",")[4], "-1"))
    project.change("IBM", day, lambda line: line.replace(line.split(",")[4], "-1"))
    (done,) = project.trade(conn, day, now=LATER)
    assert rows(conn, f"SELECT bars.xmin::text, bars.*::text {mine}", third) == before
    assert rows(conn, f"SELECT 1 {mine}", day) == [], "never invented"
    assert done["validate"]["rows_failed"] == 2
    told = "SELECT message LIKE '%%earlier good bar stays%%' FROM quarantined_bars WHERE session_date = %s"
    assert (set(rows(conn, told, third)), set(rows(conn, told, day))) == ({(True,)}, {(False,)})
    alert = rows(conn, "SELECT severity, title, body FROM alerts WHERE kind = 'bad_restatement'")
    assert [(a[0], a[2]) for a in alert] == [("warning", f"csv: IBM {third} 21:00.")]
    project.change("IBM", third, lambda line: old)
    project.trade(conn, after, now=LATER + timedelta(days=1))
    close = rows(conn, f"SELECT close_e4, known_at {mine}", third)
    assert close == [(round(float(old.split(",")[4]) * 1e4), LATER + timedelta(days=1))], "good again, and newer"


def test_bar_that_an_own_statement_of_now_fails_is_dropped(project, conn):
    """The same statement under a stricter suite: nothing earlier was good, so no bar is left."""
    mine = "FROM bars JOIN instrument_symbols USING (instrument_id) WHERE symbol = 'IBM' AND session_date = %s"
    *_, last, day = project.sessions(4)
    assert len(rows(conn, f"SELECT 1 {mine}", last)) == 1
    config = yaml.safe_load(project.config.read_text())
    config["validation"] |= {"max_jump_frac": 1e-6, "min_coverage": 0, "max_missing": 4}
    project.config.write_text(yaml.safe_dump(config, sort_keys=False))
    project.trade(conn, day)
    assert rows(conn, f"SELECT 1 {mine}", last) == []


def test_restatement_in_a_bulk_load_is_kept_and_known_from_now_on(project, conn):
    """A bulk load assumes when bars were known; what contradicts them was learned now, and must not get lost."""
    day = date(2005, 1, 12)
    before = until(conn, project.sessions(3)[-1])
    project.change("IBM", day, lambda line: line.replace(line.split(",")[4], "94.9"))
    result = pipeline.load_history(project.settings(), conn, first=HISTORY, last=FIRST, now=LATER)
    assert (result["versions"], result["sessions"]) == (1, [str(day)])
    mine = "FROM {} JOIN instrument_symbols USING (instrument_id) WHERE symbol = 'IBM' AND session_date = %s"
    query = f"SELECT close, known_at_assumed, known_at = %s {mine.format('bar_versions')} ORDER BY known_at"
    assert rows(conn, query, LATER, day)[1:] == [(94.9, False, True)]
    assert rows(conn, f"SELECT close_e4 {mine.format('bars')}", day) == [(949_000,)]
    assert until(conn, project.sessions(3)[-1]) == before
    result = pipeline.load_history(project.settings(), conn, first=HISTORY, last=FIRST, now=LATER + timedelta(hours=1))
    assert (result["versions"], result["validated"]) == (0, 0)


def test_duplicate_that_the_vendor_takes_back_is_forgiven(project, conn):
    *_, day, after = project.sessions(5)
    line = project.line("IBM", day)
    twice = line.replace(line.split(",")[4], line.split(",")[1])
    assert twice != line
    project.change("IBM", day, lambda line: f"{line}\n{twice}")
    project.trade(conn, day)
    mine = "FROM bars JOIN instrument_symbols USING (instrument_id) WHERE symbol = 'IBM' AND session_date = %s"
    assert rows(conn, f"SELECT count(*) {mine}", day) == [(0,)], "nobody knows which of the two is right"
    text = (project.prices / "IBM.csv").read_text()
    (project.prices / "IBM.csv").write_text(text.replace(f"{twice}\n", ""))
    project.trade(conn, after, now=LATER)
    assert rows(conn, f"SELECT close_e4 {mine}", day) == [(round(float(line.split(",")[4]) * 1e4),)]


@pytest.mark.parametrize("way", ["session", "bulk load"])
def test_late_corporate_action_changes_later_factors_only(project, conn, way: str):
    *days, day = project.sessions(4)
    ex_date = days[1] if way == "session" else date(2005, 1, 12)
    query = (
        "SELECT session_date, adj_factor, open_e4, close_e4, volume, known_at FROM bars JOIN instrument_symbols"
        " USING (instrument_id) WHERE symbol = %s ORDER BY 1"
    )
    old = {symbol: rows(conn, query, symbol) for symbol in SYMBOLS}
    before = until(conn, days[2])
    actions = project.prices / "corporate_actions.csv"
    for amount, now in ((1.5, LATER), (0.5, LATER + timedelta(hours=1))):  # learned late, then corrected
        text = [line for line in actions.read_text().splitlines() if not line.startswith(f"IBM,{ex_date}")]
        actions.write_text("\n".join([*text, f"IBM,{ex_date},dividend,,,{amount},"]) + "\n")
        if way == "session":
            pipeline.ingest(ctx_at(project, conn, day, now))
        else:
            last = book_calendar(project.settings()).previous_session(FIRST)
            assert pipeline.load_history(project.settings(), conn, first=HISTORY, last=last, now=now)["actions"] == 1
        for symbol in SYMBOLS:
            new = rows(conn, query, symbol)[: len(old[symbol])]
            assert [r[2:] for r in new] == [r[2:] for r in old[symbol]], "raw prices stay as they were"
            close = next(r[3] for r in old[symbol] if r[0] == ex_date) / 10_000
            for was, became in zip(old[symbol], new, strict=True):
                factor = 1 + amount / close if symbol == "IBM" and was[0] >= ex_date else 1.0
                assert became[1] == pytest.approx(was[1] * factor, rel=1e-12)
                assert factor != 1.0 or became[1] == was[1], "bit for bit"
    known = rows(conn, "SELECT dividend_e6, known_at, known_at_assumed FROM corporate_actions JOIN instrument_symbols"
                 " USING (instrument_id) WHERE symbol = 'IBM' AND ex_date = %s ORDER BY 2", ex_date)  # fmt: skip
    assert [r[0] for r in known] == [1_500_000, 500_000], "the first one stays, too"
    assert known[1][1:] == (LATER + timedelta(hours=1), False)
    assert until(conn, days[2]) == before


def test_split_that_a_holder_learns_of_too_late_is_told_once(project, conn):
    """The bars halve, unexplained; the split comes a session later: prices, factors and the book get right."""
    *_, second, third, fourth = project.sessions(7)
    project.trade(conn, *project.sessions(4))
    held = "SELECT qty_e6 FROM book_positions JOIN instrument_symbols USING (instrument_id) WHERE symbol = 'MSFT'" \
           " ORDER BY bar_end_at DESC LIMIT 1"  # fmt: skip
    ((qty,),) = rows(conn, held)
    assert qty > 0, "not exercised: MSFT is not held"
    for line in [line for line in project.lines("MSFT") if str(second) <= line < "a"]:
        head, *prices, volume, rest = line.split(",")
        halved = ",".join([head, *(f"{float(x) / 2:.2f}" for x in prices), volume, rest])
        project.change("MSFT", date.fromisoformat(head), lambda line, halved=halved: halved)
    project.trade(conn, second, now=LATER)
    told = "SELECT title, session_date, body FROM alerts WHERE kind = 'missed_action'"
    assert rows(conn, told) == []
    jumps = "SELECT count(*) FROM quarantined_bars WHERE symbol = 'MSFT' AND expectation LIKE %s"
    assert rows(conn, jumps, "%jump_frac") == [(1,)]
    with (project.prices / "corporate_actions.csv").open("a") as file:
        file.write(f"MSFT,{second},split,2,1,,\n")
    project.trade(conn, third, now=LATER + timedelta(hours=1))
    project.trade(conn, fourth, now=LATER + timedelta(hours=2))
    ((title, session, body),) = rows(conn, told)
    assert (title, session) == ("A split of MSFT became known too late", third)
    assert f"It went ex on {second}" in body
    put_right = "SELECT qty_before_e6, qty_e6 FROM book_corrections"
    assert rows(conn, put_right) == [(qty, 2 * qty)], "what was held before the split"
    bar = "SELECT count(*) FROM bars JOIN instrument_symbols USING (instrument_id) WHERE symbol = 'MSFT'" \
          " AND session_date >= %s AND adj_factor > 1.9"  # fmt: skip
    assert rows(conn, bar, second) == [(3,)], "explained now, selected, and adjusted"


def ctx_at(project: Project, conn: psycopg.Connection, day: date, now: datetime) -> pipeline.Context:
    (ctx,) = pipeline.contexts(project.settings(), conn, book="sim", session_date=day, now=now)
    return ctx


@pytest.mark.parametrize("count", [10, 5_000])
def test_loads_go_through_copy(conn, monkeypatch, count: int):
    """One COPY into a stage and one statement out of it, however many rows there are; straight in where none are."""
    instrument = add_instrument(conn, "COPY")
    batch = np.zeros(count, VERSIONS)
    batch["instrument_id"] = instrument
    batch["bar_end_ns"] = to_ns(NOW) + np.arange(count) * 86_400_000_000_000
    batch["known_ns"], batch["session_day"] = batch["bar_end_ns"], 12_000 + np.arange(count)
    for name in ("open", "high", "low", "close", "volume"):
        batch[name] = 10.0
    said: list[str] = []
    for method in ("execute", "executemany", "copy"):
        original = getattr(psycopg.Cursor, method)

        def spy(self: Any, query: Any, *args: Any, original: Any = original, **more: Any) -> Any:
            said.append(query.as_string(self) if isinstance(query, sql.Composable) else str(query))
            return original(self, query, *args, **more)

        monkeypatch.setattr(psycopg.Cursor, method, spy)
    where = {"timeframe": "1d", "source": "test"}
    sessions = bars.append_versions(conn, **where, rows=batch, now=NOW)
    assert len(sessions) == count
    ends = [NOW + timedelta(days=k) for k in range(count)]
    found = bars.latest_versions(conn, **where, instruments=[instrument], bar_ends=ends)
    assert len(found) == count
    assert selection.select_bars(conn, **where, passed=found, failed=[], now=NOW) == []
    copies = [text.split(" (")[0] for text in said if text.startswith("COPY")]
    assert copies == ['COPY "bar_versions"', 'COPY "stage_bars"']
    assert len(said) < 25, said
    batch["close"][::2] = 10.5
    said.clear()
    assert bars.append_versions(conn, **where, rows=batch, now=LATER) == sessions[::2]
    assert [text.split(" (")[0] for text in said if text.startswith("COPY")] == ['COPY "stage_versions"']
    assert len(said) < 10, said
    kept = conn.execute("SELECT count(*) FROM bar_versions WHERE source = 'test'").fetchone()
    assert kept == (count + count // 2,), "the earlier ones stay"
    assert rows(conn, "SELECT count(*) FROM bars WHERE source = 'test'") == [(count,)]
    assert rows(conn, "SELECT count(*) FROM bars WHERE source = 'test'") == [(0,)], "rolled back with its transaction"


VERSIONS = np.dtype(
    [
        *(("instrument_id", "i4"), ("bar_end_ns", "i8"), ("dup_no", "i2"), ("known_ns", "i8"), ("assumed", "?")),
        *(("session_day", "i4"), ("open", "f8"), ("high", "f8"), ("low", "f8"), ("close", "f8"), ("volume", "f8")),
    ]
)
