"""What somebody types in the first hour, and the answer that says what is so and what comes next."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import psycopg
import pytest
import typer
from project_home import FIRST, Project, make, open_for_trading, rows

from tradecore.cli import shell

pytestmark = pytest.mark.db


@pytest.fixture
def project(tmp_path: Path, database_url: str, conn: psycopg.Connection) -> Project:
    found = make(tmp_path, database_url)
    open_for_trading(found, conn)
    return found


@pytest.mark.parametrize(
    ("first", "last"), [("2005-02-01", "2005-01-03"), ("2005-01-08", "2005-01-09")], ids=["turned round", "a weekend"]
)
@pytest.mark.parametrize("command", ["load-history", "backtest"])
def test_a_range_without_a_session_is_an_error_with_a_next_step(project, command, first, last):
    said = project.run(command, first, last)
    assert said.code == 1
    assert re.search(r"error: .*(there is no session of XNYS|is empty)", said.err)
    assert "next: give" in said.err


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        ("2005-01-03", "2005-03-31", "those of 2005-01-03 to 2005-01-31 are there"),
        ("2004-09-01", "2005-01-31", "those of 2004-12-01 to 2005-01-31 are there"),
        ("2004-06-01", "2004-09-01", "none is there"),
    ],
)
def test_a_backtest_does_not_run_past_the_bars_of_the_database(project, first, last, found):
    said = project.run("backtest", first, last)
    assert (said.code, said.out) == (1, "")
    assert found in said.err
    assert f"next: python -m tradecore load-history {first} {last}" in said.err


def test_a_backtest_of_what_is_loaded_runs(project):
    assert project.run("backtest", "2005-01-03", "2005-01-31").code == 0


def test_a_backtest_over_a_session_without_bars_names_it_and_runs_only_if_told_to(project, conn):
    conn.execute("DELETE FROM bars WHERE bar_end_at::date IN ('2005-01-12', '2005-01-13')")
    conn.commit()
    said = project.run("backtest", "2005-01-03", "2005-01-31")
    assert (said.code, said.out) == (1, "")
    assert "no bar of session 2005-01-12 and 1 more up to 2005-01-13" in said.err
    assert "next: python -m tradecore load-history 2005-01-12 2005-01-13" in said.err
    told = project.run("backtest", "2005-01-03", "2005-01-31", "--allow-gaps")
    assert told.code == 0, told.err
    assert "2 sessions without bars, the first 2005-01-12" in told.out


def test_init_of_an_open_book_says_where_the_book_is(project, conn):
    project.trade(conn, FIRST)
    said = project.run("init", "--before", "2005-03-01")
    assert said.code == 0, said.err
    assert said.out == "book sim is open since 2005-01-31 already; it stays as it is; its next session is 2005-02-02\n"
    assert rows(conn, "SELECT count(*) FROM books") == [(1,)]


def test_a_book_whose_feed_has_ended_is_not_late(project, conn):
    """`watch` says the same: nothing is scheduled past the end of a feed."""
    project.configure({"data": {"last_session": date(2005, 3, 31)}})
    said = project.run("status")
    assert (said.code, "LATE" in said.out) == (0, False)
    assert said.out.splitlines()[0].endswith("; next session 2005-02-01")
    assert said.out.endswith("all is well\n")
    assert project.run("doctor").code == 0


@pytest.mark.parametrize(
    "command",
    [
        "orders",
        "breaks",
        "book",
        "status",
        "halt --reason x",
        "resume --reason x",
        *(f"{name} {FIRST}" for name in ("summary", "window", "approve", "run-session", "ingest", "settle", "submit")),
    ],
)
def test_a_book_that_is_not_open_is_no_empty_answer(project, command):
    said = project.run(*command.split(), "--book", "nope")
    assert (said.code, said.err.splitlines()[0]) == (1, "error: book 'nope' is not open.")


def test_the_configured_book_that_is_not_open_yet_is_told_with_its_next_step(tmp_path, database_url):
    """It is not named by hand, and nothing is wrong with it: `status` is what one asks first."""
    said = make(tmp_path, database_url).run("status", "--json")
    assert (said.code, said.document["open"]) == (0, False)


def test_the_checks_of_an_order_that_is_none(project):
    said = project.run("checks", "tc-nope")
    assert (said.code, said.err.splitlines()[0]) == (1, "error: there is no order 'tc-nope'.")


def test_status_says_what_a_person_ordered_until_it_is_in_force(project, conn):
    first, second = project.sessions(2)
    project.trade(conn, first)
    assert "ordered" not in project.run("status").out
    assert project.run("halt", "--reason", "lunch").code == 0
    assert re.search(r"ordered: HALTED from 2005-02-02 21:00 UTC on, by cli:\w+: .*lunch", project.run("status").out)
    assert project.run("resume", "--reason", "back").code == 0
    assert "ordered: ACTIVE from 2005-02-02 21:00 UTC on" in project.run("status").out
    project.trade(conn, second)
    assert "ordered" not in project.run("status").out


def test_every_example_of_the_help_can_be_pasted():
    commands = {name: c.help or "" for name, c in typer.main.get_command(shell.app).commands.items()}  # type: ignore[attr-defined]
    examples = {name: re.findall(r"Example[^:]*: (.*)", text) for name, text in commands.items()}
    assert sum(map(len, examples.values())) > 20
    for name, found in examples.items():
        for line in found:
            assert f"python -m tradecore {name}" in line, line


def test_a_book_keeps_its_venue(project, conn):
    """After the demo, with broker: alpaca-paper written under the old book's name: nothing goes on as if it were so."""
    project.trade(conn, FIRST)
    project.configure({"book": {"broker": "alpaca-paper"}})
    keys = {"ALPACA_API_KEY": "k" * 20, "ALPACA_SECRET_KEY": "s" * 40}
    for command in (["init"], ["run-session", "2005-02-02"]):
        said = project.run(*command, environ=keys)
        assert said.code == 1, said.out
        assert "was opened as simulated, and book.broker is alpaca-paper now" in said.err
        assert "book.name in trading.yaml" in said.err


def test_a_page_that_cannot_be_written_is_said_before_the_work(project: Project, tmp_path: Path):
    (tmp_path / "file").write_text("")
    for option in ("--report", "--equity", "--trades", "--round-trips", "--lots"):
        said = project.run("backtest", "2005-01-03", "2005-01-31", option, str(tmp_path / "file" / "page"))
        assert said.code == 1
        assert "cannot be written" in said.err
        assert "next: name another file" in said.err
    assert said.out == ""


def test_asking_for_no_backtest_asks_for_an_id(project: Project):
    said = project.run("backtests", "show", "")
    assert (said.code, "no id was given" in said.err) == (1, True)
