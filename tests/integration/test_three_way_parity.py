"""Stages one by one = one backtest = the naive day loop in Decimal, as equality of integers at every session."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

import psycopg
import pytest
from parity_case import NOW, REPO, compare, compare_scores, configure, run_fold, run_reference, run_stages

from tradecore import pipeline
from tradecore.context import book_calendar
from tradecore.storage import bars as stored

pytestmark = pytest.mark.db
FIRST_BAR, FIRST, LAST = date(2004, 2, 2), date(2004, 9, 1), date(2005, 9, 1)
SPLIT_EVE, SPLIT_DAY = date(2005, 2, 25), date(2005, 2, 28)
LEAVES = date(2005, 6, 28)
STRESSED: dict[str, Any] = {
    "universe": {
        "members": {
            "AAPL": {"list_from": "2000-03-01"},
            "MSFT": {"list_from": "2000-03-01"},
            "IBM": {"list_from": "2000-03-01"},
            "GOOG": {"list_from": "2004-08-19", "member_to": str(LEAVES)},
            "FB": {"list_from": "2012-05-18"},
        }
    },
    "strategies": {"ma_crossover": {"symbols": "all", "params": {"confidence_threshold": 0.3}}},
    "risk": {
        "max_daily_loss": 0.004,
        "max_drawdown": 0.008,
        "halt_lifts_after_sessions": 3,
        "max_turnover": 0.3,
        "rebalance_band_frac": 0.0001,
        "min_order_notional_usd": 10,
    },
    "execution": {
        "participation_frac": 0.000002,
        "remainder": "carry",
        "commission_per_share_usd": "0.005",
        "commission_min_usd": "1",
        "slippage_bps": 5,
        "max_order_age_bars": 4,
    },
}


@pytest.mark.parametrize(
    "sizing, stressed",
    [
        pytest.param("equal_weight", False, id="as shipped-equal_weight"),
        pytest.param("volatility_adjusted", True, id="stressed-volatility_adjusted"),
        pytest.param("volatility_adjusted", False, id="as shipped-volatility_adjusted", marks=pytest.mark.slow),
        pytest.param("equal_weight", True, id="stressed-equal_weight", marks=pytest.mark.slow),
    ],
)
def test_stages_equal_fold_equal_day_loop(tmp_path, database_url, conn, sizing: str, stressed: bool):
    changes = {k: dict(v) for k, v in (STRESSED if stressed else {"risk": {}}).items()}
    changes["risk"]["position_sizing_method"] = sizing
    changes["data"] = {"options": {"folder": str(REPO / "include/sample_data")}, "restate_sessions": 1}
    found = configure(tmp_path, database_url, changes)
    pipeline.load_history(found, conn, first=FIRST_BAR, last=LAST, now=NOW)
    sessions = book_calendar(found).sessions_in_range(FIRST, LAST)
    stages = run_stages(found, conn, sessions)
    inputs, fold = run_fold(found, conn, sessions)
    compare(stages, inputs, fold, run_reference(found, sessions, FIRST_BAR, inputs.symbols))
    compare_scores(conn, "sim", inputs)
    seen = covered(conn)
    kind = "stressed" if stressed else "as shipped"
    print(f"proof: parity over {len(sessions)} sessions, {sizing}, {kind}: {dict(seen)}")
    least_of = {"fills": 20, "dividends": 2, "position across the split": 1}
    if stressed:
        least_of |= {
            "partial fills": 20,
            "dividends": 5,
            "order across the split": 1,
            "reduce-only": 1,
            "halt": 1,
            "resume": 1,
            "left the universe": 1,
        }
    for what, least in least_of.items():
        assert seen[what] >= least, f"not exercised: {what} {seen[what]} of {least} in {dict(seen)}"


STYLES = ["market_on_close", "limit", "stop", "stop_limit", "trailing_stop"]


SPANS = {"weeks": (date(2005, 2, 14), date(2005, 3, 4)), "months": (date(2004, 11, 1), date(2005, 3, 31))}


@pytest.mark.parametrize("span", ["weeks", pytest.param("months", marks=pytest.mark.slow)])
@pytest.mark.parametrize("style", STYLES)
def test_shorts_brackets_and_every_kind_of_order_three_ways(tmp_path, database_url, conn, style: str, span: str):
    """Two strategies, one of them long and short, on margin; over the split."""
    first, last = SPANS[span]
    changes: dict[str, Any] = {
        "data": {"options": {"folder": str(REPO / "include/sample_data")}, "restate_sessions": 1},
        "strategies": {
            "ma_crossover": {"symbols": "all", "capital_share": 0.4, "params": {"confidence_threshold": 0.3}},
            "both_ways": {
                "kind": "time_series_momentum",
                "capital_share": 0.6,
                "params": {"period": 10, "threshold_frac": 0.01, "long_short": True},
            },
        },
        "risk": {
            "allow_short": True,
            "max_position_size": 0.9,
            "max_exposure": 2.5,
            "max_turnover": 2.0,
            "target_volatility": 1.0,
            "max_daily_loss": 0.02,
            "max_drawdown": 0.2,
            "halt_lifts_after_sessions": 2,
        },
        "execution": {
            "order_style": style,
            "limit_collar_bps": 40,
            "stop_trigger_bps": 30,
            "stop_loss_frac": 0.02,
            "take_profit_frac": 0.03,
            "margin_frac": 0.5,
            "interest_credit_frac": 0.02,
            "interest_debit_frac": 0.06,
            "borrow_frac": 0.01,
            "remainder": "carry",
            "max_order_age_bars": 4,
        },
    }
    found = configure(tmp_path, database_url, changes)
    pipeline.load_history(found, conn, first=FIRST_BAR, last=book_calendar(found).next_session(last), now=NOW)
    sessions = book_calendar(found).sessions_in_range(first, last)
    stages = run_stages(found, conn, sessions)
    inputs, fold = run_fold(found, conn, sessions)
    compare(stages, inputs, fold, run_reference(found, sessions, FIRST_BAR, inputs.symbols, inputs.scores))
    compare_scores(conn, "sim", inputs)
    seen = Counter(dict(conn.execute("SELECT kind, count(*) FROM book_events GROUP BY 1").fetchall()))
    seen |= Counter(dict(conn.execute("SELECT order_type, count(*) FROM intents GROUP BY 1").fetchall()))
    seen["short"] = int((fold.qty_e6 < 0).sum())
    print(f"proof: parity with {style}, shorts and brackets over {len(sessions)} sessions: {dict(seen)}")
    wanted = ["short", "borrow_cost", "interest"]
    wanted += ["split", "stop_loss", "take_profit", "dividend_paid_on_ex_date"] if span == "months" else []
    wanted += [style] if style != "market_on_close" else []
    missing = [what for what in wanted if seen[what] < 1]
    assert not missing, f"not exercised: {missing} of {dict(seen)}"


def covered(conn: psycopg.Connection) -> Counter[str]:
    """Count in the database what a run made happen."""

    def count(query: str) -> int:
        return int(conn.execute(query).fetchone()[0])  # type: ignore[arg-type,index]

    aapl = next(
        m.instrument.instrument_id for m in stored.read_universe(conn, "sample") if m.instrument.symbol == "AAPL"
    )
    eve, day = f"session_date = '{SPLIT_EVE}'", f"session_date = '{SPLIT_DAY}'"
    at_eve = f"(SELECT max(bar_end_at) FROM book_states WHERE {eve})"
    return Counter(
        {
            "fills": count("SELECT count(*) FROM fills"),
            "partial fills": count("SELECT count(*) FROM order_events WHERE status = 'PARTIAL'"),
            "dividends": count("SELECT count(*) FROM book_events WHERE kind LIKE 'dividend%'"),
            "position across the split": count(
                f"SELECT count(*) FROM book_events e JOIN book_states s USING (book, bar_end_at) WHERE {day} AND"
                f" kind = 'split' AND instrument_id = {aapl}"
            ),
            "order across the split": count(
                f"SELECT count(*) FROM intents WHERE bar_end_at = {at_eve} AND instrument_id = {aapl} AND split_num = 2"
            ),
            "left the universe": count("SELECT count(*) FROM risk_events WHERE rule = 'left_universe'"),
            "reduce-only": count("SELECT count(*) FROM state_events WHERE to_state = 1"),
            "halt": count("SELECT count(*) FROM state_events WHERE to_state = 2"),
            "resume": count("SELECT count(*) FROM state_events WHERE from_state = 2 AND to_state = 0"),
        }
    )
