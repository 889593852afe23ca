"""One logging set-up for the command line, for tests and inside Airflow's tasks.

Every record passes one filter when it is made, whoever logs it and whichever handler writes it: the filter
puts run, session and stage on it and takes secrets out of message, arguments, exception and stack. It hangs
on the record factory and not on a handler: Airflow's handlers come and go and are not ours to change.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, TextIO

CONTEXT = ("run", "session", "stage")
FORMAT = "%(asctime)s %(levelname)-7s [%(tradecore_context)s] %(name)s: %(message)s"
HIDDEN = "***"
# Shorter ones cannot be told from ordinary text: hiding every "a" would make the log unreadable.
MIN_SECRET_CHARS = 4
# Libraries that log much at INFO; under our own handler the root's level covers all others too.
NOISY = (
    "alembic", "apprise", "asyncio", "great_expectations", "httpx", "matplotlib", "numba", "peewee",
    "psycopg", "requests", "sqlalchemy", "urllib3", "yfinance",
)  # fmt: skip

_URL_PASSWORD = re.compile(r"(?<=://)([^\s:/@?#\"']*):([^\s/@\"']+)@")
_bound: ContextVar[Mapping[str, str]] = ContextVar("tradecore_log_context", default=MappingProxyType({}))
_plain_exception = logging.Formatter().formatException


class SecretFilter(logging.Filter):
    """Puts the context on a record and replaces every known secret, and passwords inside URLs, by ***."""

    def __init__(self, secrets: Iterable[str] = (), *, prefix: bool = False) -> None:
        """Parameters: secrets in clear; prefix, whether the context goes into the message itself."""
        super().__init__()
        known = sorted({text for text in secrets if len(text) >= MIN_SECRET_CHARS}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known))) if known else None
        self._prefix = prefix

    def redact(self, text: str) -> str:
        """Return the text without secrets."""
        if self._secrets is not None:
            text = self._secrets.sub(HIDDEN, text)
        return _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text) if "://" in text else text

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record in place; it always passes. Without secrets its message and arguments stay."""
        values = _bound.get()
        context = context_text(values)
        # One attribute with a name of our own: a library's `extra={"run": ...}` must not collide with it.
        record.__dict__["tradecore_context"] = context
        self._redact_message(record)
        self._redact_exception(record)
        if self._prefix and values:
            lead = f"[{context}] "
            record.msg = (lead.replace("%", "%%") if record.args else lead) + str(record.msg)
        return True

    def _redact_message(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (
            TypeError,
            ValueError,
            KeyError,
        ):  # a broken log call: logging reports it, with the raw arguments
            message = f"{record.msg} {record.args!r} (message and arguments do not fit)"
            record.msg, record.args = message, None
        clean = self.redact(message)
        if clean != message:
            record.msg, record.args = clean, None

    def _redact_exception(self, record: logging.LogRecord) -> None:
        if record.stack_info:
            record.stack_info = self.redact(record.stack_info)
        if record.exc_info and record.exc_info[0] is not None:
            text = _plain_exception(record.exc_info)
            clean = self.redact(text)
            if clean != text:  # the exception itself holds the secret: no handler may format it again
                message = record.getMessage()
                record.msg, record.args, record.exc_info = f"{message}\n{clean}", None, None


_filter = SecretFilter()
_factory_before: Any = None


def configure(
    level: str = "INFO",
    secrets: Iterable[str] = (),
    *,
    own_handler: bool = True,
    stream: TextIO | None = None,
) -> None:
    """Set logging up; a second call replaces the first.

    Parameters: level of our own loggers (DEBUG, INFO, WARNING, ERROR); secrets, see `Settings.secrets`;
    own_handler, True: one handler on standard error (or `stream`), libraries at WARNING; False: in Airflow,
    whose handlers stay and get our records with the context as a prefix.
    Raises ValueError for an unknown level.
    """
    global _filter
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"{level!r} is no log level; use DEBUG, INFO, WARNING or ERROR")
    _filter = SecretFilter(secrets, prefix=not own_handler)
    _install_factory()
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    ours = logging.getLogger("tradecore")
    ours.setLevel(number)
    ours.propagate = True
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _OwnHandler)]:
        root.removeHandler(handler)
    if own_handler:
        root.setLevel(logging.WARNING)
        own = _OwnHandler(stream or sys.stderr)
        own.setFormatter(logging.Formatter(FORMAT))
        root.addHandler(own)


def reset() -> None:
    """Undo `configure`: for tests, and for a process that hands logging back."""
    global _filter, _factory_before
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _OwnHandler)]:
        root.removeHandler(handler)
    if _factory_before is not None:
        logging.setLogRecordFactory(_factory_before)
        _factory_before = None
    _filter = SecretFilter()
    for name in ("tradecore", *NOISY):
        logging.getLogger(name).setLevel(logging.NOTSET)


@contextmanager
def bind(**context: object) -> Iterator[None]:
    """Put run, session or stage on every record until the block ends; inner blocks add to outer ones.

    Raises ValueError for another name: the format has these three.
    """
    wrong = set(context) - set(CONTEXT)
    if wrong:
        raise ValueError(f"{', '.join(sorted(wrong))}: only {', '.join(CONTEXT)} can be bound")
    added = {key: str(value) for key, value in context.items() if value is not None}
    token = _bound.set({**_bound.get(), **added})
    try:
        yield
    finally:
        _bound.reset(token)


def redact(text: str) -> str:
    """Return a text without the secrets that `configure` was given: for what is printed, not logged."""
    return _filter.redact(text)


def context_text(values: Mapping[str, str] | None = None) -> str:
    """Return the bound context as it stands on a line: `run=... session=... stage=...`."""
    values = _bound.get() if values is None else values
    return " ".join(f"{key}={values.get(key, '-')}" for key in CONTEXT)


class _OwnHandler(logging.StreamHandler[TextIO]):
    """Marks the handler that `configure` may replace."""


def _install_factory() -> None:
    global _factory_before
    if _factory_before is not None:
        return
    before = _factory_before = logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        _filter.filter(record)
        return record

    logging.setLogRecordFactory(make)


def tell_service_manager(state: str) -> None:
    """Tell systemd, where it started us, that we are ready (READY=1) or live (WATCHDOG=1); the silent is replaced."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
