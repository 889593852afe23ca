"""A stack of its own and a real browser that is logged in; pictures of what it saw go to .local/browser."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow_pages import PAGE_MS, Airflow
from playwright.sync_api import Browser, expect, sync_playwright

from native_stack import REPOSITORY, Stack, prepared_project

NAMES = ("chromium", "chromium-browser", "google-chrome")
# As root in a closed network: no sandbox, and nothing that calls home.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the Chromium of this machine: CHROMIUM names it, else the first of the usual names."""
    found = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("No Chromium here. Debian: apt install chromium; or CHROMIUM=/path/to/it", pytrace=False)
    expect.set_options(timeout=PAGE_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A running stack on a copy of the project, its book open before the module's FIRST session with the CLI."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with prepared_project(tmp_path_factory.mktemp("stack"), AIRFLOW_PORT=port) as prepared:
        up = prepared.make("up", timeout_s=600)
        assert up.returncode == 0, up.stdout + up.stderr
        for user in ("admin", "viewer"):
            assert f"user {user}" in up.stdout
        init = prepared.run("python", "-m", "tradecore", "init", "--before", request.module.FIRST, timeout_s=600)
        assert init.returncode == 0, init.stdout + init.stderr
        parsed = prepared.run("airflow", "dags", "reserialize")
        assert parsed.returncode == 0, parsed.stderr
        yield prepared


@pytest.fixture
def visitor(browser: Browser, stack: Stack) -> Iterator[Airflow]:
    """A fresh browser window, nobody logged in."""
    window = browser.new_context(viewport={"width": 1400, "height": 950}, locale="en-US", timezone_id="UTC")
    window.set_default_timeout(PAGE_MS)
    port = (stack.root / ".local" / "run" / "port").read_text().strip()
    yield Airflow(page=window.new_page(), url=f"http://127.0.0.1:{port}", pictures=_pictures())
    window.close()


@pytest.fixture
def airflow(visitor: Airflow, stack: Stack) -> Airflow:
    """The same, logged in with the generated login."""
    visitor.log_in("admin", stack.passwords["admin"])
    visitor.arrives()
    return visitor


def _pictures() -> Path:
    return REPOSITORY / ".local" / "browser"
