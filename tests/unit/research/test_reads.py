"""What a strategy reaches for beside its window; the neighbours of its parameters."""

from __future__ import annotations

import os
import socket
import zoneinfo
from pathlib import Path

import pytest

from tradecore import strategies
from tradecore.research import reads
from tradecore.research.variants import neighbours


def test_files_read_and_connections_are_seen_and_those_declared_are_not_told(tmp_path):
    named, hidden, written = tmp_path / "model.txt", tmp_path / "tomorrow.csv", tmp_path / "out.txt"
    for path in (named, hidden):
        path.write_text("1")
    with socket.socket() as listening, socket.socket() as asking, reads.watching() as seen:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        named.read_text()
        os.close(os.open(hidden, os.O_RDONLY))
        written.write_text("2")
        zoneinfo.ZoneInfo.no_cache("America/New_York")
        asking.connect(listening.getsockname())
        port = listening.getsockname()[1]
    assert reads.undeclared(seen, [named]) == [str(hidden), f"socket.connect ('127.0.0.1', {port})"]
    assert str(written) not in seen


def test_nothing_is_seen_outside_of_the_block(tmp_path):
    with reads.watching() as seen:
        pass
    (tmp_path / "later.txt").write_text("1")
    (tmp_path / "later.txt").read_text()
    assert reads.undeclared(seen, []) == []


def test_an_honest_strategy_reaches_for_nothing():
    rule = strategies.load("turn_of_month")  # it asks the calendar, which is a file of the project
    with reads.watching() as seen:
        import sample_market

        panel = sample_market.panel(("IBM",)).rows(100, 110)
        strategies.score_panel(rule, rule.params_model(), panel)
    left = reads.undeclared(seen, [sample_market.SAMPLE / "IBM.csv", sample_market.SAMPLE / "corporate_actions.csv"])
    assert left == []
    assert Path(strategies.__file__).parents[1] == reads.PACKAGE


def test_neighbours_change_one_number_each_and_are_those_that_the_strategy_takes():
    rule = strategies.load("ma_crossover")
    here = rule.params_model()
    found = [p.model_dump() for p in neighbours(rule, here)]
    changed = [{k: v for k, v in p.items() if v != here.model_dump()[k]} for p in found]
    assert all(len(c) == 1 for c in changed)
    assert [c["short_period"] for c in changed if "short_period" in c] == [10, 15, 18, 22, 25, 30]
    assert [c["long_period"] for c in changed if "long_period" in c] == [25, 38, 45, 55, 62, 75]
    assert [c["confidence_threshold"] for c in changed if "confidence_threshold" in c] == pytest.approx(
        [0.375, 0.5625, 0.675, 0.825, 0.9375]
    ), "1.125 is not a confidence"
    tight = rule.params_model(short_period=20, long_period=22)
    assert all(rule.lookback(p) for p in neighbours(rule, tight)), "a short period of 22 or more is left out"
    assert neighbours(strategies.load("buy_and_hold"), strategies.load("buy_and_hold").params_model()) == []
