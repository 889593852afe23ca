"""The figures of docs/published.md, 'same rule, other span': they are what comes out, and nothing is claimed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import psycopg
import pytest
from parity_case import NOW, REPO

from tradecore import pipeline, settings
from tradecore.research import backtest, kept, sheet
from tradecore.research.overrides import Overrides, apply

pytestmark = [pytest.mark.db, pytest.mark.slow]
FIRST_BAR, FIRST, LAST = date(2000, 3, 1), date(2001, 3, 1), date(2013, 2, 28)
RULES = ("faber_average", "time_series_momentum", "turn_of_month", "buy_and_hold")


def test_the_figures_of_the_page_come_out(tmp_path: Path, database_url: str, conn: psycopg.Connection):
    env = {"DATABASE_URL": database_url, "INITIAL_CASH": "100000", "LOG_LEVEL": "WARNING", "TRADECORE_HOME": str(REPO)}
    found = settings.load(env, "docs/published.yaml").model_copy(update={"local_dir": tmp_path})
    pipeline.load_history(found, conn, first=FIRST_BAR, last=LAST, now=NOW)
    page = (REPO / "docs" / "published.md").read_text(encoding="utf-8")
    for rule in RULES:
        chosen = apply(found, Overrides(strategies=(rule,), cost_bps=0))
        shown = sheet.tear_sheet(backtest.run(chosen, conn, first=FIRST, last=LAST), chosen)
        f = kept.figures(shown)
        line = f"| `{rule}` | {f['cagr']:.1%} | {f['volatility']:.1%} | {f['sharpe']:.2f} | {f['max_drawdown']:.1%} | "
        line += f"{f['exposure']:.0%} | {shown.fills:,} |"
        assert line in page
        print(f"proof: {line}")
