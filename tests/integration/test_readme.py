"""The README's strategy is one that runs: its code and its configuration, as printed."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
import yaml
from parity_case import NOW, REPO, configure

from tradecore import pipeline
from tradecore.research import backtest


def block(language: str) -> str:
    text = (REPO / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Add a strategy") :]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.db
def test_the_strategy_of_the_readme_trades(tmp_path: Path, database_url: str, conn):
    own = tmp_path / "home" / "include" / "strategies"
    own.mkdir(parents=True)
    (own / "breakout.py").write_text(block("python"), encoding="utf-8")
    changes = {"strategies": yaml.safe_load(block("yaml"))["strategies"]}
    changes["data"] = {"options": {"folder": str(REPO / "include/sample_data")}}
    found = configure(tmp_path, database_url, changes).model_copy(update={"home": tmp_path / "home"})
    pipeline.load_history(found, conn, first=date(2004, 6, 1), last=date(2005, 3, 1), now=NOW)
    result = backtest.run(found, conn, first=date(2004, 11, 1), last=date(2005, 3, 1))
    assert result.inputs.strategies == ("ma_crossover", "breakout")
    held = result.fold.book.alloc
    assert (held[1] > 0).any(), "the breakout strategy holds nothing at the end of the range"
    assert result.fold.journal.counts[1] > 5
