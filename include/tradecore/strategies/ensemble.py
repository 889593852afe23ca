"""Ensemble: a strategy over the scores of others, each computed from its own look-back of the same bars.

`mean`: the weighted mean of those that have an opinion, after the equal-weighted combination of forecasts (Timmermann,
"Forecast Combinations", Handbook of Economic Forecasting 1, 2006, ch. 4). `agree`: the least bold of all scores where
every one points the same way, else 0; without an opinion of one there is none.

Members are built-in strategies, or the owner's own that are enabled above it in trading.yaml:

    ensemble:
      params:
        of:
          - {kind: ma_crossover, params: {confidence_threshold: 0.3}, weight: 2}
          - {kind: time_series_momentum}
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tradecore import strategies
from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy


class Member(BaseModel):
    """One strategy of an ensemble: its kind, its parameters, its weight in the mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    params: dict[str, Any] = Field(default_factory=dict)
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0


def _loaded(member: Member) -> tuple[strategies.Strategy, BaseModel]:
    """Return a member's strategy and its checked parameters. Raises ConfigError, or ValueError for its parameters."""
    rule = strategies.load(member.kind)
    return rule, rule.params_model(**member.params)


def _lookback(p: Any) -> int:
    return max(rule.lookback(params) for rule, params in map(_loaded, p.of))


def _series(p: Any) -> list[str]:
    return sorted({name for rule, params in map(_loaded, p.of) for name in rule.series(params)})


@strategy(lookback_bars=_lookback, series=_series)
def ensemble(
    window: Window,
    *,
    of: Annotated[tuple[Member, ...], Field(min_length=1, max_length=50)] = (
        Member(kind="ma_crossover"),
        Member(kind="time_series_momentum"),
    ),
    combine: Literal["mean", "agree"] = "mean",
) -> Floats:
    """Combine the members' scores: their weighted mean, or what all agree on."""
    members = [Member.model_validate(m) for m in of]
    rows, scores = window.day.size, np.empty((len(members), len(window.symbols)))
    for k, (rule, params) in enumerate(map(_loaded, members)):
        scores[k] = rule.score(window.rows(rows - rule.lookback(params), rows), **params.model_dump())
    known = ~np.isnan(scores)
    if combine == "agree":
        same = (scores > 0).all(0) | (scores < 0).all(0)
        least = np.sign(scores[0]) * np.abs(scores).min(0)
        return np.where(known.all(0), np.where(same, least, 0.0), np.nan)
    weight = np.array([[m.weight] for m in members]) * known
    total = weight.sum(0)
    mean = (np.where(known, scores, 0.0) * weight).sum(0) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, np.nan)
