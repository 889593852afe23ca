"""Every built-in strategy in one book: the stages store the scores of the backtest to the bit, and trade the same."""

from __future__ import annotations

from datetime import date
from typing import Any

import psycopg
import pytest
from parity_case import NOW, REPO, compare_scores, compare_with_fold, configure, run_fold, run_stages

from tradecore import pipeline, strategies
from tradecore.context import book_calendar

pytestmark = pytest.mark.db
FIRST_BAR, FIRST, LAST = date(2004, 2, 20), date(2005, 2, 25), date(2005, 3, 3)  # a split, the turn of a month
PARAMS: dict[str, dict[str, Any]] = {
    "buy_and_hold": {"buy_until": "2005-02-28"},
    "day_of_week": {"weekdays": ["mon", "fri"]},
    "equal_weight": {"every": "week"},
    "lead_lag": {"leader": "IBM"},
    "pairs": {"chosen": [["AAPL", "MSFT"], ["IBM", "MSFT"]], "level_pct": 10},
}


def test_every_built_in_strategy_in_one_book_stages_equal_fold(tmp_path, database_url, conn: psycopg.Connection):
    share = 1.0 / len(strategies.BUILT_IN) - 1e-4
    shares = {
        name: {"enabled": True, "symbols": "all", "capital_share": share, "params": PARAMS.get(name, {})}
        for name in strategies.BUILT_IN
    }
    changes = {
        "strategies": shares,
        "data": {"options": {"folder": str(REPO / "include/sample_data")}, "restate_sessions": 1},
        "risk": {"rebalance_band_frac": 0.0001, "min_order_notional_usd": 10},
    }
    found = configure(tmp_path, database_url, changes)
    pipeline.load_history(found, conn, first=FIRST_BAR, last=LAST, now=NOW)
    sessions = book_calendar(found).sessions_in_range(FIRST, LAST)
    stages = run_stages(found, conn, sessions)
    inputs, fold = run_fold(found, conn, sessions)
    compare_scores(conn, "sim", inputs)
    compare_with_fold(stages, inputs, fold)
    assert sorted(inputs.strategies) == sorted(strategies.BUILT_IN)
    opinions = dict(
        conn.execute("SELECT strategy, count(*) FROM signals WHERE score <> 'NaN' GROUP BY strategy").fetchall()
    )
    silent = set(strategies.BUILT_IN) - set(opinions)
    assert not silent, f"not exercised: {silent}"
    (filled,) = conn.execute("SELECT count(*) FROM fills").fetchone() or (0,)
    scores = sum(opinions.values())
    print(f"proof: {len(opinions)} strategies, {scores} scores, {filled} fills over {len(sessions)} sessions")
    assert filled >= 5
