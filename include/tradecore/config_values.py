"""The values of trading.yaml: numbers, money, names, each with the rule that it is born with."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from tradecore.config_source import PathParts

_SYMBOL = re.compile(r"^[A-Z][A-Z0-9.\-]{0,11}$")
_TIMEFRAME = re.compile(r"^(?:1d|[1-9][0-9]{0,2}m)$")
_SESSION_MINUTES = 390


class ConfigModel(BaseModel):
    """Base of all configuration models: frozen, unknown keys refused, values kept out of messages."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, validate_default=False
    )


def broken_rules(broken: list[tuple[PathParts, object, str]]) -> PydanticCustomError:
    """Return one error that carries several (path below this model, value, rule), for a validator."""
    text = "; ".join(rule.replace("{", "(").replace("}", ")") for _, _, rule in broken)
    return PydanticCustomError("broken_rules", text, {"broken": broken})


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("not_a_number", "must be a number, not true or false")
    return value


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise PydanticCustomError("not_text", "must be text; put it in quotes")
    return value


def symbol(value: object) -> object:
    """Return a ticker as it is; PydanticCustomError for anything else."""
    text = str(_text(value))
    if not _SYMBOL.match(text):
        rule = "must be a ticker: upper-case letters, digits, '.' or '-', beginning with a letter, at most 12"
        raise PydanticCustomError("not_a_symbol", "{rule}", {"rule": rule})
    return text


def _timeframe(value: object) -> object:
    text = str(_text(value))
    if not _TIMEFRAME.match(text) or (text != "1d" and int(text[:-1]) > _SESSION_MINUTES):
        raise PydanticCustomError("not_a_timeframe", "must be '1d', or 'Nm' with N from 1 to 390 minutes ('195m')")
    return text


def _calendar(value: object) -> object:
    text = str(_text(value))
    if text not in ("XNYS", "24/7") and not re.match(r"^/.*\.csv$", text):
        rule = "must be 'XNYS', '24/7', or the absolute path of a table of sessions (.csv)"
        raise PydanticCustomError("no_calendar", "{rule}", {"rule": rule})
    return text


def is_symbol(value: object) -> bool:
    """Tell whether a value is a ticker."""
    return isinstance(value, str) and _SYMBOL.match(value) is not None


def _places(places: int) -> AfterValidator:
    def check(value: Any) -> Any:
        exponent = Decimal(str(value)).normalize().as_tuple().exponent
        if isinstance(exponent, int) and -exponent > places:
            raise PydanticCustomError("too_fine", f"must have at most {places} decimal places")
        return value

    return AfterValidator(check)


def symbols_or_all(value: object) -> tuple[str, ...] | Literal["all"]:
    """Return 'all' or a tuple of tickers, each once; PydanticCustomError for anything else."""
    if value == "all":
        return "all"
    if not isinstance(value, list | tuple) or not value:
        raise PydanticCustomError("not_symbols", "must be 'all' or a list of at least one symbol")
    symbols = tuple(str(symbol(item)) for item in value)
    if len(set(symbols)) != len(symbols):
        raise PydanticCustomError("symbol_twice", "must name each symbol once")
    return symbols


Number = Annotated[float, BeforeValidator(_number)]
Count = Annotated[int, BeforeValidator(_number)]
Fraction = Annotated[float, BeforeValidator(_number), _places(6)]
Bps = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1_000), _places(2)]
Usd = Annotated[Decimal, BeforeValidator(_number), Field(ge=0, le=1_000_000), _places(4)]
UsdPerShare = Annotated[Decimal, BeforeValidator(_number), Field(ge=0, le=100), _places(6)]
Tick = Annotated[Decimal, BeforeValidator(_number), Field(gt=0, le=1_000), _places(4)]
QtyStep = Annotated[Decimal, BeforeValidator(_number), Field(gt=0, le=1_000_000), _places(6)]
Symbol = Annotated[str, BeforeValidator(symbol)]
Timeframe = Annotated[str, BeforeValidator(_timeframe)]
Name = Annotated[str, BeforeValidator(_text), Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
BOOK_NAME = r"^[a-z0-9][a-z0-9._:-]{0,62}$"
BookName = Annotated[str, BeforeValidator(_text), Field(pattern=BOOK_NAME)]
Calendar = Annotated[str, BeforeValidator(_calendar)]
