"""The neighbours of a strategy in its parameters: what would also have been tried, to judge the one that was chosen.

Each whole or real number among the parameters is taken times FACTORS, one at a time; what the strategy's own model
refuses is left out. Choices, switches and texts stay.
"""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from tradecore.strategies import Strategy

FACTORS = (0.5, 0.75, 0.9, 1.1, 1.25, 1.5)


def neighbours(rule: Strategy, params: BaseModel) -> list[BaseModel]:
    """Return the distinct neighbours of parameters that the strategy takes, in the order of parameters and factors."""
    here = params.model_dump()
    found: list[BaseModel] = []
    for name, value in here.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        for factor in FACTORS:
            other = round(value * factor) if isinstance(value, int) else value * factor
            try:
                candidate = rule.params_model(**{**here, name: other})
                rule.lookback(candidate)
            except (ValidationError, ValueError):
                continue
            if candidate != params and candidate not in found:
                found.append(candidate)
    return found
