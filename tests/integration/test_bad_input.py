"""Bad input through the command line: what is said of it, and that nothing is lost or half-written.

A message says what, where, the value and the rule; the next step is one that helps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date

import psycopg
import pytest
from project_home import FIRST, REPO, SYMBOLS, Project, Said, make, open_for_trading, rows

from table_checksums import changed_tables, table_checksums
from tradecore.storage.connection import connect

pytestmark = [pytest.mark.db, pytest.mark.hypertable]


@dataclass(frozen=True, slots=True)
class Shop:
    """One project for the tests of this module. Each bad bar has a session of its own; what is refused leaves none."""

    project: Project
    conn: psycopg.Connection
    sessions: tuple[date, ...]


@pytest.fixture(scope="module")
def shop(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    project = make(tmp_path_factory.mktemp("shop"), module_database_url)
    with connect(module_database_url) as conn:
        open_for_trading(project, conn)
        yield Shop(project, conn, project.sessions(40))


def column(line: str, name: str) -> str:
    return line.split(",")[("session_date", "open", "high", "low", "close", "volume").index(name)]


def setting(name: str, value: str) -> Callable[[str], str]:
    """Return a change of a line that gives a column another value."""

    def change(line: str) -> str:
        values = line.split(",")
        values[("session_date", "open", "high", "low", "close", "volume").index(name)] = value
        return ",".join(values)

    return change


# Bars that cannot be -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BadBar:
    """One line of IBM.csv changed: the expectation that finds it, and what its message has to name."""

    name: str
    at: int
    change: Callable[[str], str]
    expectation: str
    says: tuple[str, ...]
    kept: int = 1
    in_quarantine: int = 1


BAD_BARS = (
    BadBar(
        name="no value",
        at=0,
        change=setting("close", ""),
        expectation="expect_column_values_to_not_be_null:close",
        says=("IBM 2005-02-01", "close nan", "Rule: no value is missing."),
    ),
    BadBar(
        name="NaN",
        at=2,
        change=setting("open", "NaN"),
        expectation="expect_column_values_to_not_be_null:open",
        says=("IBM 2005-02-03", "open nan", "Rule: no value is missing."),
    ),
    BadBar(
        name="negative price",
        at=4,
        change=setting("low", "-92.5"),
        expectation="expect_column_values_to_be_between:low",
        says=("IBM 2005-02-07", "low -92.5", "Rule: a price is above 0 and at most 10,000,000 USD."),
    ),
    BadBar(
        name="negative volume",
        at=6,
        change=setting("volume", "-100"),
        expectation="expect_column_values_to_be_between:volume",
        says=("IBM 2005-02-09", "volume -100", "Rule: volume is 0 or more"),
    ),
    BadBar(
        name="high below low",
        at=8,
        change=lambda line: setting("high", column(line, "low"))(setting("low", column(line, "high"))(line)),
        expectation="expect_column_pair_values_a_to_be_greater_than_b:high,above",
        says=("IBM 2005-02-11", "high ", "low ", "Rule: high is at or above open, low and close."),
    ),
    BadBar(
        name="50 % jump",
        at=10,
        change=lambda line: ",".join(
            [line.split(",")[0], *(f"{float(x) / 2:.2f}" for x in line.split(",")[1:5]), *line.split(",")[5:]]
        ),
        expectation="expect_column_values_to_be_between:jump_frac",
        says=("IBM 2005-02-15", "previous_close ", "expected_ratio 1", "within 40% of the adjusted previous close"),
    ),
    BadBar(
        name="the same line twice",
        at=12,
        change=lambda line: f"{line}\n{line}",
        expectation="expect_compound_columns_to_be_unique:symbol,bar_end_ns",
        says=("IBM 2005-02-17", "dup_no 1", "Rule: a symbol has one bar per bar end."),
        kept=2,
    ),
    BadBar(
        name="two lines that disagree",
        at=14,
        change=lambda line: f"{line}\n{setting('close', column(line, 'open'))(line)}",
        expectation="expect_compound_columns_to_be_unique:symbol,bar_end_ns",
        says=("IBM 2005-02-22", "close ", "Rule: a symbol has one bar per bar end."),
        kept=2,
        in_quarantine=2,
    ),
    BadBar(
        name="a malformed line",
        at=16,
        change=lambda line: line.replace(column(line, "high"), "9x.7", 1),
        expectation="readable_record",
        says=("high '9x.7' is no number",),
        kept=0,
    ),
    BadBar(
        name="a line cut short",
        at=18,
        change=lambda line: ",".join(line.split(",")[:4]),
        expectation="readable_record",
        says=("the line has 4 fields, its header 7",),
        kept=0,
    ),
    BadBar(
        name="a date that is none",
        at=20,
        change=lambda line: line.replace("2005-03-02", "2005-02-30"),
        expectation="readable_record",
        says=("session_date '2005-02-30' is no date",),
        kept=0,
    ),
    BadBar(
        name="a Saturday",
        at=23,
        change=lambda line: f"2005-03-05{line[10:]}\n{line}",
        expectation="readable_record",
        says=("2005-03-05 (Saturday) is not a session of XNYS; nearest sessions: 2005-03-04 and 2005-03-07",),
    ),
)
QUARANTINE = "SELECT expectation, message, record FROM quarantined_bars WHERE symbol = 'IBM' AND session_date = ANY(%s)"


@pytest.mark.parametrize("bad", BAD_BARS, ids=lambda bad: bad.name)
def test_bad_bar_is_kept_named_and_not_traded_on(shop: Shop, bad: BadBar):
    project, conn, day = shop.project, shop.conn, shop.sessions[bad.at]
    good = project.change("IBM", day, bad.change)
    labels = [day, date(2005, 3, 5)] if bad.name == "a Saturday" else [day]
    if bad.name == "a date that is none":
        labels = [shop.sessions[bad.at - 1]]  # a line without a date belongs to the one before it
    assert project.run("ingest", str(day), "--json").code == 0
    said = project.run("validate", str(day), "--json")
    assert said.code == 0, said.err
    # nothing is lost: what the vendor said stands in bar_versions, or as its line in the quarantine
    versions = "SELECT symbol, count(*) FROM bar_versions JOIN instrument_symbols USING (instrument_id)" \
               " WHERE session_date = %s GROUP BY 1"  # fmt: skip
    kept = dict(rows(conn, versions, day))
    assert {s: kept.pop(s) for s in ("AAPL", "GOOG", "MSFT")} == {"AAPL": 1, "GOOG": 1, "MSFT": 1}
    assert kept.get("IBM", 0) == bad.kept
    found = [r for r in rows(conn, QUARANTINE, labels) if r[0] == bad.expectation]
    assert len(found) == bad.in_quarantine, rows(conn, QUARANTINE, labels)
    for _, message, record in found:
        assert all(part in message for part in bad.says), message
        if bad.expectation == "readable_record":
            number = project.lines("IBM").index(bad.change(good).split("\n")[0]) + 1
            assert record == f"line {number}: {bad.change(good).splitlines()[0]}"
    # and is not traded on: the others are, and the gate knows
    traded = {r[0] for r in rows(conn, "SELECT symbol FROM bars JOIN instrument_symbols USING (instrument_id)"
                                 " WHERE session_date = %s", day)}  # fmt: skip
    one_good = bad.name in ("the same line twice", "a Saturday")
    assert traded == set(SYMBOLS) - (set() if one_good else {"IBM"})
    seen = 4 if one_good else 3
    assert said.document["gate_open"] is True, "one of four is within max_missing"
    reason = f"{seen} of 4 members due" + ("" if one_good else ", missing IBM")
    assert said.document["gate_reason"] == reason
    quality = rows(conn, "SELECT members_seen, gate_reason FROM quality_results WHERE session_date = %s", day)
    assert quality == [(seen, reason)]


def test_every_bad_bar_in_one_file_and_repaired_again(tmp_path, database_url, conn):
    """A week of bad lines trades on; with the file repaired, the restated bars are taken in."""
    project = make(tmp_path, database_url)
    open_for_trading(project, conn)
    days = project.sessions(6)
    text = (project.prices / "IBM.csv").read_text()
    changes = (setting("close", ""), setting("low", "-1"), lambda line: line[:20], setting("volume", "-1"))
    for day, change in zip(days, changes, strict=False):
        project.change("IBM", day, change)
    for day in days[:4]:
        assert project.run("run-session", str(day)).code == 0
    query = "SELECT count(*) FROM bars JOIN instrument_symbols USING (instrument_id) WHERE symbol = 'IBM'" \
            " AND session_date = ANY(%s)"  # fmt: skip
    assert rows(conn, query, list(days)) == [(0,)]
    said = project.run("summary", str(days[1]), "--json").document["quality"]
    assert (said["seen"], said["due"], said["gate_open"]) == (3, 4, True)
    (project.prices / "IBM.csv").write_text(text)
    assert project.run("run-session", str(days[4])).code == 0
    assert rows(conn, query, list(days[:5])) == [(5,)]
    bad = rows(conn, "SELECT session_date, count(*) FROM quarantined_bars WHERE symbol = 'IBM' GROUP BY 1 ORDER BY 1")
    assert [r[0] for r in bad] == list(days[:4]), "what was bad stays on record"


# Sessions that are missing -------------------------------------------------------------------------------------------


def test_session_missing_from_the_feed_closes_the_gate_and_settles(tmp_path, database_url, conn):
    project = make(tmp_path, database_url)
    open_for_trading(project, conn)
    first, missing, after = project.sessions(3)
    assert project.run("run-session", str(first)).code == 0
    lines = {symbol: project.change(symbol, missing, lambda line: None) for symbol in SYMBOLS}
    said = project.run("run-session", str(missing), "--json")
    assert said.code == 0, said.err
    (done,) = said.document
    assert done["validate"]["gate_reason"] == (
        "0 of 4 members due, missing AAPL, GOOG, IBM, MSFT: coverage 0.0% is below 95.0% and 4 missing is more than 1"
    )
    assert done["close"]["outcome"] == "settled, no decision"
    for symbol, line in lines.items():  # the vendor delivers it a day late
        text = (project.prices / f"{symbol}.csv").read_text()
        (project.prices / f"{symbol}.csv").write_text(text.replace(f"{after},", f"{line}\n{after},", 1))
    (done,) = project.run("run-session", str(after), "--json").document
    assert done["validate"]["gate_open"] is True
    assert rows(conn, "SELECT count(*) FROM bars WHERE session_date = %s", missing) == [(4,)]


# What is refused -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A change of the project, a command, and what it says."""

    name: str
    error: str
    message: str
    next_step: str
    change: Callable[[Project], object] = lambda project: None
    command: tuple[str, ...] = ("run-session", str(FIRST))
    environ: dict[str, str] = field(default_factory=dict)
    starts: bool = False


def in_config(old: str, new: str) -> Callable[[Project], object]:
    def change(project: Project) -> None:
        text = project.config.read_text()
        assert old in text
        project.config.write_text(text.replace(old, new, 1))

    return change


def file_text(name: str, text: str) -> Callable[[Project], object]:
    return lambda project: (project.prices / name).write_text(text)


def cut_at(day: date) -> Callable[[Project], object]:
    def change(project: Project) -> None:
        for symbol in SYMBOLS:
            path = project.prices / f"{symbol}.csv"
            path.write_text(path.read_text().split(str(day))[0])

    return change


HEADER = "session_date,open,high,low,close,volume\n"
FIX_CONFIG = "correct each place named above; docs/configuration.md lists every key with its rule."
REFUSED = (
    Refused(
        name="unknown symbol",
        change=in_config("AAPL:", "APPL:"),
        error="NoSuchSymbol",
        message="The csv feed has no 1d bars of 'APPL'; it has AAPL, GOOG, IBM, MSFT.",
        next_step="Did you mean AAPL? Correct universe.members, or add APPL.csv to the feed's folder.",
        starts=True,
    ),
    Refused(
        name="unknown symbol to load",
        command=("load-history", "2005-01-03", "2005-01-04", "--symbols", "APPL"),
        error="ConfigError",
        message="APPL is not in the universe: AAPL, GOOG, IBM, MSFT.",
        next_step="did you mean AAPL? To add it: universe.members in trading.yaml",
    ),
    Refused(
        name="session not published yet",
        change=cut_at(FIRST),
        error="NoDataYet",
        message="The csv feed ends on 2005-01-31; asked for bars up to 2005-02-01.",
        next_step="Ask for sessions up to 2005-01-31, or add newer lines to prices/.",
        starts=True,
    ),
    Refused(
        name="empty file",
        change=file_text("IBM.csv", ""),
        error="MalformedData",
        message="IBM.csv is empty: a file of the feed has a header and a line per bar.",
        next_step="Restore {prices}/IBM.csv; a symbol that has no file any more has to leave universe.members.",
        starts=True,
    ),
    Refused(
        name="header only",
        change=file_text("IBM.csv", HEADER),
        error="MalformedData",
        message="IBM.csv holds a header and no bar.",
        next_step="Restore {prices}/IBM.csv; a symbol that has no file any more has to leave universe.members.",
        starts=True,
    ),
    Refused(
        name="column missing",
        change=file_text("IBM.csv", HEADER.replace("volume", "vol") + "2005-02-01,1,1,1,1,1\n"),
        error="MalformedData",
        message="IBM.csv has 0 columns 'volume'; its header is 'session_date,open,high,low,close,vol'.",
        next_step="Rename 'vol'.",
        starts=True,
    ),
    Refused(
        name="split that cannot be read",
        change=file_text(
            "corporate_actions.csv",
            "symbol,ex_date,kind,ratio_num,ratio_den,dividend_usd,pay_date\nIBM,2005-02-01,splitt,2,1,,\n",
        ),
        error="MalformedData",
        message="corporate_actions.csv, line 2: 'IBM,2005-02-01,splitt,2,1,,' is no corporate action"
        " (kind must be one of split, dividend, stock_dividend, symbol_change, delisting, and a symbol given).",
        next_step="Write it as symbol,ex_date,kind,ratio_num,ratio_den,dividend_usd,pay_date.",
        starts=True,
    ),
    Refused(
        name="date of a weekend",
        command=("run-session", "2005-02-05"),
        error="NotASession",
        message="2005-02-05 (Saturday) is not a session of XNYS; nearest sessions: 2005-02-04 and 2005-02-07.",
        next_step="Use one of these dates.",
    ),
    Refused(
        name="date that is none",
        command=("run-session", "2005-02-31"),
        error="SessionError",
        message="'2005-02-31' is no date.",
        next_step="write it as 2005-02-28",
    ),
    Refused(
        name="session out of order",
        command=("run-session", "2005-02-03"),
        error="OutOfOrder",
        message="session 2005-02-03 is not the next one of book 'sim': its last is 2005-01-31.",
        next_step="run 2005-02-01 first: python -m tradecore run-session 2005-02-01 --book sim",
    ),
    Refused(
        name="settle out of order",
        command=("settle", "2005-02-03"),
        error="OutOfOrder",
        message="session 2005-02-03 is not the next one of book 'sim': its last is 2005-01-31.",
        next_step="run 2005-02-01 first: python -m tradecore run-session 2005-02-01 --book sim",
    ),
    Refused(
        name="session before the book",
        command=("run-session", "2005-01-31"),
        error="OutOfOrder",
        message="session 2005-01-31 lies at or before the inception of book 'sim' (2005-01-31).",
        next_step="choose a later session, or another book (replay_day takes any name)",
    ),
    Refused(
        name="unknown book",
        command=("run-session", str(FIRST), "--book", "smi"),
        error="BookError",
        message="book 'smi' is not open.",
        next_step="open it: python -m tradecore init --book smi --before SESSION",
    ),
    Refused(
        name="typo in a key",
        change=in_config("max_position_size", "max_positon_size"),
        error="ConfigError",
        message="1 problem in the configuration:\n"
        "  trading.yaml:{line max_positon_size}: risk.max_positon_size: unknown key, did you mean 'max_position_size'?",
        next_step=FIX_CONFIG,
    ),
    Refused(
        name="impossible value",
        change=in_config("max_position_size: 0.15", "max_position_size: 15"),
        error="ConfigError",
        message="1 problem in the configuration:\n"
        "  trading.yaml:{line max_position_size}: risk.max_position_size = 15: must be less than or equal to 1",
        next_step=FIX_CONFIG,
    ),
    Refused(
        name="typo in a strategy's parameter",
        change=in_config("short_period", "short_perid"),
        error="ConfigError",
        message="1 problem in the configuration:\n  trading.yaml:{line short_perid}:"
        " strategies.ma_crossover.params.short_perid: unknown key, did you mean 'short_period'?",
        next_step=FIX_CONFIG,
    ),
    Refused(
        name="impossible parameters",
        change=in_config("short_period: 5", "short_period: 50"),
        error="ConfigError",
        message="trading.yaml:{line params}: strategies.ma_crossover.params: short_period 50 must be below"
        " long_period 15",
        next_step="correct it in trading.yaml",
    ),
    Refused(
        name="configuration that is no YAML",
        change=lambda project: project.config.write_text(project.config.read_text() + "\n  nonsense: [\n"),
        error="ConfigError",
        message="1 problem in the configuration:\n  trading.yaml:{line nonsense +1}: is not YAML: expected the node"
        " content, but found '<stream end>'",
        next_step=FIX_CONFIG,
    ),
    Refused(
        name="no database",
        environ={"DATABASE_URL": "postgresql://tradecore:hush-hush@127.0.0.1:9/trading"},
        error="NoDatabase",
        message='no connection to PostgreSQL at 127.0.0.1:9/trading: connection to server at "127.0.0.1", port 9'
        " failed: Connection refused.",
        next_step="start it (`make up` starts the embedded one), or correct DATABASE_URL or DB_HOST and DB_PORT in"
        " .env",
    ),
    Refused(
        name="no such kind of database",
        environ={"DATABASE_URL": "mysql://tradecore:hush-hush@127.0.0.1:9/trading"},
        error="ConfigError",
        message="1 problem in the configuration:\n"
        "  environment: DATABASE_URL: must begin with postgresql://; no other database is supported",
        next_step=FIX_CONFIG,
    ),
)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused_with_a_message_and_nothing_written(shop: Shop, case: Refused):
    project, conn = shop.project, shop.conn
    kept = {path: path.read_bytes() for path in (project.config, *project.prices.iterdir())}
    before = table_checksums(conn, row_versions=True, leave_out=["bar_runs"])
    runs = rows(conn, "SELECT session_date, status FROM bar_runs WHERE session_date < %s", FIRST)
    try:
        case.change(project)
        message, next_step = placed(case.message, project), case.next_step.replace("{prices}", str(project.prices))
        for as_json in (False, True):
            said = project.run(*case.command, *(["--json"] if as_json else []), environ=case.environ)
            assert said.code == 1
            assert "hush" not in said.out + said.err
            assert said.err.endswith(f"error: {message}\n  next: {next_step}\n")
            if as_json:
                assert said.document == {"error": case.error, "message": message, "next_step": next_step}
            else:
                assert said.out == ""
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert changed_tables(before, table_checksums(conn, row_versions=True, leave_out=["bar_runs"])) == {}
    assert rows(conn, "SELECT session_date, status FROM bar_runs WHERE session_date < %s", FIRST) == runs
    if case.starts:  # that it was begun is on record: `watch` tells of a session that does not get on
        assert rows(conn, "SELECT status FROM bar_runs WHERE session_date = %s", FIRST) == [("started",)]


def placed(message: str, project: Project) -> str:
    """Put the line numbers of trading.yaml into a message: '{line KEY}' is the first line that has the key."""
    lines = project.config.read_text().splitlines()
    while "{line " in message:
        what = message.split("{line ")[1].split("}")[0]
        key, _, more = what.partition(" +")
        number = next(n for n, line in enumerate(lines, start=1) if f"{key}:" in line) + int(more or 0)
        message = message.replace("{line " + what + "}", str(number), 1)
    return message


# The database itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("run-session", str(FIRST)), ("db", "upgrade"), ("status",), ("book",)])
def test_database_of_a_newer_release_is_refused(shop: Shop, command: tuple[str, ...]):
    shop.conn.execute("INSERT INTO schema_migrations (number, name) VALUES (9001, '9001_of_tomorrow.sql')")
    shop.conn.commit()
    before = table_checksums(shop.conn, row_versions=True)
    try:
        said = shop.project.run(*command, "--json")
    finally:
        after = table_checksums(shop.conn, row_versions=True)
        shop.conn.execute("DELETE FROM schema_migrations WHERE number = 9001")
        shop.conn.commit()
    assert said.code == 1
    assert said.document["error"] == "SchemaTooNew"
    assert said.document["message"].startswith("the database has migration 9001, this release knows up to ")
    assert said.document["next_step"] == "update this installation, or restore a backup made with it"
    assert changed_tables(before, after) == {}


def test_database_without_tables_says_how_to_make_them(tmp_path, empty_database_url):
    project = make(tmp_path, empty_database_url)
    said = project.run("run-session", str(FIRST), "--json")
    assert (said.code, said.document["error"]) == (1, "ConfigError")
    assert "the database lacks" in said.document["message"]
    assert "0001_trading_day.sql" in said.document["message"]
    assert said.document["next_step"] == "python -m tradecore db upgrade"
    assert project.run("db", "upgrade").code == 0
    said = project.run("run-session", str(FIRST), "--json")
    assert said.document["message"] == "book 'sim' is not open."


@pytest.mark.parametrize(
    ("wrong", "said", "next_step"),
    [
        (lambda url: f"{url}x", "does not exist", "create that database (createdb), or correct DATABASE_URL"),
        (lambda url: url.replace("://", "://nobody_of_ours_"), "authentication failed", "correct user and password"),
    ],
    ids=["database", "user"],
)
def test_wrong_name_of_database_or_user(shop: Shop, wrong: Callable[[str], str], said: str, next_step: str):
    answer = shop.project.run("status", "--json", environ={"DATABASE_URL": wrong(shop.project.database_url)})
    assert (answer.code, answer.document["error"]) == (1, "NoDatabase")
    assert said in answer.document["message"]
    assert answer.document["next_step"].startswith(next_step)


def test_connection_lost_on_the_way_leaves_whole_stages_and_runs_again(tmp_path, database_url, conn, monkeypatch):
    """The server ends our connection in the middle of settling: one line, nothing of the stage, then it runs again."""
    project = make(tmp_path, database_url)
    open_for_trading(project, conn)
    assert project.run("ingest", str(FIRST)).code == 0
    assert project.run("validate", str(FIRST)).code == 0
    conn.execute(
        "CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
    )
    conn.execute("CREATE TRIGGER end_it AFTER UPDATE ON bar_runs EXECUTE FUNCTION end_it()")
    conn.commit()
    before = table_checksums(conn, row_versions=True)
    said = project.run("settle", str(FIRST), "--json")
    assert (said.code, said.document["error"]) == (1, "NoDatabase")
    assert "the connection to the database was lost: " in said.document["message"]
    assert said.document["next_step"].endswith("run the same command again: what was committed is not done twice")
    assert changed_tables(before, table_checksums(conn, row_versions=True)) == {}
    conn.execute("DROP TRIGGER end_it ON bar_runs")
    conn.commit()
    assert project.run("run-session", str(FIRST)).code == 0


# A process of its own ------------------------------------------------------------------------------------------------


def test_process_ends_with_the_code_and_the_line(shop: Shop):
    """The same from a shell: exit code, stderr for people, stdout for machines."""
    environ = {**os.environ, **shop.project.environ, "PYTHONPATH": str(REPO / "include")}
    command = [sys.executable, "-m", "tradecore", "run-session", "2005-02-05", "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    said = Said(code=done.returncode, out=done.stdout, err=done.stderr)
    assert said.code == 1
    assert json.loads(said.out)["error"] == "NotASession"
    assert said.err.startswith("error: 2005-02-05 (Saturday) is not a session of XNYS")
    assert "Traceback" not in said.err
