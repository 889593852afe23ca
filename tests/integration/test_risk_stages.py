"""Sizing by covariance and limits on targets: the stages one by one come to the fold's integers, and store what
changed."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

import psycopg
import pytest
from parity_case import NOW, REPO, compare_with_fold, configure, run_fold, run_stages

from tradecore import pipeline
from tradecore.context import book_calendar
from tradecore.risk.sizing import METHODS

pytestmark = pytest.mark.db
FIRST_BAR, FIRST = date(2004, 2, 2), date(2005, 2, 8)  # over the split of 2005-02-28, and dividends
LAST = {False: date(2005, 3, 24), True: date(2005, 9, 1)}
LIMITED: dict[str, Any] = {
    "limits": {
        "groups": {"hardware": 0.3},
        "max_net": 0.15,
        "max_leverage": 0.9,
        "max_beta": 0.2,
        "max_adv_frac": 0.00003,
        "max_cluster": 0.3,
        "cluster_correlation": 0.3,
        "max_names": 3,
        "min_names": 3,
        "lookback_bars": 40,
    },
    "tail": {
        "max_loss": 0.004,
        "lookback_bars": 60,
        "shocks": {"crash": {"all": -0.2, "hardware": -0.3}},
        "max_stress": 0.008,
    },
}


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=() if m == "risk_parity" else pytest.mark.slow) for m in METHODS]
)
def test_stages_equal_fold_with_every_method_and_limit(tmp_path, database_url, conn, request, method: str):
    long = request.config.getoption("-m") not in ("", "not slow") or method != "risk_parity"
    changes: dict[str, Any] = {
        "data": {"options": {"folder": str(REPO / "include/sample_data")}, "restate_sessions": 1},
        "universe": {
            "members": {
                "AAPL": {"list_from": "2000-03-01", "tags": ["hardware"]},
                "MSFT": {"list_from": "2000-03-01"},
                "IBM": {"list_from": "2000-03-01", "tags": ["hardware", "old"]},
                "GOOG": {"list_from": "2004-08-19"},
                "FB": {"list_from": "2012-05-18"},
            }
        },
        "strategies": {
            "ma_crossover": {
                "symbols": "all",
                "capital_share": 0.5,
                "params": {"confidence_threshold": 0.3},
                "throttle": {"lookback_bars": 10, "start_frac": 0.002, "stop_frac": 0.03},
            },
            "both_ways": {
                "kind": "time_series_momentum",
                "capital_share": 0.5,
                "params": {"period": 10, "threshold_frac": 0.01, "long_short": True},
            },
        },
        "risk": {
            "allow_short": True,
            "max_position_size": 0.5,
            "max_exposure": 1.2,
            "position_sizing_method": method,
            "sizing": {"lookback_bars": 60, "hedge_symbol": "IBM", "trade_risk_frac": 0.02},
            **LIMITED,
        },
        "execution": {"stop_loss_frac": 0.1},
    }
    found = configure(tmp_path, database_url, changes)
    pipeline.load_history(found, conn, first=FIRST_BAR, last=LAST[long], now=NOW)
    sessions = book_calendar(found).sessions_in_range(FIRST, LAST[long])
    stages = run_stages(found, conn, sessions)
    inputs, fold = run_fold(found, conn, sessions)
    compare_with_fold(stages, inputs, fold)
    seen = events(conn)
    print(f"proof: parity of {method} over {len(sessions)} sessions under limits: {dict(seen)}")
    assert len(fold.journal.fills) > 20
    if method == "risk_parity":
        least = {"group_cap hardware", "cluster_cap", "max_names", "net_cap", "beta_cap", "stress_cap crash"}
        least |= {"tail_cap", "throttle ma_crossover"}
        assert least <= set(seen), f"not exercised: {least - set(seen)}"


def events(conn: psycopg.Connection) -> Counter[str]:
    """Count the stored risk events by rule, and what they say."""
    rows = conn.execute("SELECT trim(rule || ' ' || detail), before_value, after_value FROM risk_events").fetchall()
    assert all(abs(before) > abs(after) or "cap" not in rule for rule, before, after in rows)
    return Counter(str(rule) for rule, _, _ in rows)
