"""A primary and a secondary: missing and disputed bars come from the second, both values and the decision are kept.

The first is the stand-in's Alpaca over HTTP, the second a folder: the same prices, changed where a test says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from table_checksums import changed_tables, table_checksums
from tradecore import ingestion, loading, repair, settings, validating
from tradecore.errors import FeedError, NoDataYet, VendorDown
from tradecore.sessions import calendar
from tradecore.storage.connection import connect
from vendor_standin import alpaca as face
from vendor_standin.client import Standin, running

pytestmark = pytest.mark.db

XNYS = calendar("XNYS")
SAMPLE = Path(__file__).resolve().parents[2] / "include" / "sample_data"
SYMBOLS = ("AAPL", "IBM", "MSFT")
FIRST, LAST = date(2005, 2, 14), date(2005, 2, 25)
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shop:
    """A profile with two vendors and its database."""

    folder: Path
    standin: Standin
    conn: psycopg.Connection
    url: str

    def settings(self, *, second: dict[str, Any] | None = None, **options: Any) -> settings.Settings:
        quick = {
            "timeout_s": 5.0,
            "attempts": 2,
            "backoff_s": 0.002,
            "max_wait_s": 0.01,
            "requests_per_minute": 1_000_000,
        }
        other = {"feed": "csv", "options": {"folder": str(self.folder / "prices")}, **(second or {})}
        config = self.folder / "trading.yaml"
        document = {
            "universe": {"name": "two", "symbols": list(SYMBOLS)},
            "data": {
                "feed": "alpaca",
                "options": {"base_url": self.standin.url, **quick, **options},
                "second": other,
            },
            "strategies": {"buy_and_hold": {}},
        }
        config.write_text(yaml.safe_dump(document))
        keys = {"ALPACA_API_KEY": face.KEY, "ALPACA_SECRET_KEY": face.SECRET}
        return settings.load({"TRADECORE_CONFIG": str(config), "DATABASE_URL": self.url, **keys})

    def ingest(self, found: settings.Settings, *, hours: int = 0, now: datetime | None = None) -> dict[str, Any]:
        at = now or NOW + timedelta(hours=hours)
        done = ingestion.ingest_range(
            found, self.conn, XNYS, first=FIRST, last=LAST, actions_until=XNYS.next_session(LAST), now=at
        )
        days = XNYS.sessions_in_range(FIRST, LAST)
        validating.validate_range(found, self.conn, XNYS, sessions=days, now=at)
        return done

    def change(self, symbol: str, day: date, factor: float | None) -> None:
        """Change the second vendor's bar: prices times so much, None takes it out."""
        path = self.folder / "prices" / f"{symbol}.csv"
        out = []
        for line in path.read_text().splitlines():
            head, *values = line.split(",")
            if head == str(day):
                if factor is None:
                    continue
                values[:4] = [f"{float(v) * factor:.2f}" for v in values[:4]]
            out.append(",".join([head, *values]))
        path.write_text("\n".join(out) + "\n")

    def close(self, symbol: str, day: date) -> float | None:
        """Return the selected close in USD."""
        row = self.conn.execute(
            "SELECT close_e4 / 1e4 FROM bars JOIN instrument_symbols USING (instrument_id)"
            " WHERE symbol = %s AND session_date = %s AND source = 'alpaca'",
            (symbol, day),
        ).fetchone()
        self.conn.rollback()
        return float(row[0]) if row else None

    def decisions(self) -> list[tuple[Any, ...]]:
        found = self.conn.execute(
            "SELECT symbol, session_date, reason, chosen, first_close, second_close FROM bar_arbitrations"
            " JOIN instrument_symbols USING (instrument_id) ORDER BY decided_at, symbol, session_date"
        ).fetchall()
        self.conn.rollback()
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[Standin]:
    with running("--first", "2005-02-01", "--last", "2005-03-31") as found:
        yield found


@pytest.fixture
def shop(server: Standin, module_database_url: str, tmp_path: Path) -> Iterator[Shop]:
    server.reset()
    server.end(LAST)
    shutil.copytree(SAMPLE, tmp_path / "prices")
    with connect(module_database_url) as conn:
        conn.execute(
            "TRUNCATE bar_versions, bars, bars_past, bar_arbitrations, corporate_actions, quarantined_bars,"
            " quality_results, alerts, load_parts, loads CASCADE"
        )
        conn.commit()
        yield Shop(tmp_path, server, conn, module_database_url)


IBM_CLOSE = 92.8  # 2005-02-25
DAY = date(2005, 2, 23)


def truth(shop: Shop, symbol: str, day: date) -> float:
    return next(row[5] for row in shop.standin.truth() if row[:2] == [symbol, str(day)])


def test_two_vendors_that_agree_leave_no_decision(shop: Shop) -> None:
    done = shop.ingest(shop.settings(second={"compare": "all"}))
    assert done["arbitration"]["in_doubt"] == 3 * 9
    assert shop.decisions() == []
    assert shop.close("IBM", DAY) == truth(shop, "IBM", DAY)


def test_a_missing_bar_comes_from_the_second_until_the_first_has_it(shop: Shop) -> None:
    close = truth(shop, "IBM", LAST)
    shop.standin.late([("IBM", LAST)])
    found = shop.settings()
    done = shop.ingest(found)
    assert done["arbitration"]["from_second"] == 1
    assert shop.close("IBM", LAST) == close
    assert shop.decisions() == [("IBM", LAST, "missing", "second", None, close)]
    versions = shop.conn.execute("SELECT source, count(*) FROM bar_versions GROUP BY 1 ORDER BY 1").fetchall()
    assert versions == [("alpaca", 3 * 9 - 1), ("csv", 1)], "the truth of each vendor stays its own"
    again = table_checksums(shop.conn, leave_out=["broker_throttle", "quality_results", "data_clock"])
    shop.ingest(found, hours=1)
    after = table_checksums(shop.conn, leave_out=["broker_throttle", "quality_results", "data_clock"])
    assert changed_tables(again, after) == {}
    shop.standin.late([])
    shop.ingest(found, hours=2)
    assert shop.decisions()[-1] == ("IBM", LAST, "arrived", "first", close, close)
    assert shop.close("IBM", LAST) == close


def test_what_neither_has_stays_missing(shop: Shop) -> None:
    shop.standin.drop("MSFT", DAY)
    shop.change("MSFT", DAY, None)
    shop.ingest(shop.settings())
    assert shop.decisions() == [("MSFT", DAY, "missing", "none", None, None)]
    assert shop.close("MSFT", DAY) is None


@pytest.mark.parametrize(("rule", "counts"), [("first", "first"), ("second", "second"), ("neither", "none")])
def test_two_possible_bars_that_differ_are_decided_by_rule_and_told_of(shop: Shop, rule: str, counts: str) -> None:
    shop.change("IBM", DAY, 1.02)
    first, second = truth(shop, "IBM", DAY), round(truth(shop, "IBM", DAY) * 1.02, 2)
    shop.ingest(shop.settings(second={"compare": "all", "on_dispute": rule}))
    assert shop.decisions() == [("IBM", DAY, "disputed", counts, first, second)]
    assert shop.close("IBM", DAY) == {"first": first, "second": second, "none": None}[counts]
    (alert,) = shop.conn.execute("SELECT title, body FROM alerts WHERE kind = 'vendors_differ'").fetchall()
    assert alert[0] == "alpaca and csv differ on 1 bar(s)"
    assert f"{first} against {second}" in alert[1]


def test_a_difference_within_the_tolerance_is_none(shop: Shop) -> None:
    shop.change("IBM", DAY, 1.002)
    shop.ingest(shop.settings(second={"compare": "all"}))
    assert shop.decisions() == []


def test_a_jump_that_the_second_does_not_show_is_the_seconds_but_a_split_is_no_jump(shop: Shop) -> None:
    close = truth(shop, "IBM", DAY)
    shop.standin.restate("IBM", DAY, 0.5)
    shop.standin.end(XNYS.next_session(LAST))  # AAPL's split is in the range
    found = shop.settings()
    last = XNYS.next_session(LAST)
    ingestion.ingest_range(found, shop.conn, XNYS, first=FIRST, last=last, actions_until=last, now=NOW)
    validating.validate_range(found, shop.conn, XNYS, sessions=XNYS.sessions_in_range(FIRST, last), now=NOW)
    assert [d[:4] for d in shop.decisions()] == [("IBM", DAY, "jump", "second")]
    assert shop.close("IBM", DAY) == close


def test_a_first_vendor_that_is_down_is_replaced_with_its_actions(shop: Shop) -> None:
    shop.standin.fault("500")
    done = shop.ingest(shop.settings())
    assert done["arbitration"]["from_second"] == 3 * 9
    assert shop.close("MSFT", LAST) is not None
    given = shop.conn.execute("SELECT kind, given_by, source FROM corporate_actions").fetchall()
    assert ("split", "csv", "alpaca") in given
    shop.standin.heal()
    shop.ingest(shop.settings(), hours=1)
    assert {d[3] for d in shop.decisions()[-27:]} == {"first"}


def test_both_down_is_the_firsts_error_and_nothing_is_written(shop: Shop) -> None:
    found = shop.settings(second={"options": {"folder": str(shop.folder / "prices")}})
    shutil.rmtree(shop.folder / "prices")
    (shop.folder / "prices").mkdir()
    shop.standin.fault("500")
    before = table_checksums(shop.conn, leave_out=["broker_throttle"])
    with pytest.raises(VendorDown):
        shop.ingest(found)
    shop.conn.rollback()
    assert changed_tables(before, table_checksums(shop.conn, leave_out=["broker_throttle"])) == {}


def test_a_vendor_that_publishes_late_has_its_time_before_the_second_is_asked(shop: Shop) -> None:
    shop.standin.late([(symbol, LAST) for symbol in SYMBOLS])
    closed = XNYS.session(LAST).close_at
    found = shop.settings(second={"patience_minutes": 45})
    with pytest.raises(NoDataYet):
        shop.ingest(found, now=closed + timedelta(minutes=40))
    shop.conn.rollback()
    assert shop.ingest(found, now=closed + timedelta(minutes=46))["arbitration"]["from_second"] >= 3


def test_repair_asks_for_the_affected_sessions_alone(shop: Shop) -> None:
    """Two holes: one that the vendor has filled since, one that only a second vendor fills."""
    gone, back = date(2005, 2, 15), date(2005, 2, 22)
    alone = {"second": {"options": {"folder": str(shop.folder / "empty")}}}
    (shop.folder / "empty").mkdir()
    shop.standin.late([("IBM", back)])
    shop.standin.drop("MSFT", gone)
    shop.ingest(shop.settings(**alone))
    assert (shop.close("IBM", back), shop.close("MSFT", gone)) == (None, None)
    shop.standin.late([])
    shop.standin.log()
    result = repair.repair(shop.settings(), shop.conn, first=FIRST, last=LAST, now=NOW + timedelta(hours=1))
    assert (result["sessions"], result["damaged"], result["repaired"], result["missing"]) == (2, 2, 2, 0)
    asked = [e["query"] for e in shop.standin.log() if e["path"] == "/v2/stocks/bars"]
    assert {(q["symbols"], q["start"], q["end"][:10]) for q in asked} == {
        ("MSFT", str(gone), str(gone)),
        ("IBM", str(back), str(back)),
    }
    assert shop.close("IBM", back) == truth(shop, "IBM", back)
    assert shop.close("MSFT", gone) is not None
    assert repair.repair(shop.settings(), shop.conn, first=FIRST, last=LAST, now=NOW)["sessions"] == 0


def test_a_load_goes_on_where_it_was_cut_off(shop: Shop) -> None:
    found = shop.settings()
    parts = loading.begin(found, shop.conn, first=FIRST, last=LAST, batch=1, now=NOW)
    assert [p.symbols for p in parts] == [("AAPL",), ("IBM",), ("MSFT",)]
    loading.run(found, shop.conn, parts[0], NOW)
    shop.standin.fault("401", path="/v2/stocks/bars")
    (shop.folder / "prices" / "IBM.csv").unlink()
    with pytest.raises(FeedError):
        loading.run(found, shop.conn, parts[1], NOW)
    shop.conn.rollback()
    (so_far,) = loading.progress(shop.conn)
    assert (so_far.done, so_far.parts, so_far.bars) == (1, 3, 9)
    assert "1 of 3 parts" in so_far.text()
    assert loading.finish(found, shop.conn, parts[0].load_id, NOW)["ended"] is False
    shop.standin.heal()
    again = loading.begin(found, shop.conn, first=FIRST, last=LAST, batch=1, now=NOW + timedelta(hours=1))
    assert [(p.load_id, p.done) for p in again] == [(parts[0].load_id, done) for done in (True, False, False)]
    shop.standin.log()
    for part in again:
        loading.run(found, shop.conn, part, NOW)
    asked = {e["query"]["symbols"] for e in shop.standin.log() if e["path"] == "/v2/stocks/bars"}
    assert asked == {"IBM", "MSFT"}, "what is done is not asked for again"
    done = loading.finish(found, shop.conn, parts[0].load_id, NOW)
    assert (done["ended"], done["bars"]) == (True, 3 * 9)
    assert (
        loading.begin(found, shop.conn, first=FIRST, last=LAST, batch=3, now=NOW + timedelta(hours=2))[0].done is False
    )


def test_a_limit_of_a_key_is_shared_and_a_key_is_in_no_row(shop: Shop) -> None:
    """Six requests at once of 10 a minute, whoever asks; the seventh waits for its turn."""
    from tradecore import feeding

    waited: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tradecore.feeding.time.sleep", waited.append)
        first, second = (feeding.shared_pace(shop.conn, "data:alpaca:test", 10) for _ in range(2))
        for k in range(8):
            (first if k % 2 else second)()
    assert len(waited) == 2
    assert 10 < waited[0] < 16
    shop.ingest(shop.settings())
    accounts = [r[0] for r in shop.conn.execute("SELECT account FROM broker_throttle").fetchall()]
    assert any(name.startswith("data:alpaca:") and name != "data:alpaca:test" for name in accounts)
    assert not any(face.KEY in name for name in accounts)
