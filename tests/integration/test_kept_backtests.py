"""A backtest with overrides: kept once, shown again, its page written, its parts summing to the whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import numpy as np
import psycopg
import pytest
from parity_case import NOW, REPO, configure

from page_parts import Page
from tradecore import market, pipeline
from tradecore.errors import ConfigError
from tradecore.model import EV_DIVIDEND_ASSUMED_PAID, EV_SPLIT
from tradecore.research import attribution, backtest, kept, sheet
from tradecore.research.overrides import Overrides, apply, parse_params
from tradecore.settings import Settings
from tradecore.storage import backtests
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db
FIRST_BAR, FIRST, LAST = date(2004, 9, 1), date(2004, 12, 13), date(2005, 3, 4)  # AAPL splits on 2005-02-28
CHANGES = {
    "data": {"options": {"folder": str(REPO / "include/sample_data")}},
    "strategies": {
        "ma_crossover": {"capital_share": 0.5},
        "turn_of_month": {"enabled": True, "capital_share": 0.25},
        "buy_and_hold": {"enabled": True, "capital_share": 0.25, "params": {"buy_until": "2005-01-31"}},
    },
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Settings:
    """The sample profile with three strategies and half a year of bars; a home of its own for the pages."""
    home = tmp_path_factory.mktemp("home")
    made = configure(home, module_database_url, CHANGES)
    with connect(module_database_url) as conn:
        pipeline.load_history(made, conn, first=FIRST_BAR, last=LAST, now=NOW)
    return made


@pytest.fixture
def conn(module_database_url: str) -> Iterator[psycopg.Connection]:
    with connect(module_database_url) as opened:
        yield opened


def test_names_strategies_and_round_trips_sum_to_the_change_of_equity(found: Settings, conn: psycopg.Connection):
    result = backtest.run(found, conn, first=FIRST, last=LAST)
    events = result.fold.journal.events[:, 0]
    assert (events == EV_SPLIT).any(), "not exercised: a split while holding"
    assert (events == EV_DIVIDEND_ASSUMED_PAID).any(), "not exercised: a dividend"
    assert np.array_equal(attribution.allocations(result.inputs).sum(axis=1), result.fold.qty_e6)
    shown = sheet.tear_sheet(result, found)
    change = shown.equity_usd[-1] - shown.equity_usd[0]
    assert len(shown.strategies) == 3
    assert all(part.traded_usd for part in shown.strategies), "not exercised: a strategy that trades"
    for parts in (shown.strategies, shown.names):
        assert sum(p.total_usd for p in parts) == pytest.approx(change, abs=0.01)
        assert sum(p.fees_usd for p in parts) == pytest.approx(shown.fees_usd.sum(), abs=0.01)
        per_session = np.sum([p.gain_usd for p in parts], axis=0)
        np.testing.assert_allclose(per_session, np.diff(shown.equity_usd), atol=0.01)
    assert sum(t.gain_usd for t in shown.trips) == pytest.approx(change, abs=0.01)
    assert shown.benchmark is not None
    ibm = sheet.tear_sheet(result, found, benchmark="IBM").benchmark
    assert ibm is not None
    vendor = dict(line.split(",")[::6] for line in (REPO / "include/sample_data/IBM.csv").read_text().split()[1:])
    wanted = float(vendor[str(LAST)]) / float(vendor[str(FIRST)])
    assert (1.0 + ibm.returns).prod() == pytest.approx(wanted, rel=1e-4), "the vendor's adjusted closes"
    print(f"proof: names, strategies and {len(shown.trips)} round trips sum to {change:,.2f} USD within a cent")


def test_a_kept_backtest_is_one_row_however_often_it_runs(found: Settings, conn: psycopg.Connection):
    wanted = Overrides(
        cash_usd=Decimal(50_000), strategies=("ma_crossover",), params={"ma_crossover": {"short_period": 5}}, cost_bps=7
    )
    rows = [kept.run(found, conn, first=FIRST, last=LAST, overrides=wanted, benchmark="IBM", now=NOW) for _ in range(2)]
    assert rows[0].backtest_id == rows[1].backtest_id
    assert rows[0].initial_cash_e4 == 500_000_000
    assert rows[0].strategies["ma_crossover"]["params"]["short_period"] == 5
    assert rows[0].overrides == wanted.as_record()
    other = kept.run(found, conn, first=FIRST, last=LAST, overrides=Overrides(), now=NOW)
    assert other.backtest_id != rows[0].backtest_id
    stored = backtests.find(conn, rows[0].backtest_id[:12])
    assert list(stored.equity_e4) == list(rows[0].equity_e4)
    assert stored.metrics == rows[0].metrics
    assert (stored.session_dates[0], stored.session_dates[-1]) == (FIRST, LAST)
    assert stored.benchmark_growth is not None
    assert len(stored.benchmark_growth) == len(stored.session_dates)
    listed = [r["backtest_id"] for r in backtests.newest(conn)]
    assert sorted(listed) == sorted({other.backtest_id, stored.backtest_id})
    page = Page((found.home / stored.report_path).read_text(encoding="utf-8"))
    page.assert_fetches_nothing()
    assert "short_period 5" in page.html
    assert json.loads(json.dumps(stored.metrics))["sharpe"] is not None
    for start in ("no such", "f" * 64):
        with pytest.raises(ConfigError, match="no single backtest"):
            backtests.find(conn, start)


def test_a_kept_backtest_has_the_final_book_of_the_plain_one(found: Settings, conn: psycopg.Connection):
    plain = backtest.as_records(backtest.run(found, conn, first=FIRST, last=LAST))
    row = kept.run(found, conn, first=FIRST, last=LAST, overrides=Overrides(), now=NOW)
    assert row.book_hash == plain["book_hash"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Overrides(params={"nope": {}}), "--params: .* no such strategy"),
        (Overrides(strategies=("nope",)), "--strategies: no strategy is called 'nope'"),
        (Overrides(strategies=("../../etc/x",)), "--strategies: '../../etc/x' is no name of a strategy"),
        (Overrides(params={"ma_crossover": {"short_perod": 4}}), "--params ma_crossover: .*no parameter 'short_perod'"),
        (Overrides(params={"ma_crossover": {"short_period": "x"}}), "--params ma_crossover: short_period = 'x'"),
        (Overrides(params={"ma_crossover": {"short_period": 300}}), "--params ma_crossover: .*short_period"),
        (Overrides(cost_bps=-1), "costs of -1 bps"),
        (Overrides(cost_bps=float("nan")), "costs of nan bps"),
        (Overrides(cash_usd=Decimal(0)), "cannot open with 0 USD"),
        (Overrides(cash_usd=Decimal("nan")), "cannot open with NaN USD"),
    ],
)
def test_overrides_that_cannot_be_are_refused_with_a_next_step(found: Settings, wanted: Overrides, message: str):
    with pytest.raises(ConfigError, match=message) as error:
        apply(found, wanted)
    assert error.value.next_step
    assert "trading.yaml" not in error.value.message, "it is the command's mistake"


@pytest.mark.parametrize("text", ["{", "[]", '{"ma_crossover": 3}', '{"ma_crossover": {"short_period": NaN}}'])
def test_parameters_that_are_no_json_by_strategy_are_refused(text: str):
    with pytest.raises(ConfigError, match="parameters"):
        parse_params(text)


def test_strategies_that_are_named_are_the_only_ones_and_share_the_capital(found: Settings):
    trading = apply(found, Overrides(strategies=("ma_crossover", "faber_average"))).trading
    assert trading.enabled() == ("ma_crossover", "faber_average")
    assert [trading.strategies[s].capital_share for s in trading.enabled()] == [0.5, 0.5]
    assert [r.name for r in market.rules(found.model_copy(update={"trading": trading}))] == list(trading.enabled())


def test_a_benchmark_that_is_not_there_is_refused(found: Settings, conn: psycopg.Connection):
    result = backtest.run(found, conn, first=FIRST, last=LAST)
    assert sheet.tear_sheet(result, found, benchmark="").benchmark is None
    with pytest.raises(ConfigError, match="'SPY' is no member"):
        sheet.tear_sheet(result, found, benchmark="SPY")
