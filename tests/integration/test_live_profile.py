"""The live profile without a key: Yahoo through yfinance, against a stand-in that speaks its protocol over HTTP."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from parity_case import REPO

from tradecore import ingestion, pipeline, settings
from yahoo_standin.client import running

ALIASES = ("--alias", "GOOGL=GOOG", "--alias", "TSLA=IBM")
NOW = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)


@pytest.mark.db
def test_two_sessions_of_the_yahoo_profile(tmp_path: Path, database_url: str, conn):
    with running("--end", "2026-11-20", *ALIASES) as vendor:
        env = {
            "DATABASE_URL": database_url,
            "INITIAL_CASH": "100000",
            "YAHOO_FINANCE_ENABLED": "true",
            "YAHOO_BASE_URL": vendor.url,
        }
        found = settings.load(env, REPO / "include/config/trading.yahoo.yaml")
        data = found.trading.data  # as it is shipped, but for the pause of a second before each of 40 requests
        quick = data.model_copy(update={"options": {**data.options, "requests_per_minute": 60_000}})
        trading = found.trading.model_copy(update={"data": quick})
        found = found.model_copy(update={"local_dir": tmp_path, "trading": trading})
        assert pipeline.last_available_session(found, conn, NOW) == date(2026, 11, 20)
        loaded = ingestion.load_history(found, conn, first=date(2026, 8, 3), last=date(2026, 11, 18), now=NOW)
        assert loaded["failures"] == []
        pipeline.open_book(found, conn, book="sim-yahoo", before=date(2026, 11, 19), now=NOW)
        for day in (date(2026, 11, 19), date(2026, 11, 20)):
            done = pipeline.run_session(found, conn, book="sim-yahoo", session_date=day, now=NOW)[0]
            assert done["validate"]["gate_open"]
            assert done["close"]["status"] == "closed"
        requests = vendor.charts()
        again = pipeline.run_session(found, conn, book="sim-yahoo", session_date=day, now=NOW)[0]
        assert again["ingest"]["versions"] == 0
        assert vendor.charts() > requests, "the second run asked the vendor again and found nothing new"
    assert conn.execute("SELECT count(*) FROM signals").fetchone()[0] == 8
