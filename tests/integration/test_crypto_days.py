"""Coins: the calendar 24/7 through ingest, validation and a backtest, weekends and all."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
import pytest
import yaml

from tradecore import pipeline, settings
from tradecore.research import backtest
from vendor_standin.client import running

pytestmark = pytest.mark.db
FIRST, LAST = date(2021, 1, 1), date(2021, 2, 28)


def test_coins_are_loaded_each_day_and_traded_on_a_sunday(
    tmp_path: Path, database_url: str, conn: psycopg.Connection
) -> None:
    with running("--first", "2004-11-01", "--last", "2005-03-31") as standin:
        document = {
            "book": {"name": "coins", "calendar": "24/7"},
            "universe": {"name": "coins", "members": {"BTC-USD": {"qty_step_shares": 0.0001}, "ETH-USD": {}}},
            "data": {"feed": "crypto", "options": {"base_url": standin.url, "rows_per_page": 20}},
            "strategies": {"ma_crossover": {"params": {"short_period": 3, "long_period": 10}}},
        }
        (tmp_path / "trading.yaml").write_text(yaml.safe_dump(document))
        found = settings.load({"TRADECORE_CONFIG": str(tmp_path / "trading.yaml"), "DATABASE_URL": database_url})
        loaded = pipeline.load_history(found, conn, first=FIRST, last=LAST, now=datetime(2026, 1, 2, tzinfo=UTC))
    assert (loaded["bars"], loaded["rows_failed"]) == (2 * 59, 0)
    result = backtest.run(found, conn, first=date(2021, 1, 25), last=LAST)
    assert {day.weekday() for day in result.inputs.days} == set(range(7))
    assert result.fold.journal.counts[1] > 0, "nothing was traded"
