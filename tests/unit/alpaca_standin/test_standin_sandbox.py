"""The sandbox: the sample's sessions moved to today, once and for all."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime
from pathlib import Path

from venue_case import SESSIONS

from alpaca_standin import sandbox
from alpaca_standin.market import Market, load_bars
from tradecore import settings

REPO = Path(__file__).resolve().parents[3]
SAMPLE = REPO / "include" / "sample_data"
NOW = datetime(2026, 11, 25, 22, tzinfo=UTC)  # Wednesday evening before Thanksgiving: the next session is Friday
LATER = datetime(2027, 3, 1, tzinfo=UTC)


def closes(folder: Path) -> list[tuple[str, str]]:
    with (folder / "MSFT.csv").open(encoding="utf-8") as lines:
        return [(row["session_date"], row["close"]) for row in csv.DictReader(lines)]


def test_the_samples_prices_keep_their_order_on_todays_sessions(tmp_path: Path):
    bars = sandbox.prepare(tmp_path, SAMPLE, SESSIONS, NOW)
    original, moved = closes(SAMPLE), closes(bars)
    assert dict(moved)["2026-11-27"] == dict(original)["2005-11-23"]
    start = original.index(("2005-11-23", dict(original)["2005-11-23"]))
    assert [close for _, close in moved] == [close for _, close in original][: len(moved)]
    assert len(moved) > start + 500, "the sandbox has years to come"
    labels = [date.fromisoformat(label) for label, _ in moved]
    assert all(SESSIONS.on(label) for label in labels)
    market = Market(SESSIONS, load_bars(bars, SESSIONS))
    assert {"AAPL", "MSFT", "IBM", "GOOG"} <= set(market.symbols)


def test_started_again_later_the_prices_of_a_date_are_what_they_were(tmp_path: Path):
    first = closes(sandbox.prepare(tmp_path, SAMPLE, SESSIONS, NOW))
    assert closes(sandbox.prepare(tmp_path, SAMPLE, SESSIONS, LATER)) == first


def test_the_profile_that_it_writes_is_one_that_loads(tmp_path: Path):
    bars = sandbox.prepare(tmp_path, SAMPLE, SESSIONS, NOW)
    keys = {"ALPACA_API_KEY": "STANDIN-KEY", "ALPACA_SECRET_KEY": "standin-secret"}
    found = settings.load({**keys, "ALPACA_BASE_URL": "http://127.0.0.1:8098"}, tmp_path / "trading.yaml")
    assert found.trading.book.broker == "alpaca-paper"
    assert str(bars.resolve()) in str(found.trading.data.options)
