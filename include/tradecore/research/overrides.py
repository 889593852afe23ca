"""What a run of research asks for instead of what is configured: checked as trading.yaml itself is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from tradecore import strategies
from tradecore.config_models import StrategyConfig
from tradecore.errors import ConfigError
from tradecore.research import asked
from tradecore.settings import Settings, Trading
from tradecore.units import MAX_BOOK_USD

MAX_COST_BPS = 1_000
STRATEGIES, PARAMS = "--strategies", "--params"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Each None or empty one leaves what is configured.

    strategies: the only ones that are on; params: {strategy: {parameter: value}}; cost_bps: slippage and commission
    together, all of it as slippage.
    """

    cash_usd: Decimal | None = None
    strategies: Sequence[str] = ()
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cost_bps: float | None = None

    def as_record(self) -> dict[str, Any]:
        """Return what is overridden, and nothing else, as JSON-able values."""
        record: dict[str, Any] = {
            "cash_usd": None if self.cash_usd is None else str(self.cash_usd),
            "strategies": list(self.strategies),
            "params": {name: dict(params) for name, params in self.params.items()},
            "cost_bps": self.cost_bps,
        }
        return {name: value for name, value in record.items() if value not in (None, [], {})}


def parse_params(text: str) -> dict[str, dict[str, Any]]:
    """Return parameters by strategy from JSON. Raises ConfigError that shows the form."""
    form = '{"ma_crossover": {"short_period": 10}}'
    try:
        found = json.loads(text or "{}", parse_constant=_no_number)
    except ValueError as error:
        said = f"{PARAMS}: the parameters are no JSON: {error}."
        raise ConfigError(said, next_step=f"write them as {form}") from error
    if not isinstance(found, dict) or not all(isinstance(params, dict) for params in found.values()):
        raise ConfigError(
            f"{PARAMS}: {text!r} are no parameters by strategy.", next_step=f"write them as {form}", value=text
        )
    return found


def _no_number(text: str) -> float:
    """Refuse what Python's JSON takes and JSON does not have."""
    raise ValueError(f"{text} is no number")


def apply(settings: Settings, wanted: Overrides) -> Settings:
    """Return settings with the overrides in them.

    A strategy that is named but switched off is switched on, and one that trading.yaml does not have is added over the
    whole universe; where the shares of the named ones then exceed 1, they get equal shares. Raises ConfigError for
    parameters of a strategy that is not there, and for what the rules of trading.yaml refuse.
    """
    trading = settings.trading.model_dump()
    known = trading["strategies"]
    for name in wanted.strategies:
        if name not in known:
            asked.strategy(name, settings.strategies_folder, STRATEGIES)
            known[name] = StrategyConfig(kind=name, enabled=False).model_dump()
    for name, params in wanted.params.items():
        if name not in known:
            raise ConfigError(
                f"{PARAMS}: there are parameters for {name!r}, but no such strategy: {', '.join(known)}.",
                next_step=f"name it in {STRATEGIES} too, or correct it",
                value=name,
            )
        rule = strategies.load(known[name]["kind"] or name, settings.strategies_folder)
        asked.check_params(rule, known[name]["params"], params, f"{PARAMS} {name}")
    if wanted.strategies:
        for name, strategy in known.items():
            strategy["enabled"] = name in wanted.strategies
        if sum(known[name]["capital_share"] for name in set(wanted.strategies)) > 1.0 + 1e-9:
            for name in wanted.strategies:
                known[name]["capital_share"] = 1.0 / len(set(wanted.strategies))
    for name, params in wanted.params.items():
        known[name]["params"] = {**known[name]["params"], **params}
    if wanted.cost_bps is not None:
        if not 0 <= wanted.cost_bps <= MAX_COST_BPS:
            raise ConfigError(
                f"costs of {wanted.cost_bps:g} bps cannot be.",
                next_step=f"give 0 to {MAX_COST_BPS:,}",
                value=str(wanted.cost_bps),
            )
        trading["execution"] |= {
            "slippage_bps": wanted.cost_bps,
            "commission_bps": 0,
            "commission_per_share_usd": Decimal(0),
            "commission_min_usd": Decimal(0),
        }
    try:
        checked = Trading.model_validate(trading)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(
            f"these overrides are refused: {said}.", next_step="correct what was asked for; trading.yaml is as it was"
        ) from error
    update: dict[str, Any] = {"trading": checked}
    if wanted.cash_usd is not None:
        if not (wanted.cash_usd.is_finite() and 0 < wanted.cash_usd <= MAX_BOOK_USD):
            raise ConfigError(
                f"a book cannot open with {wanted.cash_usd} USD.",
                next_step=f"give more than 0 and at most {MAX_BOOK_USD:,} USD",
                value=str(wanted.cash_usd),
            )
        update["initial_cash_usd"] = wanted.cash_usd
    return settings.model_copy(update=update)
