"""Names and parameters that a command or a form asks for: what is wrong with them is its mistake, and told as such.

What stands in trading.yaml is checked with its line elsewhere (`market.rules`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tradecore import strategies
from tradecore.config_models import StrategyConfig
from tradecore.config_source import nearest, rule_text
from tradecore.errors import ConfigError
from tradecore.strategies import Strategy


def strategy(kind: str, own_folder: Path, option: str) -> Strategy:
    """Return the strategy of a kind. Raises ConfigError that names the option, StrategyError for a broken file."""
    try:
        StrategyConfig(kind=kind)
    except ValidationError as error:
        raise ConfigError(
            f"{option}: {kind!r} is no name of a strategy: small letters, digits and _ make one.",
            next_step=f"name one of {', '.join(strategies.BUILT_IN)}, or one of your own",
            value=kind,
        ) from error
    try:
        return strategies.load(kind, own_folder)
    except ConfigError as error:
        raise ConfigError(
            f"{option}: {error.message}",
            next_step="name one of these, or write one of your own: README, 'Add a strategy'",
            value=kind,
        ) from error


def check_params(rule: Strategy, configured: Mapping[str, Any], params: Mapping[str, Any], option: str) -> None:
    """Check parameters that are asked for over the configured ones. Raises ConfigError that names the option."""
    known = list(rule.params_model.model_fields)
    for name in params:
        if name not in known:
            near = nearest(name, known)
            raise ConfigError(
                f"{option}: strategy {rule.name} has no parameter {name!r}; it has {', '.join(known) or 'none'}.",
                next_step=f"did you mean {near!r}?" if near else f"correct {option}",
                value=name,
            )
    try:
        rule.lookback(rule.params_model(**{**configured, **params}))
    except ValidationError as error:
        said = error.errors(include_url=False)
        if not any(item["loc"] and item["loc"][0] in params for item in said):
            return  # what is configured is wrong: market.rules tells of it, with its line
        item = next(item for item in said if item["loc"] and item["loc"][0] in params)
        raise ConfigError(
            f"{option}: {'.'.join(map(str, item['loc']))} = {item['input']!r} of {rule.name} {rule_text(item['msg'])}.",
            next_step=f"correct {option}",
            value=str(item["input"]),
        ) from error
    except ValueError as error:  # the strategy's own rule between its parameters
        raise ConfigError(f"{option}: {rule.name}: {error}.", next_step=f"correct {option}") from error
