"""The ensemble: its members' own scores, combined by its rule, from its window alone."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import sample_market
from tradecore import strategies
from tradecore.bars import Panel
from tradecore.errors import ConfigError

MEMBERS = (
    {"kind": "ma_crossover", "params": {"confidence_threshold": 0.3}, "weight": 2.0},
    {"kind": "time_series_momentum", "params": {"period": 20, "long_short": True}},
    {"kind": "rsi_reversion"},
)


@cache
def history() -> Panel:
    return sample_market.panel().rows(1_200, 1_700)


def scored(name: str, **params: Any) -> np.ndarray:
    rule = strategies.load(name)
    return strategies.score_panel(rule, rule.params_model(**params), history())


@pytest.mark.parametrize("combine", ["mean", "agree"])
def test_scores_are_the_members_combined(combine: str):
    one, two, three = (scored(str(m["kind"]), **m.get("params", {})) for m in MEMBERS)  # type: ignore[arg-type]
    found = scored("ensemble", of=MEMBERS, combine=combine)
    start = strategies.load("ensemble").lookback(strategies.load("ensemble").params_model(of=MEMBERS)) - 1
    kinds = set()
    for t in range(start, found.shape[0]):
        for i in range(found.shape[1]):
            said = [(x, w) for x, w in ((one[t, i], 2.0), (two[t, i], 1.0), (three[t, i], 1.0)) if x == x]
            if combine == "mean":
                wanted = sum(x * w for x, w in said) / sum(w for _, w in said) if said else np.nan
            elif len(said) < 3:
                wanted = np.nan
            elif all(x > 0 for x, _ in said) or all(x < 0 for x, _ in said):
                wanted = min((x for x, _ in said), key=abs)
            else:
                wanted = 0.0
            assert found[t, i] == pytest.approx(wanted, abs=1e-9, nan_ok=True), (t, i)
            kinds.add("none" if wanted != wanted else "short" if wanted < 0 else "flat" if wanted == 0 else "long")
    assert kinds >= ({"none", "long", "short"} if combine == "mean" else {"none", "flat"})


def test_look_back_is_the_longest_of_the_members():
    rule = strategies.load("ensemble")
    assert rule.lookback(rule.params_model(of=MEMBERS)) == 141
    assert rule.lookback(rule.params_model()) == 253


def test_what_is_wrong_with_a_member_is_said():
    rule = strategies.load("ensemble")
    with pytest.raises(ConfigError, match="no strategy is called 'nobody'"):
        rule.lookback(rule.params_model(of=[{"kind": "nobody"}]))
    with pytest.raises(ValidationError, match="period"):
        rule.lookback(rule.params_model(of=[{"kind": "time_series_momentum", "params": {"period": 0}}]))
    with pytest.raises(ValidationError):
        rule.params_model(of=[])


def test_time_series_momentum_goes_short_where_it_may():
    long_only, both = (
        scored("time_series_momentum", period=20),
        scored("time_series_momentum", period=20, long_short=True),
    )
    np.testing.assert_array_equal(np.isnan(long_only), np.isnan(both))
    known = ~np.isnan(both)
    np.testing.assert_array_equal(both[known], 2 * long_only[known] - 1)
    assert set(both[known]) == {-1.0, 1.0}
