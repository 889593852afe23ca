"""Logging: one line per event with run, session and stage, no secret in any part of it, Airflow's handlers kept."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tradecore import logs, settings

ROOT = Path(__file__).resolve().parents[2]
SECRET = "s3cr3t-%s-{x}"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    logs.reset()
    logging.getLogger().setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    """What a set-up with one secret, at DEBUG, has written."""
    text = io.StringIO()
    logs.configure("debug", [SECRET, "abc"], stream=text)
    return text


log = logging.getLogger("tradecore.test")


def test_every_line_has_run_session_and_stage(stream: io.StringIO) -> None:
    with logs.bind(run="manual__1", session="2004-09-01"):
        log.info("one")
        with logs.bind(stage="settle"):
            log.info("two %d", 2)
        log.info("three")
    log.info("four")
    lines = stream.getvalue().splitlines()
    assert [line.split("[")[1] for line in lines] == [
        "run=manual__1 session=2004-09-01 stage=-] tradecore.test: one",
        "run=manual__1 session=2004-09-01 stage=settle] tradecore.test: two 2",
        "run=manual__1 session=2004-09-01 stage=-] tradecore.test: three",
        "run=- session=- stage=-] tradecore.test: four",
    ]


def test_bound_context_ends_with_an_error_and_is_refused_for_other_names() -> None:
    with pytest.raises(KeyError), logs.bind(stage="plan"):
        raise KeyError
    assert logs.context_text() == "run=- session=- stage=-"
    with pytest.raises(ValueError, match="symbol: only run, session, stage"), logs.bind(symbol="AAPL"):
        pass


def test_threads_do_not_share_the_context(stream: io.StringIO) -> None:
    with logs.bind(stage="main"):
        other = threading.Thread(target=lambda: log.info("from the thread"))
        other.start()
        other.join()
    assert "stage=-] tradecore.test: from the thread" in stream.getvalue()


def test_secret_in_message_arguments_and_mapping_is_hidden(stream: io.StringIO) -> None:
    log.info("in the message " + SECRET)
    log.info("in %s argument %r", "an", {"key": [SECRET]})
    log.info("%(key)s in a mapping", {"key": SECRET})
    log.info("postgresql://user:unknown-password@host:5432/db")
    log.info("short ones stay: abc")
    text = stream.getvalue()
    assert SECRET not in text
    assert "unknown-password" not in text
    assert text.count(logs.HIDDEN) == 4
    assert "postgresql://user:***@host:5432/db" in text
    assert "short ones stay: abc" in text


def test_secret_in_an_exception_its_cause_and_the_stack_is_hidden(stream: io.StringIO) -> None:
    def fails() -> None:
        try:
            raise ValueError(f"password {SECRET}")
        except ValueError as error:
            raise RuntimeError(f"no connection with {SECRET}") from error

    try:
        fails()
    except RuntimeError:
        log.exception("while opening %s", "it")
    log.warning("here", stack_info=True)
    text = stream.getvalue()
    assert SECRET not in text
    assert "while opening it\nTraceback" in text
    assert "ValueError: password ***" in text
    assert "RuntimeError: no connection with ***" in text
    assert "direct cause" in text
    assert "Stack (most recent call last)" in text


def test_exception_without_secret_is_left_to_the_handler(stream: io.StringIO) -> None:
    seen: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    keep = Keep()
    log.addHandler(keep)
    try:
        raise KeyError("plain")
    except KeyError:
        log.exception("plain %s", "argument")
    finally:
        log.removeHandler(keep)
    assert (seen[0].msg, seen[0].args) == ("plain %s", ("argument",))
    assert seen[0].exc_info is not None


def test_longest_secret_first_so_that_no_rest_is_left(stream: io.StringIO) -> None:
    logs.configure("INFO", ["pass", "pass-word", "pass-word-long"], stream=stream)
    log.info("pass-word-long")
    assert stream.getvalue().endswith(": ***\n")


def test_every_handler_gets_the_redacted_record(stream: io.StringIO) -> None:
    """Also one that somebody adds later, to a logger that does not propagate."""
    other, own = io.StringIO(), logging.getLogger("somebody.else")
    handler = logging.StreamHandler(other)
    own.addHandler(handler)
    own.propagate = False
    try:
        own.warning("token %s", SECRET)
    finally:
        own.removeHandler(handler)
        own.propagate = True
    assert other.getvalue() == "token ***\n"


def test_broken_log_call_neither_fails_nor_leaks(stream: io.StringIO) -> None:
    log.info("%d shares", SECRET)
    log.info("%s %s", SECRET)
    text = stream.getvalue()
    assert text.count("message and arguments do not fit") == 2
    assert SECRET not in text


def test_librarys_own_extra_fields_do_not_collide(stream: io.StringIO) -> None:
    logging.getLogger("lib").warning("x", extra={"run": 1, "session": 2, "stage": 3, "context": 4})
    assert "run=- session=- stage=-] lib: x" in stream.getvalue()


def test_libraries_log_at_warning_and_ours_at_the_level(stream: io.StringIO) -> None:
    logs.configure("INFO", stream=stream)
    for name in ("yfinance", "some.library"):
        logging.getLogger(name).info("%s info", name)
        logging.getLogger(name).warning("%s warning", name)
    log.debug("our debug")
    log.info("our info")
    messages = [line.split(": ", 1)[1] for line in stream.getvalue().splitlines()]
    assert messages == ["yfinance warning", "some.library warning", "our info"]
    with pytest.raises(ValueError, match="'LOUD' is no log level"):
        logs.configure("LOUD")


def test_second_call_replaces_the_first(stream: io.StringIO) -> None:
    logs.configure("INFO", ["second"], stream=stream)
    log.info("second %s", SECRET)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith(f"*** {SECRET}\n")


def test_reset_gives_logging_back(stream: io.StringIO) -> None:
    before = logging.getLogRecordFactory()
    logs.reset()
    assert logging.getLogRecordFactory() is not before
    log.warning("unseen %s", SECRET)
    assert stream.getvalue() == ""


def test_redact_is_for_what_is_printed(stream: io.StringIO) -> None:
    assert logs.redact(f"key {SECRET} at https://u:p4ss@h/") == "key *** at https://u:***@h/"


def test_secrets_of_the_settings_never_reach_a_line(stream: io.StringIO) -> None:
    url = "postgresql://u:p%40ssw0rd-1@h:5432/d"
    found = settings.load({"DATABASE_URL": url, "SLACK_WEBHOOK_URL": "https://hooks.example/T0/B0/xyz"})
    logs.configure("INFO", found.secrets(), stream=stream)
    log.info("%s %s", found, found.database_url)
    log.info("password p@ssw0rd-1 or p%%40ssw0rd-1, posting to https://hooks.example/T0/B0/xyz")
    for secret in ("p%40ssw0rd-1", "p@ssw0rd-1", "B0/xyz"):
        assert secret not in stream.getvalue()


# --- under a foreign set-up ---


def test_foreign_handlers_are_kept_and_get_the_context_in_the_message() -> None:
    text, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(text)
    handlers, level = [*root.handlers, handler], root.level
    root.addHandler(handler)
    try:
        logs.configure("INFO", [SECRET], own_handler=False)
        assert root.handlers == handlers
        assert root.level == level
        with logs.bind(run="100%d", session="2004-09-01", stage="risk"):
            log.info("sized %s of %d names for %s", 3, 5, SECRET)
            log.info("plain 5%")
        log.info("outside")
        logging.getLogger("urllib3").info("chatter")
    finally:
        root.removeHandler(handler)
    assert text.getvalue().splitlines() == [
        "[run=100%d session=2004-09-01 stage=risk] sized 3 of 5 names for ***",
        "[run=100%d session=2004-09-01 stage=risk] plain 5%",
        "outside",
    ]


AIRFLOW = """
import io, json, logging, sys
from airflow.sdk._shared.logging.structlog import configure_logging
sent = io.BytesIO()
configure_logging(json_output=True, log_level="INFO", output=sent)
before = list(logging.getLogger().handlers)
from tradecore import logs
logs.configure("INFO", ["the-secret"], own_handler=False)
log = logging.getLogger("tradecore.stage")
with logs.bind(run="scheduled__1", session="2004-09-01", stage="ingest"):
    log.info("%d rows with %s", 5, "the-secret")
    log.warning("plain")
    try:
        raise ValueError("bad the-secret")
    except ValueError:
        log.exception("failed")
    try:
        raise ValueError("harmless")
    except ValueError:
        log.exception("failed too")
    logging.getLogger("yfinance").info("chatter")
for handler in logging.getLogger().handlers:
    handler.flush()
assert logging.getLogger().handlers == before
sys.stdout.write(sent.getvalue().decode())
"""


def test_inside_airflows_task_logging() -> None:
    """Airflow's own set-up writes one JSON object a record; it stays in place and shows ours."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "include"), "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run([sys.executable, "-c", AIRFLOW], env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    lead = "[run=scheduled__1 session=2004-09-01 stage=ingest] "
    assert [line["event"].split("\n")[0] for line in lines] == [
        f"{lead}5 rows with ***", f"{lead}plain", f"{lead}failed", f"{lead}failed too",
    ]  # fmt: skip
    assert "the-secret" not in done.stdout
    assert "ValueError: bad ***" in lines[2]["event"]
    assert "harmless" in json.dumps(lines[3].get("exception") or lines[3].get("error_detail"))
