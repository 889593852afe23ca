"""Secrets of every kind are planted, used and failed with; nothing that is written or said shows one."""

from __future__ import annotations

import logging
from contextlib import closing

import pytest
import yaml
from project_home import FIRST, make, open_for_trading, rows

import secret_search
from secret_search import AROUND, NEEDLES, PLANTED
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db


def test_nothing_that_is_written_or_said_shows_a_secret(tmp_path, database_url: str, caplog):
    secret_search.watch_for_password_of(database_url)
    project = make(tmp_path, database_url)
    with closing(connect(database_url)) as conn:
        open_for_trading(project, conn)
    environ, said = {**PLANTED, **AROUND}, {}
    caplog.set_level(logging.DEBUG)

    def run(*command: str, **changes: str):
        answer = project.run(*command, environ={**environ, **changes})
        said[" ".join([*command, *changes])] = answer
        return answer

    day = str(FIRST)
    result = run("run-session", day, "--json")  # what its stages return is what XComs hold
    assert result.code == 0, result.err
    (_, closed) = project.sessions(2)
    for symbol in ("IBM", "MSFT"):  # a closed gate: an alert, which no channel can deliver
        project.change(symbol, closed, lambda line: None)
    assert run("run-session", str(closed), "--json").code == 0
    assert run("alert", "test", "--json").code != 0, "not exercised: no channel was tried"
    run("status", "--json")
    run("doctor")
    run("summary", day)
    run("data", "audit", "--page", str(project.home / "audit.html"))
    run("prove-day", day)
    password = NEEDLES["DATABASE_URL"]
    wrong = database_url.replace(password, f"{password}x")
    assert run("status", DATABASE_URL=wrong).code != 0
    assert run("status", DATABASE_URL=database_url.replace("postgresql", "mysql")).code != 0
    assert run("status", SLACK_WEBHOOK_URL="ftp://plantedslackhook88").code != 0
    assert run("status", APPRISE_URLS="planted-apprise-pw").code != 0
    config = yaml.safe_load(project.config.read_text())
    config["book"] |= {"name": "paper", "account": "paper", "broker": "alpaca-paper"}
    project.config.write_text(yaml.safe_dump(config, sort_keys=False))
    refused = run("init", "--before", day)
    assert refused.code != 0, "not exercised: the broker was not asked"
    assert "No connection to Alpaca" in refused.err, "not exercised: the broker was not asked"

    found = []
    for command, answer in said.items():
        found += secret_search.found_in(f"stdout of {command}", answer.out)
        found += secret_search.found_in(f"stderr of {command}", answer.err)
    found += secret_search.found_in("the log", caplog.text)
    found += secret_search.found_in_files(project.home)
    with closing(connect(database_url)) as conn:
        in_rows, count = secret_search.found_in_database(conn)
        failed = rows(conn, "SELECT count(*) FROM alert_deliveries WHERE last_error <> ''")
    assert found + in_rows == []
    assert failed[0][0] > 0, "not exercised: no delivery failed"
    assert count > 400
    for kind in ("reports/sim", "data_docs/csv"):
        assert list((project.home / ".local" / kind).glob("*.html")), f"not exercised: {kind}"


def test_the_search_finds_what_it_is_for(tmp_path):
    """Each secret, in clear, percent-encoded and in base64, in a text and in a file."""
    for key, secret in NEEDLES.items():
        for spelling in secret_search.spellings(secret):
            assert secret_search.found_in("x", f"before {spelling} after") == [f"{key} in x"]
            (tmp_path / "log.txt").write_text(f"before {spelling} after")
            assert secret_search.found_in_files(tmp_path) == [f"{key} in log.txt"]
    assert secret_search.found_in_files(tmp_path, but=["log.txt"]) == []
