"""Configuration: what is accepted, what is refused and where the message points, and that no secret leaks."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
import zlib
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tradecore import config_env, settings
from tradecore.config_models import Trading
from tradecore.config_reference import reference
from tradecore.config_source import dotted, nearest, read_yaml
from tradecore.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "p/w@rd:Üx%y"  # every character that a URL must encode
MINIMAL = """\
universe:
  name: two
  symbols: [AAPL, MSFT]
strategies:
  ma_crossover:
    params:
      short_period: 20
"""


class MaParams(BaseModel):
    """Stands for a strategy's own params model."""

    model_config = ConfigDict(extra="forbid")

    short_period: int = Field(20, ge=2)
    long_period: int = Field(50, ge=3)
    average: Literal["sma", "ema"] = "sma"
    confidence_threshold: float = Field(0.75, ge=0, le=1)


def params_model(kind: str) -> type[BaseModel] | None:
    return MaParams if kind == "ma_crossover" else None


@pytest.fixture
def profile(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "trading.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(config: Path | str | None = None, environ: dict[str, str] | None = None) -> list[str]:
    """Load what must fail and return its problems, without the folder of the test."""
    with pytest.raises(ConfigError) as caught:
        settings.load(environ or {}, config, strategy_params=params_model)
    folder = f"{Path(config).parent}/" if isinstance(config, Path) else ""
    return [str(problem).replace(folder, "") for problem in caught.value.problems]  # type: ignore[attr-defined]


def only_problem(config: Path | str | None = None, environ: dict[str, str] | None = None) -> str:
    found = problems(config, environ)
    assert len(found) == 1, found
    return found[0]


# --- what is accepted ---


def test_sample_profile_is_what_the_issue_names() -> None:
    found = settings.load({}, "sample", strategy_params=params_model)
    trading = found.trading
    assert trading.universe.symbols == ("AAPL", "MSFT", "IBM", "GOOG", "FB")
    assert trading.universe.members["GOOG"].list_from == date(2004, 8, 19)
    assert trading.universe.members["FB"].list_from == date(2012, 5, 18)
    assert (trading.data.feed, trading.data.options) == ("csv", {"folder": "include/sample_data"})
    assert found.resolve(trading.data.options["folder"]).is_dir()
    assert trading.strategies["ma_crossover"].params == {
        "short_period": 20, "long_period": 50, "average": "sma", "confidence_threshold": 0.75,
    }  # fmt: skip
    risk = trading.risk
    assert (risk.max_position_size, risk.max_exposure, risk.max_daily_loss) == (0.15, 0.90, 0.03)
    assert (risk.max_drawdown, risk.position_sizing_method) == (0.15, "volatility_adjusted")
    assert found.initial_cash_usd == Decimal(100_000)
    assert (found.paper_trading, found.demo_mode, found.database_url) == (True, True, None)


def test_sample_profile_writes_the_defaults() -> None:
    """What a reader sees in trading.yaml is what holds when a section is left out."""
    written = settings.load({}, "sample").trading
    left_out = Trading.model_validate({"universe": {"name": "sample", "symbols": ["AAPL"]}, "strategies": {}})
    for section in ("book", "validation", "risk", "execution", "alerts"):
        assert getattr(written, section) == getattr(left_out, section), section


def test_yahoo_profile_has_its_names_and_a_book_of_its_own() -> None:
    found = settings.load({"YAHOO_FINANCE_ENABLED": "true"}, "yahoo", strategy_params=params_model)
    assert found.trading.universe.symbols == ("AAPL", "MSFT", "GOOGL", "TSLA")
    assert found.trading.data.feed == "yahoo"
    assert found.trading.book.name != settings.load({}, "sample").trading.book.name


def test_yahoo_profile_is_refused_while_yahoo_is_switched_off() -> None:
    message = only_problem("yahoo")
    assert message.startswith("include/config/trading.yahoo.yaml:")
    assert "data.feed = 'yahoo'" in message
    assert "YAHOO_FINANCE_ENABLED=true" in message


def test_profile_comes_from_the_environment_and_a_path_is_below_home(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(MINIMAL)
    environ = {"TRADECORE_CONFIG": "own.yaml", "TRADECORE_HOME": str(tmp_path)}
    found = settings.load(environ)
    assert found.config_path == tmp_path / "own.yaml"
    assert (found.home, found.local_dir) == (tmp_path, tmp_path / ".local")
    assert found.trading.universe.symbols == ("AAPL", "MSFT")
    assert found.resolve("x/y") == tmp_path / "x/y"


def test_members_are_due_from_their_listing_until_they_leave() -> None:
    universe = Trading.model_validate({
        "strategies": {},
        "universe": {"name": "u", "symbols": ["AAPL"], "members": {
            "FB": {"list_from": date(2012, 5, 18)},
            "GM": {"member_from": date(2000, 3, 1), "member_to": date(2009, 6, 2)}}},
    }).universe  # fmt: skip
    assert universe.due(date(2009, 6, 1)) == ("AAPL", "GM")
    assert universe.due(date(2009, 6, 2)) == ("AAPL",)
    assert universe.due(date(2012, 5, 17)) == ("AAPL",)
    assert universe.due(date(2012, 5, 18)) == ("AAPL", "FB")


def test_strategies_keep_their_order_and_resolve_all() -> None:
    trading = Trading.model_validate({
        "universe": {"name": "u", "symbols": ["AAPL", "MSFT"]},
        "strategies": {"zeta": {"kind": "ma_crossover", "capital_share": 0.5}, "off": {"enabled": False},
                       "alpha": {"symbols": ["MSFT"], "capital_share": 0.5}},
    })  # fmt: skip
    assert trading.enabled() == ("zeta", "alpha")
    assert trading.strategies["alpha"].kind == "alpha"
    assert trading.strategy_symbols("zeta") == ("AAPL", "MSFT")
    assert trading.strategy_symbols("alpha") == ("MSFT",)


def test_tickers_that_yaml_1_1_reads_as_booleans_stay_text(profile: Any) -> None:
    path = profile("universe: {name: u, symbols: [ON, NO, 'TRUE', Y]}\nstrategies: {}\n")
    assert settings.load({}, path).trading.universe.symbols == ("ON", "NO", "TRUE", "Y")


def test_money_from_yaml_is_exact(profile: Any) -> None:
    path = profile(MINIMAL + "execution: {commission_per_share_usd: 0.005, commission_min_usd: 0.35}\n")
    execution = settings.load({}, path).trading.execution
    assert execution.commission_per_share_usd == Decimal("0.005")
    assert execution.commission_min_usd == Decimal("0.35")


def test_settings_are_frozen() -> None:
    found = settings.load({}, "sample")
    with pytest.raises(ValidationError):
        found.demo_mode = False  # type: ignore[misc]
    with pytest.raises(ValidationError):
        found.trading.risk.max_exposure = 1.0  # type: ignore[misc]


# --- unknown keys: the location and the nearest known one ---

UNKNOWN_KEYS = [
    ("risk: {max_exposur: 0.5}", 8, "risk.max_exposur", "max_exposure"),
    ("rsk: {}", 8, "rsk", "risk"),
    ("book:\n  run_delay_minuts: 5", 9, "book.run_delay_minuts", "run_delay_minutes"),
    ("data: {feed: csv, lag: 1, restate_session: 2}", 8, "data.restate_session", "restate_sessions"),
    ("validation: {min_coverge: 1}", 8, "validation.min_coverge", "min_coverage"),
    ("execution:\n  slipage_bps: 1", 9, "execution.slipage_bps", "slippage_bps"),
    ("alerts: {stale_after: 1}", 8, "alerts.stale_after", "stale_after_sessions"),
]


@pytest.mark.parametrize("text, line, path, near", UNKNOWN_KEYS)
def test_unknown_key_names_its_line_and_the_nearest(profile: Any, text: str, line: int, path: str, near: str) -> None:
    found = [item for item in problems(profile(MINIMAL + text + "\n")) if f": {path}: " in item]
    assert found == [f"trading.yaml:{line}: {path}: unknown key, did you mean {near!r}?"]


def test_unknown_parameter_of_a_strategy_names_its_line_and_the_nearest(profile: Any) -> None:
    text = MINIMAL.replace("short_period: 20", "long_period: 50\n      shrt_period: 20")
    assert only_problem(profile(text)) == (
        "trading.yaml:8: strategies.ma_crossover.params.shrt_period: unknown key, did you mean 'short_period'?"
    )


def test_unknown_key_of_a_strategy_and_of_a_member(profile: Any) -> None:
    text = MINIMAL + "  other:\n    enabld: true\n"
    text = text.replace("  symbols: [AAPL, MSFT]", "  members:\n    AAPL: {tik_usd: 1}\n    MSFT:")
    assert [item.split(": unknown")[0] for item in problems(profile(text))][:2] == [
        "trading.yaml:4: universe.members.AAPL.tik_usd",
        "trading.yaml:11: strategies.other.enabld",
    ]


def test_key_that_is_like_nothing_lists_the_known_ones(profile: Any) -> None:
    message = only_problem(profile(MINIMAL + "data: {qqq: 1}\n"))
    assert message.endswith(
        "unknown key; known here: feed, last_session, options, publication_lag_minutes, restate_sessions, second"
    )


def test_unknown_kind_of_strategy_points_at_it(profile: Any) -> None:
    text = MINIMAL.replace("    params:\n", "    kind: ma_crosover\n    params:\n")
    assert only_problem(profile(text)) == (
        "trading.yaml:6: strategies.ma_crossover.kind = 'ma_crosover': there is no such strategy"
    )


def test_params_are_checked_even_when_another_section_is_wrong(profile: Any) -> None:
    text = MINIMAL.replace("short_period: 20", "short_period: 1") + "risk: {max_exposure: 5}\n"
    assert problems(profile(text)) == [
        "trading.yaml:8: risk.max_exposure = 5: must be less than or equal to 4",
        "trading.yaml:7: strategies.ma_crossover.params.short_period = 1: must be greater than or equal to 2",
    ]


def test_checked_fills_defaults_and_is_idempotent(profile: Any) -> None:
    path = profile(MINIMAL)
    later = settings.load({}, path).checked(params_model)
    assert later.trading.strategies["ma_crossover"].params == MaParams().model_dump()
    assert later.checked(params_model) == later == settings.load({}, path, strategy_params=params_model)


def test_the_params_models_own_error_is_located(profile: Any) -> None:
    def refuses(kind: str) -> type[BaseModel] | None:
        raise ConfigError(f"no strategy is called {kind!r}")

    with pytest.raises(ConfigError, match=r"trading.yaml:5: strategies.ma_crossover = .*: no strategy is called"):
        settings.load({}, profile(MINIMAL), strategy_params=refuses)


# --- impossible values: the location, the value and the rule ---

IMPOSSIBLE = [
    ("risk: {max_position_size: 1.5}", "risk.max_position_size = 1.5: must be less than or equal to 1"),
    ("risk: {max_position_size: 0}", "risk.max_position_size = 0: must be greater than 0"),
    ("risk: {max_position_size: .nan}", "risk.max_position_size = nan: must be a finite number"),
    ("risk: {max_position_size: true}", "risk.max_position_size = True: must be a number, not true or false"),
    ("risk: {max_daily_loss: 3%}", "risk.max_daily_loss = '3%': must be a valid number"),
    ("risk: {max_drawdown: 0.1234567}", "risk.max_drawdown = 0.1234567: must have at most 6 decimal places"),
    (
        "risk: {volatility_lookback_bars: 1}",
        "risk.volatility_lookback_bars = 1: must be greater than or equal to 2",
    ),
    ("risk: {volatility_lookback_bars: 2.5}", "risk.volatility_lookback_bars = 2.5: must be a valid integer"),
    (
        "risk: {halt_lifts_after_sessions: 0}",
        "halt_lifts_after_sessions = 0: must be greater than or equal to 1",
    ),
    (
        "risk: {min_order_notional_usd: -1}",
        "risk.min_order_notional_usd = -1: must be greater than or equal to 0",
    ),
    ("risk: {position_sizing_method: martingale}", "'martingale': must be 'volatility_adjusted', 'equal_weight', "),
    (
        "execution: {slippage_bps: 0.125}",
        "execution.slippage_bps = 0.125: must have at most 2 decimal places",
    ),
    ("execution: {remainder: keep}", "execution.remainder = 'keep': must be 'cancel' or 'carry'"),
    ("book: {timeframe: 1h}", "book.timeframe = '1h': must be '1d', or 'Nm' with N from 1 to 390"),
    ("book: {timeframe: 0m}", "book.timeframe = '0m': must be '1d', or 'Nm' with N from 1 to 390"),
    ("book: {timeframe: 391m}", "book.timeframe = '391m': must be '1d', or 'Nm' with N from 1 to 390"),
    ("book: {timeframe: 05m}", "book.timeframe = '05m': must be '1d', or 'Nm' with N from 1 to 390"),
    ("book: {timeframe: 30}", "book.timeframe = 30: must be text; put it in quotes"),
    ("book: {calendar: XNYX}", "book.calendar = 'XNYX': must be 'XNYS', '24/7', or the absolute path"),
    ("book: {currency: EUR}", "book.currency = 'EUR': must be 'USD'"),
    ("book: {name: My Book}", "book.name = 'My Book': must match pattern"),
    ("book: 3", "book = 3: must be a valid dictionary"),
    (
        "data: {feed: yahooo}",
        "data.feed = 'yahooo': must be 'csv', 'parquet', 'yahoo', 'alpaca', 'alpha_vantage' or 'crypto'",
    ),
    ("data: {last_session: soon}", "data.last_session = 'soon': must be a valid date"),
    (
        "data: {publication_lag_minutes: 31}",
        "data.publication_lag_minutes = 31: must not exceed book.run_delay",
    ),
    (
        "risk: {max_position_size: .9, max_exposure: .5}",
        "risk.max_position_size = 0.9: must not exceed max_exposure",
    ),
    ("risk: {max_exposure: 1.5}", "risk.max_exposure = 1.5: must not exceed 1: 1, and 1 more with risk.allow_short"),
    ("book: {broker: alpaca-paper}\nrisk: {allow_short: true}", "is for simulated books and backtests, not for alpaca"),
    ("book: {broker: alpaca-paper}\nexecution: {order_style: stop}", "is for simulated books and backtests"),
    ("book: {broker: alpaca-paper}\nexecution: {margin_frac: 0.5}", "is for simulated books and backtests"),
]


@pytest.mark.parametrize("text, rest", IMPOSSIBLE)
def test_impossible_value_names_location_value_and_rule(profile: Any, text: str, rest: str) -> None:
    message = only_problem(profile(MINIMAL + text + "\n"))
    assert message.startswith(("trading.yaml:8: ", "trading.yaml:9: "))
    assert rest in message


@pytest.mark.parametrize("timeframe", ["1d", "1m", "5m", "60m", "195m", "390m"])
def test_timeframes_that_are_built(profile: Any, timeframe: str) -> None:
    path = profile(MINIMAL + f"book: {{timeframe: {timeframe}}}\n")
    assert settings.load({}, path).trading.book.timeframe == timeframe


UNIVERSES = [
    ("symbols: [AAPL, aapl]", 3, "universe.symbols[1] = 'aapl': must be a ticker"),
    ("symbols: [AAPL, 7]", 3, "universe.symbols[1] = 7: must be text"),
    ("symbols: [AAPL, true]", 3, "universe.symbols[1] = True: must be text; put it in quotes"),
    ("symbols: [AAPL, MSFT, AAPL]", 3, "universe.symbols[2] = 'AAPL': is named twice"),
    ("symbols: 5", 3, "universe.symbols = 5: must be a valid tuple"),
    ("symbols: []", 1, "must name at least one symbol"),
    ("members: [AAPL]", 3, "universe.members = ['AAPL']: must be a valid dictionary"),
    (
        "members: {AAPL: {member_from: 2010-01-04, member_to: 2010-01-04}}",
        3,
        "AAPL.member_to = 2010-01-04: must be after",
    ),
    (
        "members: {AAPL: {list_from: 2010-01-04, member_from: 2009-01-05}}",
        3,
        "AAPL.member_from = 2009-01-05: must not be",
    ),
    ("members: {AAPL: {tick_usd: 0.00001}}", 3, "AAPL.tick_usd = 1e-05: must have at most 4 decimal places"),
    ("members: {AAPL: {qty_step_shares: 0}}", 3, "AAPL.qty_step_shares = 0: must be greater than 0"),
]


@pytest.mark.parametrize("text, line, rest", UNIVERSES)
def test_universe_that_cannot_be(profile: Any, text: str, line: int, rest: str) -> None:
    found = problems(profile(MINIMAL.replace("symbols: [AAPL, MSFT]", text)))
    assert found[0].startswith(f"trading.yaml:{line}: "), found
    assert rest in found[0]
    assert len(found) == 1, found


def test_shares_of_the_enabled_strategies_sum_to_one_at_most(profile: Any) -> None:
    text = MINIMAL + "  second: {kind: ma_crossover, capital_share: 0.1}\n"
    assert only_problem(profile(text)) == (
        "trading.yaml:4: strategies = 1.1: capital_share of the enabled strategies must sum to 1 or less"
    )
    settings.load({}, profile(text.replace("0.1}", "0.1, enabled: false}")), strategy_params=params_model)
    thirds = "universe: {name: u, symbols: [A]}\nstrategies:\n" + "".join(
        f"  s{i}: {{capital_share: 0.3333333333333333}}\n" for i in range(3)
    )
    assert len(settings.load({}, profile(thirds)).trading.enabled()) == 3


def test_strategy_names_a_symbol_outside_the_universe(profile: Any) -> None:
    text = MINIMAL.replace("    params:", "    symbols:\n    - AAPL\n    - MSTF\n    params:")
    assert only_problem(profile(text)) == (
        "trading.yaml:8: strategies.ma_crossover.symbols[1] = 'MSTF': is not in the universe: "
        "unknown symbol, did you mean 'MSFT'?"
    )


def test_missing_sections_are_named(profile: Any) -> None:
    found = problems(profile("book: {name: sim}\n"))
    assert found == ["trading.yaml: universe: is missing", "trading.yaml: strategies: is missing"]


# --- files that are no configuration ---

BROKEN_FILES = [
    ("", "trading.yaml:1: must be a mapping of sections"),
    ("# nothing\n", "trading.yaml:1: must be a mapping of sections"),
    ("- a\n- b\n", "trading.yaml:1: must be a mapping of sections"),
    ("book:\n  name: sim\n\tx: 1\n", "trading.yaml:3: is not YAML: found character '\\t'"),
    ("book: {name: sim\n", "trading.yaml:2: is not YAML: expected ',' or '}'"),
    (
        MINIMAL + "risk:\n  max_exposure: .5\n  max_exposure: .6\n",
        "trading.yaml:10: risk.max_exposure: stands twice (first on line 9)",
    ),
    (
        MINIMAL + "data:\n  last_session: 2013-02-30\n",
        "trading.yaml:9: data.last_session: 2013-02-30: day is out of range for month",
    ),
    ("a: &a\n  b: *a\n", "trading.yaml:1: is not YAML: an anchor contains itself"),
    (
        "book: !!python/object/apply:os.system ['true']\n",
        "trading.yaml:1: is not YAML: could not determine a constructor",
    ),
]


@pytest.mark.parametrize("text, start", BROKEN_FILES)
def test_file_that_is_no_configuration(profile: Any, text: str, start: str) -> None:
    assert only_problem(profile(text)).replace(" = ", ": ").startswith(start)


def test_file_that_cannot_be_read(profile: Any, tmp_path: Path) -> None:
    path = profile("")
    path.write_bytes(b"\xff\xfe\x00")
    assert "trading.yaml: cannot be read: 'utf-8' codec" in only_problem(path)
    assert "there is no such file" in only_problem(tmp_path / "none.yaml")


def test_unknown_profile_names_the_nearest() -> None:
    assert only_problem("yaho") == ("environment: TRADECORE_CONFIG = 'yaho': unknown profile, did you mean 'yahoo'?")


def test_merge_keys_keep_their_lines(profile: Any) -> None:
    text = "universe: {name: u, symbols: [A]}\nstrategies:\n  one: &one\n    capital_share: 0.5\n    on_failure: hld\n"
    text += "  two:\n    <<: *one\n    capital_share: 0.4\n"
    with pytest.raises(ConfigError) as caught:
        settings.load({}, profile(text))
    assert [(p.line, p.path) for p in caught.value.problems] == [  # type: ignore[attr-defined]
        (5, "strategies.one.on_failure"), (5, "strategies.two.on_failure")]  # fmt: skip


def test_every_line_number_of_the_sample_profile_is_right() -> None:
    path = settings.CONFIG_DIR / "trading.yaml"
    rows = path.read_text().splitlines()
    source = read_yaml(path, "trading.yaml")
    keys = [(where, line) for where, line in source.lines.items() if isinstance(where[-1], str)]
    assert len(keys) > 50
    for where, line in keys:
        assert f"{where[-1]}:" in rows[line - 1], where


def test_all_problems_come_at_once(profile: Any) -> None:
    text = MINIMAL.replace("name: two", "name: Two") + "risk: {max_exposure: 5, max_drawdwn: 1}\n"
    environ = {"INITIAL_CASH": "-1", "SMTP_HOST": "mail", "LOG_LEVEL": "loud", "DB_PASSWORD": "changeme"}
    found = problems(profile(text), environ)
    assert len(found) == 8, found
    with pytest.raises(ConfigError) as caught:
        settings.load(environ, profile(text))
    assert str(caught.value).startswith("8 problems in the configuration:\n  environment: ")
    assert "Next: " in str(caught.value)


# --- environment ---

BAD_ENVIRONMENTS = [
    ({"INITIAL_CASH": "0"}, "INITIAL_CASH = '0': must be greater than 0"),
    ({"INITIAL_CASH": "-5"}, "INITIAL_CASH = '-5': must be greater than 0"),
    ({"INITIAL_CASH": "100000000.0001"}, "must be less than or equal to 100000000"),
    ({"INITIAL_CASH": "1.00001"}, "INITIAL_CASH = '1.00001': must have no more than 4 decimal places"),
    ({"INITIAL_CASH": "100,000"}, "INITIAL_CASH = '100,000': must be a valid decimal"),
    ({"INITIAL_CASH": "nan"}, "INITIAL_CASH = 'nan': must be a finite number"),
    ({"PAPER_TRADING": "maybe"}, "PAPER_TRADING = 'maybe': must be a valid boolean"),
    ({"LOG_LEVEL": "verbose"}, "LOG_LEVEL = 'VERBOSE': must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ({"DB_PORT": "70000"}, "DB_PORT = '70000': must be less than or equal to 65535"),
    ({"SMTP_HOST": "mail", "SMTP_TO": "a@b.example"}, "SMTP_FROM: is missing; it goes with SMTP_HOST"),
    ({"TELEGRAM_BOT_TOKEN": "t0ken"}, "TELEGRAM_CHAT_ID: is missing; it goes with TELEGRAM_BOT_TOKEN"),
    ({"TELEGRAM_CHAT_ID": "7"}, "TELEGRAM_BOT_TOKEN: is missing; it goes with TELEGRAM_CHAT_ID"),
    ({"ALPACA_API_KEY": "k"}, "ALPACA_SECRET_KEY: is missing; it goes with ALPACA_API_KEY"),
    ({"AIRFLOW_BASE_URL": "localhost:8080"}, "AIRFLOW_BASE_URL = 'localhost:8080': must match pattern"),
    ({"DATABASE_URL": "mysql://u:hidden-pw@h/d"}, "DATABASE_URL: must begin with postgresql://"),
    ({"DATABASE_URL": "postgresql://u:hidden-pw@h"}, "DATABASE_URL: must name the database"),
    (
        {"DATABASE_URL": "postgresql://u:hidden-pw/x@h:5432/d"},
        "DATABASE_URL: must be a URL with a numeric port",
    ),
    ({"SLACK_WEBHOOK_URL": "hidden-pw"}, "SLACK_WEBHOOK_URL: must be an http(s) URL"),
    ({"APPRISE_URLS": "hidden-pw"}, "APPRISE_URLS: must be URLs like mailto://"),
]


@pytest.mark.parametrize("environ, rest", BAD_ENVIRONMENTS)
def test_impossible_environment_names_key_and_rule_and_no_secret(environ: dict[str, str], rest: str) -> None:
    message = only_problem(environ=environ)
    assert message.startswith("environment: ")
    assert rest in message
    assert "hidden-pw" not in message


def test_largest_cash_is_that_of_the_units() -> None:
    from tradecore import units

    assert config_env.MAX_BOOK_USD == units.MAX_BOOK_USD
    assert settings.load({"INITIAL_CASH": str(units.MAX_BOOK_USD)}).initial_cash_usd == units.MAX_BOOK_USD


@pytest.mark.parametrize(
    "value",
    ["changeme", "CHANGE_ME", "change-me", "Change_Me_Please", "<your password>", "your-key-here", "YOUR_API_KEY",
     "your_secret", "xxxx", "XXX", "todo", "replace-me", "{{ key }}", "...", "password", "put-your-key-here"],
)  # fmt: skip
def test_placeholder_is_refused_by_its_keys_name(value: str) -> None:
    message = only_problem(environ={"ALPHA_VANTAGE_API_KEY": value})
    assert message.startswith("environment: ALPHA_VANTAGE_API_KEY: is a placeholder")


@pytest.mark.parametrize(
    "value",
    ["", "tradecore", "my_trading_db", "demo", "A1B2C3", "exchange-key", "keyhere", "me@here.example"],
)
def test_real_values_are_no_placeholders(value: str) -> None:
    assert not config_env.is_placeholder(value)


def test_placeholder_inside_the_database_url_is_refused() -> None:
    message = only_problem(environ={"DATABASE_URL": "postgresql://u:CHANGE_ME@h/d"})
    assert message.startswith("environment: DATABASE_URL: is a placeholder")


def test_empty_values_count_as_not_set() -> None:
    found = settings.load(dict.fromkeys(config_env.KEYS, " "))
    assert found == settings.load({})
    assert found.alerts == settings.AlertChannels()


def test_database_url_from_its_parts_encodes_what_a_url_must() -> None:
    parts = {"DB_HOST": "db", "DB_NAME": "trade", "DB_USER": "us er", "DB_PASSWORD": PASSWORD}
    url = settings.load(parts).database_url
    assert url == "postgresql://us%20er:p%2Fw%40rd%3A%C3%9Cx%25y@db:5432/trade"
    assert PASSWORD in config_env.url_secrets(url)
    assert settings.load({**parts, "DB_HOST": "::1"}).database_url == url.replace("@db:", "@[::1]:")
    assert settings.load({**parts, "DB_HOST": "/run/pg"}).database_url == url.replace(
        "@db:5432/trade", "@/trade?host=%2Frun%2Fpg&port=5432"
    )
    whole = "postgresql://a:b@c/d"
    assert settings.load({**parts, "DATABASE_URL": whole}).database_url == whole
    assert settings.load({"DB_HOST": "db"}).database_url == "postgresql://tradecore@db:5432/tradecore"
    for scheme in ("postgres", "postgresql+psycopg2"):
        assert settings.load({"DATABASE_URL": f"{scheme}://a:b@c/d"}).database_url == whole


def test_with_database_replaces_and_checks_it() -> None:
    found = settings.load({})
    assert found.with_database("postgresql://u:pw-1234@h/d").database_url == "postgresql://u:pw-1234@h/d"
    assert "pw-1234" in found.with_database("postgresql://u:pw-1234@h/d").secrets()
    with pytest.raises(ConfigError, match="must begin with postgresql") as caught:
        found.with_database("sqlite:///hidden-pw")
    assert "hidden-pw" not in str(caught.value)


CHANNELS = {
    "SMTP_HOST": "mail",
    "SMTP_PORT": "465",
    "SMTP_SECURITY": "tls",
    "SMTP_USER": "me",
    "SMTP_PASSWORD": "smtp-pass",
    "SMTP_FROM": "me@x.example",
    "SMTP_TO": "a@x.example, b@x.example",
    "SLACK_WEBHOOK_URL": "https://hooks.example/s3cret",
    "TELEGRAM_BOT_TOKEN": "12:tele-token",
    "TELEGRAM_CHAT_ID": "-7",
    "APPRISE_URLS": "ntfy://u:apprise-pw@h/a,b, discord://id/tok",
    "ALPHA_VANTAGE_API_KEY": "alpha-key",
    "ALPACA_API_KEY": "alpaca-id",
    "ALPACA_SECRET_KEY": "alpaca-secret",
    "DATABASE_URL": "postgresql://u:db-pass%21@h:5432/d?sslpassword=ssl-pass",
}
SECRETS = (
    "smtp-pass",
    "s3cret",
    "tele-token",
    "apprise-pw",
    "alpha-key",
    "alpaca-id",
    "alpaca-secret",
    "db-pass",
    "ssl-pass",
)


def test_alert_channels() -> None:
    alerts = settings.load(CHANNELS).alerts
    assert alerts.smtp is not None
    assert (alerts.smtp.port, alerts.smtp.security) == (465, "tls")
    assert alerts.smtp.recipients == ("a@x.example", "b@x.example")
    assert alerts.telegram is not None
    assert alerts.telegram.chat_id == "-7"
    assert [url.get_secret_value() for url in alerts.apprise_urls] == [
        "ntfy://u:apprise-pw@h/a,b",
        "discord://id/tok",
    ]


def test_link_base_follows_airflows_port() -> None:
    assert settings.load({}).airflow_base_url == "http://127.0.0.1:8080"
    stack = {"AIRFLOW_PORT": "9090", "AIRFLOW__API__BASE_URL": "http://127.0.0.1:8081"}
    assert settings.load(stack).airflow_base_url == "http://127.0.0.1:8081"
    assert settings.load({"AIRFLOW_PORT": "9090"}).airflow_base_url == "http://127.0.0.1:9090"
    assert settings.load({"AIRFLOW_BASE_URL": "https://x.example/"}).airflow_base_url == "https://x.example"


def test_no_secret_in_any_text_of_the_settings(caplog: pytest.LogCaptureFixture) -> None:
    found = settings.load(CHANNELS)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("tradecore").error("%s %r", found, found)
    texts = [repr(found), str(found), f"{found}", str(found.model_dump()), found.model_dump_json(), caplog.text,
             repr(found.alerts), repr(found.alpaca), repr(dict(found))]  # fmt: skip
    for secret in SECRETS:
        assert not any(secret in text for text in texts), secret
    assert len(caplog.records) == 1
    with pytest.raises(ValidationError) as caught:
        type(found).model_validate({**dict(found), "database_dsn": ["hidden-pw"]})
    assert "hidden-pw" not in str(caught.value)


def test_secrets_are_all_known_for_redaction() -> None:
    secrets = settings.load({**CHANNELS, "AIRFLOW__API_AUTH__JWT_SECRET": "jwt-secret"}).secrets()
    for secret in (*SECRETS, "jwt-secret"):
        assert any(secret in known for known in secrets), secret
    assert {"db-pass%21", "db-pass!", "ssl-pass", "apprise-pw", CHANNELS["DATABASE_URL"]} <= set(secrets)
    assert [len(text) for text in secrets] == sorted((len(text) for text in secrets), reverse=True)
    assert settings.load({}).secrets() == ()


def test_near_misses_of_our_keys_warn(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tradecore"):
        found = settings.load(
            {"TRADECORE_CONFG": "yahoo", "DB_PASWORD": "x", "TRADECORE_Q": "1", "DB_ZZZ": "", "OTHER": ""}
        )
    assert found.warnings == (
        "environment: DB_PASWORD: unknown key is ignored, did you mean 'DB_PASSWORD'?",
        "environment: TRADECORE_CONFG: unknown key is ignored, did you mean 'TRADECORE_CONFIG'?",
        "environment: TRADECORE_Q: unknown key is ignored",
    )
    assert [record.getMessage() for record in caplog.records] == list(found.warnings)


# --- .env ---


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder of its own, with none of our keys in the real environment."""
    for key in list(os.environ):
        if key in config_env.KEYS or key.startswith(("TRADECORE_", "DB_", "AIRFLOW")):
            monkeypatch.delenv(key)
    monkeypatch.setenv("TRADECORE_HOME", str(tmp_path))
    return tmp_path


def test_env_file_is_read_under_the_real_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".env").write_text(
        "# comment\nINITIAL_CASH=5000\nexport LOG_LEVEL='debug'\nDB_USER=file\nOWN_TOKEN=own-token\n"
    )
    monkeypatch.setenv("INITIAL_CASH", "7000")
    found = settings.load()
    assert (found.initial_cash_usd, found.log_level) == (Decimal(7000), "DEBUG")
    assert "own-token" in found.secrets()
    (home / "other").write_text("LOG_LEVEL=ERROR\n")
    monkeypatch.setenv("TRADECORE_ENV_FILE", "other")
    assert settings.load().log_level == "ERROR"


def test_an_activated_shell_follows_the_env_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that read .env when it was activated must not go on trading with what the file said then."""

    def exported(key: str, value: str) -> str:  # as deploy/environment.py does, and tells of it
        monkeypatch.setenv(key, value)
        return f"{key}={zlib.crc32(value.encode()):08x}"

    marks = [exported("PAPER_TRADING", "false"), exported("INITIAL_CASH", "7000"), exported("LOG_LEVEL", "ERROR")]
    monkeypatch.setenv("NATIVE_ENVIRONMENT", " ".join(marks))
    monkeypatch.setenv("INITIAL_CASH", "8000")  # by hand, since
    (home / ".env").write_text("PAPER_TRADING=true\nINITIAL_CASH=5000\nLOG_LEVEL=\n")
    found = settings.load()
    assert (found.paper_trading, found.initial_cash_usd, found.log_level) == (True, Decimal(8000), "INFO")
    monkeypatch.setenv("NATIVE_STACK", str(home))  # a part of the running stack keeps the settings of its start
    assert (settings.load().paper_trading, settings.load().log_level) == (False, "ERROR")


def test_problem_in_the_env_file_has_its_line(home: Path) -> None:
    (home / ".env").write_text(
        "\n# one\n\nDEMO_MODE=true\n\n# two\nINITIAL_CASH=-1\nAIRFLOW_ADMIN_PASSWORD=CHANGE_ME\n"
    )
    with pytest.raises(ConfigError) as caught:
        settings.load()
    assert [str(problem) for problem in caught.value.problems] == [  # type: ignore[attr-defined]
        ".env:8: AIRFLOW_ADMIN_PASSWORD: is a placeholder; put the real value, or leave it empty "
        "(`make env` writes generated secrets)",
        ".env:7: INITIAL_CASH = '-1': must be greater than 0",
    ]


def test_near_miss_in_the_env_file_warns_with_its_line(home: Path) -> None:
    (home / ".env").write_text("SLACK_WEBHOK_URL=https://x.example/y\nPOSTGRES_PASSWORD=abcd\nMY_THING=1\n")
    assert settings.load().warnings == (
        ".env:1: SLACK_WEBHOK_URL: unknown key is ignored, did you mean 'SLACK_WEBHOOK_URL'?",
    )


def test_malformed_line_of_the_env_file(home: Path) -> None:
    (home / ".env").write_text("DEMO_MODE=true\n=oops\n")
    with pytest.raises(ConfigError, match=r"\.env:2: is not KEY=VALUE"):
        settings.load()


def test_write_env_generates_secrets_that_start_up_accepts(home: Path) -> None:
    template = ROOT / ".env.example"
    (home / ".env").write_text(template.read_text())
    with pytest.raises(ConfigError, match=r"\.env:\d+: DB_PASSWORD: is a placeholder"):
        settings.load()
    (home / ".env").unlink()
    generated = settings.write_env(home / ".env", template)
    assert {"DB_PASSWORD", "AIRFLOW_ADMIN_PASSWORD", "AIRFLOW__API_AUTH__JWT_SECRET"} <= set(generated)
    assert stat.S_IMODE((home / ".env").stat().st_mode) == 0o600
    found = settings.load()
    assert (found.initial_cash_usd, found.paper_trading, found.demo_mode) == (Decimal(100_000), True, True)
    values = dict(row.split("=", 1) for row in (home / ".env").read_text().splitlines() if "=" in row and row[0] != "#")
    assert all(values[key] in found.secrets() for key in generated)
    assert len({values[key] for key in generated}) == len(generated)
    assert len(values["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64
    from cryptography.fernet import Fernet

    Fernet(values["AIRFLOW__CORE__FERNET_KEY"])


def test_write_env_never_overwrites_unless_forced(tmp_path: Path) -> None:
    template, path = tmp_path / ".env.example", tmp_path / ".env"
    with pytest.raises(ConfigError, match="is not there"):
        settings.write_env(path, template)
    template.write_text("# DB_PASSWORD=CHANGE_ME\nDB_PASSWORD=CHANGE_ME\nDB_HOST=\n")
    assert settings.write_env(path, template) == ("DB_PASSWORD",)
    first = path.read_text()
    assert first.startswith("# DB_PASSWORD=CHANGE_ME\nDB_PASSWORD=")
    assert first.endswith("\nDB_HOST=\n")
    with pytest.raises(ConfigError, match=r"exists and is kept.*--force"):
        settings.write_env(path, template)
    assert path.read_text() == first
    settings.write_env(path, template, force=True)
    assert path.read_text() != first
    assert (tmp_path / ".env.old").read_text() == first
    assert stat.S_IMODE((tmp_path / ".env.old").stat().st_mode) == 0o600


def test_every_key_of_the_template_is_known_or_airflows() -> None:
    keys = [row.split("=")[0] for row in (ROOT / ".env.example").read_text().splitlines() if row[:1].isupper()]
    assert len(keys) > 20
    assert [key for key in keys if key not in config_env.KEYS and not key.startswith("AIRFLOW")] == []


# --- hash ---


def changed(**sections: Any) -> str:
    """Return the config hash of the minimal profile with sections replaced."""
    base: dict[str, Any] = {
        "universe": {"name": "u", "symbols": ["AAPL", "MSFT"]},
        "strategies": {"ma_crossover": {}},
    }
    return Trading.model_validate(base | sections).config_hash()


def test_hash_does_not_depend_on_spelling() -> None:
    base = changed()
    assert base == changed(universe={"name": "u", "members": {"AAPL": {}, "MSFT": {"tick_usd": "0.0100"}}})
    assert base == changed(risk={"max_position_size": 0.150}, execution={"slippage_bps": 2.0})
    assert base == changed(strategies={"ma_crossover": {"kind": "ma_crossover", "symbols": "all"}})
    one, two = {"params": {"a": 1, "b": 2}}, {"params": {"b": 2, "a": 1.0}}
    assert changed(strategies={"ma_crossover": one}) == changed(strategies={"ma_crossover": two})


def test_hash_depends_on_every_value_and_on_order() -> None:
    two = {"first": {"capital_share": 0.5}, "second": {"capital_share": 0.5}}
    hashes = [
        changed(),
        changed(risk={"max_position_size": 0.14}),
        changed(universe={"name": "u", "symbols": ["MSFT", "AAPL"]}),
        changed(universe={"name": "u", "symbols": ["AAPL"]}),
        changed(strategies={"ma_crossover": {"params": {"short_period": 5}}}),
        changed(strategies=two),
        changed(strategies=dict(reversed(two.items()))),
        changed(data={"last_session": date(2013, 3, 1)}),
    ]
    assert len(set(hashes)) == len(hashes)
    assert all(len(text) == 64 for text in hashes)


def test_settings_hash_is_that_of_trading_and_ignores_the_environment() -> None:
    one, two = settings.load({}), settings.load({"INITIAL_CASH": "5", "DATABASE_URL": "postgresql://a:b@c/d"})
    assert one.config_hash() == two.config_hash() == one.trading.config_hash()


# --- the rest ---


def test_located_adds_file_and_line_to_a_rooms_error() -> None:
    found = settings.load({}, "sample")
    line = next(
        n for n, row in enumerate(found.config_path.read_text().splitlines(), 1) if row.strip().startswith("folder:")
    )
    error = found.located(ConfigError("no folder", next_step="make it", location="data.options.folder"))
    assert str(error) == f"include/config/trading.yaml:{line}: no folder Next: make it"
    plain = ConfigError("elsewhere")
    assert found.located(plain) is plain


def test_config_error_survives_pickling() -> None:
    import pickle

    with pytest.raises(ConfigError) as caught:
        settings.load({"INITIAL_CASH": "0"})
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.problems == caught.value.problems  # type: ignore[attr-defined]


def test_dotted_and_nearest() -> None:
    assert dotted(("a", "b", 1, "c")) == "a.b[1].c"
    assert nearest("MAX_EXPOSURE", ["max_exposure", "risk"]) == "max_exposure"
    assert nearest("zzz", ["max_exposure"]) is None


def test_reference_in_the_docs_is_made_from_the_models() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == reference(), (
        "run `python -m tradecore.settings --reference > docs/configuration.md`"
    )


def test_every_key_has_a_meaning() -> None:
    assert "see below" not in reference()


def run(*args: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "include"), "TRADECORE_ENV_FILE": "none"}
    environ |= {"TRADECORE_HOME": str(home)} if home else {}
    return subprocess.run([sys.executable, *args], env=environ, capture_output=True, text=True, timeout=120)


def test_command_line(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("DB_PASSWORD=CHANGE_ME\n")
    first = run("-m", "tradecore.settings", "--write-env", home=tmp_path)
    assert (first.returncode, first.stdout) == (0, ".env written, generated: DB_PASSWORD.\n")
    again = run("-m", "tradecore.settings", "--write-env", home=tmp_path)
    assert (again.returncode, again.stdout) == (0, ".env exists and is kept (--force writes a new one).\n")
    check = run("-m", "tradecore.settings", "--check")
    assert check.stdout.startswith("include/config/trading.yaml: fine (")
    (tmp_path / "none").write_text("TRADECORE_CONFIG=nowhere.yaml\n")
    refused = run("-m", "tradecore.settings", "--check", home=tmp_path)
    assert refused.returncode == 1
    assert "nowhere.yaml: there is no such file" in refused.stderr


def test_loading_imports_no_numpy_and_no_vendor() -> None:
    """DAG files load the settings; what they must not import is in DESIGN.md 2.14."""
    heavy = ("numpy", "pandas", "numba", "airflow", "psycopg", "great_expectations", "tradecore.strategies")
    code = (
        "import sys, json; from tradecore import settings, logs; settings.load({}); "
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("name", ["sample", "yahoo"])
def test_profiles_fit_the_strategies_and_feeds_that_are_there(name: str) -> None:
    from tradecore import feeds, sessions, strategies

    found = settings.load(
        {"YAHOO_FINANCE_ENABLED": "true"}, name, strategy_params=lambda kind: strategies.load(kind).params_model
    )
    assert found.trading.strategies["ma_crossover"].params["long_period"] == 50
    assert found.trading.data.feed in feeds.FEEDS
    assert sessions.calendar(found.trading.book.calendar).first_session < date(2000, 3, 1)
    if name == "sample":
        last = feeds.open_feed("csv", options=found.trading.data.options).last_session(found.trading.universe.symbols)
        assert found.trading.data.last_session == last


def test_typo_in_a_parameter_of_the_real_strategy(profile: Any) -> None:
    from tradecore import strategies

    with pytest.raises(
        ConfigError, match=r"trading.yaml:7: .*\.params\.shrt_period: unknown key, did you mean 'short_"
    ):
        settings.load(
            {},
            profile(MINIMAL.replace("short_period", "shrt_period")),
            strategy_params=lambda kind: strategies.load(kind).params_model,
        )
