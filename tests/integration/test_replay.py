"""A past day computed again: from what was known then it is the same; a change since is told, and where it began."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from project_home import HISTORY, NOW, OWN, OWN_FILE, SAMPLE, SYMBOLS, Project, make, open_for_trading, rows

from table_checksums import changed_tables, table_checksums
from tradecore import market, pipeline, provenance, strategies
from tradecore.context import book_calendar
from tradecore.errors import BookError, ProofDiffers
from tradecore.research.replay import run
from tradecore.storage import bars as stored
from tradecore.storage.connection import connect

pytestmark = [pytest.mark.db, pytest.mark.hypertable]
FIRST, SPLIT_EVE, SPLIT_DAY = date(2005, 2, 22), date(2005, 2, 25), date(2005, 2, 28)
RESTATED = date(2005, 2, 23)
LATER = NOW + timedelta(days=400)
STAGES = ["data", "plan", "risk", "settle", "signal"]


@pytest.fixture(scope="module")
def once_traded(tmp_path_factory, module_database_url):
    """A project that traded seven sessions, over AAPL's split, with two strategies, fills and a carried remainder."""
    project = make(tmp_path_factory.mktemp("traded"), module_database_url, own={"on_failure": "hold"})
    project.configure({"execution": {"participation_frac": 0.00001, "remainder": "carry", "max_order_age_bars": 3}})
    with closing(connect(module_database_url)) as conn:
        open_for_trading(project, conn, FIRST)
        for day in project.sessions(7, FIRST):
            project.trade(conn, day)
        for what in ("fills", "book_working_orders", "sheet_cancels", "intents"):
            assert rows(conn, f"SELECT count(*) > 0 FROM {what}") == [(True,)], f"not exercised: {what}"
        splits = "SELECT count(*) FROM book_events WHERE kind = 'split'"
        assert rows(conn, splits) == [(1,)], "not exercised: a position across a split"
    return project


@pytest.fixture
def traded(once_traded, copied_database):
    """That project with a database of this test's own, and its strategy as it was."""
    _plant(once_traded, "", "")
    with copied_database(once_traded.database_url) as url:
        yield replace(once_traded, database_url=url)
    _plant(once_traded, "", "")


@pytest.fixture
def conn(traded):
    with closing(connect(traded.database_url)) as connection:
        yield connection


def _plant(project: Project, old: str, new: str) -> None:
    """Change one line of the owner's strategy, as the next process would see it."""
    assert old in OWN_FILE
    (project.home / "include" / "strategies" / f"{OWN}.py").write_text(OWN_FILE.replace(old, new) if old else OWN_FILE)
    strategies.REGISTRY.pop(OWN, None)
    provenance.code_hash.cache_clear()


def prove(project: Project, conn, day: date) -> dict[str, Any]:
    (ctx,) = pipeline.contexts(project.settings(), conn, book="sim", session_date=day, now=LATER)
    return pipeline.prove(ctx)


def load_later(project: Project, conn, until: date) -> int:
    """Load what came after: all sessions up to a day, and earlier bars restated by the vendor."""
    for symbol in SYMBOLS:
        head, *lines = (SAMPLE / f"{symbol}.csv").read_text().splitlines()
        kept = [line for line in lines if str(HISTORY) <= line[:10] <= str(until)]
        (project.prices / f"{symbol}.csv").write_text("\n".join([head, *kept]) + "\n")
    project.change("IBM", RESTATED, _cheaper)
    project.change("MSFT", date(2005, 2, 10), _cheaper)
    found = project.settings()
    pipeline.load_history(found, conn, first=HISTORY, last=until, now=LATER)
    return len(book_calendar(found).sessions_in_range(project.sessions(7, FIRST)[-1], until)) - 1


def _cheaper(line: str) -> str:
    """Return a line with its close, and its low, 3 % below."""
    day, opened, high, low, close, *rest = line.split(",")
    price = round(float(close) * 0.97, 2)
    return ",".join([day, opened, high, f"{min(float(low), price):.2f}", f"{price:.2f}", *rest])


def test_every_session_is_proved_equal_after_a_year_of_later_sessions_and_restatements(traded, conn):
    days = traded.sessions(7, FIRST)
    first = {day: prove(traded, conn, day) for day in days}
    assert all(sorted(p["hashes"]) == STAGES for p in first.values())
    more = load_later(traded, conn, date(2006, 3, 1))
    assert more >= 250
    assert rows(conn, "SELECT count(*) FROM bars_past b WHERE b.close_e4 <> (SELECT close_e4 FROM bars n WHERE"
                " n.instrument_id = b.instrument_id AND n.bar_end_at = b.bar_end_at)") == [(2,)]  # fmt: skip
    assert {day: prove(traded, conn, day) for day in days} == first
    print(f"proof: {len(days)} sessions proved equal after {more} later sessions and 2 restated bars")


def test_after_a_restatement_then_is_identical_and_today_names_the_bar(traded, conn):
    load_later(traded, conn, date(2005, 3, 31))
    day = str(RESTATED)
    assert traded.run("replay", day, "--json").code == 0
    said = traded.run("replay", day, "--as-of", "now", "--json")
    assert said.code == 1
    found = said.document
    assert found["stage"] == "data"
    stages = {d["stage"] for d in found["differences"]}
    assert {"data", "settle", "risk", "plan"} <= stages, stages
    named = {(b["symbol"], b["session"], b["field"]) for b in found["bars"]}
    assert ("IBM", day, "close") in named
    assert ("MSFT", "2005-02-10", "close") in named
    assert {symbol for symbol, _, _ in named} == {"IBM", "MSFT"}


def test_data_diff_names_bar_field_values_and_sources(traded, conn):
    load_later(traded, conn, date(2005, 3, 31))
    between = (NOW + timedelta(days=1)).isoformat()
    said = traded.run("data", "diff", str(RESTATED), "--as-of", between, "--as-of", "now", "--json")
    assert said.code == 1
    assert {(d["symbol"], d["field"]) for d in said.document} <= {("IBM", "close"), ("IBM", "low")}
    (close,) = [d for d in said.document if d["field"] == "close"]
    assert float(close["after"]) == pytest.approx(float(close["before"]) * 0.97, abs=0.01)
    assert close["before_source"].startswith(f"csv known at {NOW:%Y-%m-%d}")
    assert close["after_source"].startswith(f"csv known at {LATER:%Y-%m-%d}")
    said = traded.run("data", "diff", str(SPLIT_DAY), "--as-of", between, "--as-of", "now")
    assert (said.code, said.out.strip()) == (0, "nothing differs")
    early = traded.run("data", "diff", str(SPLIT_DAY), "--as-of", "2005-02-25", "--as-of", "now", "--json")
    assert {d["kind"] for d in early.document if d["symbol"] == "AAPL"} == {"bar", "split"}, "nothing was known yet"


@pytest.mark.parametrize(
    ("old", "new"), [("> least, 1.0, 0.0", "> least, 0.5, 0.0"), ("read_text()", "read_txt()")], ids=["score", "raises"]
)
def test_a_changed_line_of_a_strategy_turns_the_proof_red(traded, conn, old: str, new: str):
    """The proof names the first stage that differs, and that it is the code that changed."""
    day, stage = traded.sessions(7, FIRST)[3], "signal"
    prove(traded, conn, day)
    _plant(traded, old, new)
    said = traded.run("prove-day", str(day))
    assert said.code == 1
    assert f"DIFFERENT from stage {stage} on" in said.out
    assert "code" in said.out.splitlines()[0]
    kept = rows(conn, "SELECT verdict, stage, inputs FROM day_proofs WHERE session_date = %s", day)
    assert kept[0][:2] == ("different", stage)
    assert "code" in kept[0][2]
    told = rows(conn, "SELECT title, body FROM alerts WHERE kind = 'proof'")
    assert len(told) == 1
    assert told[0][0] == f"The daily proof differs from stage {stage} on"
    assert "the code is not that of then" in told[0][1]
    status = traded.run("status", "--json")
    assert status.code == 2
    assert status.document["proof"]["stage"] == stage
    _plant(traded, "", "")
    assert traded.run("prove-day", str(day)).code == 0
    assert rows(conn, "SELECT verdict FROM day_proofs WHERE session_date = %s", day) == [("equal",)]


def test_code_that_changed_and_gives_the_same_is_said_so(traded, conn):
    day = traded.sessions(7, FIRST)[2]
    _plant(traded, "Hold what rose", "Keep what rose")
    said = traded.run("prove-day", str(day))
    assert (said.code, said.out.strip()) == (0, "proof: equal (code changed since, same results)")


def test_bars_written_over_behind_the_back_are_data_that_changed(traded, conn):
    day = traded.sessions(7, FIRST)[4]
    conn.execute("UPDATE bars SET close_e4 = close_e4 - 100 WHERE session_date = %s", (RESTATED,))
    conn.commit()
    with pytest.raises(ProofDiffers) as red:
        prove(traded, conn, day)
    assert red.value.details["stage"] == "data"
    assert red.value.details["result"]["changed_inputs"] == ["data"]


def test_a_changed_configuration_changes_no_past_day(traded, conn):
    """Each decision's configuration is kept: the proof computes with that of then."""
    day = traded.sessions(7, FIRST)[5]
    traded.configure({"risk": {"max_exposure": 0.3}})
    try:
        assert prove(traded, conn, day)["proof"] == "equal"
        (ctx,) = pipeline.contexts(traded.settings(), conn, book="sim", session_date=day, now=LATER)
        assert run.replay(ctx)["inputs"] == {"data": "same", "config": "same", "code": "same"}
    finally:
        traded.configure({"risk": {"max_exposure": 0.9}})


def test_other_limits_show_other_targets_orders_and_profit(traded, conn):
    day = traded.sessions(7, FIRST)[1]
    before = table_checksums(conn, row_versions=True)
    said = traded.run("replay", str(day), "--limits", "max_exposure=0.1,max_position_size=0.05", "--json")
    assert said.code == 1, said.err
    found = said.document
    assert found["book"] == f"replay:sim-{day}"
    assert found["stage"] == "risk"
    assert {d["stage"] for d in found["differences"]} == {"risk", "plan", "next"}
    assert found["inputs"]["config"] == "different"
    profit = found["pnl"]
    assert profit["session"]["happened_usd"] == profit["session"]["replayed_usd"]
    assert profit["next_session"]["happened_usd"] != profit["next_session"]["replayed_usd"]
    assert changed_tables(before, table_checksums(conn, row_versions=True)) == {}, "a replay writes nothing"
    wrong = traded.run("replay", str(day), "--limits", "max_exposur=0.1")
    assert wrong.code == 2
    assert "max_exposur" in wrong.err


def test_another_configuration_from_a_file(traded, conn, tmp_path):
    day = traded.sessions(7, FIRST)[1]
    other = tmp_path / "other.yaml"
    other.write_text(traded.config.read_text().replace("short_period: 5", "short_period: 3"))
    said = traded.run("replay", str(day), "--config", str(other), "--json")
    assert said.code == 1, said.err
    assert said.document["stage"] == "signal"
    assert said.document["inputs"]["config"] == "different"


def test_what_was_not_run_cannot_be_replayed(traded, conn):
    said = traded.run("replay", "2005-03-10")
    assert said.code == 2
    assert "has not settled" in said.err
    (ctx,) = pipeline.contexts(traded.settings(), conn, book="sim", session_date=date(2005, 3, 10), now=LATER)
    assert pipeline.prove(ctx)["proof"].startswith("nothing to prove")
    with pytest.raises(BookError):
        run.replay(ctx)


def test_the_present_is_known_as_of_the_newest_stamp(traded, conn):
    """Read as of the last stamp, every panel is that of `bars`; also after restatements and a refused one."""
    load_later(traded, conn, date(2005, 3, 31))
    found = traded.settings()
    instruments = [m.instrument for m in stored.read_universe(conn, "sample")]
    newest = rows(conn, "SELECT newest_at FROM data_clock")[0][0]
    calendar = book_calendar(found)
    ends = [(d, calendar.bar_ends(d, "1d")[0]) for d in calendar.sessions_in_range(HISTORY, date(2005, 3, 31))]
    where: dict[str, Any] = {"timeframe": "1d", "source": "csv", "instruments": instruments, "ends": ends}
    now, then = market.read_panel(conn, **where), market.read_panel(conn, **where, as_of=newest)
    assert provenance.data_hash(now) == provenance.data_hash(then)
    early = datetime.fromisoformat("2005-02-10T12:00+00:00")
    known = market.read_panel(conn, **where, as_of=early)
    assert int(known.day[known.traded.any(axis=1)].max()) == (date(2005, 2, 9) - date(1970, 1, 1)).days
