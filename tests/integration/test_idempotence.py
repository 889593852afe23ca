"""Every stage may run again: what is done changes no row, however it is called."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest
from project_home import NOW, OWN, make, open_for_trading, rows

from table_checksums import changed_tables, table_checksums
from tradecore import pipeline, strategies
from tradecore.context import book_calendar
from tradecore.storage.connection import connect

pytestmark = [pytest.mark.db, pytest.mark.hypertable]
STAGES = ("ingest", "validate", "settle", "signal", "risk", "plan", "report", "approve", "submit", "close")
LATER = NOW + timedelta(hours=5)


@pytest.fixture(scope="module")
def once_traded(tmp_path_factory, module_database_url):
    """A project with two strategies that traded three sessions, with fills, a bad line and a failed strategy."""
    project = make(tmp_path_factory.mktemp("traded"), module_database_url, own={"on_failure": "hold"})
    with closing(connect(module_database_url)) as conn:
        open_for_trading(project, conn)
        days = project.sessions(3)
        project.trade(conn, days[0])
        project.change("IBM", days[1], lambda line: line.replace(line.split(",")[4], "-1"))
        project.trade(conn, days[1])
        project.model.unlink()
        project.trade(conn, days[2])
        project.model.write_text("-1.0\n")
        for what in ("fills", "quarantined_bars", "alerts", "book_positions", "intents"):
            assert rows(conn, f"SELECT count(*) > 0 FROM {what}") == [(True,)], f"not exercised: {what}"
        assert rows(conn, "SELECT count(*) FROM strategy_runs WHERE NOT ok AND strategy = %s", OWN) == [(1,)]
    return project


@pytest.fixture
def traded(once_traded, copied_database):
    """That project with a database of this test's own: a copy of what the three sessions left, row versions and all."""
    strategies.REGISTRY.pop(OWN, None)  # this project's file, not the one of the test before
    with copied_database(once_traded.database_url) as url:
        yield replace(once_traded, database_url=url)


@pytest.fixture
def conn(request):
    """A connection to the test's own database: the copy if it takes `traded`, else a fresh one."""
    if "traded" in request.fixturenames:
        url = request.getfixturevalue("traded").database_url
    else:
        url = request.getfixturevalue("database_url")
    with closing(connect(url)) as connection:
        yield connection


def test_run_session_again_changes_no_row(traded, conn):
    before = table_checksums(conn, row_versions=True)
    report = (traded.home / ".local" / "reports" / "sim" / f"{traded.sessions(3)[1]}.html").read_bytes()
    for day in traded.sessions(3):
        assert traded.run("run-session", str(day), "--json").code == 0
        assert changed_tables(before, table_checksums(conn, row_versions=True)) == {}, day
    for day in traded.sessions(3):
        traded.trade(conn, day, now=LATER)
        assert changed_tables(before, table_checksums(conn, row_versions=True)) == {}, day
    assert (traded.home / ".local" / "reports" / "sim" / f"{traded.sessions(3)[1]}.html").read_bytes() == report


@pytest.mark.parametrize("stage", STAGES)
def test_stage_again_changes_no_row(traded, conn, stage: str):
    before = table_checksums(conn, row_versions=True)
    for day in traded.sessions(3):
        said = traded.run(stage, str(day), "--json")
        assert said.code == 0, said.err
    assert changed_tables(before, table_checksums(conn, row_versions=True)) == {}


def test_each_stage_twice_is_as_each_stage_once(tmp_path, database_url, conn):
    """The second call of a stage, right after the first and before the next one, changes no row."""
    project = make(tmp_path, database_url, own={"on_failure": "hold"})
    open_for_trading(project, conn)
    found = project.settings()
    for day in project.sessions(3):
        for stage in STAGES:
            once = call(found, conn, day, stage, NOW)
            twice = call(found, conn, day, stage, NOW + timedelta(minutes=5))
            assert changed_tables(once, twice) == {}, f"{stage} of {day}"
    assert rows(conn, "SELECT count(*) > 0 FROM fills") == [(True,)]


def call(found, conn, day, stage: str, now) -> dict[str, str]:
    """Run one stage (each strategy of `signal`) and return the tables after it."""
    (ctx,) = pipeline.contexts(found, conn, book="sim", session_date=day, now=now)
    for args in [(name,) for name in pipeline.strategies(ctx)] if stage == "signal" else [()]:
        getattr(pipeline, stage)(ctx, *args)
    return table_checksums(conn, row_versions=True)


def test_load_history_init_and_upgrade_again_change_no_row(traded, conn):
    before = table_checksums(conn, row_versions=True)
    day = book_calendar(traded.settings()).previous_session(traded.sessions(1)[0])
    for command in (
        ("load-history", "2004-12-01", str(day)),
        ("init", "--before", str(traded.sessions(1)[0])),
        ("db", "upgrade"),
        ("db", "upgrade"),
    ):
        said = traded.run(*command, "--json")
        assert said.code == 0, said.err
        assert changed_tables(before, table_checksums(conn, row_versions=True)) == {}, command


def test_looking_changes_no_row(traded, conn):
    before = table_checksums(conn, row_versions=True)
    day = str(traded.sessions(2)[1])
    for command in (("book",), ("summary", day), ("status",), ("backtest", str(traded.sessions(1)[0]), day)):
        said = traded.run(*command, "--json")
        assert said.document, command
        assert changed_tables(before, table_checksums(conn, row_versions=True)) == {}, command


def test_replay_again_equals_the_first_and_touches_no_other_book(traded, conn):
    """The same sessions in a book of another name: the same in all but its name; run again it changes no row."""
    found, days = traded.settings(), traded.sessions(2)
    before = {t: c for t, c in table_checksums(conn).items() if t in ("bars", "bar_versions", "corporate_actions")}
    mine = books_rows(conn, "sim", days[-1])
    pipeline.open_book(found, conn, book="replay:again", before=days[0], now=LATER)
    for _ in range(2):
        for day in days:
            pipeline.run_session(found, conn, book="replay:again", session_date=day, now=LATER)
        assert books_rows(conn, "replay:again", days[-1]) == books_rows(conn, "sim", days[-1]) == mine
        done = table_checksums(conn, row_versions=True)
        assert {t: c for t, c in table_checksums(conn).items() if t in before} == before
    for day in days:
        pipeline.run_session(found, conn, book="replay:again", session_date=day, now=LATER + timedelta(hours=1))
    assert changed_tables(done, table_checksums(conn, row_versions=True)) == {}


def books_rows(conn, book: str, until) -> dict[str, list[tuple]]:
    """Return what a book did up to a session, without its name, its ids and the clock."""
    last = f"(SELECT max(bar_end_at) FROM book_states WHERE session_date <= '{until}')"
    queries = {
        "book_states": "bar_end_at, cash_e4, equity_e4, realised_e4, fees_e4, trading_state, state_hash",
        "book_positions": "bar_end_at, instrument_id, qty_e6, mark_e4, stale_bars",
        "book_lots": "bar_end_at, instrument_id, lot_no, qty_e6, cost_e4, opened_ns",
        "book_allocations": "bar_end_at, strategy, instrument_id, qty_e6",
        "signals": "bar_end_at, strategy, instrument_id, score::text",
        "targets": "bar_end_at, version, instrument_id, weight_ppm, qty_e6, ref_price_e4, has_opinion",
        "intents": "bar_end_at, version, instrument_id, line_no, order_qty_e6, ref_price_e4",
        "fills": "bar_end_at, instrument_id, qty_e6, price_e4, fee_e4",
    }
    return {
        table: rows(
            conn, f"SELECT {columns} FROM {table} WHERE book = %s AND bar_end_at <= {last} ORDER BY 1, 2, 3", book
        )
        for table, columns in queries.items()
    }
