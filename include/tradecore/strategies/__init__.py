"""Strategies: bars -> scores. A score is 0 (flat) to 1 (full conviction); NaN means no opinion: hold what is held.

With `risk.allow_short` a score down to -1 is sold short; without it, what is below 0 counts as 0.

A strategy is one function of a `Window`, found by its name:

    from tradecore.strategies import strategy

    @strategy(lookback_bars=lambda p: p.period + 1)
    def breakout(window, *, period: int = 20):
        '''Long above the highest close of the last `period` bars, flat below the lowest (Donchian).'''
        close, past = window.close[-1], window.close[-1 - period:-1]
        return np.where(close > past.max(0), 1.0, np.where(close < past.min(0), 0.0, np.nan))

Built-in ones are modules of this package; the owner's own are files in include/strategies/.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, create_model

from tradecore.bars import Panel, Window, window
from tradecore.errors import ConfigError, StrategyError
from tradecore.model import Floats

BUILT_IN = (
    "ma_crossover",
    "faber_average",
    "time_series_momentum",
    "cross_sectional_momentum",
    "dual_momentum",
    "donchian_breakout",
    "rsi_reversion",
    "bollinger_reversion",
    "pairs",
    "lead_lag",
    "turn_of_month",
    "day_of_week",
    "risk_parity",
    "equal_weight",
    "buy_and_hold",
    "ensemble",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """A named rule. `score` maps a Window of lookback rows to [n] scores; `panel_score`, where given, maps a Window of
    T >= lookback rows to [T, n], each row from its own lookback rows alone (the same numbers, faster over history)."""

    name: str
    score: Callable[..., Floats]
    params_model: type[BaseModel]
    lookback: Callable[[Any], int]
    panel_score: Callable[..., Floats] | None = None
    series: Callable[[Any], tuple[str, ...]] = lambda _p: ()


REGISTRY: dict[str, Strategy] = {}


def strategy(
    *,
    lookback_bars: int | Callable[[Any], int],
    panel: Callable[..., Floats] | None = None,
    series: Sequence[str] | Callable[[Any], Sequence[str]] = (),
) -> Callable[[Callable[..., Floats]], Callable[..., Floats]]:
    """Register the decorated function under its name; its keyword-only arguments are its parameters.

    series names the alternative series that it reads with `window.series(name)`.
    """

    def register(function: Callable[..., Floats]) -> Callable[..., Floats]:
        name = getattr(function, "__name__", "strategy")
        fields: dict[str, Any] = {}
        hints = inspect.get_annotations(function, eval_str=True)
        for key, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                default = ... if parameter.default is inspect.Parameter.empty else parameter.default
                fields[key] = (hints.get(key, Any), default)
        model = create_model(f"{name}_params", __config__=ConfigDict(extra="forbid", frozen=True), **fields)
        lookback = lookback_bars if callable(lookback_bars) else lambda _p: lookback_bars
        names = series if callable(series) else lambda _p: series
        REGISTRY[name] = Strategy(
            name=name,
            score=function,
            params_model=model,
            lookback=lookback,
            panel_score=panel,
            series=lambda p: tuple(names(p)),
        )
        return function

    return register


class _FromSource(SourceFileLoader):
    """Compiles the owner's file itself: Python's bytecode cache knows a file by its size and its second, so that an
    edit of equal length within that second (1.0 to 0.5, say) would trade the line before it."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def load(kind: str, own_folder: Path | None = None) -> Strategy:
    """Return the strategy of that name: built in, or the function of that name in own_folder/<kind>.py.

    Raises ConfigError when there is none, and StrategyError when its file does not import or does not define it.
    """
    if kind in REGISTRY:
        return REGISTRY[kind]
    if kind in BUILT_IN:
        importlib.import_module(f"tradecore.strategies.{kind}")
        return REGISTRY[kind]
    path = own_folder / f"{kind}.py" if own_folder and kind.isidentifier() else None  # no way out of the folder
    if path is None or not path.is_file():
        own = sorted(p.stem for p in own_folder.glob("*.py")) if own_folder and own_folder.is_dir() else []
        raise ConfigError(
            f"no strategy is called {kind!r}; known: {', '.join([*BUILT_IN, *own])}.",
            next_step=f"correct `kind` in trading.yaml, or add {path}" if path else "correct `kind` in trading.yaml",
            kind=kind,
        )
    name = f"own_strategies.{kind}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_FromSource(name, str(path)))
    if spec is None or spec.loader is None:
        raise StrategyError(f"{path} cannot be imported as Python", next_step="check the file", strategy=kind)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the boundary to the owner's code, which may raise anything
        raise StrategyError(
            f"strategy {kind} cannot be loaded: {path}: {type(error).__name__}: {error}.",
            next_step="correct the file",
            strategy=kind,
        ) from error
    if kind not in REGISTRY:
        raise StrategyError(
            f"{path} defines no function {kind!r} decorated with @strategy",
            next_step=f"name the function {kind} and decorate it",
            strategy=kind,
        )
    return REGISTRY[kind]


def forget(kind: str) -> None:
    """Have the owner's strategy of that name imported anew when it is asked for next; a built-in one stays."""
    if kind not in BUILT_IN:
        REGISTRY.pop(kind, None)
        sys.modules.pop(f"own_strategies.{kind}", None)


def broken(kind: str, error: StrategyError) -> Strategy:
    """Return a strategy in the place of one that cannot be loaded: it takes any parameters, and scoring raises."""

    def score(_window: Window, **_params: Any) -> Floats:
        raise error

    model = create_model(f"{kind}_params", __config__=ConfigDict(extra="allow", frozen=True))
    return Strategy(name=kind, score=score, params_model=model, lookback=lambda _p: 1)


def canonical(scores: Floats) -> Floats:
    """Round scores to 1e-9, the precision that hashes and decisions use; NaN stays."""
    return np.rint(scores * 1e9) / 1e9


def checked(scores: Any, n: int, name: str) -> Floats:
    """Return what a strategy gave as float64 [n]; StrategyError unless each value is finite or NaN."""
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (n,):
        raise StrategyError(
            f"strategy {name} returned shape {values.shape}, one score per symbol is ({n},).",
            next_step="return one score per column of window.close",
            strategy=name,
        )
    if np.isinf(values).any():
        raise StrategyError(
            f"strategy {name} returned an infinite score.",
            next_step="return NaN for no opinion, 0 for flat",
            strategy=name,
        )
    return canonical(values)


def score_last(rule: Strategy, params: BaseModel, panel: Panel) -> Floats:
    """Return the scores [n] at the last row of a panel of exactly lookback rows (production)."""
    values = rule.score(window(panel), **params.model_dump())
    return checked(values, len(panel.instruments), rule.name)


def score_panel(rule: Strategy, params: BaseModel, panel: Panel) -> Floats:
    """Return the scores [T, n] of each row from its own lookback rows; NaN before the first whole window (backtest)."""
    n, lookback = len(panel.instruments), rule.lookback(params)
    out = np.full((panel.bar_end_ns.size, n), np.nan)
    whole = window(panel)
    if rule.panel_score is not None:
        return canonical(rule.panel_score(whole, out, lookback, **params.model_dump()))
    for t in range(lookback - 1, panel.bar_end_ns.size):
        seen = whole.rows(t + 1 - lookback, t + 1)
        out[t] = checked(rule.score(seen, **params.model_dump()), n, rule.name)
    return out
