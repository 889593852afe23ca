"""Settings: the environment, .env and trading.yaml, validated at once. The only reader of os.environ.

`load()` either returns frozen Settings or raises one ConfigError that lists every problem with file, line,
key, value and rule. Importing this module needs neither numpy nor a vendor's package: DAG files do it.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, PrivateAttr, SecretStr, ValidationError

from tradecore import config_env
from tradecore.config_env import Environment, EnvValues, is_placeholder, write_env
from tradecore.config_models import Execution, Trading
from tradecore.config_risk import Risk
from tradecore.config_source import (
    PathParts,
    Problem,
    YamlSource,
    config_error,
    problems_of,
    read_yaml,
    unknown,
)
from tradecore.config_values import ConfigModel
from tradecore.errors import ConfigError

__all__ = [
    "AlertChannels",
    "Alpaca",
    "Execution",
    "ParamsModel",
    "Risk",
    "Settings",
    "Smtp",
    "Telegram",
    "Trading",
    "is_placeholder",
    "load",
    "write_env",
]

PACKAGE_HOME = Path(__file__).resolve().parents[2]
CONFIG_DIR = Path(__file__).resolve().parents[1] / "config"

ParamsModel = Callable[[str], type[BaseModel] | None]
"""Gives the model of a strategy's params (or a feed's options) by kind; None for an unknown kind."""

_log = logging.getLogger("tradecore.settings")


class Smtp(ConfigModel):
    """Email alerts."""

    host: str
    port: int
    security: str
    user: str | None
    password: SecretStr | None
    sender: str
    recipients: tuple[str, ...]


class Telegram(ConfigModel):
    """Telegram alerts."""

    bot_token: SecretStr
    chat_id: str
    base_url: str


class AlertChannels(ConfigModel):
    """The channels that are configured; None or empty: off."""

    console: bool = True
    smtp: Smtp | None = None
    slack_webhook_url: SecretStr | None = None
    telegram: Telegram | None = None
    apprise_urls: tuple[SecretStr, ...] = ()


class Alpaca(ConfigModel):
    """Keys of an Alpaca account; base_url: the sandbox in the place of Alpaca's own addresses."""

    api_key: SecretStr
    secret_key: SecretStr
    base_url: str | None = None


class Settings(ConfigModel):
    """All that is configured, frozen. Secrets are masked in repr, str and dumps."""

    database_dsn: SecretStr | None = None
    initial_cash_usd: Decimal
    paper_trading: bool
    demo_mode: bool
    log_level: str
    home: Path
    local_dir: Path
    config_path: Path
    alerts: AlertChannels
    yahoo_enabled: bool
    yahoo_base_url: str | None = None
    alpha_vantage_api_key: SecretStr | None = None
    alpaca: Alpaca | None = None
    alpaca_base_url: str | None = Field(None, description="The broker's address, also where its keys come later.")
    alpaca_data_url: str | None = Field(None, description="The data API in the place of Alpaca's.")
    alpaca_stream_url: str | None = Field(None, description="The live stream in the place of Alpaca's.")
    airflow_base_url: str
    trading: Trading
    warnings: tuple[str, ...] = Field((), description="What load() noticed and did not refuse.")

    _source: YamlSource = PrivateAttr(default_factory=YamlSource)
    _env_secrets: tuple[str, ...] = PrivateAttr(default=())

    @property
    def database_url(self) -> str | None:
        """The database's URL in clear, for the driver; None: the embedded database."""
        return None if self.database_dsn is None else self.database_dsn.get_secret_value()

    def with_database(self, url: str) -> Settings:
        """Return these settings with another database (an Airflow connection, the embedded server).

        Raises ConfigError where it is no PostgreSQL URL; the message does not show it.
        """
        try:
            dsn = SecretStr(config_env.check_database_url(url))
        except ValueError as error:
            raise config_error([Problem(source="database URL given", rule=str(error))]) from None
        return self.model_copy(update={"database_dsn": dsn})

    def with_broker_keys(self, api_key: str, secret_key: str) -> Settings:
        """Return these settings with other keys of the broker (an Airflow connection's); its address stays."""
        address = self.alpaca_base_url
        keys = Alpaca(api_key=SecretStr(api_key), secret_key=SecretStr(secret_key), base_url=address)
        return self.model_copy(update={"alpaca": keys})

    def with_vantage_key(self, api_key: str) -> Settings:
        """Return these settings with another key of Alpha Vantage (an Airflow connection's)."""
        return self.model_copy(update={"alpha_vantage_api_key": SecretStr(api_key)})

    @property
    def strategies_folder(self) -> Path:
        """Where the owner's own strategies are."""
        return self.home / "include" / "strategies"

    def resolve(self, path: str | Path) -> Path:
        """Return a path of the configuration as absolute; a relative one is below the project's folder."""
        return self.home / Path(path).expanduser()

    def secrets(self) -> tuple[str, ...]:
        """Return every secret in clear, longest first, for redaction: also passwords inside URLs."""
        found = {*self._env_secrets, *_secret_values(self)}
        found |= {text for value in tuple(found) if "://" in value for text in config_env.url_secrets(value)}
        return tuple(sorted((text for text in found if text), key=lambda text: (-len(text), text)))

    def config_hash(self) -> str:
        """Return the sha256 of the canonical JSON of `trading`."""
        return self.trading.config_hash()

    def checked(self, strategy_params: ParamsModel) -> Self:
        """Return these settings with every strategy's params validated by its own model, defaults filled in.

        Idempotent. Raises ConfigError with the location in trading.yaml.
        """
        problems: list[Problem] = []
        filled = {}
        for name, strategy in self.trading.strategies.items():
            params = _checked(strategy_params, name, strategy.kind, strategy.params, self._source, problems)
            filled[name] = strategy.model_copy(update={"params": params})
        if problems:
            raise config_error(problems)
        return self.model_copy(update={"trading": self.trading.model_copy(update={"strategies": filled})})

    def located(self, error: ConfigError) -> ConfigError:
        """Return a room's error about a key (`location="data.options.x"`) with the key's file and line."""
        location = str(error.details.get("location", ""))
        path: PathParts = tuple(location.split("."))
        line = self._source.line(path) if location else None
        if line is None:
            return error
        return ConfigError(f"{self._source.name}:{line}: {error.message}", next_step=error.next_step, **error.details)


def load(
    environ: Mapping[str, str] | None = None,
    config: str | Path | None = None,
    *,
    strategy_params: ParamsModel | None = None,
) -> Settings:
    """Read and validate everything that is configured.

    Parameters: environ, None for the real environment over the project's .env; config, a profile's name
    ('sample', 'yahoo') or a path, None for TRADECORE_CONFIG; strategy_params, see `Settings.checked` (without
    it, params are taken as they are). Warnings are logged.
    Raises ConfigError (attribute `problems`) with every problem at once.
    """
    env = _environment(environ)
    home = _home(env.values)
    environment, problems = config_env.read_environment(env)
    source, trading, config_path = YamlSource(), None, home
    try:
        config_path = find_config(str(config or env.values.get("TRADECORE_CONFIG", "").strip() or "sample"), home)
        source = read_yaml(config_path, _relative(config_path, home))
        trading = Trading.model_validate(source.data)
    except ConfigError as error:
        problems += error.details.get("problems", ())
    except ValidationError as error:
        problems += problems_of(error, Trading, source)
        problems += _raw_params_problems(source, strategy_params)
    if trading is not None and strategy_params is not None:
        problems += _raw_params_problems(source, strategy_params)
    if environment is not None and trading is not None:
        problems += _contradictions(environment, trading, source)
    if environment is None or trading is None or problems:
        raise config_error(problems)
    settings = _settings(environment, trading, home, config_path, env)
    settings._source, settings._env_secrets = source, env.secret_values()
    for warning in settings.warnings:
        _log.warning("%s", warning)
    return settings if strategy_params is None else settings.checked(strategy_params)


def _contradictions(env: Environment, trading: Trading, source: YamlSource) -> list[Problem]:
    """Return what the environment and trading.yaml do not agree on."""
    rule, second = "is switched off; set YAHOO_FINANCE_ENABLED=true in .env", trading.data.second
    asked = {("data", "feed"): trading.data.feed, ("data", "second", "feed"): second.feed if second else ""}
    return [
        source.problem(path, rule, feed)
        for path, feed in asked.items()
        if feed == "yahoo" and not env.yahoo_finance_enabled
    ]


def find_config(config: str, home: Path) -> Path:
    """Return the file of a profile's name or path; ConfigError, with the nearest name, if there is none."""
    if "/" in config or config.endswith((".yaml", ".yml")):
        path = home / Path(config).expanduser()
        if path.is_file():
            return path.resolve()
        raise config_error([Problem(source=config, rule="there is no such file (TRADECORE_CONFIG or --config)")])
    profiles = {"sample": CONFIG_DIR / "trading.yaml"}
    profiles |= {path.name.split(".")[1]: path for path in sorted(CONFIG_DIR.glob("trading.*.yaml"))}
    if config in profiles and profiles[config].is_file():
        return profiles[config]
    rule = unknown(config, list(profiles), "profile")
    raise config_error([Problem(source="environment", path="TRADECORE_CONFIG", value=repr(config), rule=rule)])


def _environment(environ: Mapping[str, str] | None) -> EnvValues:
    if environ is not None:
        return EnvValues(values=dict(environ))
    real = dict(os.environ)
    path = _home(real) / (real.get("TRADECORE_ENV_FILE", "").strip() or ".env")
    return config_env.read_env_file(path, path.name, real)


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("TRADECORE_HOME", "").strip() or PACKAGE_HOME).expanduser().resolve()


def _relative(path: Path, home: Path) -> str:
    return str(path.relative_to(home)) if path.is_relative_to(home) else str(path)


def _settings(env: Environment, trading: Trading, home: Path, config_path: Path, values: EnvValues) -> Settings:
    smtp = telegram = alpaca = None
    if env.smtp_host is not None:
        smtp = Smtp(
            host=env.smtp_host,
            port=env.smtp_port,
            security=env.smtp_security,
            user=env.smtp_user,
            password=env.smtp_password,
            sender=env.smtp_from or "",
            recipients=env.smtp_to,
        )
    if env.telegram_bot_token is not None and env.telegram_chat_id is not None:
        telegram = Telegram(
            bot_token=env.telegram_bot_token, chat_id=env.telegram_chat_id, base_url=env.telegram_base_url
        )
    if env.alpaca_api_key is not None and env.alpaca_secret_key is not None:
        alpaca = Alpaca(api_key=env.alpaca_api_key, secret_key=env.alpaca_secret_key, base_url=env.alpaca_base_url)
    channels = AlertChannels(
        console=env.alert_console,
        smtp=smtp,
        slack_webhook_url=env.slack_webhook_url,
        telegram=telegram,
        apprise_urls=env.apprise_urls,
    )
    return Settings(
        database_dsn=env.database_dsn(),
        initial_cash_usd=env.initial_cash,
        paper_trading=env.paper_trading,
        demo_mode=env.demo_mode,
        log_level=env.log_level,
        home=home,
        local_dir=home / (env.tradecore_local_dir or ".local"),
        config_path=config_path,
        alerts=channels,
        yahoo_enabled=env.yahoo_finance_enabled,
        yahoo_base_url=env.yahoo_base_url,
        alpha_vantage_api_key=env.alpha_vantage_api_key,
        alpaca=alpaca,
        alpaca_base_url=env.alpaca_base_url,
        alpaca_data_url=env.alpaca_data_url,
        alpaca_stream_url=env.alpaca_stream_url,
        airflow_base_url=(
            env.airflow_base_url or env.airflow__api__base_url or f"http://127.0.0.1:{env.airflow_port}"
        ).rstrip("/"),
        trading=trading,
        warnings=values.near_misses(),
    )


def _checked(
    model_of: ParamsModel,
    name: str,
    kind: str,
    params: Mapping[str, Any],
    source: YamlSource,
    problems: list[Problem],
) -> dict[str, Any]:
    """Return params as their model dumps them; what is wrong is appended to `problems`."""
    at: PathParts = ("strategies", name)
    here = (*at, "kind") if (*at, "kind") in source.lines else at
    try:
        model = model_of(kind)
    except ConfigError as error:
        problems.append(source.problem(here, error.message, kind))
        return dict(params)
    if model is None:
        problems.append(source.problem(here, "there is no such strategy", kind))
        return dict(params)
    try:
        return model.model_validate(dict(params)).model_dump()
    except ValidationError as error:
        problems += problems_of(error, model, source, (*at, "params"))
        return dict(params)


def _raw_params_problems(source: YamlSource, model_of: ParamsModel | None) -> list[Problem]:
    """Check the params of a file whose other sections are wrong, so that one run shows everything."""
    problems: list[Problem] = []
    strategies = source.data.get("strategies")
    if model_of is not None and isinstance(strategies, dict):
        for name, raw in strategies.items():
            raw = {} if raw is None else raw
            params = (raw.get("params") or {}) if isinstance(raw, dict) else None
            if isinstance(params, dict):
                _checked(model_of, str(name), str(raw.get("kind", name)), params, source, problems)
    return problems


def _secret_values(value: object) -> list[str]:
    if isinstance(value, SecretStr):
        return [value.get_secret_value()]
    if isinstance(value, BaseModel):
        return [text for name in type(value).model_fields for text in _secret_values(getattr(value, name))]
    return [text for item in value for text in _secret_values(item)] if isinstance(value, tuple) else []


def main(argv: list[str] | None = None) -> int:
    """Make .env, print the reference of all keys, or check the configuration."""
    parser = argparse.ArgumentParser(prog="python -m tradecore.settings", description=main.__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write-env", action="store_true", help="write .env from .env.example")
    action.add_argument("--reference", action="store_true", help="print docs/configuration.md")
    action.add_argument("--check", action="store_true", help="validate the configuration")
    parser.add_argument("--force", action="store_true", help="overwrite .env; the old one is kept as .env.old")
    args = parser.parse_args(argv)
    if args.reference:
        from tradecore.config_reference import reference

        sys.stdout.write(reference())
        return 0
    home = _home(os.environ)
    try:
        if args.write_env:
            if (home / ".env").exists() and not args.force:
                sys.stdout.write(".env exists and is kept (--force writes a new one).\n")
                return 0
            generated = write_env(home / ".env", home / ".env.example", force=args.force)
            sys.stdout.write(f".env written, generated: {', '.join(generated) or 'nothing'}.\n")
        else:
            found = load()
            sys.stdout.write(f"{_relative(found.config_path, found.home)}: fine ({found.config_hash()[:12]}).\n")
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
