"""What a book could lose: measured at the close, kept, shown in report and command, held against what came after."""

from __future__ import annotations

import json

import pytest
from project_home import make, open_for_trading, rows

from tradecore.risk.measures import METHODS

pytestmark = pytest.mark.db


def test_measures_are_kept_shown_and_tested(tmp_path, database_url, conn):
    project = make(tmp_path, database_url)
    project.configure(
        {
            "risk": {
                "tail": {
                    "lookback_bars": 40,
                    "shocks": {"crash": {"all": -0.2, "AAPL": -0.5}},
                    "windows": {"january": ["2005-01-03", "2005-01-31"], "later": ["2005-03-01", "2005-03-31"]},
                }
            }
        }
    )
    open_for_trading(project, conn)
    days = project.sessions(4)
    results = project.trade(conn, *days)
    kept = dict(rows(conn, "SELECT session_date, measures FROM portfolio_risk ORDER BY session_date"))
    assert list(kept) == list(days)
    found = kept[days[-1]]
    assert len(found["names"]) > 1, "not exercised: it holds nothing"
    assert {(x["method"], x["confidence"], x["bars"]) for x in found["losses"]} == {
        (m, c, b) for m in METHODS for c in (0.95, 0.99) for b in (1, 10)
    }
    for loss in found["losses"]:
        assert loss["expected_shortfall"] >= loss["value_at_risk"] > 0
    weight = {n["symbol"]: n["weight"] for n in found["names"]}
    assert found["stress"]["crash"] == pytest.approx(sum(w * (0.5 if s == "AAPL" else 0.2) for s, w in weight.items()))
    assert {"january", "correlation_to_one", "volatility_doubled", "gap_through_stops"} <= set(found["stress"])
    assert "later" not in found["stress"], "a window that is not past is not known"
    assert found["stress"]["correlation_to_one"] >= sum(n["component"] for n in found["names"]) > 0

    said = project.run("portfolio-risk", str(days[-1]), "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out) == found
    page = (project.home / ".local/reports").rglob(f"{days[-1]}.html")
    text = next(page).read_text()
    assert "What could be lost" in text
    assert "Stress: crash" in text
    assert results[-1]["report"]["report"].endswith(".html")
    tests = project.run("risk-backtest", "--json").document
    assert tests["historical 99%"]["sessions"] == len(days) - 1
