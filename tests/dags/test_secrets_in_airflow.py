"""A session through Airflow with a secret of every kind in place: none in logs, XComs, reports, Data Docs or tables."""

from __future__ import annotations

import os

import psycopg
import pytest
from test_session_runs import FIRST, Case, case, metadata_url, started  # noqa: F401 - fixtures

import secret_search

pytestmark = [pytest.mark.db, pytest.mark.slow]


def test_a_run_shows_no_secret(case: Case) -> None:  # noqa: F811
    case.environ |= {**secret_search.PLANTED, **secret_search.AROUND}
    for key in ("AIRFLOW_ADMIN_PASSWORD", "AIRFLOW__API_AUTH__JWT_SECRET"):
        assert case.environ[key] == secret_search.PLANTED[key]
    secret_search.watch_for_password_of(case.environ["DATABASE_URL"])
    started(case)
    output = case.trade(FIRST)
    failed = case.run("python", "-m", "tradecore", "alert", "test", expect=None)
    found = secret_search.found_in("the task logs", output) + secret_search.found_in("alert test", failed)
    for folder in (case.home, case.home / "local"):
        found += secret_search.found_in_files(folder, but=["airflow.cfg"])
    with psycopg.connect(case.metadata_url) as conn:
        (xcoms,) = conn.execute("SELECT count(*) FROM xcom").fetchone()  # type: ignore[misc]
        in_airflow, _ = secret_search.found_in_database(conn)
    with psycopg.connect(case.environ["DATABASE_URL"]) as conn:
        in_ours, _ = secret_search.found_in_database(conn)
    assert found + in_airflow + in_ours == []
    assert xcoms > 10, "not exercised"
    assert "Data Docs of session" in output
    assert os.listdir(case.home / "local" / "data_docs" / "csv")
    print(f"proof: {len(secret_search.NEEDLES)} kinds of secrets in none of {xcoms} XComs, logs, pages and tables")
