"""docs/sandbox.md as it stands: the commands of 'A first session', in order, against the sandbox on the real clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest
from project_home import REPO, Project, Said, rows

from alpaca_standin.client import Standin, running

pytestmark = pytest.mark.db


def commands() -> list[list[str]]:
    """Return the arguments of each command in the section, as the page has them."""
    section = (REPO / "docs/sandbox.md").read_text().split("## A first session")[1].split("\n## ")[0]
    return [line.split() for line in re.findall(r"^    python -m tradecore ([^#\n]+)", section, re.MULTILINE)]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Standin]:
    with running("--port", "0", "--sandbox", str(tmp_path / "sandbox")) as standin:
        yield standin


def printed_lines(tmp_path: Path, sandbox: Standin) -> dict[str, str]:
    """Return the lines for .env that the sandbox prints."""
    return {
        "ALPACA_BASE_URL": sandbox.url,
        "ALPACA_API_KEY": "STANDIN-KEY",
        "ALPACA_SECRET_KEY": "standin-secret",
        "TRADECORE_CONFIG": str(tmp_path / "sandbox" / "trading.yaml"),
    }


def test_init_makes_the_tables_of_a_new_database(
    tmp_path: Path, make_database: Callable[[], AbstractContextManager[str]], sandbox: Standin
):
    """As after a clone: the page's first command comes before anything has made them."""
    with make_database() as url:
        project = Project(home=tmp_path, database_url=url)
        environ = printed_lines(tmp_path, sandbox)
        refused = project.run("status", environ=environ)
        assert "the database lacks" in refused.err
        said = project.run("init", environ=environ)
    assert (said.code, said.out.startswith("book sandbox is open")) == (0, True), said.err


def test_first_session_as_the_page_says(tmp_path: Path, database_url: str, conn: psycopg.Connection, sandbox: Standin):
    project = Project(home=tmp_path, database_url=database_url)
    environ = printed_lines(tmp_path, sandbox)
    said: dict[str, Said] = {}
    session = "SESSION"
    for arguments in commands():
        said[arguments[0]] = project.run(*[a.replace("SESSION", session) for a in arguments], environ=environ)
        name, answer = arguments[0], said[arguments[0]]
        assert answer.code == (2 if name == "status" else 0), f"{name}: {answer.out} {answer.err}"
        if name == "status":
            session = re.findall(r"run-session (\d{4}-\d\d-\d\d)", answer.out)[0]
    assert list(said) == ["init", "status", "run-session", "window", "submit", "orders", "breaks", "book"]
    assert f"at {sandbox.url} in the place of Alpaca's own address" in said["status"].out
    assert said["breaks"].out == "no open breaks\n"
    found = dict(line.split(maxsplit=1) for line in said["window"].out.splitlines() if " " in line.strip())
    counters = sandbox.admin("counters")
    orders = rows(conn, "SELECT client_order_id, status, status_detail FROM orders")
    assert orders, "not exercised"
    statuses = {status for _, status, _ in orders}
    if found["open"].strip() == "True":
        assert statuses == {"ACKED"}
        assert counters["received"] == {order_id: 1 for order_id, _, _ in orders}
    elif found["passed"].strip() == "True":
        assert {(status, detail) for _, status, detail in orders} == {("NOT_SENT", "window_passed")}
    else:
        assert statuses <= {"PLANNED", "APPROVED"}
        assert "the window opens at" in said["submit"].out
