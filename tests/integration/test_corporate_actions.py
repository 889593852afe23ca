"""Corporate actions in a book: late, corrected and withdrawn ones, ends, new names; and what the data are named by.

A book that learned of something too late is compared with one that knew in time, over the same sessions.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from project_home import FIRST, NOW, Project, make, open_for_trading, rows

from tradecore import pipeline
from tradecore.errors import ConfigError
from tradecore.storage import bars as stored
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db
LATER = NOW + timedelta(days=300)
COUNT = 4


@pytest.fixture(scope="module")
def once_traded(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Project:
    """A project that has traded four sessions and holds IBM and MSFT; orders are few and whole after that."""
    project = make(tmp_path_factory.mktemp("held"), module_database_url)
    project.configure({"risk": {"rebalance_band_frac": 0.05}})
    with closing(connect(module_database_url)) as conn:
        open_for_trading(project, conn)
        project.trade(conn, *project.sessions(COUNT))
        assert all(shares_of(conn, symbol) > 0 for symbol in ("IBM", "MSFT")), "not exercised: nothing is held"
    return project


@contextmanager
def another(project: Project, copied_database: Any, home: Any) -> Iterator[tuple[Project, psycopg.Connection]]:
    """A copy of a project, its files and its database."""
    shutil.copytree(project.home, home / "home")
    with copied_database(project.database_url) as url:
        mine = replace(project, home=home / "home", database_url=url)
        with closing(connect(url)) as conn:
            yield mine, conn


@pytest.fixture
def traded(once_traded: Project, copied_database: Any, tmp_path: Any) -> Iterator[tuple[Project, psycopg.Connection]]:
    with another(once_traded, copied_database, tmp_path) as found:
        yield found


HELD = (
    "SELECT qty_e6 FROM book_positions JOIN instrument_symbols USING (instrument_id) WHERE symbol = %s"
    " AND bar_end_at = (SELECT max(bar_end_at) FROM book_states WHERE book = 'sim' AND session_date <= %s)"
)


def shares_of(conn: psycopg.Connection, symbol: str, day: date = date(2099, 1, 1)) -> int:
    found = rows(conn, HELD, symbol, day)
    return int(found[0][0]) if found else 0


def state_of(conn: psycopg.Connection, day: date) -> dict[str, int]:
    names = ("cash_e4", "equity_e4", "realised_e4", "dividends_e4")
    (found,) = rows(conn, f"SELECT {', '.join(names)} FROM book_states WHERE book = 'sim' AND session_date = %s", day)
    return dict(zip(names, map(int, found), strict=True))


def corrections(conn: psycopg.Connection) -> list[tuple[Any, ...]]:
    return rows(
        conn,
        "SELECT symbol, kind, qty_before_e6, qty_e6, cash_e4, terms_before, terms FROM book_corrections"
        " JOIN instrument_symbols USING (instrument_id) ORDER BY bar_end_at, correction_no",
    )


def announce(project: Project, *lines: str) -> None:
    """Add lines to corporate_actions.csv, which gets the column new_symbol."""
    path = project.prices / "corporate_actions.csv"
    head, *old = path.read_text().splitlines()
    if not head.endswith("new_symbol"):
        head, old = f"{head},new_symbol", [f"{line}," for line in old]
    path.write_text("\n".join([head, *old, *lines]) + "\n")


def take_back(project: Project, start: str) -> None:
    path = project.prices / "corporate_actions.csv"
    kept = [line for line in path.read_text().splitlines() if not line.startswith(start)]
    path.write_text("\n".join(kept) + "\n")


def halve(project: Project, symbol: str, since: date, part: int = 2) -> None:
    """Print the bars of a symbol in new shares from a day on, as after a split."""
    for line in [line for line in project.lines(symbol) if str(since) <= line < "a"]:
        head, *prices, volume, rest = line.split(",")
        new = ",".join([head, *(f"{float(x) / part:.4f}" for x in prices), str(int(volume) * part), rest])
        project.change(symbol, date.fromisoformat(head), lambda line, new=new: new)


def proved(project: Project, conn: psycopg.Connection, *days: date) -> list[str]:
    """Prove sessions; return the verdicts."""
    out = []
    for day in days:
        (ctx,) = pipeline.contexts(
            project.settings(), conn, book="sim", session_date=day, now=LATER + timedelta(days=9)
        )
        out.append(str(pipeline.prove(ctx)["proof"]))
    return out


@pytest.mark.parametrize("kind", ["split", pytest.param("stock_dividend", marks=pytest.mark.slow)])
def test_a_book_that_learned_of_a_split_too_late_is_that_of_one_that_knew(
    once_traded: Project, copied_database: Any, tmp_path: Any, kind: str
) -> None:
    *_, ex, after, last = once_traded.sessions(COUNT + 3)
    ends = {}
    for name in ("knew", "learned"):
        (tmp_path / name).mkdir()
        with another(once_traded, copied_database, tmp_path / name) as (project, conn):
            halve(project, "IBM", ex)
            project.configure({"validation": {"max_jump_frac": 0.9}})  # the bars come in, whoever knows
            line = f"IBM,{ex},{kind},2,1,,,"
            if name == "knew":
                announce(project, line)
            project.trade(conn, ex, now=LATER)
            doubled = shares_of(conn, "IBM", ex) >= 2 * shares_of(conn, "IBM", project.sessions(COUNT)[-1])
            assert doubled == (name == "knew")
            if name == "learned":
                announce(project, line)
            project.trade(conn, after, now=LATER + timedelta(hours=1))
            project.trade(conn, last, now=LATER + timedelta(hours=2))
            ends[name] = (corrections(conn), shares_of(conn, "IBM", after), proved(project, conn, ex, after, last))
            told = rows(conn, "SELECT title, severity FROM alerts WHERE kind = 'missed_action'")
            assert told == ([("A " + kind.replace("_", " ") + " of IBM became known too late", "warning")]
                            if name == "learned" else [])  # fmt: skip
    assert ends["knew"][0] == []
    ((symbol, found, before, qty, cash, was, now),) = ends["learned"][0]
    assert (symbol, found, cash, was, now) == ("IBM", kind, 0, "none", "2:1")
    bought = qty - 2 * before
    assert bought == 0, "what was held before the split, doubled"
    assert ends["learned"][2] == ["equal"] * 3


def test_dividends_learned_late_corrected_and_withdrawn_are_paid_and_taken_back(traded: Any) -> None:
    project, conn = traded
    eve, (ex, *days) = project.sessions(COUNT)[-1], project.sessions(COUNT + 5)[COUNT:]
    held = shares_of(conn, "IBM", eve)
    take_back(project, "IBM,2005")  # its real dividend of these days
    project.trade(conn, ex, now=LATER)
    for hour, amount in enumerate((1.5, 0.5, None, None), start=1):
        take_back(project, f"IBM,{ex}")
        if amount is not None:
            announce(project, f"IBM,{ex},dividend,,,{amount},,")
        project.trade(conn, days[hour - 1], now=LATER + timedelta(hours=hour))
    first, second = round(held * 1.5e6 / 1e8), round(held * 0.5e6 / 1e8)
    assert first > second > 0, "not exercised: IBM was not held"
    assert [c[4:] for c in corrections(conn)] == [
        (first, "none", "1.5 USD"),
        (second - first, "1.5 USD", "0.5 USD"),
        (-second, "0.5 USD", "none"),
    ]
    paid = [state_of(conn, day)["dividends_e4"] - state_of(conn, eve)["dividends_e4"] for day in (ex, *days)]
    assert paid == [0, first, second, 0, 0], "once each"
    titles = [t for (t,) in rows(conn, "SELECT title FROM alerts WHERE kind = 'missed_action' ORDER BY alert_id")]
    assert titles == [
        "A dividend of IBM became known too late",
        "A dividend of IBM was corrected",
        "A dividend of IBM was withdrawn",
    ]
    assert proved(project, conn, ex, *days) == ["equal"] * 5
    said = project.run("book", "--lots")
    assert said.code == 0, said.err


def test_an_action_that_was_announced_and_is_withdrawn_does_not_happen(traded: Any) -> None:
    project, conn = traded
    today, ex, after = project.sessions(COUNT + 3)[COUNT:]
    announce(project, f"IBM,{ex},split,2,1,,,")
    (ctx,) = pipeline.contexts(project.settings(), conn, book="sim", session_date=today, now=LATER)
    pipeline.ingest(ctx)
    ids = [i for (i,) in rows(conn, "SELECT instrument_id FROM instrument_symbols WHERE symbol = 'IBM'")]
    where: dict[str, Any] = {"source": "csv", "instruments": ids, "after": today, "until": ex, "kind": "split"}
    assert [a.kind for a in stored.read_actions(conn, **where)] == ["split"]
    take_back(project, f"IBM,{ex}")
    project.trade(conn, today, ex, after, now=LATER + timedelta(hours=1))
    assert stored.read_actions(conn, **where) == []
    then = LATER + timedelta(minutes=30)
    assert [a.kind for a in stored.read_actions(conn, **where, as_of=then)] == ["split"], "as known then"
    assert rows(conn, "SELECT count(*) FROM book_events WHERE kind LIKE '%%split%%'") == [(0,)]
    assert corrections(conn) == []


@pytest.mark.parametrize(
    "late", [pytest.param(False, id="in time", marks=pytest.mark.slow), pytest.param(True, id="late")]
)
def test_a_delisted_name_is_paid_at_its_price_and_leaves_coverage(traded: Any, late: bool) -> None:
    project, conn = traded
    day, end, after, last = project.sessions(COUNT + 4)[COUNT:]
    line = f"IBM,{end},delisting,,,91.25,,"
    take_back(project, "IBM,2005")  # its real dividend of that day
    kept = project.lines("IBM")
    if not late:
        announce(project, line)
    lines = [text for text in kept if text[:10] < str(end) or text[0] == "s"]
    (project.prices / "IBM.csv").write_text("\n".join(lines) + "\n")
    project.trade(conn, day, now=LATER)
    held = shares_of(conn, "IBM", day)
    assert held > 0, "not exercised: IBM is not held"
    before = state_of(conn, day)
    project.trade(conn, end, now=LATER + timedelta(hours=1))
    if late:
        assert shares_of(conn, "IBM", end) == held, "nobody knew: marked at its last close"
        announce(project, line)
    (project.prices / "IBM.csv").write_text(
        "\n".join([*lines, next(t for t in kept if t.startswith(str(last)))]) + "\n"
    )
    project.trade(conn, after, last, now=LATER + timedelta(hours=2))
    gone = after if late else end
    assert shares_of(conn, "IBM", gone) == shares_of(conn, "IBM", last) == 0
    paid = rows(conn, "SELECT session_date, amount FROM book_events JOIN book_states USING (book, bar_end_at)"
                " WHERE kind = 'delisted'")  # fmt: skip
    assert paid == [(gone, round(held * 91.25 / 100))]
    assert state_of(conn, gone)["realised_e4"] != before["realised_e4"]
    seen = rows(conn, "SELECT DISTINCT members_due FROM quality_results WHERE session_date = %s", last)
    assert (3,) in seen
    bars = rows(conn, "SELECT expectation FROM quarantined_bars WHERE symbol = 'IBM' AND session_date = %s", last)
    assert bars == [("expect_column_values_to_be_in_set:is_listed",)], "a bar of what is gone is kept out"
    assert set(proved(project, conn, day, end, after, last)) == {"equal"}


def test_an_instrument_keeps_its_history_and_position_under_a_new_name(traded: Any) -> None:
    """IBM is called INTB from a day on: two files, one instrument; nobody touched the configuration."""
    project, conn = traded
    day, change, after, last = project.sessions(COUNT + 4)[COUNT:]
    announce(project, f"IBM,{change},symbol_change,,,,,INTB")
    head, *lines = project.lines("IBM")
    for name, part in (("IBM", [t for t in lines if t[:10] < str(change)]),
                       ("INTB", [t for t in lines if t[:10] >= str(change)])):  # fmt: skip
        (project.prices / f"{name}.csv").write_text("\n".join([head, *part]) + "\n")
    held = "SELECT instrument_id, qty_e6 FROM book_positions p JOIN book_states s USING (book, bar_end_at) WHERE" \
           " session_date = %s AND instrument_id = %s"  # fmt: skip
    ((instrument,),) = rows(conn, "SELECT instrument_id FROM instrument_symbols WHERE symbol = 'IBM'")
    project.trade(conn, day, change, after, last, now=LATER)
    names = rows(conn, "SELECT symbol, valid_from, valid_to, instrument_id FROM instrument_symbols WHERE symbol IN"
                 " ('IBM', 'INTB') ORDER BY 2")  # fmt: skip
    assert names == [("IBM", date(1900, 1, 1), change, instrument), ("INTB", change, None, instrument)]
    assert rows(conn, "SELECT count(*) FROM bars WHERE instrument_id = %s AND session_date BETWEEN %s AND %s",
                instrument, FIRST, last) == [(COUNT + 4,)], "no gap, no copy"  # fmt: skip
    assert rows(conn, held, day, instrument)[0][1] > 0
    scored = rows(conn, "SELECT count(*) FROM signals s JOIN book_states b USING (book, bar_end_at) WHERE"
                  " b.session_date = %s AND instrument_id = %s", last, instrument)  # fmt: skip
    assert scored == [(1,)], "strategies go on with it"
    assert rows(conn, "SELECT title, severity FROM alerts WHERE kind = 'symbol_change'") == [
        (f"IBM is called INTB from {change} on", "info")
    ]
    assert set(proved(project, conn, *project.sessions(COUNT + 4))) == {"equal"}, "before and after"
    said = project.run("summary", str(last))
    assert "INTB" in said.out, said.err
    text = project.config.read_text()
    project.config.write_text(text.replace("IBM:", "INTB:"))
    (ctx,) = pipeline.contexts(project.settings(), conn, book="sim", session_date=last, now=LATER)
    assert "INTB" in ctx.settings.trading.universe.members
    project.config.write_text(text.replace("IBM:", "INTB: {}\n    IBM:"))
    with pytest.raises(ConfigError, match=r"is called INTB by now, and universe\.members holds both"):
        pipeline.contexts(project.settings(), conn, book="sim", session_date=last, now=LATER)


def test_a_name_that_another_instrument_has_is_not_taken(traded: Any) -> None:
    project, conn = traded
    day, change = project.sessions(COUNT + 2)[COUNT:]
    announce(project, f"IBM,{change},symbol_change,,,,,MSFT")
    project.trade(conn, day, now=LATER)
    assert rows(conn, "SELECT title, severity FROM alerts WHERE kind = 'symbol_change'") == [
        ("MSFT is the name of two instruments", "error")
    ]
    assert rows(conn, "SELECT count(DISTINCT instrument_id), count(*) FROM instrument_symbols WHERE symbol IN"
                " ('IBM', 'MSFT')") == [(2, 2)]  # fmt: skip


def test_a_session_is_named_by_its_manifest_and_has_a_page_of_data_docs(traded: Any) -> None:
    project, conn = traded
    day = project.sessions(COUNT)[-1]
    where = "JOIN book_states s USING (book, bar_end_at) WHERE s.session_date = %s"
    ((manifest, bars, sources),) = rows(
        conn, f"SELECT m.manifest_hash, m.window_bars, m.sources FROM manifests m {where}", day
    )
    assert len(manifest) == 64
    assert sources == {"csv": bars}
    for made in ("book_states b", "decisions b", "reports b"):
        assert rows(conn, f"SELECT b.manifest_hash FROM {made} {where}", day) == [(manifest,)], made
    assert rows(conn, "SELECT count(DISTINCT manifest_hash) FROM book_states WHERE manifest_hash <> ''") == [(COUNT,)]
    ((path,),) = rows(conn, "SELECT docs_path FROM quality_results WHERE session_date = %s", day)
    assert path == f"data_docs/csv/{day}.html"
    page = (project.home / ".local" / path).read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "fewer than 5 identical bars come in a row" in page
    index = (project.home / ".local" / "data_docs" / "csv" / "index.html").read_text()
    assert index.count("<li>") == COUNT
    suites = rows(conn, "SELECT content->>'name', jsonb_array_length(content->'expectations') FROM quality_suites")
    assert suites[0][0] == "bars"
    assert suites[0][1] > 20
    report = (project.home / ".local" / "reports" / "sim" / f"{day}.html").read_text()
    assert f'href="../../{path}"' in report
