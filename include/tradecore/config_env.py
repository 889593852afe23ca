"""The environment's side of the configuration: every key of .env, its rule, and the file itself.

Nothing here reads os.environ (settings.py does); it takes the mapping. Placeholders are refused by name,
because a password that everybody knows is worse than none. Values of secret keys never enter a message.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator

from tradecore.config_source import Problem, YamlSource, config_error, nearest, problems_of
from tradecore.config_values import ConfigModel
from tradecore.errors import ConfigError

# The same as units.MAX_BOOK_USD (a test compares them): units needs numpy, which DAG files do without
MAX_BOOK_USD = 100_000_000

_PLACEHOLDER = re.compile(
    r"<[^<>]*>|\{\{.*\}\}|x{3,}|\*{3,}|\.{3}|todo|fixme|secret|passw[o0]rd|"
    r"(?:please[-_ ]?)?(?:change|replace|insert|fill)[-_ ]?(?:this|me|it)(?:[-_ ].*)?|"
    r"(?:your|enter)[-_ ].*(?:key|secret|password|token|url|id|here|webhook|user|name|value).*|"
    r"(?:put|paste|insert|enter)[-_ ].*here",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"(?:PASSWORD|PASSWD|SECRET|TOKEN|_KEY|WEBHOOK_URL|_CONN|DATABASE_URL)$")
_CHANGE_ME = re.compile(r"^(?P<key>[A-Z][A-Z0-9_]*)=CHANGE_ME[ \t]*$", re.MULTILINE)
_WATCHED_PREFIXES = ("TRADECORE_", "DB_")

Http = Annotated[str, Field(pattern=r"^https?://[^\s/]+\S*$")]
WebSocket = Annotated[str, Field(pattern=r"^wss?://[^\s/]+\S*$")]


def _url_list(value: object) -> object:
    """Split a list of URLs on blanks, or on commas that a scheme follows (a URL may itself hold commas)."""
    return (
        tuple(part for part in re.split(r"\s+|,\s*(?=[A-Za-z0-9+]+://)", value) if part)
        if isinstance(value, str)
        else value
    )


def _comma_list(value: object) -> object:
    return tuple(part for part in re.split(r"[,;\s]+", value) if part) if isinstance(value, str) else value


class Environment(ConfigModel):
    """Every key that is read from the environment or .env (in capitals); an empty value counts as not set."""

    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL URL, postgresql://user:password@host:port/name. Wins over the DB_ keys. "
        "Neither given: the embedded database under .local/.",
    )
    db_host: str | None = Field(None, description="Database host, or the folder of its socket.")
    db_port: int = Field(5432, ge=1, le=65_535, description="Database port.")
    db_name: str = Field("tradecore", description="Database name.")
    db_user: str = Field("tradecore", description="Database user.")
    db_password: SecretStr | None = Field(None, description="Database password.")
    initial_cash: Decimal = Field(
        Decimal(100_000),
        gt=0,
        le=MAX_BOOK_USD,
        decimal_places=4,
        description="Cash in USD with which a book opens; more than 0, at most 100,000,000.",
    )
    paper_trading: bool = Field(True, description="One of the three keys of live trading; true: never live.")
    demo_mode: bool = Field(True, description="Trade the sample history, as `make demo` does.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Level of our own log lines; libraries log at WARNING."
    )
    tradecore_config: str = Field(
        "sample",
        min_length=1,
        description="Profile in include/config (sample, yahoo) or the path of a YAML file.",
    )
    tradecore_home: Path | None = Field(None, description="The project's folder; default: where the package lies.")
    tradecore_local_dir: Path | None = Field(None, description="Folder of local state; default: .local in the project.")
    tradecore_env_file: Path | None = Field(None, description="Another file in the place of .env.")
    airflow_port: int = Field(8080, ge=1, le=65_535, description="Port of Airflow's web interface on 127.0.0.1.")
    airflow_base_url: Http | None = Field(
        None, description="Airflow's address for links in alerts; default: AIRFLOW__API__BASE_URL, else AIRFLOW_PORT."
    )
    airflow__api__base_url: Http | None = Field(None, description="Airflow's own setting of its address.")
    yahoo_finance_enabled: bool = Field(False, description="Whether the yahoo feed may be used.")
    yahoo_base_url: Http | None = Field(None, description="Another address in the place of Yahoo's, for tests.")
    alpha_vantage_api_key: SecretStr | None = Field(None, description="Key of Alpha Vantage.")
    alpaca_api_key: SecretStr | None = Field(None, description="Alpaca key id; goes with ALPACA_SECRET_KEY.")
    alpaca_secret_key: SecretStr | None = Field(None, description="Alpaca secret key.")
    alpaca_base_url: Http | None = Field(
        None, description="Another trading API in the place of Alpaca's: the sandbox (`make sandbox`), for tests."
    )
    alpaca_data_url: Http | None = Field(
        None, description="Another data API in the place of Alpaca's, for `tradecore stream` and tests."
    )
    alpaca_stream_url: WebSocket | None = Field(
        None, description="Another live stream in the place of Alpaca's (ws:// on this machine), for tests."
    )
    alert_console: bool = Field(True, description="Alerts on the console (standard error).")
    smtp_host: str | None = Field(None, description="Mail server; switches email alerts on.")
    smtp_port: int = Field(587, ge=1, le=65_535, description="Port of the mail server.")
    smtp_security: Literal["starttls", "tls", "none"] = Field("starttls", description="Encryption to the mail server.")
    smtp_user: str | None = Field(None, description="User at the mail server; goes with SMTP_PASSWORD.")
    smtp_password: SecretStr | None = Field(None, description="Password at the mail server.")
    smtp_from: str | None = Field(None, description="Sender's address; needed with SMTP_HOST.")
    smtp_to: Annotated[tuple[str, ...], BeforeValidator(_comma_list)] = Field(
        (), description="Recipients, separated by commas; needed with SMTP_HOST."
    )
    slack_webhook_url: SecretStr | None = Field(None, description="Slack incoming webhook; switches Slack on.")
    telegram_bot_token: SecretStr | None = Field(None, description="Telegram bot token; goes with TELEGRAM_CHAT_ID.")
    telegram_chat_id: str | None = Field(None, description="Telegram chat that gets the alerts.")
    telegram_base_url: Http = Field("https://api.telegram.org", description="Address of Telegram's bot API.")
    apprise_urls: Annotated[tuple[SecretStr, ...], BeforeValidator(_url_list)] = Field(
        (), description="Any Apprise URLs, separated by blanks."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("slack_webhook_url")
    @classmethod
    def _is_http(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.match(r"^https?://[^\s/]+\S*$", value.get_secret_value()):
            raise ValueError("must be an http(s) URL")
        return value

    @field_validator("apprise_urls")
    @classmethod
    def _have_schemes(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(not re.match(r"^[A-Za-z0-9+.\-]+://\S+$", url.get_secret_value()) for url in value):
            raise ValueError("must be URLs like mailto://... or discord://..., separated by blanks")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else SecretStr(check_database_url(value.get_secret_value()))

    def database_dsn(self) -> SecretStr | None:
        """Return DATABASE_URL, or the URL that the DB_ keys make, or None for the embedded database."""
        if self.database_url is not None or self.db_host is None:
            return self.database_url
        login = quote(self.db_user, safe="")
        if self.db_password is not None:
            login += ":" + quote(self.db_password.get_secret_value(), safe="")
        name = quote(self.db_name, safe="")
        if self.db_host.startswith("/"):
            return SecretStr(f"postgresql://{login}@/{name}?host={quote(self.db_host, safe='')}&port={self.db_port}")
        host = f"[{self.db_host}]" if ":" in self.db_host else self.db_host
        return SecretStr(f"postgresql://{login}@{host}:{self.db_port}/{name}")


KEYS = tuple(name.upper() for name in Environment.model_fields)
_PARTNERS = {
    "SMTP_HOST": ("SMTP_FROM", "SMTP_TO"),
    "SMTP_PASSWORD": ("SMTP_USER",),
    "TELEGRAM_BOT_TOKEN": ("TELEGRAM_CHAT_ID",),
    "TELEGRAM_CHAT_ID": ("TELEGRAM_BOT_TOKEN",),
    "ALPACA_API_KEY": ("ALPACA_SECRET_KEY",),
    "ALPACA_SECRET_KEY": ("ALPACA_API_KEY",),
}
_SECRET_KEYS = frozenset(key for key in KEYS if _SECRET_NAME.search(key) or key == "APPRISE_URLS")


def check_database_url(url: str) -> str:
    """Return the URL as psycopg takes it: postgresql:// without SQLAlchemy's driver suffix.

    Raises ValueError, without the URL in its message, where it is no URL of a PostgreSQL database.
    """
    try:
        parts = urlsplit(url)
        named = parts.port != 0 and parts.path.strip("/")
    except ValueError:
        rule = "must be a URL with a numeric port; percent-encode special characters of the password"
        raise ValueError(rule) from None
    if parts.scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise ValueError("must begin with postgresql://; no other database is supported")
    if not named:
        raise ValueError("must name the database: postgresql://user:password@host:port/name")
    return "postgresql" + url[url.index(":") :]


def url_secrets(url: str) -> tuple[str, ...]:
    """Return the passwords in a URL, as written and decoded."""
    parts = urlsplit(url)
    raw = [parts.password or ""] + [value for key, value in parse_qsl(parts.query) if "pass" in key.lower()]
    return tuple(dict.fromkeys(text for item in raw for text in (item, unquote(item)) if text))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvValues:
    """The merged environment: values, and for those of a .env file the file's name and the key's line."""

    values: Mapping[str, str]
    file_lines: Mapping[str, int] = field(default_factory=dict)
    file_name: str = ".env"

    def problem(self, key: str, rule: str, value: str | None = None) -> Problem:
        """Return a Problem at a key."""
        line = self.file_lines.get(key)
        return Problem(
            source="environment" if line is None else self.file_name,
            line=line,
            path=key,
            value=value,
            rule=rule,
        )

    def secret_values(self) -> tuple[str, ...]:
        """Return the values of all keys that are named like a secret: ours, Airflow's, and those of .env."""
        names = {key for key in self.values if key in _SECRET_KEYS}
        names |= {
            key
            for key in self.values
            if _SECRET_NAME.search(key) and (key in self.file_lines or key.startswith("AIRFLOW"))
        }
        return tuple(value for key in sorted(names) if (value := self.values[key].strip()))

    def near_misses(self) -> tuple[str, ...]:
        """Return a warning for each unknown key that looks like a known one, or that has our prefix."""
        found = []
        for key in sorted(self.values):
            if key in KEYS or not (key in self.file_lines or key.startswith(_WATCHED_PREFIXES)):
                continue
            near = _near_key(key)
            if near is not None:
                found.append(str(self.problem(key, f"unknown key is ignored, did you mean {near!r}?")))
            elif key.startswith("TRADECORE_"):
                found.append(str(self.problem(key, "unknown key is ignored")))
        return tuple(found)


def _near_key(key: str) -> str | None:
    """Return the known key that an unknown one was probably meant to be."""
    if key.startswith("TRADECORE_"):  # the long prefix alone would make any two of ours alike
        ours = [name.removeprefix("TRADECORE_") for name in KEYS if name.startswith("TRADECORE_")]
        near = nearest(key.removeprefix("TRADECORE_"), ours, cutoff=0.6)
        return near and f"TRADECORE_{near}"
    return None if key.startswith(("AIRFLOW", "POSTGRES_", "COMPOSE_")) else nearest(key, KEYS, cutoff=0.8)


def read_env_file(path: Path, name: str, environ: Mapping[str, str]) -> EnvValues:
    """Merge a .env file under the real environment, which wins. A file that is not there adds nothing.

    What wins is what somebody has set: a copy of the file that an activated shell took earlier gives way to the file.
    Raises ConfigError where the file cannot be read or a line is not KEY=VALUE.
    """
    if not path.is_file():
        return EnvValues(values=dict(environ))
    try:
        with path.open(encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
        values = {key: value for key, value in dotenv_values(path).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise config_error([Problem(source=name, rule=f"cannot be read: {error}")]) from error
    bad = [item for item in bindings if item.error]
    if bad:
        raise config_error([Problem(source=name, line=_line(item), rule="is not KEY=VALUE") for item in bad])
    older = _copies(environ) & {item.key for item in bindings if item.key is not None}
    set_by_hand = {key: value for key, value in environ.items() if key not in older}
    lines = {item.key: _line(item) for item in bindings if item.key is not None and item.key not in set_by_hand}
    return EnvValues(values={**values, **set_by_hand}, file_lines=lines, file_name=name)


def _copies(environ: Mapping[str, str]) -> set[str]:
    """Return the keys that deploy/environment.py put into this environment and that nobody has changed since.

    None in the processes of `make up`: their settings are those of their start, whatever is written meanwhile.
    """
    if "NATIVE_STACK" in environ:
        return set()
    sums = dict(item.rsplit("=", 1) for item in environ.get("NATIVE_ENVIRONMENT", "").split())
    return {
        key
        for key, crc in sums.items()
        if key in environ and crc == f"{zlib.crc32(environ[key].encode(errors='surrogateescape')):08x}"
    }


def _line(binding: object) -> int:
    original = binding.original  # type: ignore[attr-defined]
    # the parser counts the blank lines and comments before a key into it
    lead = len(original.string) - len(original.string.lstrip())
    return int(original.line) + str(original.string[:lead]).count("\n")


def is_placeholder(value: str) -> bool:
    """Tell whether a value is a template's stand-in ('changeme', '<...>', 'your-key-here') and no value."""
    return _PLACEHOLDER.fullmatch(value.strip()) is not None


def read_environment(env: EnvValues) -> tuple[Environment | None, list[Problem]]:
    """Validate the known keys; return the Environment, or None and what is wrong."""
    problems = [
        env.problem(
            key,
            "is a placeholder; put the real value, or leave it empty (`make env` writes generated secrets)",
        )
        for key in sorted({*env.file_lines, *KEYS} & set(env.values))
        if is_placeholder(env.values[key])
        or (key == "DATABASE_URL" and any(is_placeholder(text) for text in _safe_url_secrets(env.values[key])))
    ]
    raw = {key.lower(): text for key in KEYS if (text := env.values.get(key, "").strip())}
    for given, needed in _PARTNERS.items():
        if given.lower() in raw:
            missing = [key for key in needed if key.lower() not in raw]
            problems += [env.problem(key, f"is missing; it goes with {given}") for key in missing]
    try:
        return Environment.model_validate(raw), problems
    except ValidationError as error:
        named = {problem.path for problem in problems}
        for problem in problems_of(error, Environment, YamlSource()):
            key = problem.path.split("[")[0].upper()
            if key not in named:
                problems.append(env.problem(key, problem.rule, None if key in _SECRET_KEYS else problem.value))
        return None, problems


def _safe_url_secrets(url: str) -> tuple[str, ...]:
    try:
        return url_secrets(url)
    except ValueError:  # not a URL at all: the field's own rule says so
        return ()


# --- make env ---


def generate_secret(key: str) -> str:
    """Return a new secret fit for a key of the template: Fernet key, password (24 bytes), else 48 bytes."""
    if key.endswith("FERNET_KEY"):
        return base64.urlsafe_b64encode(os.urandom(32)).decode()
    return secrets.token_urlsafe(24 if key.endswith("PASSWORD") else 48)


def write_env(path: Path, template: Path, *, force: bool = False) -> tuple[str, ...]:
    """Write .env from its template, readable by its owner alone; return the keys that got a generated secret.

    Each value CHANGE_ME is replaced by a new secret, the rest is copied as it is. With `force` an existing
    file is kept beside it as `<name>.old`. Raises ConfigError where the template is missing, or where the
    file exists and `force` is not set.
    """
    if not template.is_file():
        raise ConfigError(
            f"{template.name} is not there; {path.name} is made from it.",
            next_step="restore it from the repository.",
            path=str(template),
        )
    if path.exists() and not force:
        raise ConfigError(
            f"{path.name} exists and is kept.",
            path=str(path),
            next_step="edit it, or overwrite it with --force (the old one is kept as .env.old).",
        )
    generated: list[str] = []

    def fill(match: re.Match[str]) -> str:
        generated.append(match["key"])
        return f"{match['key']}={generate_secret(match['key'])}"

    text = _CHANGE_ME.sub(fill, template.read_text(encoding="utf-8"))
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    if path.exists():
        path.replace(path.with_name(path.name + ".old"))
        path.with_name(path.name + ".old").chmod(0o600)
    fresh.replace(path)
    return tuple(generated)
